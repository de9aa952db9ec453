package ping

import (
	"time"

	"github.com/nsbpf/nsbpf/internal/hop"
	"github.com/nsbpf/nsbpf/trace"
)

// Leg is what the packets of one direction did: how long each edge took, and where
// those ended that did not arrive. The zero Leg is ready to use.
type Leg struct {
	Edges []Edge // in the order in which they were first passed
	Lost  []Lost // in the order in which it first happened
	// Arrived is how many came to their receiver, or left the lab.
	Arrived int

	times []time.Duration
}

// Edge is how long packets took from one hop to the next.
type Edge struct {
	From, To hop.ID

	times []time.Duration
}

// Packets returns how many packets came over the edge.
func (e *Edge) Packets() int { return len(e.times) }

// Time returns how long they took.
func (e *Edge) Time() Spread { return SpreadOf(e.times) }

// Lost is where packets ended that did not arrive, all for the same reason.
type Lost struct {
	At      hop.ID // where they were last seen
	Packets int
	Path    *trace.Path // the first of them
}

// Time returns how long the packets that arrived took from end to end.
func (l *Leg) Time() Spread { return SpreadOf(l.times) }

// Add counts p, which stays as it is. Of a packet that was copied, the copy that
// came to p's End counts. arrived says that p is known to have come to its
// receiver, which then may drop what it has answered.
func (l *Leg) Add(p *trace.Path, arrived bool) {
	l.walk(p, p.End)
	if arrived || !p.Lost() && p.Verdict != trace.Unfinished {
		l.Arrived++
		l.times = append(l.times, p.Duration())
		return
	}
	at := p.Steps[p.End].HopID()
	for i := range l.Lost {
		if l.Lost[i].At == at && alike(l.Lost[i].Path, p) {
			l.Lost[i].Packets++
			return
		}
	}
	l.Lost = append(l.Lost, Lost{At: at, Packets: 1, Path: p})
}

// alike says whether two packets that did not arrive met the same end.
func alike(a, b *trace.Path) bool {
	if a.Verdict != b.Verdict || a.DroppedBy != b.DroppedBy || len(a.Drops) != len(b.Drops) {
		return false
	}
	for i := range a.Drops {
		d, e := &a.Drops[i], &b.Drops[i]
		if d.Node != e.Node || d.Reason != e.Reason || d.Function != e.Function {
			return false
		}
	}
	return true
}

// walk counts the edges to step i, the first one first.
func (l *Leg) walk(p *trace.Path, i int) {
	prev := p.Steps[i].Prev
	if prev < 0 {
		return
	}
	l.walk(p, prev)
	from, to := p.Steps[prev].HopID(), p.Steps[i].HopID()
	e := l.edge(from, to)
	e.times = append(e.times, max(0, p.Steps[i].Delta))
}

func (l *Leg) edge(from, to hop.ID) *Edge {
	for i := range l.Edges {
		if l.Edges[i].From == from && l.Edges[i].To == to {
			return &l.Edges[i]
		}
	}
	l.Edges = append(l.Edges, Edge{From: from, To: to})
	return &l.Edges[len(l.Edges)-1]
}
