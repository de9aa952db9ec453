package collector

import (
	"bytes"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nsbpf/nsbpf/bpf"
)

// snapRecord is what the ring has of a packet's first bytes.
func snapRecord(skb uint64, kept []byte) []byte {
	s := bpf.Snap{TimeNS: 7, Skb: skb, Captured: uint64(len(kept)), Length: 1514, Hop: 3, Record: bpf.RecordSnap}
	return append(bytes.Clone(raw(&s)), kept...)
}

// A batch has copies of the bytes, also when its room for them has grown.
func TestBatchSnaps(t *testing.T) {
	var b Batch
	for range 2 {
		b.reset()
		var want []Snap
		for i := range 50 {
			kept := bytes.Repeat([]byte{byte(i)}, 10*i+1)
			r := snapRecord(uint64(i), kept)
			if err := b.add(r); err != nil {
				t.Fatal(err)
			}
			clear(r)
			want = append(want, Snap{TimeNS: 7, Skb: uint64(i), Hop: 3, Length: 1514, Bytes: kept})
		}
		if diff := cmp.Diff(want, b.Snaps); diff != "" || b.Len() != len(want) {
			t.Errorf("%d records: %s", b.Len(), diff)
		}
	}
}

func TestBatchSnapLength(t *testing.T) {
	whole := snapRecord(1, make([]byte, 20))
	for n := range len(whole) + 20 {
		var b Batch
		err := b.add(append(bytes.Clone(whole), make([]byte, 20)...)[:n])
		if (err == nil) != (n == len(whole)) {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
}
