package trace

import (
	"testing"

	"github.com/nsbpf/nsbpf/collector"
)

// BenchmarkDropped joins packets that come to their receiver, which drops each.
func BenchmarkDropped(b *testing.B) {
	l := natLab()
	s := newSim(l, 1)
	var vs []voyage
	for range 20_000 {
		vs = append(vs, s.send(s.udp("172.16.16.10", "172.16.16.20"), across, Delivered))
	}
	g, err := newGraph(l.Hops, l.Edges, l.Owners)
	if err != nil {
		b.Fatal(err)
	}
	var in []collector.Run
	var drops []Drop
	for _, h := range inRuns(g, vs) {
		in = append(in, h.run)
		d := Drop{Sighting: h.run.Sighting, Node: "right", Reason: "SOCKET_RCVBUFF", Matched: true, Followed: true}
		d.TimeNS += uint64(h.run.Rest[h.run.Steps-1].DeltaNS) + 500
		drops = append(drops, d)
	}
	var dropped uint64
	j := mustJoiner(b, l.Config, func(p *Path) {
		if p.Verdict == Dropped {
			dropped++
		}
	})
	const batch = 512
	from, round := 0, in[len(in)-1].TimeNS
	b.ReportAllocs()
	for i := 0; i < b.N; i += batch {
		if from+batch > len(in) {
			for k := range in {
				in[k].TimeNS += round
				drops[k].TimeNS += round
			}
			from = 0
		}
		j.Add(Input{Runs: in[from : from+batch], Drops: drops[from : from+batch], Until: in[from+batch-1].TimeNS})
		from += batch
	}
	b.StopTimer()
	j.Flush()
	if n := j.Totals().Paths; dropped != n {
		b.Fatalf("%d of %d are dropped", dropped, n)
	}
}
