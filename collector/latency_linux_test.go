package collector

import (
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/google/go-cmp/cmp"

	"github.com/nsbpf/nsbpf/bpf"
	"github.com/nsbpf/nsbpf/internal/hop"
	"github.com/nsbpf/nsbpf/internal/testenv"
)

// latencyMaps returns the maps of latency programs at two hops.
func latencyMaps(t *testing.T) (histograms, timings *ebpf.Map) {
	t.Helper()
	testenv.Root(t)
	spec, err := bpf.LatencySpec()
	if err != nil {
		t.Fatal(err)
	}
	make := func(name string, entries uint32) *ebpf.Map {
		s := spec.Maps[name]
		s.MaxEntries = entries
		m, err := ebpf.NewMap(s)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { m.Close() })
		return m
	}
	return make(bpf.MapHistograms, 3), make(bpf.MapTimings, 2)
}

func TestReadLatency(t *testing.T) {
	histograms, timings := latencyMaps(t)
	cpus := ebpf.MustPossibleCPU()
	n := uint64(cpus)

	perCPU := make([]bpf.Timing, cpus)
	for i := range perCPU {
		perCPU[i] = bpf.Timing{Seen: 15, Timed: 5, Reused: 3, Crowded: 1, Displaced: 2, Wait: 9}
	}
	times := make([]bpf.Histogram, cpus)
	want := &Histogram{}
	for i := range times {
		d := time.Duration(1000 * (i + 1))
		times[i] = bpf.Histogram{From: 0, To: 1, MaxNS: uint64(d)}
		times[i].Counts[bpf.BucketOf(uint64(d))] = 1
		want.Record(d)
	}
	// Entry 0 was given to an edge that another CPU had given entry 1.
	if err := timings.Put(uint32(1), perCPU); err != nil {
		t.Fatal(err)
	}
	if err := histograms.Put(uint32(1), times); err != nil {
		t.Fatal(err)
	}

	edges := []hop.Edge{{From: 0, To: 1, Wire: true}, {From: 1, To: 0}}
	got, err := ReadLatency(histograms, timings, twoHops, edges)
	if err != nil {
		t.Fatal(err)
	}
	sum := Timing{Seen: 15 * n, Timed: 5 * n, Reused: 3 * n, Crowded: n, Displaced: 2 * n}
	if diff := cmp.Diff([]HopTiming{{Hop: left}, {Hop: right, Timing: sum}}, got.Hops); diff != "" {
		t.Errorf("hops (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(sum, got.Total); diff != "" || got.Total.Untimed() != 6*n {
		t.Errorf("untimed %d, total (-want +got):\n%s", got.Total.Untimed(), diff)
	}
	if len(got.Edges) != 2 || got.Edges[0].Edge != edges[0] || *got.Edges[0].Times != *want || got.Edges[1].Times.Count() != 0 {
		t.Errorf("edges %+v", got.Edges)
	}
	if _, err := ReadLatency(histograms, timings, []hop.Hop{{ID: 2, Node: "x", Device: "y"}}, nil); err == nil {
		t.Error("a hop outside the map was read")
	}
}
