package collector

import (
	"net/netip"
	"testing"
	"unsafe"

	"github.com/google/go-cmp/cmp"

	"github.com/nsbpf/nsbpf/bpf"
)

// record returns what a program writes of r.
func record(r *bpf.Run) []byte {
	whole := (*[runSize]byte)(unsafe.Pointer(r))[:]
	if r.First.Tracked == 0 {
		whole = whole[:sightingSize+int(r.First.Steps)*stepSize]
	}
	return append([]byte(nil), whole...)
}

func sample() bpf.Run {
	return bpf.Run{
		First: bpf.Sighting{
			TimeNS: 1 << 40, Skb: 0xffff888100000000, Head: 0xffff888200000000, Hop: 3, Segments: 2, GSOSize: 1448, Steps: 2,
			Packet: bpf.Packet{
				EtherType: EtherIPv4, Proto: ProtoTCP, Len: 2962, Seq: 7, Flags: bpf.PacketPorts, Sport: 40000, Dport: 80,
				Src: netip.MustParseAddr("172.16.16.10").As16(), Dst: netip.MustParseAddr("8.8.8.8").As16(),
			},
		},
		Rest: [bpf.MaxSteps]bpf.Step{{Hop: 4, DeltaNS: 900}, {Hop: 7, DeltaNS: 2100}},
	}
}

func TestDecode(t *testing.T) {
	alone, two, tracked := sample(), sample(), sample()
	alone.First.Steps, alone.Rest = 0, [bpf.MaxSteps]bpf.Step{}
	tracked.First.Tracked, tracked.Orig = 1, bpf.Tuple{Status: ConnSNAT, Sport: 9}
	// A record leaves nothing of the one before.
	got := Run{Sighting: Sighting{Orig: bpf.Tuple{Status: 3, Dport: 7}}}
	for name, want := range map[string]bpf.Run{"alone": alone, "two steps": two, "tracked": tracked} {
		if err := Decode(record(&want), &got); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if d := cmp.Diff(Sighting{want.First, want.Orig}, got.Sighting); d != "" {
			t.Errorf("%s: %s", name, d)
		}
		if d := cmp.Diff(want.Rest[:want.First.Steps], got.Rest[:got.Steps]); d != "" {
			t.Errorf("%s: %s", name, d)
		}
	}
}

func TestRunAt(t *testing.T) {
	in := sample()
	var r Run
	if err := Decode(record(&in), &r); err != nil {
		t.Fatal(err)
	}
	type sight struct {
		Hop  uint16
		Time uint64
	}
	var got []sight
	for i := range r.Len() {
		hop, time := r.At(i)
		got = append(got, sight{hop, time})
	}
	if d := cmp.Diff([]sight{{3, 1 << 40}, {4, 1<<40 + 900}, {7, 1<<40 + 2100}}, got); d != "" {
		t.Error(d)
	}
}

func TestDecodeLength(t *testing.T) {
	in := sample()
	whole := record(&in)
	var r Run
	for n := range len(whole) + 100 {
		err := Decode(append(whole, make([]byte, 100)...)[:n], &r)
		if (err == nil) != (n == len(whole)) {
			t.Errorf("Decode of %d bytes: %v", n, err)
		}
	}
}

func FuzzDecode(f *testing.F) {
	r := sample()
	f.Add(record(&r))
	r.First.Tracked = 1
	f.Add(record(&r))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		var r Run
		if err := Decode(b, &r); err != nil {
			return
		}
		if n := sightingSize + int(r.Steps)*stepSize; len(b) != n && len(b) != runSize {
			t.Fatalf("Decode took %d bytes of %d steps", len(b), r.Steps)
		}
		if r.Addressed() != r.Src().IsValid() {
			t.Errorf("addressed %v, source %v", r.Addressed(), r.Src())
		}
		for i := range r.Len() {
			r.At(i)
		}
		_, _, _ = r.HopID(), r.IsEcho(), r.IsGroup()
	})
}

func BenchmarkDecode(b *testing.B) {
	in := sample()
	rec := record(&in)
	batch := make([]Run, batchSize)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if err := Decode(rec, &batch[i%len(batch)]); err != nil {
			b.Fatal(err)
		}
	}
}
