package collector

import (
	"fmt"

	"github.com/cilium/ebpf"

	"github.com/nsbpf/nsbpf/bpf"
	"github.com/nsbpf/nsbpf/internal/hop"
)

// ReadLatency reads what latency programs counted at hops and on edges. The maps
// are [bpf.MapHistograms] and [bpf.MapTimings].
func ReadLatency(histograms, timings *ebpf.Map, hops []hop.Hop, edges []hop.Edge) (Latency, error) {
	l := Latency{Hops: make([]HopTiming, len(hops)), Edges: make([]EdgeLatency, len(edges))}
	perCPU, cpus, err := readPerCPU[bpf.Timing](timings)
	if err != nil {
		return Latency{}, err
	}
	for i, h := range hops {
		values, err := ofIndex(perCPU, cpus, uint32(h.ID))
		if err != nil {
			return Latency{}, fmt.Errorf("reading what was timed at %s: %w", h, err)
		}
		l.Hops[i].Hop = h
		for _, t := range values {
			l.Hops[i].Timing = l.Hops[i].Add(newTiming(t))
		}
		l.Total = l.Total.Add(l.Hops[i].Timing)
	}
	byEdge, err := readHistograms(histograms)
	if err != nil {
		return Latency{}, err
	}
	none := &Histogram{} // one for all: a lab may have a million edges
	for i, e := range edges {
		l.Edges[i] = EdgeLatency{Edge: e, Times: none}
		if h, ok := byEdge[edgeKey{e.From, e.To}]; ok {
			l.Edges[i].Times = h
		}
	}
	return l, nil
}

func newTiming(t bpf.Timing) Timing {
	return Timing{Seen: t.Seen, Timed: t.Timed, Reused: t.Reused, Crowded: t.Crowded, Displaced: t.Displaced}
}

type edgeKey struct{ from, to hop.ID }

// readHistograms returns the histograms of the edges that packets were timed on.
// They are read one by one, because a per-CPU histogram is large and most of
// them are empty.
func readHistograms(m *ebpf.Map) (map[edgeKey]*Histogram, error) {
	byEdge := make(map[edgeKey]*Histogram)
	var perCPU []bpf.Histogram
	for i := range m.MaxEntries() {
		if err := m.Lookup(i, &perCPU); err != nil {
			return nil, fmt.Errorf("reading %s: entry %d: %w", m, i, err)
		}
		for cpu := range perCPU {
			one := &perCPU[cpu]
			if one.From == one.To {
				continue // nothing was counted
			}
			at := edgeKey{hop.ID(one.From), hop.ID(one.To)}
			if byEdge[at] == nil {
				byEdge[at] = &Histogram{}
			}
			byEdge[at].mergeKernel(one)
		}
	}
	return byEdge, nil
}
