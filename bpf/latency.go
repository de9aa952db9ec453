package bpf

import (
	"math"
	"math/bits"
	"structs"
)

// The types below have the layout of their namesakes in latency.h.

// Buckets of a [Histogram] are log-linear: each power of two is cut into 32, so
// that a bucket is at most 1/32 of its values wide, and those below 64 ns hold
// one value each. The last one also takes what is longer than 2^36 ns.
const (
	SubBits = 5
	Buckets = 1024
)

// BucketOf returns the bucket that ns belongs to.
func BucketOf(ns uint64) int {
	const last = Buckets - 1
	shift := max(bits.Len64(ns)-SubBits-1, 0)
	return min(shift<<SubBits+int(ns>>shift), last)
}

// BucketBounds returns the least and the greatest number that bucket i holds, i
// in 0…[Buckets]-1. The last one has no end.
func BucketBounds(i int) (low, high uint64) {
	shift := max(i>>SubBits-1, 0)
	low = uint64(i-shift<<SubBits) << shift
	if i == Buckets-1 {
		return low, math.MaxInt64
	}
	return low, low + 1<<shift - 1
}

// Histogram is the times in ns that packets took over one edge, on one CPU.
type Histogram struct {
	_        structs.HostLayout
	MaxNS    uint64
	From, To uint16 // hops; valid where anything was counted
	_        uint32
	Counts   [Buckets]uint64
}

// Timing says what became of the packets that the latency program of one hop
// saw. The rest of Seen came from no hop or were not chosen at the one before.
type Timing struct {
	_         structs.HostLayout
	Seen      uint64
	Timed     uint64 // the time since the hop before is in a histogram
	Reused    uint64 // an earlier packet had this skb's address at the hop before
	Crowded   uint64 // no histogram was left for the edge
	Displaced uint64 // a start was noted where another packet's stood, which may have ended long ago
	Wait      uint64 // packets until one is chosen; 0: none is, for no hop follows
}

// EdgeKind says whether one hop follows another.
type EdgeKind uint32

const (
	EdgeNone   EdgeKind = iota
	EdgeDirect          // over a wire or within a bridge
	EdgeStack           // through a node's stack, which sends packets of its own
	EdgeCount           // how many there are
)

// Edge is from one hop to another, as the latency programs know it.
type Edge struct {
	_         structs.HostLayout
	Kind      EdgeKind
	Histogram uint32 // counted from 1; 0: no packet came over it yet
}
