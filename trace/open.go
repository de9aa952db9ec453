package trace

import (
	"slices"
	"time"

	"github.com/nsbpf/nsbpf/collector"
)

// open is a Path that may still get steps.
type open struct {
	Path
	marks []mark // of the steps
	cut   cut
	sized bool    // Payload is known: the last fragment was seen, or it is none
	parts bool    // some step carries another piece than the whole
	ends  []Piece // room of uncovered's
	// arrived is how much of it came to an end: bytes of Payload, or 1.
	arrived uint64

	group bool // for more than one receiver
	// awaited is at how many hops a group packet has yet to be seen.
	awaited int
	done    bool   // nothing more is expected of it
	last    uint64 // event time of the last step

	when          link   // in a queue
	queued        uint64 // what last was then
	alike, beside link   // in the chains
	print, lane   *chain // of those of the same fingerprint, and of the same lane
}

// mark is what is looked at of a step when another one is to follow.
type mark struct {
	skb, head uint64
	Piece
	hop   uint16
	left  bool // it has a successor
	ended bool // it was dropped there
}

// fewSteps is as many as most Paths have.
const fewSteps = 8

// newOpen returns an open without steps, with room for few next to it.
func newOpen() *open {
	o := &struct {
		open
		marks [fewSteps]mark
		steps [fewSteps]Step
	}{}
	o.open.Steps, o.open.marks = o.steps[:0], o.marks[:0]
	return &o.open
}

// reset makes o one without steps, and keeps its memory.
func (o *open) reset() {
	*o = open{
		Path: Path{
			Steps: o.Steps[:0], Merges: o.Merges[:0],
			Drops: o.Drops[:0], Passages: o.Passages[:0], Rulings: o.Rulings[:0],
		},
		marks: o.marks[:0], ends: o.ends[:0],
	}
}

// start takes from s, which is to be the first step, how o's packet can be cut.
func (o *open) start(s *collector.Sighting) {
	o.cut = cutOf(s)
	o.sized = true
	switch o.cut {
	case stream, burst:
		o.Payload = payload(s)
	case datagram:
		o.sized = isLastPiece(s)
		o.parts = isPiece(s)
		o.Payload = uint32(fragment(s).end())
	}
}

// entire returns the piece that is all of the packet.
func (o *open) entire() Piece { return Piece{0, o.Payload} }

// step adds s, which carries piece p, behind step prev or as a root. It returns
// whether the packet is longer than was known.
func (o *open) step(s *collector.Sighting, prev int, m Match, p Piece, v Verdict) (grown bool) {
	n := len(o.Steps)
	o.Steps = slices.Grow(o.Steps, 1)[:n+1]
	st := &o.Steps[n]
	st.Sighting = *s
	st.Piece, st.Prev, st.Delta, st.Match, st.Change, st.Verdict, st.With = p, prev, 0, m, 0, v, 0
	o.marks = append(o.marks, mark{skb: s.Skb, head: s.Head, Piece: p, hop: s.Hop})
	if v != LastSeen {
		o.arrived += p.weight()
	}
	if o.cut != whole && p != o.entire() {
		o.parts = true
		grown = p.Offset+p.Length > o.Payload
		o.Payload = max(o.Payload, p.Offset+p.Length)
		o.sized = o.sized || o.cut == datagram && isLastPiece(s)
	}
	if prev < 0 {
		return grown
	}
	from := &o.Steps[prev]
	st.Delta = time.Duration(s.TimeNS - from.TimeNS)
	st.Change = changes(&from.Sighting, s)
	o.goesOn(prev)
	return grown
}

// goesOn says that step i has a successor, so that nothing ended there.
func (o *open) goesOn(i int) {
	o.marks[i].left = true
	st := &o.Steps[i]
	if st.Verdict != LastSeen {
		st.Verdict = LastSeen
		o.arrived -= min(o.arrived, st.weight())
	}
}

// weight is what p counts in open.arrived.
func (p Piece) weight() uint64 { return uint64(max(p.Length, 1)) }

// over says whether nothing more is expected of o.
func (o *open) over() bool {
	if o.group {
		return o.awaited == 0
	}
	return o.sized && o.arrived >= o.entire().weight()
}

// passed says whether p, or some of it, was at the hop.
func (o *open) passed(hop uint16, p Piece) bool {
	for i := range o.marks {
		if m := &o.marks[i]; m.hop == hop && m.overlaps(p) {
			return true
		}
	}
	for i := range o.Merges {
		if m := &o.Merges[i]; uint16(m.Hop) == hop && m.overlaps(p) {
			return true
		}
	}
	return false
}

// reached returns the first byte that was not at the hop.
func (o *open) reached(hop uint16) uint32 {
	at, grown := uint32(0), true
	for grown {
		grown = false
		for i := range o.marks {
			if m := &o.marks[i]; m.hop == hop && m.Offset <= at && at < m.Offset+m.Length {
				at, grown = m.Offset+m.Length, true
			}
		}
	}
	return at
}
