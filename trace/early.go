package trace

import "github.com/nsbpf/nsbpf/collector"

// admit gives s a place in a Path. If there is none that it surely comes from,
// that may be because clocks disagree: then it waits, unless it is its last
// chance, and what comes from it waits too.
func (j *Joiner) admit(s *collector.Sighting, last bool) {
	at := j.graph.at(s.HopID())
	if at == nil {
		j.totals.Strays++
		return
	}
	f := j.find(at, s)
	if at.fed && !last && j.early.len() < j.config.MaxOpen &&
		(f.path == nil || f.weak || f.match != MatchSkb && j.isBehindEarly(s)) {
		j.early.push(s)
		return
	}
	if f.path == nil {
		f = j.begin(at, s)
	}
	hop := s.Hop
	j.join(at, s, f)
	if !j.early.empty() {
		j.recall(hop)
	}
}

// recall gives sightings that wait their place where one at the hop before them
// just got its own.
func (j *Joiner) recall(hop uint16) {
	for i := 0; i < j.early.len(); i++ {
		e := &j.early.all()[i]
		if _, ok := j.graph.edge(hop, e.Hop); !ok {
			continue
		}
		if f := j.find(j.graph.at(e.HopID()), e); f.path != nil && !f.weak && !j.isBehindEarly(e) {
			s := j.early.take(i)
			j.join(j.graph.at(s.HopID()), &s, f)
			j.recall(s.Hop)
			return
		}
	}
}

// giveLastChance admits a sighting that waited long enough, at the end any, and
// returns whether there was one. One that comes from another that waits may wait
// for that for as long again.
func (j *Joiner) giveLastChance(end bool) bool {
	skew, waiting := uint64(j.config.Skew), j.early.all()
	turn := -1
	for i := range waiting {
		age := j.now - min(waiting[i].TimeNS, j.now)
		if age <= skew && !end {
			break
		}
		if !j.isBehindEarly(&waiting[i]) {
			turn = i
			break
		}
		if turn < 0 && (age > 2*skew || end) {
			turn = i
		}
	}
	if turn < 0 {
		return false
	}
	s := j.early.take(turn)
	j.admit(&s, true)
	return true
}

// isBehindEarly says whether s seems to come from a sighting that waits.
func (j *Joiner) isBehindEarly(s *collector.Sighting) bool {
	for i := range j.early.all() {
		e := &j.early.all()[i]
		wire, ok := j.graph.edge(e.Hop, s.Hop)
		if !ok || !sameFields(e, s) || j.config.Identity == Auto && e.Skb != s.Skb && e.Head != s.Head {
			continue
		}
		if j.flows.fitOf(e, s, wire) != unfit {
			return true
		}
	}
	return false
}
