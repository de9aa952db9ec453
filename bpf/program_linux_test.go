package bpf

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/google/go-cmp/cmp"

	"github.com/nsbpf/nsbpf/internal/hop"
	"github.com/nsbpf/nsbpf/internal/testenv"
)

// Verdicts, as prog.Run returns them.
const (
	tcNext   = 0xffffffff // TC_ACT_UNSPEC, TCX_NEXT
	tcShot   = 2
	xdpDrop  = 1
	xdpPass  = 2
	lastHop  = hop.ID(7) // the maps of the tests have room for hops 0 to 7
	testHop  = hop.ID(3) // where the program under test stands
	otherHop = hop.ID(5)
)

// gso is the part of struct __sk_buff that a test may set.
type gso struct {
	_        [164]byte
	Segments uint32
	_        [8]byte
	Size     uint32
}

// load loads copies of program prog and the maps they share.
func load(t testing.TB, spec *ebpf.CollectionSpec, prog string, sites ...Site) *ebpf.Collection {
	t.Helper()
	copies, err := Copies(spec, prog, sites)
	if err != nil {
		t.Fatal(err)
	}
	return loadCopies(t, copies)
}

// loadCopies loads copies of programs, and the maps they share with room for all hops.
func loadCopies(t testing.TB, copies *ebpf.CollectionSpec) *ebpf.Collection {
	t.Helper()
	testenv.Root(t)
	for name, n := range map[string]uint32{
		MapCounts: CountIndex(lastHop+1, 0), MapLedgers: uint32(lastHop) + 1,
		MapTaps: uint32(lastHop) + 1, MapBodies: uint32(lastHop) + 1,
	} {
		if m := copies.Maps[name]; m != nil {
			m.MaxEntries = n
		}
	}
	coll, err := ebpf.NewCollection(copies)
	if err != nil {
		t.Fatalf("load: %+v", err)
	}
	t.Cleanup(coll.Close)
	return coll
}

// run gives p one packet and returns the verdict. The packet must come out as
// it went in.
func run(t testing.TB, p *ebpf.Program, frame []byte, ctx any) uint32 {
	t.Helper()
	opts := &ebpf.RunOptions{Data: frame, DataOut: make([]byte, len(frame)+256), Context: ctx}
	verdict, err := p.Run(opts)
	if err != nil {
		t.Fatalf("run %s with %d bytes: %v", p, len(frame), err)
	}
	if !bytes.Equal(opts.DataOut, frame) {
		t.Errorf("%s changed the packet:\n%s", p, cmp.Diff(frame, opts.DataOut))
	}
	return verdict
}

// drain returns all entries of a per-CPU array that are not zero, summed over
// the CPUs, and sets them to zero.
func drain[V comparable](t testing.TB, m *ebpf.Map, add func(V, V) V) map[uint32]V {
	t.Helper()
	var zero V
	all := make(map[uint32]V)
	for i := range m.MaxEntries() {
		var perCPU []V
		if err := m.Lookup(i, &perCPU); err != nil {
			t.Fatal(err)
		}
		var sum V
		for _, v := range perCPU {
			sum = add(sum, v)
		}
		if sum == zero {
			continue
		}
		all[i] = sum
		if err := m.Put(i, make([]V, len(perCPU))); err != nil {
			t.Fatal(err)
		}
	}
	return all
}

func drainCounts(t testing.TB, coll *ebpf.Collection) map[uint32]Count {
	t.Helper()
	return drain(t, coll.Maps[MapCounts], func(a, b Count) Count {
		return Count{
			Packets: a.Packets + b.Packets, Segments: a.Segments + b.Segments,
			Bytes: a.Bytes + b.Bytes, WireBytes: a.WireBytes + b.WireBytes,
		}
	})
}

func drainOutcomes(t testing.TB, coll *ebpf.Collection) map[uint32]uint64 {
	t.Helper()
	return drain(t, coll.Maps[MapOutcomes], func(a, b uint64) uint64 { return a + b })
}

func drainLedgers(t testing.TB, coll *ebpf.Collection) map[uint32]Ledger {
	t.Helper()
	return drain(t, coll.Maps[MapLedgers], func(a, b Ledger) Ledger {
		return Ledger{
			Seen: a.Seen + b.Seen, Traced: a.Traced + b.Traced, Filtered: a.Filtered + b.Filtered,
			SampledOut: a.SampledOut + b.SampledOut, Lost: a.Lost + b.Lost, Unsnapped: a.Unsnapped + b.Unsnapped,
		}
	})
}

// countAt is the exact set of counters after n equal packets at one hop.
func countAt(id hop.ID, why Reason, n, size int) map[uint32]Count {
	return map[uint32]Count{CountIndex(id, why): {
		Packets: uint64(n), Segments: uint64(n), Bytes: uint64(n * size), WireBytes: uint64(n * size),
	}}
}

// spec returns what one of the three functions that read an object returns.
func spec(t testing.TB, read func() (*ebpf.CollectionSpec, error)) *ebpf.CollectionSpec {
	t.Helper()
	s, err := read()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// matching returns a specification with body as its match function.
func matching(t testing.TB, read func() (*ebpf.CollectionSpec, error), body asm.Instructions) *ebpf.CollectionSpec {
	t.Helper()
	s := spec(t, read)
	if err := SetMatch(s, body); err != nil {
		t.Fatal(err)
	}
	return s
}

var (
	matchAll  = asm.Instructions{asm.Mov.Imm(asm.R0, 1), asm.Return()}
	matchNone = asm.Instructions{asm.Mov.Imm(asm.R0, 0), asm.Return()}
)

// matchPacket matches only a packet of which exactly p is read.
func matchPacket(t testing.TB, p Packet) asm.Instructions {
	t.Helper()
	b, err := binary.Append(nil, binary.NativeEndian, p)
	if err != nil {
		t.Fatal(err)
	}
	const word, slots = 4, 4 // a comparison takes four slots, of which the constant has two
	body := asm.Instructions{asm.Mov.Imm(asm.R0, 0)}
	for at := 0; at < len(b); at += word {
		left := (len(b)-at)/word - 1
		body = append(body,
			asm.LoadMem(asm.R2, asm.R1, int16(at), asm.Word),
			asm.LoadImm(asm.R3, int64(binary.NativeEndian.Uint32(b[at:])), asm.DWord),
			asm.Instruction{OpCode: asm.JNE.Op(asm.RegSource), Dst: asm.R2, Src: asm.R3, Offset: int16(left*slots + 1)},
		)
	}
	return append(body, asm.Mov.Imm(asm.R0, 1), asm.Return())
}
