package trace

import (
	"time"

	"github.com/nsbpf/nsbpf/collector"
)

// open is a Path that may still get steps.
type open struct {
	Path
	print uint64 // fingerprint
	group bool   // for more than one receiver
	done  bool   // nothing more is expected of it
	// awaited is at how many hops a group packet has yet to be seen.
	awaited int
	last    uint64 // event time of the last step
	left    []bool // by step: it has a successor
	when    link   // in the list by last
	alike   link   // in the list of those of the same fingerprint
}

type link struct{ prev, next *open }

// list is a doubly linked list through one of the links of its elements.
type list struct{ first, last *open }

func byTime(o *open) *link  { return &o.when }
func byPrint(o *open) *link { return &o.alike }

func (l *list) push(o *open, of func(*open) *link) {
	*of(o) = link{prev: l.last}
	if l.last == nil {
		l.first = o
	} else {
		of(l.last).next = o
	}
	l.last = o
}

func (l *list) remove(o *open, of func(*open) *link) {
	k := of(o)
	if k.prev == nil {
		l.first = k.next
	} else {
		of(k.prev).next = k.next
	}
	if k.next == nil {
		l.last = k.prev
	} else {
		of(k.next).prev = k.prev
	}
	*k = link{}
}

// prints are the open Paths by fingerprint.
type prints map[uint64]ties

// ties are open Paths of one fingerprint, oldest first. Those that are done are
// apart, or they would stand before the ones that wait.
type ties struct{ waiting, done list }

func (t *ties) of(o *open) *list {
	if o.done {
		return &t.done
	}
	return &t.waiting
}

func (p prints) add(o *open) {
	t := p[o.print]
	t.of(o).push(o, byPrint)
	p[o.print] = t
}

func (p prints) remove(o *open) {
	t := p[o.print]
	t.of(o).remove(o, byPrint)
	if t == (ties{}) {
		delete(p, o.print)
		return
	}
	p[o.print] = t
}

// step adds s behind step prev, or as the first.
func (o *open) step(s *collector.Sighting, prev int, m Match, v Verdict) {
	o.Steps = append(o.Steps, Step{Sighting: *s, Prev: prev, Match: m, Verdict: v})
	o.left = append(o.left, false)
	if prev < 0 {
		return
	}
	o.left[prev] = true
	st, from := &o.Steps[len(o.Steps)-1], &o.Steps[prev]
	from.Verdict = LastSeen // it went on
	st.Delta = time.Duration(s.TimeNS - from.TimeNS)
	st.Change = changes(&from.Sighting, s)
}

func (o *open) visited(hop uint16) bool {
	for i := range o.Steps {
		if o.Steps[i].Hop == hop {
			return true
		}
	}
	return false
}

// ended says whether some branch came to an end.
func (o *open) ended() bool {
	for i := range o.Steps {
		if o.Steps[i].Verdict != LastSeen {
			return true
		}
	}
	return false
}

// conclude sets End and Verdict from the ends of the branches.
func (o *open) conclude() {
	best := -1
	for i := range o.Steps {
		if o.left[i] {
			continue
		}
		st := &o.Steps[i]
		if best < 0 || st.Verdict > o.Steps[best].Verdict ||
			st.Verdict == o.Steps[best].Verdict && st.TimeNS >= o.Steps[best].TimeNS {
			best = i
		}
	}
	o.End = best
	o.Verdict = o.Steps[best].Verdict
}
