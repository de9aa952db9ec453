package trace

import (
	"math/rand/v2"
	"testing"
)

// Of many samples of a known total, the interval contains it about as often as
// it says.
func TestEstimateTotalCovers(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, tt := range []struct {
		total int
		n     uint32
	}{{0, 64}, {30, 2}, {200, 8}, {1000, 64}, {5000, 16}, {20000, 1024}} {
		const runs = 2000
		covered, sum := 0, 0.0
		for range runs {
			k := uint64(0)
			for range tt.total {
				if r.Uint32N(tt.n) == 0 {
					k++
				}
			}
			e := EstimateTotal(k, tt.n)
			if e.Low > e.Value || e.High < e.Value {
				t.Fatalf("%d of 1/%d: %+v", k, tt.n, e)
			}
			if e.Low <= float64(tt.total) && float64(tt.total) <= e.High {
				covered++
			}
			sum += e.Value
		}
		if share := float64(covered) / runs; share < 0.92 {
			t.Errorf("total %d, 1/%d: the interval holds in %.3f of the samples", tt.total, tt.n, share)
		}
		if mean := sum / runs; mean < 0.95*float64(tt.total) || mean > 1.05*float64(tt.total) {
			t.Errorf("total %d, 1/%d: the mean estimate is %.0f", tt.total, tt.n, mean)
		}
	}
}

func TestEstimateTotalOfAll(t *testing.T) {
	if got := EstimateTotal(7, 1); got != (Estimate{7, 7, 7}) {
		t.Errorf("not a sample: %+v", got)
	}
}
