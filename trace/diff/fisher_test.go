package diff

import (
	"math"
	"testing"
)

// slow is the p value as its definition has it: over all tables.
func slow(t table) float64 {
	var down, up float64
	k := t.a + t.b
	for a := range t.aN + 1 {
		if a > k || k-a > t.bN {
			continue
		}
		p := math.Exp(table{a, t.aN, k - a, t.bN}.logProb())
		if a <= t.a {
			down += p
		}
		if a >= t.a {
			up += p
		}
	}
	return min(1, 2*min(down, up))
}

func TestFisher(t *testing.T) {
	least := map[table]float64{} // by the margins
	for aN := range uint64(12) {
		for bN := range uint64(9) {
			for a := range aN + 1 {
				for b := range bN + 1 {
					tt := table{a, aN, b, bN}
					got, want := tt.p(), slow(tt)
					if math.Abs(got-want) > 1e-12 {
						t.Errorf("%+v: p = %g, want %g", tt, got, want)
					}
					m := table{a + b, aN, 0, bN}
					if p, ok := least[m]; !ok || want < p {
						least[m] = want
					}
				}
			}
		}
	}
	for m, want := range least {
		a := min(m.a, m.aN)
		tt := table{a, m.aN, m.a - a, m.bN}
		if got := tt.floor(); math.Abs(got-want) > 1e-12 {
			t.Errorf("%+v: floor %g, want %g", tt, got, want)
		}
	}
}

// Known values, twice the one-sided: Fisher's tea, and large tables.
func TestFisherKnown(t *testing.T) {
	for _, tt := range []struct {
		table
		want, within float64
	}{
		{table{3, 4, 1, 4}, 0.485714, 1e-5},
		{table{0, 20, 20, 20}, 1.45089e-11, 1e-4},
		{table{5e5, 1e6, 5e5, 1e6}, 1, 0},
		{table{1000, 1e6, 1200, 1e6}, 2.1e-5, 0.1},
		{table{0, 0, 3, 7}, 1, 0},
	} {
		if got := tt.p(); math.Abs(got-tt.want) > tt.within*tt.want {
			t.Errorf("%+v: p = %g, want %g", tt.table, got, tt.want)
		}
	}
}

func TestDeflate(t *testing.T) {
	for _, tt := range []struct {
		table
		aRuns, bRuns uint64
		want         table
	}{
		{table{100, 1000, 120, 1000}, 90, 110, table{100, 1000, 120, 1000}}, // as chance makes them
		{table{10, 1000, 10, 1000}, 1, 10, table{1, 54, 10, 1000}},          // one burst
		{table{200, 200, 0, 200}, 1, 0, table{200, 200, 0, 200}},            // all of them
	} {
		if got := tt.deflated(tt.aRuns, tt.bRuns); got != tt.want {
			t.Errorf("%+v in %d and %d runs: %+v, want %+v", tt.table, tt.aRuns, tt.bRuns, got, tt.want)
		}
	}
}

// Traffic that only one recording has proves nothing.
func TestStrata(t *testing.T) {
	for name, tt := range map[string]struct {
		s    strata
		want float64
	}{
		"none there of as many":     {strata{{10, 20, 0, 20}}, table{10, 20, 0, 20}.p()},
		"two flows":                 {strata{{5, 20, 0, 20}, {5, 20, 0, 20}}, 2 * math.Pow(table{5, 20, 0, 20}.p()/2, 2)},
		"not sent there":            {strata{{10, 20, 0, 0}}, 1},
		"one of two not sent there": {strata{{10, 20, 0, 0}, {5, 20, 0, 20}}, table{5, 20, 0, 20}.p()},
		"some there":                {strata{{10, 20, 0, 20}, {0, 20, 1, 20}}, 1},
	} {
		if got := tt.s.onlyOne(); math.Abs(got-tt.want) > 1e-9 {
			t.Errorf("%s: %g, want %g", name, got, tt.want)
		}
		if got := tt.s.floor(); got > tt.s.onlyOne()+1e-9 {
			t.Errorf("%s: the least is %g, more than %g", name, got, tt.s.onlyOne())
		}
	}
}
