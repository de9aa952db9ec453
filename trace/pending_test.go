package trace

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nsbpf/nsbpf/collector"
)

// Whatever the order in which runs come, they are released by time, each once,
// and not before their time.
func TestPendingReleasesInOrder(t *testing.T) {
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 3))
		var p pending
		var in, out []uint64
		limit := uint64(0)
		now := uint64(1000)
		for range 2000 {
			now += r.Uint64N(10)
			var run collector.Run
			run.TimeNS = max(limit, now-r.Uint64N(1+r.Uint64N(200)))
			p.push(&run)
			in = append(in, run.TimeNS)
			if r.IntN(50) == 0 && now > 300 {
				limit = max(limit, now-r.Uint64N(300))
				p.release(limit, func(r *collector.Run) {
					if r.TimeNS >= limit {
						t.Fatalf("a run of %d was released before %d", r.TimeNS, limit)
					}
					out = append(out, r.TimeNS)
				})
			}
			if got := p.len(); got != len(in)-len(out) {
				t.Fatalf("%d are kept of %d in and %d out", got, len(in), len(out))
			}
		}
		p.release(1<<63, func(r *collector.Run) { out = append(out, r.TimeNS) })
		slices.Sort(in)
		if d := cmp.Diff(in, out); d != "" {
			t.Fatalf("seed %d: %s", seed, d)
		}
	}
}
