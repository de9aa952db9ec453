package report

import (
	"io"
	"testing"
	"time"

	"github.com/nsbpf/nsbpf/bpf"
	"github.com/nsbpf/nsbpf/collector"
	"github.com/nsbpf/nsbpf/internal/hop"
	"github.com/nsbpf/nsbpf/topology"
)

func stats(t *testing.T) *Stats {
	topo := natWAN(t)
	hops := topo.Hops(true)
	s := &Stats{Lab: "nat", Edges: topo.Edges(hops), Snapshot: collector.Snapshot{Time: time.Unix(1_700_000_000, 42)}}
	before := collector.Snapshot{Time: s.Snapshot.Time.Add(-2 * time.Second)}
	for i, h := range hops {
		hook := "tcx"
		if h.Layer == hop.XDP {
			hook = "xdpgeneric"
		}
		s.Hops = append(s.Hops, AttachedHop{h, hook})
		c := collector.HopCount{Hop: h}
		before.Hops = append(before.Hops, c)
		n := uint64(123_456 * (i/4 + 1))
		c.ByReason[bpf.ReasonPass] = collector.Count{Packets: n, Segments: 4 * n, Bytes: 6000 * n, WireBytes: 6200 * n}
		if i == 2 {
			c.ByReason[bpf.ReasonFilter] = collector.Count{Packets: 3, Segments: 3, Bytes: 300, WireBytes: 300}
			c.ByReason[bpf.ReasonPass].Segments -= 10
		}
		s.Snapshot.Hops = append(s.Snapshot.Hops, c)
	}
	s.Recent = s.Snapshot.Sub(before)
	return s
}

func TestStats(t *testing.T) {
	s := stats(t)
	golden(t, "stats-rate.txt", func(w io.Writer) error { return StatsTable(w, s, Style{}) })
	golden(t, "stats-colour.txt", func(w io.Writer) error { return StatsTable(w, s, Colour) })
	goldenJSON(t, "stats-rate.json", "nsbpf.stats/1", func(w io.Writer) error { return StatsJSON(w, s) })
	s.Recent = collector.Snapshot{}
	fits(t, golden(t, "stats.txt", func(w io.Writer) error { return StatsTable(w, s, Style{}) }), 80)
	goldenJSON(t, "stats.json", "nsbpf.stats/1", func(w io.Writer) error { return StatsJSON(w, s) })
	goldenJSON(t, "stats-none.json", "nsbpf.stats/1", func(w io.Writer) error { return StatsJSON(w, &Stats{Lab: "nat"}) })
}

func TestTopology(t *testing.T) {
	for _, name := range topology.Presets() {
		p := preset(t, name)
		fits(t, golden(t, "topology-"+name+".txt", func(w io.Writer) error { return TopologyTable(w, p, Style{}) }), 80)
		golden(t, "topology-"+name+".mmd", func(w io.Writer) error { return TopologyMermaid(w, p) })
		goldenJSON(t, "topology-"+name+".json", "nsbpf.topology/1", func(w io.Writer) error { return TopologyJSON(w, p) })
	}
	p := natWAN(t)
	golden(t, "topology-wan.txt", func(w io.Writer) error { return TopologyTable(w, p, Style{}) })
	golden(t, "topology-wan.mmd", func(w io.Writer) error { return TopologyMermaid(w, p) })
	up := preset(t, "nat").WithUplinks([]string{"eth0"})
	golden(t, "topology-uplink.txt", func(w io.Writer) error { return TopologyTable(w, up, Style{}) })
	golden(t, "topology-uplink.mmd", func(w io.Writer) error { return TopologyMermaid(w, up) })
	goldenJSON(t, "up.json", "nsbpf.up/1", func(w io.Writer) error {
		pair := preset(t, "pair")
		return UpJSON(w, pair, []AttachedHop{{pair.Hops(false)[0], "tcx"}}, 12*time.Millisecond)
	})
}

func TestLabs(t *testing.T) {
	labs := []Lab{
		{"bridge", "up", 3, 2, 90 * time.Second},
		{"nat", "broken", 2, 2, 26 * time.Hour},
		{"pair", "up", 2, 1, 3 * time.Second},
	}
	golden(t, "labs.txt", func(w io.Writer) error { return LabsTable(w, labs, Style{}) })
	goldenJSON(t, "labs.json", "nsbpf.labs/1", func(w io.Writer) error { return LabsJSON(w, labs) })
	golden(t, "labs-none.txt", func(w io.Writer) error { return LabsTable(w, nil, Style{}) })
	goldenJSON(t, "labs-none.json", "nsbpf.labs/1", func(w io.Writer) error { return LabsJSON(w, nil) })
}

func TestFilters(t *testing.T) {
	hops := preset(t, "pair").Hops(true)
	filters := []Filter{
		{1, hops[2], "tcx", "udp port 9", 12, 0},
		{2, hops[len(hops)-1], "xdp", "icmp and host 172.16.16.10", 3, 1},
	}
	fits(t, golden(t, "filters.txt", func(w io.Writer) error { return FiltersTable(w, filters, Style{}) }), 80)
	goldenJSON(t, "filters.json", "nsbpf.filters/1", func(w io.Writer) error { return FiltersJSON(w, "pair", filters) })
}

func TestDuration(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0:                       "0.0 µs",
		90:                      "0.1 µs",
		11_800:                  "11.8 µs",
		99_949:                  "99.9 µs",
		99_950:                  "100 µs",
		999_499:                 "999 µs",
		999_950:                 "1.0 ms",
		12_345_678:              "12.3 ms",
		999 * time.Millisecond:  "999 ms",
		1500 * time.Millisecond: "1.5 s",
		300 * time.Second:       "300 s",
		-11_800:                 "-11.8 µs",
	} {
		if got := Duration(d); got != want {
			t.Errorf("%d ns: got %q, want %q", int64(d), got, want)
		}
	}
}

func TestScaled(t *testing.T) {
	for v, want := range map[float64]string{0: "0", 7.4: "7", 999: "999", 1234: "1.23k", 12_345: "12.3k", 123_456: "123k", 999_600: "1.00M", 4.2e9: "4.20G", 5e15: "5000T"} {
		if got := scaled(v); got != want {
			t.Errorf("%v: got %q, want %q", v, got, want)
		}
	}
}
