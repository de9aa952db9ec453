package report

import (
	"io"
	"testing"
	"time"

	"github.com/nsbpf/nsbpf/collector"
	"github.com/nsbpf/nsbpf/internal/hop"
)

// latency is nat with times on the way of an echo request, and on no other edge.
func latency(t *testing.T) *Latency {
	topo := natWAN(t)
	hops := topo.Hops(false)
	l := &Latency{Lab: "nat", Time: time.Unix(1_700_000_000, 42), Span: 5 * time.Second, Sample: 1, Hops: hops}
	way := map[string]time.Duration{
		"left:left-veth out > host:left-br0-veth in": 900,
		"host:left-br0-veth in > host:br0 in":        13_600,
		"host:br0 in > host:eth0 out":                43_500,
		"host:eth0 out > wan:eth0 in":                1_900_000,
	}
	for _, e := range topo.Edges(hops) {
		times := &collector.Histogram{}
		if d := way[hops[e.From].String()+" > "+hops[e.To].String()]; d > 0 {
			for i := range time.Duration(1000) {
				times.Record(d + i*d/1000)
			}
		}
		l.Edges = append(l.Edges, collector.EdgeLatency{Edge: e, Times: times})
	}
	l.Packets = &collector.Timing{Seen: 5001, Timed: 4000, Reused: 1}
	return l
}

func TestLatency(t *testing.T) {
	l := latency(t)
	fits(t, golden(t, "latency.txt", func(w io.Writer) error { return LatencyTable(w, l, Style{}) }), 80)
	goldenJSON(t, "latency.json", "nsbpf.latency/1", func(w io.Writer) error { return LatencyJSON(w, l) })

	l.Unused, l.Sample = true, 16
	l.Packets.Crowded, l.Packets.Displaced = 2, 30
	golden(t, "latency-unused.txt", func(w io.Writer) error { return LatencyTable(w, l, Colour) })

	// Of paths: no sample, no account of packets.
	l = latency(t)
	l.Span, l.Packets = 0, nil
	golden(t, "latency-paths.txt", func(w io.Writer) error { return LatencyTable(w, l, Style{}) })
	goldenJSON(t, "latency-paths.json", "nsbpf.latency/1", func(w io.Writer) error { return LatencyJSON(w, l) })

	none := &Latency{Lab: "nat", Time: l.Time, Span: time.Second, Packets: &collector.Timing{}}
	golden(t, "latency-none.txt", func(w io.Writer) error { return LatencyTable(w, none, Style{}) })
	goldenJSON(t, "latency-none.json", "nsbpf.latency/1", func(w io.Writer) error { return LatencyJSON(w, none) })
}

func TestThreeDigits(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0:                       "0 ns",
		314:                     "314 ns",
		999:                     "999 ns",
		1000:                    "1.00 µs",
		9_994:                   "9.99 µs",
		9_996:                   "10.0 µs",
		99_960:                  "100 µs",
		999_499:                 "999 µs",
		999_500:                 "1.00 ms",
		20_240 * 1000:           "20.2 ms",
		1500 * time.Millisecond: "1.50 s",
		2 * time.Hour:           "7200 s",
	} {
		if got := threeDigits(d); got != want {
			t.Errorf("%d ns: got %q, want %q", int64(d), got, want)
		}
	}
}

func TestEdgeName(t *testing.T) {
	at := func(node, device string, d hop.Direction, l hop.Layer) hop.Hop {
		return hop.Hop{Node: node, Device: device, Direction: d, Layer: l}
	}
	in := at("host", "a", hop.Ingress, hop.TC)
	for want, e := range map[string][2]hop.Hop{
		"left:x > host:a": {at("left", "x", hop.Egress, hop.TC), in},
		"host:a > b":      {in, at("host", "b", hop.Egress, hop.TC)},
		"host:a xdp > in": {at("host", "a", hop.Ingress, hop.XDP), in},
	} {
		if got := edgeName(e[0], e[1]); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
