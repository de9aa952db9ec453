package trace

import "testing"

// BenchmarkJoiner joins the traffic of natLab, 4.3 steps a path.
func BenchmarkJoiner(b *testing.B) {
	l := natLab()
	s := newSim(l, 1)
	in := s.shuffle(s.traffic(20_000), 2_000)
	for name, id := range map[string]Identity{"auto": Auto, "fingerprint": Fingerprint} {
		b.Run(name, func(b *testing.B) {
			c := l.Config
			c.Identity = id
			paths := 0
			j := mustJoiner(b, c, func(*Path) { paths++ })
			const batch = 512
			round := in[len(in)-1].TimeNS
			from := 0
			b.ReportAllocs()
			b.ResetTimer()
			for i := 0; i < b.N; i += batch {
				if from+batch > len(in) {
					for k := range in {
						in[k].TimeNS += round
						in[k].Packet.Seq += 20_000 * 1448
					}
					from = 0
				}
				give(j, in[from:from+batch])
				from += batch
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "sightings/s")
		})
	}
}

func BenchmarkFingerprint(b *testing.B) {
	s := newSim(natLab(), 1).tcp(1, "10.0.0.1", "10.0.0.2", 1)
	var sum uint64
	for b.Loop() {
		sum += fingerprint(&s)
	}
	_ = sum
}
