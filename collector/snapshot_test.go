package collector

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nsbpf/nsbpf/bpf"
	"github.com/nsbpf/nsbpf/internal/hop"
)

var (
	left  = hop.Hop{ID: 0, Node: "left", Device: "left-veth", Direction: hop.Egress}
	right = hop.Hop{ID: 1, Node: "right", Device: "right-veth", Direction: hop.Ingress}
)

func count(n uint64) Count {
	return Count{Packets: n, Segments: 2 * n, Bytes: 100 * n, WireBytes: 120 * n}
}

func TestHopCount(t *testing.T) {
	h := HopCount{Hop: right, ByReason: [bpf.ReasonCount]Count{bpf.ReasonPass: count(5), bpf.ReasonFilter: count(2)}}
	if d := cmp.Diff(count(7), h.Arrived()); d != "" {
		t.Errorf("arrived: %s", d)
	}
	if d := cmp.Diff(count(5), h.Passed()); d != "" {
		t.Errorf("passed: %s", d)
	}
	if d := cmp.Diff([]Drop{{bpf.ReasonFilter, count(2)}}, h.Drops()); d != "" {
		t.Errorf("drops: %s", d)
	}
	h.ByReason[bpf.ReasonFilter] = Count{}
	if d := h.Drops(); d != nil {
		t.Errorf("drops of nothing: %v", d)
	}
}

func snap(at time.Duration, hops ...HopCount) Snapshot {
	return Snapshot{Time: time.Unix(0, 0).Add(at), Hops: hops}
}

func passed(h hop.Hop, n uint64) HopCount {
	return HopCount{Hop: h, ByReason: [bpf.ReasonCount]Count{bpf.ReasonPass: count(n)}}
}

func TestSnapshotSub(t *testing.T) {
	renamed := right
	renamed.Device = "eth0"
	tests := map[string]struct {
		now, prev HopCount
		want      uint64
	}{
		"grown":        {passed(right, 10), passed(right, 4), 6},
		"same":         {passed(right, 4), passed(right, 4), 0},
		"started anew": {passed(right, 3), passed(right, 4), 3},
		"no such hop":  {passed(right, 3), passed(left, 1), 3},
		"other lab's":  {passed(right, 3), passed(renamed, 1), 3},
		"empty before": {passed(right, 3), HopCount{Hop: right}, 3},
	}
	for name, tt := range tests {
		got := snap(3*time.Second, tt.now).Sub(snap(time.Second, tt.prev))
		want := snap(3*time.Second, passed(right, tt.want))
		want.Span = 2 * time.Second
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s: %s", name, d)
		}
	}
}

func TestSubKeepsItsOperands(t *testing.T) {
	now, prev := snap(2, passed(right, 10)), snap(1, passed(right, 4))
	now.Sub(prev)
	if d := cmp.Diff(snap(2, passed(right, 10)), now); d != "" {
		t.Error(d)
	}
}

func TestConservation(t *testing.T) {
	l := passed(left, 10)
	l.ByReason[bpf.ReasonFilter] = count(1)
	r := passed(right, 7)
	r.ByReason[bpf.ReasonFilter] = count(2)
	edges := []hop.Edge{{From: 0, To: 1, Wire: true}, {From: 1, To: 0}, {From: 0, To: 9, Wire: true}}

	got := Conservation(snap(0, l, r), edges)
	// A packet that a filter dropped at From never left; one dropped at To arrived.
	want := []Balance{{From: left, To: right, Out: count(10), In: count(9)}}
	if d := cmp.Diff(want, got); d != "" {
		t.Fatal(d)
	}
	if m := got[0].Missing(); m != 2 {
		t.Errorf("missing %d segments, want 2", m)
	}
	got[0].Out, got[0].In = got[0].In, got[0].Out
	if m := got[0].Missing(); m != -2 {
		t.Errorf("missing %d segments, want -2", m)
	}
}

// What an XDP filter drops has come by the wire, though the tc hop behind never
// sees it.
func TestConservationXDP(t *testing.T) {
	xdp := hop.Hop{ID: 2, Node: right.Node, Device: right.Device, Layer: hop.XDP}
	x := passed(xdp, 6)
	x.ByReason[bpf.ReasonFilter] = count(3)
	edges := []hop.Edge{{From: 0, To: 1, Wire: true}, {From: 0, To: 2}, {From: 2, To: 1}}

	got := Conservation(snap(0, passed(left, 10), passed(right, 6), x), edges)
	want := []Balance{{From: left, To: right, Out: count(10), In: count(9)}}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestLedger(t *testing.T) {
	l := Ledger{Seen: 10, Traced: 4, Filtered: 3, SampledOut: 2, Lost: 1}
	if !l.Balanced() || !l.Add(l).Balanced() || l.Add(l).Seen != 20 {
		t.Errorf("%+v does not balance", l)
	}
	l.Lost = 0
	if l.Balanced() {
		t.Errorf("%+v balances", l)
	}
}
