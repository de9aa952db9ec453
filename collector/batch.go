package collector

import "github.com/nsbpf/nsbpf/bpf"

// Batch is what was read of a ring in one go. Its slices are the reader's again
// when the next one is read.
type Batch struct {
	Runs     []Run
	Drops    []bpf.Drop
	Passages []bpf.Passage
	Snaps    []Snap
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
