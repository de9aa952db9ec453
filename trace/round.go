package trace

import "github.com/nsbpf/nsbpf/collector"

// goRound notes if o begins with s because its packet was at that hop before: where
// routes lead in a circle, each round is a Path of its own.
func (j *Joiner) goRound(o *open, s *collector.Sighting) {
	if j.config.Identity != Auto {
		return
	}
	before := j.skbs.find(s.Skb)
	if before == nil {
		return
	}
	i := before.stepOf(s.Skb, s.TimeNS)
	if i < 0 || before.marks[i].ended || !before.at(s.Hop) {
		return
	}
	last := &before.Steps[i].Sighting
	if sameFields(last, s) && s.IsIP() && s.Packet.TTL <= last.Packet.TTL && s.Packet.TTL < before.Steps[0].Packet.TTL {
		before.Round, before.RoundAt, o.After = o.Number, s.HopID(), before.Number
	}
}

// at says whether o was seen at the hop.
func (o *open) at(id uint16) bool {
	for i := range o.marks {
		if o.marks[i].hop == id {
			return true
		}
	}
	return false
}
