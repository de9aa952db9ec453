package trace

import (
	"cmp"
	"slices"
)

// notice is what is told of a packet besides where it was seen: a drop, or a
// passage.
type notice struct {
	timeNS  uint64
	drop    *Drop // nil: it is the passage, or was taken
	passage Passage
}

// notices keeps notices in the order of their times until it is their turn.
type notices struct {
	queue  []notice // from head on
	head   int
	sorted bool
	drops  map[uint64]int // by skb, how many are in the queue
	spare  []*Drop
}

func newNotices() notices { return notices{drops: make(map[uint64]int)} }

// room returns a Drop for a notice, one of those that were freed if there is one.
func (ns *notices) room() *Drop {
	n := len(ns.spare) - 1
	if n < 0 {
		return new(Drop)
	}
	d := ns.spare[n]
	ns.spare = ns.spare[:n]
	return d
}

// free takes a Drop back that was told.
func (ns *notices) free(d *Drop) {
	const most = 1 << 12
	if len(ns.spare) < most {
		ns.spare = append(ns.spare, d)
	}
}

func (ns *notices) push(n notice) {
	ns.sorted = ns.sorted && (ns.head == len(ns.queue) || ns.queue[len(ns.queue)-1].timeNS <= n.timeNS)
	ns.queue = append(ns.queue, n)
	if n.drop != nil {
		ns.drops[n.drop.Skb]++
	}
}

// sort puts what is in the queue in order.
func (ns *notices) sort() {
	if !ns.sorted {
		slices.SortStableFunc(ns.queue[ns.head:], func(a, b notice) int { return cmp.Compare(a.timeNS, b.timeNS) })
		ns.sorted = true
	}
}

// drop says whether a drop of that skb is yet to be told.
func (ns *notices) drop(skb uint64) bool { return len(ns.drops) > 0 && ns.drops[skb] > 0 }

// forget notes that a drop of that skb was told.
func (ns *notices) forget(skb uint64) {
	if ns.drops[skb]--; ns.drops[skb] == 0 {
		delete(ns.drops, skb)
	}
}

// peek returns the next drop of that skb, if it is until then and among the next
// few.
func (ns *notices) peek(skb, until uint64) *notice {
	const few = 64
	ns.sort()
	for i := ns.head; i < min(ns.head+few, len(ns.queue)) && ns.queue[i].timeNS <= until; i++ {
		if n := &ns.queue[i]; n.drop != nil && n.drop.Skb == skb {
			return n
		}
	}
	return nil
}

// take takes the drop of n, so that it is not told.
func (ns *notices) take(n *notice) *Drop {
	d := n.drop
	n.drop, n.passage = nil, Passage{}
	ns.forget(d.Skb)
	return d
}

// release hands on what is due by limit, earliest first.
func (ns *notices) release(limit uint64, tell func(*notice)) {
	if ns.head == len(ns.queue) {
		return
	}
	ns.sort()
	for ns.head < len(ns.queue) && isDue(ns.queue[ns.head].timeNS, limit) {
		n := &ns.queue[ns.head]
		ns.head++
		if n.drop != nil {
			ns.forget(n.drop.Skb)
		}
		if n.drop != nil || n.passage.Skb != 0 {
			tell(n)
		}
		if n.drop != nil {
			ns.free(n.drop)
			n.drop = nil
		}
	}
	switch {
	case ns.head == len(ns.queue):
		ns.queue, ns.head, ns.sorted = ns.queue[:0], 0, true
	case ns.head >= 1024 && ns.head >= len(ns.queue)/2:
		ns.queue = ns.queue[:copy(ns.queue, ns.queue[ns.head:])]
		ns.head = 0
	}
}
