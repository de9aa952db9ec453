package diff

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"
)

// Of independent values the test is that of golang.org/x/perf/benchmath, which made
// these figures; with 25 values it is exact there and an approximation here.
func TestUScore(t *testing.T) {
	for _, tt := range []struct {
		n, m    int
		f, want float64
		within  float64
	}{
		{25, 60, 1, 0.034662, 0.03},
		{25, 60, 1.1, 2.34374e-06, 1},
		{60, 60, 1, 0.414395, 1e-5},
		{60, 60, 1.1, 0.0010269, 1e-4},
		{60, 60, 1.3, 1.08088e-16, 1e-4},
		{200, 150, 1, 0.326562, 1e-5},
		{200, 150, 1.1, 1.01095e-08, 1e-4},
		{200, 150, 1.3, 5.91275e-42, 1e-4},
	} {
		r := rand.New(rand.NewPCG(1, 2))
		a, b := make([]float64, tt.n), make([]float64, tt.m)
		for i := range a {
			a[i] = 1000 + float64(r.IntN(500))
		}
		for i := range b {
			b[i] = tt.f * (1000 + float64(r.IntN(500)))
		}
		ra, rb, ties := ranks(a, b)
		if got := math.Erfc(uScore(ra, rb, ties, 1, 1) / math.Sqrt2); math.Abs(got-tt.want) > tt.within*tt.want {
			t.Errorf("%d and %d values, factor %g: p = %g, want %g", tt.n, tt.m, tt.f, got, tt.want)
		}
	}
}

func TestStudentP(t *testing.T) {
	for _, tt := range []struct{ t, degrees, want float64 }{
		{0, 5, 1}, {2.571, 5, 0.05}, {4.032, 5, 0.01}, {2.228, 10, 0.05}, {3.169, 10, 0.01}, {2.750, 30, 0.01}, {1.96, 1e6, 0.05},
	} {
		if got := studentP(tt.t, tt.degrees); math.Abs(got-tt.want) > 0.01*max(tt.want, 0.05) {
			t.Errorf("t %g with %g degrees of freedom: %g, want %g", tt.t, tt.degrees, got, tt.want)
		}
	}
}

// The interval has the true ratio in 95 % of cases.
func TestRatioInterval(t *testing.T) {
	const seeds = 2000
	outside := 0
	for seed := range uint64(seeds) {
		r := rand.New(rand.NewPCG(seed, 1))
		a, b := make([]float64, 60), make([]float64, 90)
		for i := range a {
			a[i] = math.Exp(.4 * r.NormFloat64())
		}
		for i := range b {
			b[i] = 1.2 * math.Exp(.4*r.NormFloat64())
		}
		if c := compareTimes(a, b); c.Low > 1.2 || c.High < 1.2 {
			outside++
		}
	}
	if outside < seeds/200 || outside > seeds/20 {
		t.Errorf("the ratio is outside of the interval in %d of %d cases", outside, seeds)
	}
}

// Values that are all the same do not differ.
func TestCompareEqualTimes(t *testing.T) {
	same := make([]float64, 50)
	for i := range same {
		same[i] = 7
	}
	if c := compareTimes(same, same); c.P != 1 || math.Abs(c.Ratio-1) > 1e-9 || math.Abs(c.Low-1) > 1e-9 || math.Abs(c.High-1) > 1e-9 {
		t.Errorf("got %+v", c)
	}
}

func TestReservoir(t *testing.T) {
	r, again := newReservoir(), newReservoir()
	const n = 10 * mostTimes
	for i := range n {
		r.add(1 + 1000*time.Duration(i))
		again.add(1 + 1000*time.Duration(i))
	}
	got := r.nanoseconds()
	if len(got) != mostTimes || r.seen != n {
		t.Fatalf("kept %d of %d", len(got), r.seen)
	}
	for i := 1; i < len(got); i++ {
		if got[i] <= got[i-1] {
			t.Fatal("the sample is not in the order of arrival")
		}
	}
	// The mean place is n/2, with a standard deviation of n/sqrt(12 mostTimes).
	if mean := sum(got) / mostTimes / 1000; math.Abs(mean-n/2) > 4*n/math.Sqrt(12*mostTimes) {
		t.Errorf("the mean of the sample of 0 to %d is %.0f", n, mean)
	}
	for i, v := range again.nanoseconds() {
		if v != got[i] {
			t.Fatal("the same times made another sample")
		}
	}
}
