package bpf

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"testing"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/google/go-cmp/cmp"
)

// snapping returns the trace programs, which keep the first n bytes.
func snapping(t *testing.T, n int) *ebpf.CollectionSpec {
	t.Helper()
	s := matching(t, TraceSpec, matchAll)
	if err := SetSnap(s, n); err != nil {
		t.Fatal(err)
	}
	return s
}

// records empties the ring.
func (t *tracer) records() (all [][]byte) {
	t.Helper()
	t.ring.SetDeadline(time.Now())
	for {
		rec, err := t.ring.Read()
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, rec.RawSample)
	}
}

// snap runs the program once and returns what was kept of the packet; it checks
// that this comes before the run, and is of it.
func (t *tracer) snap(frame []byte, ctx any) (Snap, []byte) {
	t.Helper()
	run(t.T, t.prog, frame, ctx)
	all := t.records()
	if len(all) != 2 {
		t.Fatalf("%d records, want the snap and the run", len(all))
	}
	var s Snap
	var of Sighting
	for i, to := range []any{&s, &of} {
		if _, err := binary.Decode(all[i], binary.NativeEndian, to); err != nil {
			t.Fatalf("decoding record %d: %v", i, err)
		}
	}
	kept := all[0][unsafe.Sizeof(s):]
	want := Snap{TimeNS: of.TimeNS, Skb: of.Skb, Captured: uint64(len(kept)), Length: of.Packet.Len, Hop: of.Hop, Record: RecordSnap}
	if diff := cmp.Diff(want, s); diff != "" {
		t.Errorf("snap (-of the run +got):\n%s", diff)
	}
	return s, kept
}

// The bytes that are kept are the packet's first, at both layers.
func TestSnap(t *testing.T) {
	for _, n := range []int{1, 64, 96, MostSnap} {
		s := snapping(t, n)
		for layer, tr := range map[string]*tracer{
			"tc":  newTracerOf(t, s, 1<<17, Site{Hop: testHop, Ethernet: true}),
			"xdp": newTapped(t, s, countBody(t)).tracer,
		} {
			for name, r := range readings(t) {
				tr.T = t
				s, kept := tr.snap(r.frame, nil)
				if want := r.frame[:min(n, len(r.frame))]; !bytes.Equal(kept, want) || int(s.Length) != len(r.frame) {
					t.Errorf("%s, %d bytes, %s: kept of %d bytes\n%x\nwant of %d\n%x", layer, n, name, s.Length, kept, len(r.frame), want)
				}
			}
		}
	}
}

// Of a packet that stands for several, all bytes are kept.
func TestSnapGSO(t *testing.T) {
	tr := newTracerOf(t, snapping(t, MostSnap), 1<<17, Site{Hop: testHop, Ethernet: true})
	frame := bytes.Repeat(readings(t)["udp"].frame, 80)[:3300]
	if _, kept := tr.snap(frame, gso{Segments: 3, Size: 1100}); !bytes.Equal(kept, frame) {
		t.Errorf("%d bytes are kept of %d, or others", len(kept), len(frame))
	}
}

// A snap that finds no room is counted beside the run, which may be there.
func TestSnapLost(t *testing.T) {
	tr := newTracerOf(t, snapping(t, MostSnap), 4096, Site{Hop: testHop, Ethernet: true})
	frame := append(readings(t)["udp"].frame, make([]byte, 3000)...)
	for range 3 {
		run(t, tr.prog, frame, nil)
	}
	want := map[uint32]Ledger{uint32(testHop): {Seen: 3, Traced: 3, Unsnapped: 2}}
	if diff := cmp.Diff(want, drainLedgers(t, tr.coll)); diff != "" {
		t.Errorf("ledgers (-want +got):\n%s", diff)
	}
	if n := len(tr.records()); n != 4 {
		t.Errorf("%d records, want a snap and three runs", n)
	}
}

func TestSetSnapRefuses(t *testing.T) {
	for _, n := range []int{-1, MostSnap + 1} {
		if err := SetSnap(matching(t, TraceSpec, matchAll), n); err == nil {
			t.Errorf("%d bytes were taken", n)
		}
	}
}
