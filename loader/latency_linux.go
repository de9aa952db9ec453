package loader

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"

	"github.com/cilium/ebpf"

	"github.com/nsbpf/nsbpf/bpf"
	"github.com/nsbpf/nsbpf/internal/hop"
)

// maxHistograms is on how many of a lab's edges packets can be timed, at 8 KiB a
// CPU each. A bridge of 1000 ports has a million edges, of which few are used.
const maxHistograms = 512

// slotBits is room for 16384 packets on their way from hop to hop, in 512 KiB:
// of 1000 that are, 6 % lose their times.
const slotBits = 14

// LatencyOptions says what a [Latency] measures.
type LatencyOptions struct {
	// Sample times one of so many packets on each edge, chosen at random; 0 and
	// 1: all.
	Sample uint32
	// Hook forces TCX or Clsact; HookNone chooses. Clsact runs behind all of tcx.
	Hook Hook
}

// Latency is a latency program on every tc hop of the lab, for as long as the
// process lives or until Close.
type Latency struct {
	Histograms *ebpf.Map // bpf.Histogram, per CPU
	Timings    *ebpf.Map // by hop: bpf.Timing, per CPU
	Hops       []hop.Hop // where it stands
	Edges      []hop.Edge
	guest
}

// Latency attaches latency programs before all others. It needs no BTF.
func (l *Loader) Latency(ctx context.Context, opts LatencyOptions) (_ *Latency, err error) {
	unlock, err := lock(l.lab.Dir)
	if err != nil {
		return nil, err
	}
	defer unlock()
	m := &Latency{Hops: l.lab.Topology.Hops(false), guest: guest{word: "latency"}}
	m.Edges = l.lab.Topology.Edges(m.Hops)
	ps, err := l.resolve(m.Hops)
	if err != nil {
		return nil, err
	}
	defer ps.Close()
	defer func() {
		if err != nil {
			err = errors.Join(err, m.Close())
		}
	}()
	if m.coll, err = loadLatency(ps, len(m.Edges), opts.Sample); err != nil {
		return nil, err
	}
	m.Histograms, m.Timings = m.coll.Maps[bpf.MapHistograms], m.coll.Maps[bpf.MapTimings]
	if err := errors.Join(m.putEdges(), m.putWaits(opts.Sample)); err != nil {
		return nil, err
	}
	if err := m.attach(ctx, l, ps, bpf.ProgLatencyTC, opts.Hook); err != nil {
		return nil, err
	}
	return m, nil
}

func loadLatency(ps *places, edges int, sample uint32) (*ebpf.Collection, error) {
	spec, err := bpf.LatencySpec()
	if err != nil {
		return nil, err
	}
	spec.Maps[bpf.MapHistograms].MaxEntries = uint32(min(max(edges, 1), maxHistograms))
	if err := errors.Join(bpf.SetHops(spec, len(ps.all)), bpf.SetSlots(spec, slotBits), bpf.SetOneOf(spec, sample)); err != nil {
		return nil, err
	}
	return loadCopies(spec, bpf.ProgLatencyTC, ps, nil)
}

// putEdges tells the programs which hops follow each other.
func (m *Latency) putEdges() error {
	if len(m.Edges) == 0 {
		return nil
	}
	hops := make(map[hop.ID]hop.Hop, len(m.Hops))
	for _, h := range m.Hops {
		hops[h.ID] = h
	}
	keys, values := make([]uint32, len(m.Edges)), make([]bpf.Edge, len(m.Edges))
	for i, e := range m.Edges {
		keys[i] = bpf.EdgeIndex(e.From, e.To, len(m.Hops))
		values[i].Kind = kindOf(hops[e.From], hops[e.To])
	}
	if _, err := m.coll.Maps[bpf.MapEdges].BatchUpdate(keys, values, nil); err != nil {
		return fmt.Errorf("tell the latency programs %d edges: %w", len(keys), err)
	}
	return nil
}

// kindOf returns what leads from a to b, which follow each other.
func kindOf(a, b hop.Hop) bpf.EdgeKind {
	if a.Direction == hop.Ingress && b.Direction == hop.Egress && a.Kind != hop.Port {
		return bpf.EdgeStack
	}
	return bpf.EdgeDirect
}

// putWaits says which packet is the first that each hop chooses, on each CPU; at
// a hop that none follows there is none. The programs draw the distance to the
// next one evenly from 1 to 2N-1, and who begins to look at a random time finds
// so much of a distance left: the smaller of two draws.
func (m *Latency) putWaits(sample uint32) error {
	cpus, err := ebpf.PossibleCPU()
	if err != nil {
		return err
	}
	longest := 2*uint64(max(sample, 1)) - 1
	first := make([]bpf.Timing, cpus)
	for i, e := range m.Edges { // sorted
		if i > 0 && m.Edges[i-1].From == e.From {
			continue
		}
		for cpu := range first {
			first[cpu].Wait = 1 + min(rand.Uint64N(longest), rand.Uint64N(longest+1))
		}
		if err := m.Timings.Put(uint32(e.From), first); err != nil {
			return fmt.Errorf("prepare the latency programs: %w", err)
		}
	}
	return nil
}
