package recording

import (
	"container/heap"
	"math"

	"github.com/nsbpf/nsbpf/collector"
)

const (
	// sortWindow is for how long packets are kept, in ns of the trace's time, so that
	// they are written in the order of time: a Path is known only when it ends. What
	// comes later than that, or than mostBlocks others, is not in order.
	sortWindow = 1_000_000_000
	mostBlocks = 1 << 16

	forever = math.MaxUint64

	// mostSnapped bounds the bytes of packets that wait for the Path that they are
	// of; the oldest are forgotten.
	mostSnapped = 64 << 20
)

// block is a packet at a hop.
type block struct {
	time    uint64
	at      int // of [Start.Hops]
	path    uint64
	length  uint32
	dropped bool
	comment string
	bytes   []byte
}

// blocks are those that are kept, as a heap by time.
type blocks struct{ all []block }

func (b *blocks) Len() int           { return len(b.all) }
func (b *blocks) Less(i, j int) bool { return b.all[i].before(&b.all[j]) }
func (b *blocks) Swap(i, j int)      { b.all[i], b.all[j] = b.all[j], b.all[i] }
func (b *blocks) Push(x any)         { b.all = append(b.all, x.(block)) }

func (b *blocks) Pop() any {
	last := b.all[len(b.all)-1]
	b.all[len(b.all)-1] = block{}
	b.all = b.all[:len(b.all)-1]
	return last
}

// before orders blocks; what is at the same time in the order of paths and hops.
func (b *block) before(c *block) bool {
	switch {
	case b.time != c.time:
		return b.time < c.time
	case b.path != c.path:
		return b.path < c.path
	}
	return b.at < c.at
}

func (b *blocks) push(one block) { heap.Push(b, one) }
func (b *blocks) pop() block     { return heap.Pop(b).(block) }

// due says whether the first is to be written, since its time is over or there are
// too many.
func (b *blocks) due(until uint64) bool {
	return len(b.all) > mostBlocks || len(b.all) > 0 && b.all[0].time <= until
}

// snapKey says which sighting a snap is of.
type snapKey struct {
	time, skb uint64
	hop       uint16
}

func keyOf(s *collector.Sighting) snapKey { return snapKey{s.TimeNS, s.Skb, s.Hop} }

// snaps are the bytes of packets whose Path is not known yet.
type snaps struct {
	most  int // bytes
	bytes int
	byKey map[snapKey]collector.Snap
	order []snapKey // oldest first; some are gone
}

func newSnaps() *snaps {
	return &snaps{most: mostSnapped, byKey: make(map[snapKey]collector.Snap)}
}

// keep copies s.
func (k *snaps) keep(s *collector.Snap) {
	key := snapKey{s.TimeNS, s.Skb, s.Hop}
	k.take(key)
	one := *s
	one.Bytes = append([]byte(nil), s.Bytes...)
	k.byKey[key] = one
	k.bytes += len(one.Bytes)
	k.order = append(k.order, key)
	for len(k.order) > 0 && (k.bytes > k.most || len(k.order) > 4*len(k.byKey)+1024) {
		k.forget()
	}
}

// forget drops the oldest, or what is gone of those that wait.
func (k *snaps) forget() {
	if k.bytes > k.most {
		k.take(k.order[0])
		k.order = k.order[1:]
		return
	}
	left := k.order[:0]
	for _, key := range k.order {
		if _, ok := k.byKey[key]; ok {
			left = append(left, key)
		}
	}
	k.order = left
}

// take returns the snap and forgets it.
func (k *snaps) take(key snapKey) (collector.Snap, bool) {
	s, ok := k.byKey[key]
	if ok {
		delete(k.byKey, key)
		k.bytes -= len(s.Bytes)
	}
	return s, ok
}
