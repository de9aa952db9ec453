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

// load loads program prog of spec at hop 1 of two, where packets end.
func load(t *testing.T, spec *ebpf.CollectionSpec, err error, prog string) (*ebpf.Program, *ebpf.Collection) {
	t.Helper()
	return loadAt(t, spec, err, prog, bpf.Site{Hop: 1, Ethernet: true, Terminal: true})
}

func loadAt(t *testing.T, spec *ebpf.CollectionSpec, err error, prog string, site bpf.Site) (*ebpf.Program, *ebpf.Collection) {
	t.Helper()
	testenv.Root(t)
	if err == nil {
		spec, err = bpf.Copies(spec, prog, []bpf.Site{site})
	}
	if err := errors.Join(err, rlimit.RemoveMemlock()); err != nil {
		t.Fatal(err)
	}
	for name, n := range map[string]uint32{bpf.MapCounts: 2 * uint32(bpf.ReasonCount), bpf.MapLedgers: 2 + bpf.OtherLedgers, bpf.MapRing: 1 << 20} {
		if m := spec.Maps[name]; m != nil {
			m.MaxEntries = n
		}
	}
	c, err := ebpf.NewCollection(spec)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c.Programs[bpf.CopyName(prog, 1)], c
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

// open returns a reader of what the programs of c write.
func open(t *testing.T, c *ebpf.Collection) *Ring {
	t.Helper()
	r, err := OpenRing(c.Maps[bpf.MapRing], c.Programs[bpf.ProgSweep])
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

func TestRing(t *testing.T) {
	spec, err := bpf.TraceSpec()
	prog, c := load(t, spec, err, bpf.ProgTraceTC)
	ring := open(t, c)

	const packets = batchSize + 88
	run(t, prog, packets)
	var got []Run
	later := false
	enough := errors.New("enough")
	before := Now()
	err = ring.Read(context.Background(), func(b *Batch, until uint64) error {
		got = append(got, b.Runs...)
		// A run that comes later and wakes nobody is read all the same.
		if until != 0 && !later {
			later = true
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
		t.Fatalf("%d runs, want %d", len(got), packets+1)
	}
	s := got[3]
	if s.HopID() != 1 || !s.IsEcho() || s.Packet.ICMPSeq != 3 || s.Src().String() != "172.16.16.10" || s.Packet.Len != 98 || s.Segments != 1 {
		t.Errorf("run %+v", s)
	}
	if age := time.Duration(before - s.TimeNS); age < 0 || age > time.Minute {
		t.Errorf("run is %v old", age)
	}

	ledgers, err := ReadLedgers(c.Maps[bpf.MapLedgers], twoHops)
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
	prog, c := load(t, spec, err, bpf.ProgTraceTC)
	ring := open(t, c)
	run(t, prog, 10)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	n := 0
	if err := ring.Read(ctx, func(b *Batch, _ uint64) error { n += len(b.Runs); return nil }); err != nil || n != 10 {
		t.Errorf("%d runs, error %v", n, err)
	}
}

// A packet that was not seen again is read after a while, and nothing that is
// older comes after the time that was said.
func TestRingSweeps(t *testing.T) {
	spec, err := bpf.TraceSpec()
	prog, c := loadAt(t, spec, err, bpf.ProgTraceTC, bpf.Site{Hop: 1, Ethernet: true, Origin: true})
	ring := open(t, c)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	const packets = 30
	run(t, prog, 1)
	n, rounds, said := 0, 0, uint64(0)
	err = ring.Read(ctx, func(b *Batch, until uint64) error {
		for _, r := range b.Runs {
			if r.TimeNS < said {
				t.Errorf("a run of %d after all before %d were said to be there", r.TimeNS, said)
			}
		}
		said = max(said, until)
		n += len(b.Runs)
		if n == packets {
			cancel()
		} else if until != 0 && rounds < packets-1 {
			rounds++
			run(t, prog, 1)
		}
		return nil
	})
	if err != nil || n != packets {
		t.Errorf("%d runs of %d packets, error %v", n, packets, err)
	}
}

// With a ring that is too small and nobody reading, each packet is accounted for
// at its hop.
func TestLostRunsAreInTheLedger(t *testing.T) {
	spec, err := bpf.TraceSpec()
	if err == nil {
		spec.Maps[bpf.MapRing].MaxEntries = 4096
	}
	testenv.Root(t)
	copies, err := bpf.Copies(spec, bpf.ProgTraceTC, []bpf.Site{{Hop: 0, Ethernet: true, Origin: true}, {Hop: 1, Ethernet: true, Terminal: true}})
	if err != nil {
		t.Fatal(err)
	}
	copies.Maps[bpf.MapLedgers].MaxEntries = 2 + bpf.OtherLedgers
	c, err := ebpf.NewCollection(copies)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	ring := open(t, c)
	const packets = 1000
	for i := range packets {
		for id := range 2 {
			if _, err := c.Programs[bpf.CopyName(bpf.ProgTraceTC, hop.ID(id))].Run(&ebpf.RunOptions{Data: ping(byte(i))}); err != nil {
				t.Fatal(err)
			}
		}
	}
	read := [2]uint64{}
	err = ring.Drain(func(b *Batch, _ uint64) error {
		for _, r := range b.Runs {
			for k := range r.Len() {
				id, _ := r.At(k)
				read[id]++
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	ledgers, err := ReadLedgers(c.Maps[bpf.MapLedgers], twoHops)
	if err != nil {
		t.Fatal(err)
	}
	for i, l := range ledgers.Hops {
		if l.Seen != packets || !l.Balanced() || l.Lost == 0 || l.Traced != read[i] {
			t.Errorf("hop %d: ledger %+v, %d sightings read", i, l.Ledger, read[i])
		}
	}
}

func TestReadSnapshot(t *testing.T) {
	spec, err := bpf.CountSpec()
	prog, c := load(t, spec, err, bpf.ProgCountTC)
	run(t, prog, 5)
	m := c.Maps[bpf.MapCounts]
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
