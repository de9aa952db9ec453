package bpf

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
)

// Names of the programs and maps of [GenerateSpec].
const (
	ProgGenerate = "generate"
	ProgSinkXDP  = "sink_xdp"
	ProgSinkTC   = "sink_tc"
	ProgPassXDP  = "pass"
	ProgLost     = "lost"

	MapTallies  = "tallies"  // 0 → [Tally]
	MapOut      = "out"      // 0 → index of the device that frames go out of
	MapArrivals = "arrivals" // per CPU, 0 → [Arrival]
	MapSpaces   = "spaces"   // inode of a network namespace → 1, of those that ProgLost looks at
	MapLosses   = "losses"   // [LostKey] → packets, uint64
)

// FrameHead is how many bytes of a frame a generator writes, and so the shortest
// frame that it can make.
const FrameHead = 64

// MaxShapes is how many shapes [Traffic] can have.
const MaxShapes = 16

// FrameMark stands behind the UDP header of a frame, in network order. By it a
// sink knows what a generator made.
const FrameMark = 0x6e73

// Shape is one of the frames that a generator makes.
type Shape = generateShape

// Tally is what one generator sent.
type Tally = generateTally

// Arrival is what came to a sink on one CPU.
type Arrival = generateArrival

// LostKey says where packets were dropped, and why.
type LostKey = generateLostKey

// GenerateSpec returns the generator of frames, which one thread at a time runs by
// live frames, its sinks, and the counter of what the kernel drops. See [SetTraffic].
func GenerateSpec() (*ebpf.CollectionSpec, error) { return loadGenerate() }

// Traffic is what a generator sends.
type Traffic struct {
	Shapes    []Shape // in turn; the program is to be run on the longest
	Transport int     // where the UDP header begins
	FirstPort uint16  // the first flow's source port
	Flows     int     // source ports, in turn
	Rate      float64 // packets a second; 0: as fast as it goes
	// Up says that frames go up at the device that they are said to come from, and
	// not out of the device in [MapOut].
	Up bool
}

// gapUnits is how many units of a generator's gap a second has.
const gapUnits = 1e9 * 1024

// SetTraffic tells the generator of spec what to send.
func SetTraffic(spec *ebpf.CollectionSpec, t Traffic) error {
	if len(t.Shapes) < 1 || len(t.Shapes) > MaxShapes {
		return fmt.Errorf("%d shapes of frames (want 1 to %d)", len(t.Shapes), MaxShapes)
	}
	var shapes [MaxShapes]Shape
	copy(shapes[:], t.Shapes)
	var longest uint32
	for _, s := range t.Shapes {
		longest = max(longest, s.Len)
	}
	var gap uint64
	if t.Rate > 0 {
		gap = max(1, uint64(gapUnits/t.Rate))
	}
	return errors.Join(
		set(spec, "shapes", shapes),
		set(spec, "shape_count", uint32(len(t.Shapes))),
		set(spec, "longest", longest),
		set(spec, "transport", uint32(t.Transport)),
		set(spec, "first_port", t.FirstPort),
		set(spec, "flows", uint32(max(t.Flows, 1))),
		set(spec, "gap", gap),
		set(spec, "up", t.Up),
	)
}
