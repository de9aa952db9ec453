package bpf

import (
	"fmt"
	"math"

	"github.com/cilium/ebpf"

	"github.com/nsbpf/nsbpf/internal/hop"
)

// Names of the latency program and its maps.
const (
	ProgLatencyTC = "latency_tc"

	MapEdges      = "edges"      // [EdgeIndex] → Edge
	MapHistograms = "histograms" // per CPU, [Edge.Histogram - 1] → Histogram
	MapTimings    = "timings"    // per CPU, [hop.ID] → Timing

	mapSlots = "slots"
)

// LatencySpec returns the latency program, which needs [SetHops] and [SetSlots].
// See also [SetOneOf].
func LatencySpec() (*ebpf.CollectionSpec, error) { return loadLatency() }

// SetHops makes room in the latency programs for n hops, whose IDs are below n.
func SetHops(spec *ebpf.CollectionSpec, n int) error {
	if n < 1 || n > math.MaxUint16 {
		return fmt.Errorf("bpf programs for %d hops (want 1 to %d)", n, math.MaxUint16)
	}
	spec.Maps[MapTimings].MaxEntries = uint32(n)
	spec.Maps[MapEdges].MaxEntries = uint32(n) * uint32(n)
	return set(spec, "hops", uint32(n))
}

// SetSlots makes room in the latency programs for 2^bits packets at a time.
// Where two share a slot, the times of one are lost.
func SetSlots(spec *ebpf.CollectionSpec, bits uint32) error {
	spec.Maps[mapSlots].MaxEntries = 1 << bits
	return set(spec, "slot_bits", bits)
}

// EdgeIndex returns the index in [MapEdges] of the edge from one of n hops to
// another.
func EdgeIndex(from, to hop.ID, n int) uint32 { return uint32(from)*uint32(n) + uint32(to) }

// SetOneOf lets the latency programs time one of n packets on each edge.
func SetOneOf(spec *ebpf.CollectionSpec, n uint32) error { return set(spec, "one_of", max(n, 1)) }
