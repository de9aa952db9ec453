package collector

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/rlimit"
	"github.com/google/go-cmp/cmp"

	"github.com/nsbpf/nsbpf/bpf"
	"github.com/nsbpf/nsbpf/internal/hop"
	"github.com/nsbpf/nsbpf/internal/testenv"
)

// load loads program prog of spec at hop 1 of two.
func load(t *testing.T, spec *ebpf.CollectionSpec, err error, prog string) (*ebpf.Program, map[string]*ebpf.Map) {
	t.Helper()
	testenv.Root(t)
	if err == nil {
		spec, err = bpf.Copies(spec, prog, []bpf.Site{{Hop: 1, Ethernet: true}})
	}
	if err := errors.Join(err, rlimit.RemoveMemlock()); err != nil {
		t.Fatal(err)
	}
	for name, n := range map[string]uint32{bpf.MapCounts: 2 * uint32(bpf.ReasonCount), bpf.MapLedgers: 2, bpf.MapRing: 1 << 20} {
		if m := spec.Maps[name]; m != nil {
			m.MaxEntries = n
		}
	}
	c, err := ebpf.NewCollection(spec)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c.Programs[bpf.CopyName(prog, 1)], c.Maps
}

// ping is an echo request of 98 bytes.
func ping(seq byte) []byte {
	b := make([]byte, 98)
	copy(b, []byte{2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0, 0x45, 0, 0, 84, 0, 7, 0, 0, 64, 1, 0, 0, 172, 16, 16, 10, 8, 8, 8, 8, 8, 0, 0, 0, 0, 7, 0, seq})
	return b
}

func run(t *testing.T, p *ebpf.Program, times int) {
	t.Helper()
	for i := range times {
		if _, err := p.Run(&ebpf.RunOptions{Data: ping(byte(i))}); err != nil {
			t.Fatal(err)
		}
	}
}

var twoHops = []hop.Hop{left, right}

func TestRing(t *testing.T) {
	spec, err := bpf.TraceSpec()
	prog, maps := load(t, spec, err, bpf.ProgTraceTC)
	ring, err := OpenRing(maps[bpf.MapRing])
	if err != nil {
		t.Fatal(err)
	}
	defer ring.Close()

	const packets = batchSize + 88
	run(t, prog, packets)
	var got []Sighting
	idle := 0
	enough := errors.New("enough")
	before := Now()
	err = ring.Read(context.Background(), func(b []Sighting) error {
		got = append(got, b...)
		if len(b) > 0 {
			return nil
		}
		// A sighting that comes later and wakes nobody is read all the same.
		if idle++; idle == 1 {
			run(t, prog, 1)
		}
		if len(got) > packets {
			return enough
		}
		return nil
	})
	if !errors.Is(err, enough) {
		t.Fatal(err)
	}
	if len(got) != packets+1 {
		t.Fatalf("%d sightings, want %d", len(got), packets+1)
	}
	s := got[3]
	if s.HopID() != 1 || !s.IsEcho() || s.Packet.ICMPSeq != 3 || s.Src().String() != "172.16.16.10" || s.Packet.Len != 98 || s.Segments != 1 {
		t.Errorf("sighting %+v", s)
	}
	if age := time.Duration(before - s.TimeNS); age < 0 || age > time.Minute {
		t.Errorf("sighting is %v old", age)
	}

	ledgers, err := ReadLedgers(maps[bpf.MapLedgers], twoHops)
	if err != nil {
		t.Fatal(err)
	}
	all := Ledger{Seen: packets + 1, Traced: packets + 1}
	want := Ledgers{Total: all, Hops: []HopLedger{{Hop: left}, {Hop: right, Ledger: all}}}
	if d := cmp.Diff(want, ledgers); d != "" {
		t.Error(d)
	}
}

func TestRingDrainsWhenDone(t *testing.T) {
	spec, err := bpf.TraceSpec()
	prog, maps := load(t, spec, err, bpf.ProgTraceTC)
	ring, err := OpenRing(maps[bpf.MapRing])
	if err != nil {
		t.Fatal(err)
	}
	defer ring.Close()
	run(t, prog, 10)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	n := 0
	if err := ring.Read(ctx, func(b []Sighting) error { n += len(b); return nil }); err != nil || n != 10 {
		t.Errorf("%d sightings, error %v", n, err)
	}
}

func TestReadSnapshot(t *testing.T) {
	spec, err := bpf.CountSpec()
	prog, maps := load(t, spec, err, bpf.ProgCountTC)
	run(t, prog, 5)
	m := maps[bpf.MapCounts]
	cpus := ebpf.MustPossibleCPU()
	drops := make([]bpf.Count, cpus)
	for i := range drops {
		drops[i] = bpf.Count{Packets: 1, Segments: 2, Bytes: 3, WireBytes: 4}
	}
	if err := m.Put(bpf.CountIndex(1, bpf.ReasonFilter), drops); err != nil {
		t.Fatal(err)
	}
	s, err := ReadSnapshot(m, twoHops)
	if err != nil {
		t.Fatal(err)
	}
	n := uint64(cpus)
	want := []HopCount{{Hop: left}, {Hop: right, ByReason: [bpf.ReasonCount]Count{
		bpf.ReasonPass:   {Packets: 5, Segments: 5, Bytes: 490, WireBytes: 490},
		bpf.ReasonFilter: {Packets: n, Segments: 2 * n, Bytes: 3 * n, WireBytes: 4 * n},
	}}}
	if d := cmp.Diff(want, s.Hops); d != "" {
		t.Error(d)
	}
	if time.Since(s.Time) > time.Minute {
		t.Errorf("taken at %v", s.Time)
	}
	if _, err := ReadSnapshot(m, []hop.Hop{{ID: 2, Node: "x", Device: "y"}}); err == nil {
		t.Error("a hop outside the map was read")
	}

	values := make([]bpf.Count, 2*int(bpf.ReasonCount)*cpus)
	if err := lookupEach(m, values, 2*int(bpf.ReasonCount), cpus); err != nil {
		t.Fatal(err)
	}
	batch, _, err := readPerCPU[bpf.Count](m)
	if d := cmp.Diff(batch, values); err != nil || d != "" {
		t.Errorf("one by one: error %v, %s", err, d)
	}
}
