package collector

import "github.com/nsbpf/nsbpf/internal/hop"

// EdgeLatency is how long packets took over one edge.
type EdgeLatency struct {
	Edge  hop.Edge
	Times *Histogram // empty if no packet was timed
}

// Latency is what the latency programs of a lab measured.
type Latency struct {
	Edges []EdgeLatency // all of the lab, in its order
	Hops  []HopTiming
	Total Timing
}

// Timing says what became of the packets that latency programs saw.
type Timing struct {
	Seen      uint64
	Timed     uint64 // since the hop before
	Reused    uint64 // not timed: an earlier packet had the same address at the hop before
	Crowded   uint64 // not timed: over an edge for which no histogram was left
	Displaced uint64 // starts that gave way to another packet's; some had ended
}

// Untimed returns how many of the packets came from no hop, were copied on the
// way, or not chosen at the hop before.
func (t Timing) Untimed() uint64 { return t.Seen - t.Timed - t.Reused - t.Crowded }

// Add returns the sum of t and u.
func (t Timing) Add(u Timing) Timing {
	t.Seen += u.Seen
	t.Timed += u.Timed
	t.Reused += u.Reused
	t.Crowded += u.Crowded
	t.Displaced += u.Displaced
	return t
}

// HopTiming is the Timing of one hop.
type HopTiming struct {
	Hop hop.Hop
	Timing
}
