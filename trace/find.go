package trace

import "github.com/nsbpf/nsbpf/collector"

// maxTies bounds how many open Paths of the same fingerprint, or of one lane, are
// looked at: with more identical packets on their way than that, the order of
// arrival says nothing any more.
const maxTies = 128

// found is the place that a sighting has in an open Path.
type found struct {
	path  *open // nil: it begins one
	prev  int   // the step that it comes from; -1: none, it is a root
	match Match
	piece Piece
	weak  bool // it has other addresses, and no connection tells why
}

// find returns the place of s, which is at place at.
func (j *Joiner) find(at *place, s *collector.Sighting) found {
	if !at.fed {
		if isPiece(s) && s.IsIP() {
			return j.sibling(s)
		}
		return found{}
	}
	if j.config.Identity == Auto {
		o := j.skbs.find(s.Skb)
		if f := j.upstream(o, s, MatchSkb); f.path != nil {
			return f
		}
		if f := j.upstream(j.heads.find(s.Head), s, MatchHead); f.path != nil {
			return f
		}
		// The packet of an open Path, whose step before this was lost, is not
		// another one that looks the same. A fragment may have its skb again after
		// the datagram was put together.
		if o != nil && j.isOf(o, s) {
			return j.partOf(o, s)
		}
	}
	if f := j.alike(s); f.path != nil {
		return f
	}
	if f := j.part(s); f.path != nil || !isPiece(s) {
		return f
	}
	return j.sibling(s)
}

// upstream returns s as a successor of the last step of o, which may be nil, that
// it can come from by that match.
func (j *Joiner) upstream(o *open, s *collector.Sighting, m Match) found {
	if o == nil {
		return found{}
	}
	for i := len(o.marks) - 1; i >= 0; i-- {
		if mk := &o.marks[i]; mk.ended || m == MatchSkb && mk.skb != s.Skb || m == MatchHead && mk.head != s.Head {
			continue
		}
		st := &o.Steps[i]
		if !sameFields(&st.Sighting, s) {
			continue
		}
		wire, ok := j.graph.edge(st.Hop, s.Hop)
		if !ok || !j.inOrder(st, s) || j.flows.answers(&st.Sighting, s) {
			continue
		}
		if (o.marks[i].left || !sameSize(&st.Sighting, s)) && j.flows.fitOf(&st.Sighting, s, wire) == unfit {
			continue
		}
		if p, ok := o.pieceAt(i, s); ok && !o.passed(s.Hop, p) {
			return found{path: o, prev: i, match: m, piece: p}
		}
	}
	return found{}
}

// inOrder says whether s can come after st by its time.
func (j *Joiner) inOrder(st *Step, s *collector.Sighting) bool {
	return st.TimeNS <= s.TimeNS+uint64(j.config.Skew)
}

// isOf says whether s, of the same skb as o's packet, is of it though it comes
// from none of its steps.
func (j *Joiner) isOf(o *open, s *collector.Sighting) bool {
	for i := len(o.marks) - 1; i >= 0; i-- {
		st := &o.Steps[i]
		if o.marks[i].skb == s.Skb && !o.marks[i].ended && sameFingerprint(&st.Sighting, s) && j.flows.fitOf(&st.Sighting, s, false) != unfit {
			return !o.passed(s.Hop, st.Piece)
		}
	}
	return false
}

// alike returns s as a successor in the oldest open Path of its fingerprint that
// waits at a hop before s's. If there is none, s may be one more copy made by a
// bridge: then it is in the oldest Path that went on from such a hop already.
//
// A TCP segment that waits twice was sent again because the first was lost, so
// of these it is the newest.
func (j *Joiner) alike(s *collector.Sighting) found {
	c := j.prints.at(fingerprint(s))
	if c == nil {
		return found{}
	}
	var best, copied found
	bestFit, ties := unfit, 0
	for _, l := range [...]list{c.waiting, c.done} {
		o := l.first
		for tries := 0; o != nil && tries < maxTies; tries++ {
			i, how := j.before(o, s)
			switch {
			case i < 0:
			case o.marks[i].left:
				if copied.path == nil {
					copied = found{path: o, prev: i, match: MatchFingerprint, piece: o.Steps[i].Piece}
				}
			case how > bestFit:
				best, bestFit, ties = found{path: o, prev: i, match: MatchFingerprint, piece: o.Steps[i].Piece}, how, 1
			case how == bestFit:
				if ties++; isSegment(s) {
					best = found{path: o, prev: i, match: MatchFingerprint, piece: o.Steps[i].Piece}
				}
			}
			o = o.alike.next
		}
	}
	if best.path == nil {
		return copied
	}
	if ties > 1 {
		best.match = MatchOrder
	}
	best.weak = bestFit == translated && s.Orig.Status == 0
	return best
}

// before returns the step of o that s can come from by fingerprint and addresses,
// one that waits if there is one, or -1, and how well the addresses fit.
func (j *Joiner) before(o *open, s *collector.Sighting) (int, fit) {
	went, wentFit := -1, unfit
	for i := len(o.marks) - 1; i >= 0; i-- {
		st := &o.Steps[i]
		wire, ok := j.graph.edge(st.Hop, s.Hop)
		if !ok || o.marks[i].ended || !j.inOrder(st, s) || !sameFingerprint(&st.Sighting, s) || o.passed(s.Hop, st.Piece) {
			continue
		}
		how := j.flows.fitOf(&st.Sighting, s, wire)
		if how == unfit {
			continue
		}
		if !o.marks[i].left {
			return i, how
		}
		if went < 0 {
			went, wentFit = i, how
		}
	}
	return went, wentFit
}
