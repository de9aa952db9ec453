package bpf

import (
	"encoding/binary"
	"fmt"
	"testing"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/google/go-cmp/cmp"

	"github.com/nsbpf/nsbpf/internal/testenv"
)

// prober is the program that says whether a packet is traced, and what it read of
// the packet by probing the kernel's memory.
type prober struct {
	*testing.T
	prog *ebpf.Program
	read *ebpf.Map
}

// newProber gives the program a match function that writes the packet it is asked
// of to a map. Programs for netfilter, which Linux has from 6.4 on, are left out.
func newProber(t *testing.T) *prober {
	t.Helper()
	testenv.Root(t)
	const size, word = int(unsafe.Sizeof(Packet{})), 4
	read, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: word, ValueSize: uint32(size), MaxEntries: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { read.Close() })
	var body asm.Instructions
	for at := 0; at < size; at += word { // before Linux 6.4 a map takes it from the stack only
		body = append(body, asm.LoadMem(asm.R2, asm.R1, int16(at), asm.Word), asm.StoreMem(asm.R10, int16(at-size), asm.R2, asm.Word))
	}
	return &prober{t, probing(t, append(body,
		asm.Mov.Reg(asm.R3, asm.R10),
		asm.Add.Imm(asm.R3, int32(-size)),
		asm.StoreImm(asm.R10, int16(-size-word), 0, asm.Word),
		asm.Mov.Reg(asm.R2, asm.R10),
		asm.Add.Imm(asm.R2, int32(-size-word)),
		asm.LoadMapPtr(asm.R1, read.FD()),
		asm.Mov.Imm(asm.R4, 0),
		asm.FnMapUpdateElem.Call(),
		asm.Mov.Imm(asm.R0, 1),
		asm.Return(),
	)), read}
}

// probing returns ProgTraced with a match function.
func probing(t *testing.T, body asm.Instructions) *ebpf.Program {
	t.Helper()
	s := matching(t, ExplainSpec, body)
	delete(s.Programs, ProgPassageFirst)
	delete(s.Programs, ProgPassageLast)
	return loadCopies(t, s).Programs[ProgTraced]
}

// filtered runs a socket filter, which is given the packet without its Ethernet
// header.
func filtered(t *testing.T, p *ebpf.Program, frame []byte) int {
	t.Helper()
	n, err := p.Run(&ebpf.RunOptions{Data: frame})
	if err != nil {
		t.Fatalf("run %s with %d bytes: %v", p, len(frame), err)
	}
	return int(n)
}

// packet returns what is read of a frame.
func (p *prober) packet(frame []byte) (got Packet) {
	p.Helper()
	if n := filtered(p.T, p.prog, frame); n != len(frame)-14 {
		p.Errorf("traced are %d of %d bytes", n, len(frame)-14)
	}
	var raw []byte
	if err := p.read.Lookup(uint32(0), &raw); err != nil {
		p.Fatal(err)
	}
	if _, err := binary.Decode(raw, binary.NativeEndian, &got); err != nil {
		p.Fatal(err)
	}
	return got
}

// What is read of a packet by probing is what a trace program at a hop reads, of
// every shape and cut at any length.
func TestProbe(t *testing.T) {
	tr := newTracer(t, matchAll, 4096, Site{Hop: testHop, Ethernet: true})
	p := newProber(t)
	for name, r := range readings(t) {
		if diff := cmp.Diff(r.want, p.packet(r.frame)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
		r := r.tagged()
		for n := 18; n <= len(r.frame); n++ {
			want := tr.trace(r.frame[:n], nil).Packet
			if diff := cmp.Diff(want, p.packet(r.frame[:n])); diff != "" {
				t.Errorf("%s (-trace +probe):\n%s", fmt.Sprintf("%s, %d of %d header bytes", name, n, r.headers), diff)
			}
		}
	}
}

// What does not match and was at no hop is not traced.
func TestTracedMatches(t *testing.T) {
	frame := readings(t)["udp"].frame
	for name, c := range map[string]struct {
		body asm.Instructions
		want int
	}{"all": {matchAll, len(frame) - 14}, "none": {matchNone, 0}} {
		if got := filtered(t, probing(t, c.body), frame); got != c.want {
			t.Errorf("%s match: %d bytes, want %d", name, got, c.want)
		}
	}
}
