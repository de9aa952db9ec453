package trace

// Totals counts what a [Joiner] has done. Paths is the sum of the verdicts:
// Delivered, LeftLab, Merged, PartlyDelivered, Dropped, LastSeen and Unfinished.
type Totals struct {
	Sightings       uint64 // given, strays included
	Strays          uint64 // of hops that the lab does not have: in no Path
	Drops           uint64 // given
	DropsIgnored    uint64 // of these in no Path: of packets that were not asked for, or had arrived
	Paths           uint64
	Delivered       uint64
	LeftLab         uint64
	Merged          uint64
	PartlyDelivered uint64
	Dropped         uint64
	LastSeen        uint64
	Unfinished      uint64
	Retransmitted   uint64 // of Paths: a segment's second attempt or a later one
	GivenUp         uint64 // of Paths: ended early because too much was open
	// Forgotten counts connections whose translation or whose segments were
	// forgotten because there were too many: of what they do then, what was sent
	// again may be taken for new.
	Forgotten uint64
}

func (t *Totals) add(p *Path) {
	t.Paths++
	switch p.Verdict {
	case Delivered:
		t.Delivered++
	case LeftLab:
		t.LeftLab++
	case Merged:
		t.Merged++
	case PartlyDelivered:
		t.PartlyDelivered++
	case Dropped:
		t.Dropped++
	case LastSeen:
		t.LastSeen++
	case Unfinished:
		t.Unfinished++
	}
	if p.Attempt > 1 {
		t.Retransmitted++
	}
	if p.GivenUp {
		t.GivenUp++
	}
}
