package collector

import (
	"unsafe"

	"github.com/nsbpf/nsbpf/bpf"
)

// Batch is what was read of a ring in one go. Its slices are the reader's again
// when the next one is read.
type Batch struct {
	Runs     []Run
	Drops    []bpf.Drop
	Passages []bpf.Passage
	Snaps    []Snap

	bytes []byte // of Snaps
}

// Len returns how many records it has.
func (b *Batch) Len() int { return len(b.Runs) + len(b.Drops) + len(b.Passages) + len(b.Snaps) }

// Snap is the first bytes of a packet, as they were where its run with the same
// TimeNS, Skb and Hop began.
type Snap struct {
	TimeNS uint64
	Skb    uint64
	Hop    uint16
	Length uint32 // of the packet, with the Ethernet header
	Bytes  []byte // valid as long as the batch
}

// reset empties b and keeps its memory.
func (b *Batch) reset() {
	b.Runs, b.Drops, b.Passages, b.Snaps = b.Runs[:0], b.Drops[:0], b.Passages[:0], b.Snaps[:0]
	b.bytes = b.bytes[:0]
}

// recordAt is where a record says what it is.
const recordAt = int(unsafe.Offsetof(bpf.Sighting{}.Steps))

// add decodes the ring record raw into b. A record of a kind that is not known is
// taken for a run, whose length is then wrong.
func (b *Batch) add(raw []byte) error {
	if len(raw) > recordAt {
		switch bpf.Record(raw[recordAt]) {
		case bpf.RecordDrop:
			return decodeInto(raw, &b.Drops)
		case bpf.RecordPassage:
			return decodeInto(raw, &b.Passages)
		case bpf.RecordSnap:
			return b.addSnap(raw)
		}
	}
	n := len(b.Runs)
	if n == cap(b.Runs) {
		b.Runs = append(b.Runs, Run{})
	}
	b.Runs = b.Runs[:n+1]
	return Decode(raw, &b.Runs[n])
}

// addSnap copies a record that is a snap: the ring's memory is the programs' again
// before the batch is read.
func (b *Batch) addSnap(raw []byte) error {
	var s bpf.Snap
	size := int(unsafe.Sizeof(s))
	if len(raw) < size {
		return badRecord(raw, size)
	}
	copy(unsafe.Slice((*byte)(unsafe.Pointer(&s)), size), raw)
	if raw = raw[size:]; uint64(len(raw)) != s.Captured {
		return badRecord(raw, int(s.Captured))
	}
	at := len(b.bytes)
	b.bytes = append(b.bytes, raw...)
	b.Snaps = append(b.Snaps, Snap{s.TimeNS, s.Skb, s.Hop, s.Length, b.bytes[at:len(b.bytes):len(b.bytes)]})
	return nil
}

// decodeInto appends a record that is a T to *to, in the machine's byte order. T
// has no pointers.
func decodeInto[T bpf.Drop | bpf.Passage](raw []byte, to *[]T) error {
	var v T
	size := int(unsafe.Sizeof(v))
	if len(raw) != size {
		return badRecord(raw, size)
	}
	copy(unsafe.Slice((*byte)(unsafe.Pointer(&v)), size), raw)
	*to = append(*to, v)
	return nil
}
