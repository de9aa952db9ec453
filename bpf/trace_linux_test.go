package bpf

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"reflect"
	"testing"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/ringbuf"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/nsbpf/nsbpf/internal/testenv"
)

// alone is the length of the record of a packet that was seen at one hop and has
// no connection.
const alone = unsafe.Sizeof(Sighting{})

// tracer is a trace program with the reader of its ring.
type tracer struct {
	*testing.T
	coll *ebpf.Collection
	prog *ebpf.Program
	ring *ringbuf.Reader

	verdict uint32 // that prog is to return
}

func newTracer(t *testing.T, body asm.Instructions, ringSize uint32, site Site) *tracer {
	t.Helper()
	return newTracerOf(t, matching(t, TraceSpec, body), ringSize, site)
}

func newTracerOf(t *testing.T, s *ebpf.CollectionSpec, ringSize uint32, site Site) *tracer {
	t.Helper()
	s.Maps[MapRing].MaxEntries = ringSize
	site.Terminal = true
	coll := load(t, s, ProgTraceTC, site)
	ring, err := ringbuf.NewReader(coll.Maps[MapRing])
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ring.Close() })
	return &tracer{t, coll, coll.Programs[CopyName(ProgTraceTC, site.Hop)], ring, tcNext}
}

// sightings empties the ring.
func (t *tracer) sightings() []Sighting {
	t.Helper()
	var all []Sighting
	t.ring.SetDeadline(time.Now())
	for {
		rec, err := t.ring.Read()
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		var s Sighting
		if len(rec.RawSample) != int(alone) {
			t.Fatalf("record of %d bytes, want %d: a test run has no connection", len(rec.RawSample), alone)
		}
		if _, err := binary.Decode(rec.RawSample, binary.NativeEndian, &s); err != nil {
			t.Fatalf("decoding a sighting: %v", err)
		}
		all = append(all, s)
	}
}

// trace runs the program once, checks verdict, ledger and what no test can
// foresee, and returns the rest of the one sighting.
func (t *tracer) trace(frame []byte, ctx any) Sighting {
	t.Helper()
	before := monotonic(t)
	if got := run(t, t.prog, frame, ctx); got != t.verdict {
		t.Errorf("verdict %d, want %d", int32(got), int32(t.verdict))
	}
	after := monotonic(t)
	want := map[uint32]Ledger{uint32(testHop): {Seen: 1, Traced: 1}}
	if diff := cmp.Diff(want, drainLedgers(t, t.coll)); diff != "" {
		t.Errorf("ledgers (-want +got):\n%s", diff)
	}
	all := t.sightings()
	if len(all) != 1 {
		t.Fatalf("%d sightings, want 1", len(all))
	}
	s := all[0]
	if s.TimeNS < before || s.TimeNS > after {
		t.Errorf("time %d is not between %d and %d", s.TimeNS, before, after)
	}
	s.TimeNS = 0
	return s
}

// sighted is the sighting that trace returns for a packet of which p is read.
func sighted(frame []byte, p Packet) Sighting {
	return Sighting{Packet: p, Hop: uint16(testHop), Segments: 1, PayloadHash: payloadHash(frame, p)}
}

// Everything but the addresses of a sighting is as the frame says.
func TestTrace(t *testing.T) {
	tr := newTracer(t, matchAll, 4096, Site{Hop: testHop, Ethernet: true})
	for name, r := range readings(t) {
		for kind, r := range map[string]reading{"plain": r, "tagged": r.tagged()} {
			t.Run(name+"/"+kind, func(t *testing.T) {
				tr.T = t
				got := tr.trace(r.frame, nil)
				got.Skb, got.Head = 0, 0
				if diff := cmp.Diff(sighted(r.frame, r.want), got); diff != "" {
					t.Errorf("sighting (-want +got):\n%s", diff)
				}
			})
		}
	}
}

// Of a packet cut at any length, each field is read in full or is zero, and the
// packet is marked exactly when a header is missing.
func TestTraceShort(t *testing.T) {
	tr := newTracer(t, matchAll, 4096, Site{Hop: testHop, Ethernet: true})
	for name, r := range readings(t) {
		r := r.tagged()
		for n := 14; n <= len(r.frame); n++ {
			checkShort(t, fmt.Sprintf("%s, %d of %d header bytes", name, n, r.headers), r, n, tr.trace(r.frame[:n], nil).Packet)
		}
	}
}

// checkShort compares what was read of the first n bytes of r.
func checkShort(t *testing.T, what string, r reading, n int, got Packet) {
	t.Helper()
	if short := got.Flags&PacketShort != 0; short != (n < r.headers) {
		t.Errorf("%s: marked short: %v", what, short)
	}
	if got.Len != uint32(n) {
		t.Errorf("%s: length %d", what, got.Len)
	}
	if extra := got.Flags &^ (r.want.Flags | PacketShort); extra != 0 {
		t.Errorf("%s: flags %#x of no right", what, extra)
	}
	got.Flags, got.Len = r.want.Flags, r.want.Len
	for _, f := range garbage(got, r.want) {
		t.Errorf("%s: %s", what, f)
	}
}

// The same for one frame to the byte: what is read when.
func TestTraceShortTCP6(t *testing.T) {
	r := readings(t)["tcp6"].tagged()
	const tag, network, transport, options = 14 + 4, 18 + 40, 18 + 40 + 20, 18 + 40 + 32
	tr := newTracer(t, matchAll, 4096, Site{Hop: testHop, Ethernet: true})
	for n := 14; n <= len(r.frame); n++ {
		want := with(r.want, func(p *Packet) {
			p.Len = uint32(n)
			if n < options {
				p.Flags |= PacketShort
				p.TSVal, p.PayloadOff = 0, 0
			}
			if n < transport {
				p.Flags &^= PacketPorts
				p.Sport, p.Dport, p.Seq, p.Ack, p.TCPFlags = 0, 0, 0, 0, 0
			}
			if n < network {
				*p = Packet{Len: p.Len, EthDst: p.EthDst, EthSrc: p.EthSrc, EtherType: p.EtherType, VLAN: p.VLAN, Flags: p.Flags}
			}
			if n < tag {
				p.EtherType, p.VLAN, p.Flags = 0, 0, PacketShort
			}
		})
		got := tr.trace(r.frame[:n], nil)
		if diff := cmp.Diff(want, got.Packet); diff != "" {
			t.Errorf("%d bytes (-want +got):\n%s", n, diff)
		}
	}
}

// On a device without Ethernet headers the packet starts with the network
// header, and its protocol is the skb's.
func TestTraceWithoutEthernet(t *testing.T) {
	tr := newTracer(t, matchAll, 4096, Site{Hop: testHop})
	f := bareTCP(t)
	want := with(read4(6), tcpRead, func(p *Packet) {
		p.Len, p.TSVal, p.PayloadOff = uint32(len(f)), 0x11223344, 20+32
		p.Src[12], p.Src[13], p.Src[14], p.Src[15] = 8, 0, 0, 10
	})
	if diff := cmp.Diff(want, tr.trace(f, nil).Packet); diff != "" {
		t.Errorf("packet (-want +got):\n%s", diff)
	}
}

// A GSO packet is one sighting that says so.
func TestTraceSegments(t *testing.T) {
	tr := newTracer(t, matchAll, 4096, Site{Hop: testHop, Ethernet: true})
	r := readings(t)["tcp6"]
	got := tr.trace(r.frame, gso{Segments: 45, Size: 1428})
	if got.Segments != 45 || got.GSOSize != 1428 || got.Packet.Len != uint32(len(r.frame)) {
		t.Errorf("%d segments of %d bytes, length %d; want 45, 1428, %d", got.Segments, got.GSOSize, got.Packet.Len, len(r.frame))
	}
}

// A sighting bears the skb's addresses, also where the kernel has no cast (before 6.2).
func TestTraceIdentity(t *testing.T) {
	testenv.Root(t)
	const cast, unknown = "bpf_cast_to_kern_ctx", "bpf_cast_to_nowhere_"
	for _, name := range []string{cast, unknown} {
		object := bytes.ReplaceAll(_TraceBytes, []byte(cast), []byte(name))
		read := func() (*ebpf.CollectionSpec, error) {
			return ebpf.LoadCollectionSpecFromReader(bytes.NewReader(object))
		}
		tr := newTracerOf(t, matching(t, read, matchAll), 4096, Site{Hop: testHop, Ethernet: true})
		got := tr.trace(readings(t)["udp"].frame, nil)
		if got.Skb == 0 || got.Head == 0 || got.Skb == got.Head {
			t.Errorf("with %s: skb %#x, head %#x", name, got.Skb, got.Head)
		}
	}
}

// Seen is traced, filtered and lost, to the packet.
func TestLedger(t *testing.T) {
	testenv.Root(t)
	const (
		ring   = 4096
		record = 8 + alone           // with its header in the ring
		room   = (ring - 1) / record // the ring is never quite full
		n      = room + 7
	)
	f := readings(t)["tcp6"].frame
	fill := func(tr *tracer) {
		for range n {
			run(tr, tr.prog, f, nil)
		}
	}
	for name, c := range map[string]struct {
		body asm.Instructions
		want Ledger
	}{
		"full ring":     {matchAll, Ledger{Seen: uint64(n), Traced: uint64(room), Lost: 7}},
		"nothing of it": {matchNone, Ledger{Seen: uint64(n), Filtered: uint64(n)}},
	} {
		t.Run(name, func(t *testing.T) {
			tr := newTracer(t, c.body, ring, Site{Hop: testHop, Ethernet: true})
			for round := range 2 { // a ring that was read has room again
				fill(tr)
				if diff := cmp.Diff(map[uint32]Ledger{uint32(testHop): c.want}, drainLedgers(t, tr.coll)); diff != "" {
					t.Errorf("round %d: ledgers (-want +got):\n%s", round, diff)
				}
				if got := len(tr.sightings()); got != int(c.want.Traced) {
					t.Errorf("round %d: %d sightings, want %d", round, got, c.want.Traced)
				}
			}
		})
	}
}

// The reader is woken when the ring holds what SetWakeAt says, and not before. How
// soon it is woken again is a matter of time and not tested.
func TestSetWakeAt(t *testing.T) {
	const record, quiet = 8 + alone, 5
	s := matching(t, TraceSpec, matchAll)
	s.Maps[MapRing].MaxEntries = 4096
	if err := SetWakeAt(s, uint64(quiet*record)); err != nil {
		t.Fatal(err)
	}
	coll := load(t, s, ProgTraceTC, Site{Hop: testHop, Ethernet: true, Terminal: true})
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(epoll)
	fd := coll.Maps[MapRing].FD()
	if err := unix.EpollCtl(epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLET}); err != nil {
		t.Fatal(err)
	}
	f := readings(t)["udp"].frame
	for i := range quiet {
		run(t, coll.Programs[CopyName(ProgTraceTC, testHop)], f, nil)
		want := i == quiet-1
		if got := woken(t, epoll, want); got != want {
			t.Errorf("after %d sightings: woken %v, want %v", i+1, got, want)
		}
	}
}

// woken waits for a wake-up: long if one is expected, because it goes through an
// interrupt that may come late, and else a little.
func woken(t *testing.T, epoll int, expected bool) bool {
	t.Helper()
	ms := 20
	if expected {
		ms = 5000
	}
	for {
		n, err := unix.EpollWait(epoll, make([]unix.EpollEvent, 1), ms)
		if err == nil {
			return n == 1
		}
		if err != unix.EINTR {
			t.Fatal(err)
		}
	}
}

// garbage lists the fields of got that are neither zero nor as in want.
func garbage(got, want Packet) []string {
	var bad []string
	g, w := reflect.ValueOf(got), reflect.ValueOf(want)
	for i := range g.NumField() {
		if f := g.Type().Field(i); f.Name != "_" && !g.Field(i).IsZero() && !g.Field(i).Equal(w.Field(i)) {
			bad = append(bad, fmt.Sprintf("%s is %v, want %v or zero", f.Name, g.Field(i), w.Field(i)))
		}
	}
	return bad
}

// payloadHash is FNV-1a over the payload's first 32 bytes as words of the
// machine, filled up with zeros.
func payloadHash(frame []byte, p Packet) uint32 {
	const basis, prime = 2166136261, 16777619
	if p.PayloadOff == 0 || int(p.PayloadOff) == len(frame) || p.Proto == unix.IPPROTO_TCP {
		return 0
	}
	var payload [32]byte
	copy(payload[:], frame[p.PayloadOff:])
	h := uint32(basis)
	for i := 0; i < len(payload); i += 4 {
		h = (h ^ binary.NativeEndian.Uint32(payload[i:])) * prime
	}
	return h
}

func monotonic(t testing.TB) uint64 {
	t.Helper()
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		t.Fatal(err)
	}
	return uint64(ts.Nano())
}
