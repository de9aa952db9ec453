package trace

import (
	"cmp"
	"math"
	"slices"

	"github.com/nsbpf/nsbpf/collector"
)

// pending keeps runs in the order of their times until none that is earlier can
// come. A run is handed over when it ends, so one that ended late comes late:
// these are few, and kept apart until they are due.
type pending struct {
	queue []collector.Run // in order, from head on
	head  int
	late  []collector.Run // in order of arrival
	order []lateRun       // the same by time, when it is needed
}

type lateRun struct {
	timeNS uint64
	index  int
}

func (p *pending) push(r *collector.Run) {
	if n := len(p.queue); n > p.head && p.queue[n-1].TimeNS > r.TimeNS {
		p.late = append(p.late, *r)
		return
	}
	p.queue = append(p.queue, *r)
}

func (p *pending) len() int { return len(p.queue) - p.head + len(p.late) }

// newest returns the latest time; there is a run in order.
func (p *pending) newest() uint64 { return p.queue[len(p.queue)-1].TimeNS }

// isDue says whether what is of time t is released by limit: what is before it,
// and by everything all.
func isDue(t, limit uint64) bool { return t < limit || limit == everything }

const everything = math.MaxUint64

// release calls see for all runs that are due, in their order. They are the
// pending's again when see returns.
func (p *pending) release(limit uint64, see func(*collector.Run)) {
	p.order = p.order[:0]
	for i := range p.late {
		if t := p.late[i].TimeNS; isDue(t, limit) {
			p.order = append(p.order, lateRun{t, i})
		}
	}
	slices.SortFunc(p.order, func(a, b lateRun) int {
		return cmp.Or(cmp.Compare(a.timeNS, b.timeNS), cmp.Compare(a.index, b.index))
	})
	next := 0
	for {
		inOrder := p.head < len(p.queue) && isDue(p.queue[p.head].TimeNS, limit)
		switch {
		case next < len(p.order) && (!inOrder || p.order[next].timeNS < p.queue[p.head].TimeNS):
			see(&p.late[p.order[next].index])
			next++
		case inOrder:
			see(&p.queue[p.head])
			p.head++
		default:
			p.tidy(limit)
			return
		}
	}
}

// tidy forgets what was released.
func (p *pending) tidy(limit uint64) {
	if len(p.order) > 0 {
		p.late = slices.DeleteFunc(p.late, func(r collector.Run) bool { return isDue(r.TimeNS, limit) })
	}
	if p.head >= len(p.queue)/2 {
		p.queue = p.queue[:copy(p.queue, p.queue[p.head:])]
		p.head = 0
	}
}
