package collector

import (
	"testing"
	"unsafe"

	"github.com/google/go-cmp/cmp"

	"github.com/nsbpf/nsbpf/bpf"
)

// raw returns the memory of v.
func raw[T any](v *T) []byte { return unsafe.Slice((*byte)(unsafe.Pointer(v)), unsafe.Sizeof(*v)) }

func sampleDrop() bpf.Drop {
	return bpf.Drop{
		Seen:     bpf.Sighting{TimeNS: 7, Skb: 8, Hop: 2, Steps: uint8(bpf.RecordDrop), Packet: bpf.Packet{Len: 98}},
		Location: 9, Callers: [bpf.MaxCallers]uint64{10, 11}, Reason: 12, IfIndex: 13, Matched: 1,
	}
}

func samplePassage() bpf.Passage {
	return bpf.Passage{TimeNS: 7, Skb: 8, Node: 2, Family: 10, Hook: 3, Last: 1, Record: bpf.RecordPassage}
}

// A batch has each record where it belongs, and nothing of the one before.
func TestBatch(t *testing.T) {
	run, drop, passage := sample(), sampleDrop(), samplePassage()
	var b Batch
	for range 2 {
		b.reset()
		for _, r := range [][]byte{raw(&drop), record(&run), raw(&passage), record(&run), raw(&drop)} {
			if err := b.add(r); err != nil {
				t.Fatal(err)
			}
		}
		if b.Len() != 5 || len(b.Runs) != 2 || b.Runs[1].Sighting.Sighting != run.First {
			t.Errorf("%d records, runs %+v", b.Len(), b.Runs)
		}
		if d := cmp.Diff([]bpf.Drop{drop, drop}, b.Drops); d != "" {
			t.Error(d)
		}
		if d := cmp.Diff([]bpf.Passage{passage}, b.Passages); d != "" {
			t.Error(d)
		}
	}
	if p := b.Passages[0]; p.FamilyName() != "ip6" || p.HookName() != "output" {
		t.Errorf("passage at %s %s", p.FamilyName(), p.HookName())
	}
}

func TestBatchLength(t *testing.T) {
	drop, passage := sampleDrop(), samplePassage()
	for name, whole := range map[string][]byte{"drop": raw(&drop), "passage": raw(&passage)} {
		for n := range len(whole) + 100 {
			var b Batch
			err := b.add(append(append([]byte(nil), whole...), make([]byte, 100)...)[:n])
			if (err == nil) != (n == len(whole)) {
				t.Errorf("%s of %d bytes: %v", name, n, err)
			}
		}
	}
}

func FuzzBatch(f *testing.F) {
	run, drop, passage := sample(), sampleDrop(), samplePassage()
	for _, r := range [][]byte{record(&run), raw(&drop), raw(&passage), {}} {
		f.Add(r)
	}
	f.Fuzz(func(t *testing.T, r []byte) {
		var b Batch
		if err := b.add(r); err == nil && b.Len() != 1 {
			t.Errorf("%d records of one", b.Len())
		}
	})
}

func BenchmarkBatch(b *testing.B) {
	run, drop, passage := sample(), sampleDrop(), samplePassage()
	for name, r := range map[string][]byte{"run": record(&run), "drop": raw(&drop), "passage": raw(&passage)} {
		b.Run(name, func(b *testing.B) {
			batch := Batch{Runs: make([]Run, 0, batchSize)}
			b.ReportAllocs()
			for b.Loop() {
				if batch.Len() == batchSize {
					batch.reset()
				}
				if err := batch.add(r); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
