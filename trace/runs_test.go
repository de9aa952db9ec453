package trace

import (
	"slices"
	"sort"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nsbpf/nsbpf/bpf"
	"github.com/nsbpf/nsbpf/collector"
	"github.com/nsbpf/nsbpf/internal/hop"
)

// handedOver is a run and when it went to the ring.
type handedOver struct {
	run collector.Run
	at  uint64
}

// inRuns puts the sightings of each voyage together as the programs do, by skb, as
// long as nothing changes and until a node's stack is reached. What nothing ends
// goes to the ring late.
func inRuns(g *graph, vs []voyage) []handedOver {
	var all []handedOver
	for _, v := range vs {
		all = append(all, inRunsOf(g, v.sightings)...)
	}
	sort.SliceStable(all, func(i, k int) bool { return all[i].at < all[k].at })
	return all
}

func inRunsOf(g *graph, in []collector.Sighting) []handedOver {
	open := make(map[uint64]*handedOver)
	var all []*handedOver
	for _, x := range in {
		o := open[x.Skb]
		if o == nil || !continues(g, &o.run, &x) {
			o = &handedOver{run: collector.Run{Sighting: x}}
			all = append(all, o)
			open[x.Skb] = o
		} else {
			r := &o.run
			r.Rest[r.Steps] = bpf.Step{Hop: x.Hop, DeltaNS: uint32(x.TimeNS - r.TimeNS)}
			r.Steps++
		}
		o.at = x.TimeNS + 5_000_000 // as a sweep finds it
		if at := g.at(x.HopID()); len(at.next) == 0 || at.Direction == hop.Ingress && at.Kind != hop.Port {
			o.at = x.TimeNS
			delete(open, x.Skb)
		}
	}
	var out []handedOver
	for _, o := range all {
		out = append(out, *o)
	}
	return out
}

func continues(g *graph, r *collector.Run, s *collector.Sighting) bool {
	from, t := r.At(r.Len() - 1)
	_, ok := g.edge(from, s.Hop)
	return ok && t <= s.TimeNS && int(r.Steps) < bpf.MaxSteps && r.Head == s.Head && r.Packet == s.Packet &&
		r.Segments == s.Segments && s.TimeNS-r.TimeNS < 2_000_000
}

// joinRuns gives the runs to a Joiner in the order in which they went to the ring,
// and says now and then what is complete.
func (s *sim) joinRuns(t *testing.T, c Config, runs []handedOver) ([]trail, *Joiner) {
	t.Helper()
	var got []trail
	j := mustJoiner(t, c, func(p *Path) {
		checkPath(t, c, p)
		tr := trail{Verdict: p.Verdict, End: s.lab.name(p.Steps[p.End].Hop), Attempt: p.Attempt, Missing: p.Missing}
		for _, st := range p.Steps {
			tr.Times = append(tr.Times, st.TimeNS)
			tr.Merged += int(st.With)
		}
		slices.Sort(tr.Times)
		got = append(got, tr)
	})
	for len(runs) > 0 {
		n := min(1+s.rand.IntN(200), len(runs))
		var batch []collector.Run
		for _, h := range runs[:n] {
			batch = append(batch, h.run)
		}
		j.Add(Input{Runs: batch, Until: runs[n-1].at - 8_000_000})
		runs = runs[n:]
	}
	j.Flush()
	return sorted(got), j
}

// Runs are joined to the same Paths as the sightings that they are.
func TestRunsAreTheTruth(t *testing.T) {
	each(t, 0.1, func(t *testing.T, s *sim, id Identity) {
		vs := append(s.traffic(800), s.cutTraffic(200)...)
		c := s.lab.Config
		c.Identity = id
		g, err := newGraph(c.Hops, c.Edges, c.Owners)
		if err != nil {
			t.Fatal(err)
		}
		runs, n := inRuns(g, vs), len(s.shuffle(vs, 0))
		if len(runs) > n*2/3 {
			t.Fatalf("%d sightings are %d runs", n, len(runs))
		}
		got, j := s.joinRuns(t, c, runs)
		if d := cmp.Diff(truth(vs), got); d != "" {
			t.Error(d)
		}
		if tot := j.Totals(); tot.Sightings != uint64(n) || tot.Paths != uint64(len(vs)) {
			t.Errorf("totals %+v of %d packets and %d sightings", tot, len(vs), n)
		}
	})
}

// BenchmarkRuns joins what goes from left to right of a bridge.
func BenchmarkRuns(b *testing.B) {
	l := natLab()
	s := newSim(l, 1)
	var vs []voyage
	for i := range 20_000 {
		vs = append(vs, s.send(s.tcp(uint16(i%4), "172.16.16.10", "172.16.16.20", uint32(i)*1448), across, Delivered))
	}
	g, err := newGraph(l.Hops, l.Edges, l.Owners)
	if err != nil {
		b.Fatal(err)
	}
	var in []collector.Run
	for _, h := range inRuns(g, vs) {
		in = append(in, h.run)
	}
	j := mustJoiner(b, l.Config, func(*Path) {})
	const batch = 512
	from, round := 0, in[len(in)-1].TimeNS
	b.ReportAllocs()
	for i := 0; i < b.N; i += batch {
		if from+batch > len(in) {
			for k := range in {
				in[k].TimeNS += round
				in[k].Packet.Seq += 20_000 * 1448
			}
			from = 0
		}
		j.Add(Input{Runs: in[from : from+batch], Until: in[from+batch-1].TimeNS})
		from += batch
	}
	b.ReportMetric(4*float64(b.N)/b.Elapsed().Seconds(), "sightings/s")
}
