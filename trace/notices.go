package trace

import (
	"cmp"
	"slices"
)

// notice is what is told of a packet besides where it was seen: a drop, or a
// passage.
type notice struct {
	timeNS  uint64
	drop    *Drop // nil: it is the passage
	passage Passage
}

// notices keeps notices in the order of their times until it is their turn.
type notices struct {
	queue  []notice
	sorted bool
	drops  map[uint64]int // by skb, how many are in the queue
}

func newNotices() notices { return notices{drops: make(map[uint64]int)} }

func (ns *notices) push(n notice) {
	ns.queue = append(ns.queue, n)
	ns.sorted = false
	if n.drop != nil {
		ns.drops[n.drop.Skb]++
	}
}

// isDropped says whether a drop of that skb is yet to be told.
func (ns *notices) isDropped(skb uint64) bool {
	return len(ns.drops) > 0 && ns.drops[skb] > 0
}

// release hands on what is due by limit, earliest first.
func (ns *notices) release(limit uint64, tell func(*notice)) {
	if len(ns.queue) == 0 {
		return
	}
	if !ns.sorted {
		slices.SortStableFunc(ns.queue, func(a, b notice) int { return cmp.Compare(a.timeNS, b.timeNS) })
		ns.sorted = true
	}
	n := 0
	for n < len(ns.queue) && isDue(ns.queue[n].timeNS, limit) {
		it := &ns.queue[n]
		n++
		if it.drop != nil {
			if ns.drops[it.drop.Skb]--; ns.drops[it.drop.Skb] == 0 {
				delete(ns.drops, it.drop.Skb)
			}
		}
		tell(it)
	}
	ns.queue = slices.Delete(ns.queue, 0, n)
}
