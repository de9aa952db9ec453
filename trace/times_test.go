package trace

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestEdgeTimes(t *testing.T) {
	l := natLab()
	times := NewEdgeTimes(l.Edges)
	j := mustJoiner(t, l.Config, times.Add)
	for i := range uint64(100) {
		give(j, trip(l, as(packets.tcp(1, "172.16.16.10", "172.16.16.20", uint32(i)*1000), 1, 1), 1000*i, across))
	}
	j.Flush()
	type row struct {
		Edge     string
		Count    uint64
		P50, Max time.Duration
	}
	var got []row
	for _, e := range times.Edges() {
		if n := e.Times.Count(); n > 0 {
			got = append(got, row{l.name(uint16(e.Edge.From)) + " > " + l.name(uint16(e.Edge.To)), n, e.Times.Quantile(.5), e.Times.Max()})
		}
	}
	// A trip takes a microsecond a hop, within the width of a bucket.
	near := cmp.Comparer(func(a, b time.Duration) bool { return max(a-b, b-a) <= time.Microsecond/32 })
	want := []row{
		{"left:left-veth out > host:left-br0-veth in", 100, time.Microsecond, time.Microsecond},
		{"host:right-br0-veth out > right:right-veth in", 100, time.Microsecond, time.Microsecond},
		{"host:left-br0-veth in > host:right-br0-veth out", 100, time.Microsecond, time.Microsecond},
	}
	if d := cmp.Diff(want, got, near); d != "" {
		t.Error(d)
	}
}
