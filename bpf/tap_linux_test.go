package bpf

import (
	"bytes"
	"fmt"
	"slices"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/ringbuf"
	"github.com/google/go-cmp/cmp"

	"github.com/nsbpf/nsbpf/internal/testenv"
)

// tapped is a trace of the XDP hop testHop, through the gate, and of the tc hop
// before it, otherHop.
type tapped struct {
	*tracer
	tc *ebpf.Program
}

// newTapped traces what s selects at a hop whose body is given.
func newTapped(t *testing.T, s *ebpf.CollectionSpec, body *ebpf.Program) *tapped {
	t.Helper()
	return newTappedOf(t, s, s, body)
}

func newTappedOf(t *testing.T, tc, xdp *ebpf.CollectionSpec, body *ebpf.Program) *tapped {
	t.Helper()
	tc.Maps[MapRing].MaxEntries = 4096
	coll := loadTapped(t, tc, xdp, body)
	ring, err := ringbuf.NewReader(coll.Maps[MapRing])
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ring.Close() })
	return &tapped{
		tracer: &tracer{t, coll, coll.Programs[CopyName(ProgGateXDP, testHop)], ring, xdpPass},
		tc:     coll.Programs[CopyName(ProgTraceTC, otherHop)],
	}
}

// loadTapped loads a trace of two hops.
func loadTapped(t testing.TB, tc, xdp *ebpf.CollectionSpec, body *ebpf.Program) *ebpf.Collection {
	t.Helper()
	copies, err := Copies(tc, ProgTraceTC, []Site{{Hop: otherHop, Ethernet: true, Origin: true, Starts: true, Terminal: true, XDPNext: true}})
	if err != nil {
		t.Fatal(err)
	}
	for _, prog := range []string{ProgTraceXDP, ProgGateXDP} {
		if err := AddCopies(copies, xdp, prog, []Site{{Hop: testHop, Ethernet: true}}); err != nil {
			t.Fatal(err)
		}
	}
	coll := loadCopies(t, copies)
	for array, p := range map[string]*ebpf.Program{MapBodies: body, MapTaps: coll.Programs[CopyName(ProgTraceXDP, testHop)]} {
		if err := coll.Maps[array].Put(uint32(testHop), p); err != nil {
			t.Fatal(err)
		}
	}
	return coll
}

// bodyOf loads an XDP program of the hop's own.
func bodyOf(t *testing.T, s *ebpf.CollectionSpec, prog string) (*ebpf.Program, *ebpf.Collection) {
	t.Helper()
	coll := load(t, s, prog, Site{Hop: testHop, Ethernet: true})
	return coll.Programs[CopyName(prog, testHop)], coll
}

func countBody(t *testing.T) *ebpf.Program {
	t.Helper()
	p, _ := bodyOf(t, spec(t, CountSpec), ProgCountXDP)
	return p
}

// A hop's own program judges and counts behind a gate as without one, whether
// there is a tap, and whatever that selects.
func TestTapLeavesVerdict(t *testing.T) {
	f := readings(t)["udp"].frame
	for name, c := range map[string]struct {
		read    func() (*ebpf.CollectionSpec, error)
		prog    string
		match   asm.Instructions
		verdict uint32
		why     Reason
	}{
		"count":          {CountSpec, ProgCountXDP, nil, xdpPass, ReasonPass},
		"filter, drops":  {FilterSpec, ProgFilterXDP, matchAll, xdpDrop, ReasonFilter},
		"filter, passes": {FilterSpec, ProgFilterXDP, matchNone, xdpPass, ReasonPass},
	} {
		t.Run(name, func(t *testing.T) {
			s := spec(t, c.read)
			if c.match != nil {
				s = matching(t, c.read, c.match)
			}
			body, counters := bodyOf(t, s, c.prog)
			check := func(when string, p *ebpf.Program) {
				t.Helper()
				if got := run(t, p, f, nil); got != c.verdict {
					t.Errorf("%s: verdict %d, want %d", when, got, c.verdict)
				}
				if diff := cmp.Diff(countAt(testHop, c.why, 1, len(f)), drainCounts(t, counters)); diff != "" {
					t.Errorf("%s: counts (-want +got):\n%s", when, diff)
				}
			}
			check("alone", body)
			for when, match := range map[string]asm.Instructions{"all": matchAll, "none": matchNone} {
				tp := newTapped(t, matching(t, TraceSpec, match), body)
				check(when, tp.prog)
				if err := SetPaused(tp.coll, true); err != nil {
					t.Fatal(err)
				}
				check(when+", paused", tp.prog)
				if err := tp.coll.Maps[MapTaps].Delete(uint32(testHop)); err != nil {
					t.Fatal(err)
				}
				check(when+", without tap", tp.prog)
				if l := drainLedgers(t, tp.coll)[uint32(testHop)]; l.Seen != 1 {
					t.Errorf("%s: %+v, want one seen", when, l)
				}
			}
		})
	}
}

// A sighting at XDP is that at tc, but for the skb's address.
func TestTap(t *testing.T) {
	tp := newTapped(t, matching(t, TraceSpec, matchAll), countBody(t))
	for name, r := range readings(t) {
		for kind, r := range map[string]reading{"plain": r, "tagged": r.tagged()} {
			t.Run(name+"/"+kind, func(t *testing.T) {
				tp.T = t
				got := tp.trace(r.frame, nil)
				if got.Head == 0 {
					t.Error("no head")
				}
				got.Head = 0
				if diff := cmp.Diff(sighted(r.frame, r.want), got); diff != "" {
					t.Errorf("sighting (-want +got):\n%s", diff)
				}
			})
		}
	}
}

// There is a head also where the kernel has no cast (before 6.2).
func TestTapIdentity(t *testing.T) {
	object := bytes.ReplaceAll(_TraceBytes, []byte("bpf_cast_to_kern_ctx"), []byte("bpf_cast_to_nowhere_"))
	s, err := ebpf.LoadCollectionSpecFromReader(bytes.NewReader(object))
	if err != nil {
		t.Fatal(err)
	}
	tp := newTapped(t, s, countBody(t))
	if got := tp.trace(readings(t)["udp"].frame, nil); got.Head == 0 || got.Skb != 0 {
		t.Errorf("skb %#x, head %#x", got.Skb, got.Head)
	}
}

// Of a frame cut at any length, each field is read in full or is zero, and it is
// marked exactly when a header is missing.
func TestTapShort(t *testing.T) {
	tp := newTapped(t, matching(t, TraceSpec, matchAll), countBody(t))
	for name, r := range readings(t) {
		for n := 14; n <= len(r.frame); n++ {
			checkShort(t, fmt.Sprintf("%s, %d of %d header bytes", name, n, r.headers), r, n, tp.trace(r.frame[:n], nil).Packet)
		}
	}
}

// The sample is the same at tc and XDP, also of packets whose headers are wrong
// somewhere: the stamps are the same.
func TestTapSample(t *testing.T) {
	s := spec(t, TraceSpec)
	if err := SetSample(s, 2); err != nil {
		t.Fatal(err)
	}
	tp := newTapped(t, s, countBody(t))
	var packets, chosen uint64
	for name, r := range readings(t) {
		for kind, r := range map[string]reading{"plain": r, "tagged": r.tagged()} {
			for at := 12; at < min(r.headers+8, len(r.frame)); at += 3 {
				f := slices.Clone(r.frame)
				f[at] ^= 0x15
				run(t, tp.tc, f, nil)
				run(t, tp.prog, f, nil)
				ls := drainLedgers(t, tp.coll)
				tc, xdp := ls[uint32(otherHop)], ls[uint32(testHop)]
				tp.sightings() // else the ring is full
				if tc != xdp || tc.Traced+tc.SampledOut != 1 {
					t.Errorf("%s, %s, byte %d is wrong: at tc %+v, at XDP %+v", name, kind, at, tc, xdp)
				}
				packets++
				chosen += tc.Traced
			}
		}
	}
	if chosen < packets/4 || chosen > packets*3/4 {
		t.Errorf("%d of %d chosen, want about half", chosen, packets)
	}
}

// With a rate an XDP hop takes what the tc hop before it took, and nothing else.
func TestTapRate(t *testing.T) {
	s := matching(t, TraceSpec, matchAll)
	if err := SetRate(s, 1000); err != nil {
		t.Fatal(err)
	}
	tp := newTapped(t, s, countBody(t))
	all := readings(t)
	for _, name := range []string{"udp", "tcp6", "arp request", "ipv4 later fragment"} {
		f := all[name].frame
		run(t, tp.prog, f, nil)
		run(t, tp.tc, f, nil)
		run(t, tp.prog, f, nil)
		want := map[uint32]Ledger{
			uint32(otherHop): {Seen: 1, Traced: 1},
			uint32(testHop):  {Seen: 2, Traced: 1, SampledOut: 1},
		}
		if diff := cmp.Diff(want, drainLedgers(t, tp.coll)); diff != "" {
			t.Errorf("%s: ledgers (-want +got):\n%s", name, diff)
		}
	}
}

// An XDP hop takes also what only the tc hop before it knows to be selected, as it
// was before its addresses were translated. Here the hops' expressions differ.
func TestTapFollows(t *testing.T) {
	testenv.Root(t)
	tp := newTappedOf(t, matching(t, TraceSpec, matchAll), matching(t, TraceSpec, matchNone), countBody(t))
	all := readings(t)
	run(t, tp.prog, all["udp"].frame, nil)
	run(t, tp.tc, all["udp"].frame, nil)
	run(t, tp.prog, all["udp6"].frame, nil)
	run(t, tp.prog, all["udp"].frame, nil)
	want := map[uint32]Ledger{
		uint32(otherHop): {Seen: 1, Traced: 1},
		uint32(testHop):  {Seen: 3, Traced: 1, Filtered: 2},
	}
	if diff := cmp.Diff(want, drainLedgers(t, tp.coll)); diff != "" {
		t.Errorf("ledgers (-want +got):\n%s", diff)
	}
}

// A full ring is in the ledger of the XDP hop, too.
func TestTapLost(t *testing.T) {
	tp := newTapped(t, matching(t, TraceSpec, matchAll), countBody(t))
	const room, n = 4095 / (8 + alone), 100
	for range n {
		run(t, tp.prog, readings(t)["tcp6"].frame, nil)
	}
	want := map[uint32]Ledger{uint32(testHop): {Seen: n, Traced: uint64(room), Lost: n - uint64(room)}}
	if diff := cmp.Diff(want, drainLedgers(t, tp.coll)); diff != "" {
		t.Errorf("ledgers (-want +got):\n%s", diff)
	}
	if got := len(tp.sightings()); got != int(room) {
		t.Errorf("%d sightings, want %d", got, room)
	}
}
