package stat_test

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"golang.org/x/perf/benchmath"

	"github.com/nsbpf/nsbpf/bench/stat"
)

var about = cmpopts.EquateApprox(0, 1e-9)

func series(n int) []float64 {
	xs := make([]float64, n)
	for i := range xs {
		xs[i] = float64((i*37)%n + 1) // each of 1…n once, out of order
	}
	return xs
}

// The intervals are those of tables for the sign test, and benchmath's.
func TestMedian(t *testing.T) {
	for _, test := range []struct {
		n    int
		want stat.Interval
	}{
		{1, stat.Interval{Center: 1, Low: 1, High: 1, Confidence: 0}},
		{2, stat.Interval{Center: 1.5, Low: 1, High: 2, Confidence: 0.5}},
		{5, stat.Interval{Center: 3, Low: 1, High: 5, Confidence: 0.9375}},
		{6, stat.Interval{Center: 3.5, Low: 1, High: 6, Confidence: 0.96875}},
		{9, stat.Interval{Center: 5, Low: 2, High: 8, Confidence: 0.9609375}},
		{25, stat.Interval{Center: 13, Low: 8, High: 18, Confidence: 0.956714749}},
	} {
		got := stat.Median(series(test.n), 0.95)
		if d := cmp.Diff(test.want, got, cmpopts.EquateApprox(0, 1e-8)); d != "" {
			t.Errorf("%d (-want +got):\n%s", test.n, d)
		}
	}
	for n := 6; n < 200; n++ {
		xs := series(n)
		got := stat.Median(xs, 0.95)
		th := benchmath.DefaultThresholds
		s := benchmath.AssumeNothing.Summary(benchmath.NewSample(slices.Clone(xs), &th), 0.95)
		if got.Center != s.Center || got.Low < s.Lo-1 || got.High > s.Hi+1 || got.Confidence < 0.95 {
			t.Errorf("%d: %+v, benchmath has %+v", n, got, s)
		}
	}
	if i := stat.Median(nil, 0.95); !math.IsNaN(i.Center) {
		t.Errorf("of nothing: %+v", i)
	}
}

// coverage returns how often an interval of such samples holds the true value 1.1.
func coverage(n int, phi float64, of func(a, b []float64) stat.Interval) float64 {
	rng := rand.New(rand.NewPCG(7, uint64(n)))
	noise := func(median float64) []float64 {
		xs, z := make([]float64, n), rng.NormFloat64()
		for i := range xs {
			z = phi*z + math.Sqrt(1-phi*phi)*rng.NormFloat64()
			xs[i] = median * math.Exp(0.2*z)
		}
		return xs
	}
	held := 0
	const of1000 = 2000
	for range of1000 {
		if i := of(noise(100), noise(110)); i.Low <= 1.1 && 1.1 <= i.High {
			held++
		}
	}
	return float64(held) / of1000
}

func TestCoverage(t *testing.T) {
	ratio := func(a, b []float64) stat.Interval { return stat.Ratio(a, b, 0.90) }
	paired := func(a, b []float64) stat.Interval { return stat.PairedRatio(a, b, 0.90) }
	for _, test := range []struct {
		name  string
		n     int
		phi   float64
		of    func(a, b []float64) stat.Interval
		least float64
	}{
		{"ratio", 8, 0, ratio, 0.88}, {"ratio", 50, 0, ratio, 0.88}, {"ratio of dependent samples", 200, 0.3, ratio, 0.87},
		{"paired", 8, 0, paired, 0.88}, {"paired", 50, 0, paired, 0.88},
	} {
		got := coverage(test.n, test.phi, test.of)
		if got < test.least || got > 0.97 {
			t.Errorf("%s of %d: the interval of 90 %% holds %.1f %%", test.name, test.n, 100*got)
		}
	}
}

// The quotients that are never written are those that would be.
func TestRatioIsExact(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	for range 200 {
		a, b := make([]float64, 1+rng.IntN(3)), make([]float64, 1+rng.IntN(3))
		var all []float64
		for i := range a {
			a[i] = float64(1 + rng.IntN(9))
		}
		for i := range b {
			b[i] = float64(rng.IntN(9))
		}
		for _, x := range a {
			for _, y := range b {
				all = append(all, y/x)
			}
		}
		slices.Sort(all)
		want := stat.Interval{Center: math.Sqrt(all[(len(all)-1)/2] * all[len(all)/2]), Low: all[0], High: all[len(all)-1]}
		got := stat.Ratio(a, b, 0.90)
		got.Confidence = 0
		if d := cmp.Diff(want, got, about); d != "" {
			t.Fatalf("%v by %v (-want +got):\n%s", b, a, d)
		}
	}
	zero := stat.Ratio([]float64{0, 0, 0, 0, 0}, []float64{0, 0, 0, 0, 0}, 0.9)
	if zero.Center != 1 || zero.Low != 1 || zero.High != 1 {
		t.Errorf("0 by 0: %+v", zero)
	}
	if dead := stat.Ratio([]float64{5, 6, 7, 8}, []float64{0, 0, 0, 0}, 0.9); dead.Center != 0 || dead.High != 0 {
		t.Errorf("nothing arrives any more: %+v", dead)
	}
}

func TestPairedRatio(t *testing.T) {
	a := []float64{100, 200, 50, 400, 100, 300, 120, 80} // drifts eightfold
	b := make([]float64, len(a))
	for i := range a {
		b[i] = 1.05 * a[i]
	}
	if r := stat.PairedRatio(a, b, 0.95); math.Abs(r.Center-1.05) > 1e-9 || r.High-r.Low > 1e-9 {
		t.Errorf("drift does not cancel: %+v", r)
	}
	if r := stat.PairedRatio([]float64{0, 2}, []float64{1, 2, 9}, 0.95); r.Center != 1 {
		t.Errorf("%+v, want 1 of the one round that counts", r)
	}
}

// Examples from the literature and from R: p.adjust(c(.01,.04,.03,.005), "holm").
func TestHolm(t *testing.T) {
	ps := []float64{.01, .04, .03, .005}
	if d := cmp.Diff([]float64{.03, .06, .06, .02}, stat.Holm(ps), about); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
	if len(stat.Holm(nil)) != 0 {
		t.Error("of nothing there is something")
	}
}

// R: wilcox.test(c(1.1,2.2,3.3,4.4,5.5), c(6.6,7.7,8.8,9.9,10)) is exact, 2/252.
func TestMannWhitney(t *testing.T) {
	a, b := []float64{1.1, 2.2, 3.3, 4.4, 5.5}, []float64{6.6, 7.7, 8.8, 9.9, 10}
	if p := stat.MannWhitney(a, b); math.Abs(p-2.0/252) > 1e-9 {
		// These rise, so they depend on each other and are worth less.
		if p < 2.0/252 {
			t.Errorf("p = %g, less than 2/252", p)
		}
	}
	a, b = []float64{3.3, 1.1, 5.5, 2.2, 4.4}, []float64{8.8, 6.6, 10, 7.7, 9.9}
	if p := stat.MannWhitney(a, b); math.Abs(p-2.0/252) > 1e-9 {
		t.Errorf("p = %g, want 2/252", p)
	}
	if p := stat.MannWhitney(a, nil); p != 1 {
		t.Errorf("against nothing p = %g", p)
	}
	if p := stat.MannWhitney([]float64{2, 2, 2}, []float64{2, 2, 2}); p != 1 {
		t.Errorf("of equals p = %g", p)
	}
	if n := stat.FewestSamples(0.01); n != 6 {
		t.Errorf("%d samples for 1 %%, want 6", n)
	}
	if n := stat.FewestSamples(1e-4); n != 9 {
		t.Errorf("%d samples for 0.01 %%, want 9", n)
	}
}

func TestOutliers(t *testing.T) {
	if d := cmp.Diff([]int{2, 5}, stat.Outliers([]float64{10, 11, 90, 9, 10, 0, 10.5})); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
	if o := stat.Outliers([]float64{5, 5, 5, 5, 900}); o != nil {
		t.Errorf("of equals: %v", o)
	}
}

func TestEnough(t *testing.T) {
	tight, wide := make([]float64, 40), make([]float64, 40)
	for i := range tight {
		by := float64((i*17)%40) - 20
		tight[i], wide[i] = 1000+by, 1000+20*by
	}
	if ok, _, _ := stat.Enough(tight, 0.03); !ok {
		t.Error("±1 % is not within 3 %")
	}
	ok, now, need := stat.Enough(wide, 0.03)
	if ok || need < 41 || need > 2000 {
		t.Errorf("%+v is enough for 3 %%: %v, %d needed", now, ok, need)
	}
	if ok, _, need := stat.Enough(tight[:3], 0.03); ok || need != 6 {
		t.Errorf("3 samples are enough: %v, %d needed", ok, need)
	}
	if ok, _, need := stat.Enough(make([]float64, 9), 0.03); ok || need != 0 {
		t.Errorf("zeros are enough: %v, %d needed", ok, need)
	}
}

func TestOrder(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 3))
	free, bound := make([]float64, 400), make([]float64, 400)
	z := 0.0
	for i := range free {
		free[i] = rng.NormFloat64()
		z = 0.5*z + rng.NormFloat64()
		bound[i] = z
	}
	if r, notable := stat.Autocorrelation(free); math.Abs(r) > 0.1 || notable {
		t.Errorf("independent samples: %g, notable %v", r, notable)
	}
	if r, notable := stat.Autocorrelation(bound); math.Abs(r-0.5) > 0.1 || !notable {
		t.Errorf("samples that depend by 0.5: %g, notable %v", r, notable)
	}
	if f := stat.Inflation(bound); f < 2 || f > 4 {
		t.Errorf("inflation %g, want about 3", f)
	}
	if f := stat.Inflation(free[:3]); f != 1 {
		t.Errorf("inflation of 3 samples %g", f)
	}
	if f := stat.Inflation(make([]float64, 50)); f != 1 {
		t.Errorf("inflation of equals %g", f)
	}

	warm := slices.Clone(free[:100])
	for i := range 10 {
		warm[i] += 20 - 2*float64(i)
	}
	if skip, steady := stat.WarmUp(warm); skip < 7 || skip > 14 || !steady {
		t.Errorf("10 samples of warm-up: skip %d, steady %v", skip, steady)
	}
	drift := make([]float64, 60)
	for i := range drift {
		drift[i] = float64(i)
	}
	if _, steady := stat.WarmUp(drift); steady {
		t.Error("a drift is steady")
	}
}
