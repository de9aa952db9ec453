package collector

import (
	"fmt"
	"unsafe"

	"github.com/nsbpf/nsbpf/bpf"
)

// Run is a packet's sighting at one hop, and the further hops at which a program
// saw the same skb with nothing changed.
type Run struct {
	Sighting
	Rest [bpf.MaxSteps]bpf.Step // the first [bpf.Sighting.Steps] are valid
}

// Sizes of the parts of a record in the ring.
const (
	sightingSize = int(unsafe.Sizeof(bpf.Sighting{}))
	stepSize     = int(unsafe.Sizeof(bpf.Step{}))
	runSize      = int(unsafe.Sizeof(bpf.Run{}))
)

// Decode copies the ring record raw into *r. A length that is not the one that
// the record says is an error; any other content is taken. Records are in this
// machine's byte order. That the layouts agree is tested in package bpf.
func Decode(raw []byte, r *Run) error {
	if len(raw) < sightingSize {
		return badRecord(raw, sightingSize)
	}
	copy((*[sightingSize]byte)(unsafe.Pointer(r))[:], raw)
	r.Orig = bpf.Tuple{}
	steps := min(int(r.Steps), bpf.MaxSteps)
	r.Steps = uint8(steps)
	want := sightingSize + steps*stepSize
	if r.Tracked != 0 {
		want = runSize
	}
	if len(raw) != want {
		return badRecord(raw, want)
	}
	copy((*[stepSize * bpf.MaxSteps]byte)(unsafe.Pointer(&r.Rest))[:steps*stepSize], raw[sightingSize:])
	if r.Tracked != 0 {
		copy((*[unsafe.Sizeof(r.Orig)]byte)(unsafe.Pointer(&r.Orig))[:], raw[unsafe.Offsetof(bpf.Run{}.Orig):])
	}
	return nil
}

func badRecord(raw []byte, want int) error {
	return fmt.Errorf("decoding a record of the ring: %d bytes (want %d; were the programs loaded by another version?)", len(raw), want)
}

// Len returns how many sightings r is.
func (r *Run) Len() int { return 1 + int(r.Steps) }

// At returns the hop of sighting i, and its time.
func (r *Run) At(i int) (hop uint16, timeNS uint64) {
	if i == 0 {
		return r.Hop, r.TimeNS
	}
	s := &r.Rest[i-1]
	return s.Hop, r.TimeNS + uint64(s.DeltaNS)
}
