package compare_test

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/nsbpf/nsbpf/bench/compare"
	"github.com/nsbpf/nsbpf/bench/result"
)

// machine makes the noise of shared machines: lognormal, each round like the one
// before, with stalls.
type machine struct {
	rng *rand.Rand
	phi float64 // correlation with the round before, of the logarithms
}

// samples returns n of a metric with that median and coefficient of variation.
// stall is the direction of stalls: a rate falls, a cost rises.
func (m machine) samples(n int, median, cv float64, stall result.Better) []float64 {
	sigma := math.Sqrt(math.Log(1 + cv*cv))
	xs := make([]float64, n)
	z := m.rng.NormFloat64()
	for i := range xs {
		z = m.phi*z + math.Sqrt(1-m.phi*m.phi)*m.rng.NormFloat64()
		xs[i] = median * math.Exp(sigma*z)
		if m.rng.Float64() < 0.03 {
			by := 1.3 + 2*m.rng.Float64()
			if stall == result.Higher {
				by = 1 / by
			}
			xs[i] *= by
		}
	}
	return xs
}

// run returns a result of three variants with a cost of CPU and a rate each, the first
// measured twice. Costs are that much slower.
func (m machine) run(rounds int, n noise, slower float64) *result.Document {
	d := &result.Document{Schema: result.Schema, Rounds: rounds}
	for i, name := range []string{"tcp", "udp", "pps"} {
		d.Variants = append(d.Variants, result.Variant{Name: name, Metrics: []result.Metric{
			result.NewMetric("cpu", "ns/packet", result.Lower, true, m.samples(rounds, 250*slower, n.cpu[i], result.Lower)),
			result.NewMetric("rate", "pps", result.Higher, n.gate, m.samples(rounds, 1e6, n.rate[i], result.Higher)),
		}})
	}
	again := result.Variant{Name: "tcp again", Metrics: []result.Metric{
		result.NewMetric("cpu", "ns/packet", result.Lower, true, m.samples(rounds, 250*slower, n.cpu[0], result.Lower)),
	}}
	d.Noise = result.NewNoise(&d.Variants[0], &again)
	return d
}

// noise is the coefficients of variation of three variants' costs and rates.
type noise struct {
	cpu, rate [3]float64
	gate      bool // rates are judged too
}

// newMachine returns a machine and its noise, in the ranges that were measured on
// shared ones: 10 to 19 % for
// costs, 10 to 50 % for rates, and rounds that depend on the one before by up to 0.3.
func newMachine(rng *rand.Rand) (m machine, n noise) {
	m = machine{rng, 0.3 * rng.Float64()}
	for i := range n.cpu {
		n.cpu[i] = 0.10 + 0.09*rng.Float64()
		n.rate[i] = 0.10 + 0.40*rng.Float64()
	}
	return m, n
}

// pairs is how many comparisons are simulated of each kind.
const pairs = 1000

// verdicts returns how the comparisons end, and how many costs are regressions.
func verdicts(seed uint64, rounds int, gate bool, slower float64) (all map[compare.Verdict]int, costs int) {
	all = make(map[compare.Verdict]int)
	rng := rand.New(rand.NewPCG(seed, uint64(rounds)))
	for range pairs {
		m, n := newMachine(rng)
		n.gate = gate
		c := compare.Compare(m.run(rounds, n, 1), m.run(rounds, n, slower), compare.Options{})
		all[c.Verdict()]++
		for _, f := range c.Findings {
			if f.Metric == "cpu" && f.Verdict == compare.Regression {
				costs++
			}
		}
	}
	return all, costs
}

// Of equal results at most one pair in 100 may be called a regression, whatever the
// number of rounds, and though rates are judged that usually are not.
func TestFalseAlarms(t *testing.T) {
	t.Parallel()
	for _, rounds := range []int{6, 10, 30, 100, compare.Rounds} {
		all, _ := verdicts(1, rounds, true, 1)
		t.Logf("%d rounds: %v", rounds, all)
		if n := all[compare.Regression]; n > pairs/100 {
			t.Errorf("%d of %d equal pairs of %d rounds are called a regression", n, pairs, rounds)
		}
	}
}

// Equal results of the default rounds are found to be equal, not merely undecided.
func TestVerdictOfEquals(t *testing.T) {
	t.Parallel()
	all, _ := verdicts(2, compare.Rounds, false, 1)
	t.Logf("%v", all)
	if n := all[compare.Same]; n < pairs*95/100 {
		t.Errorf("%d of %d equal pairs are called the same, %v (want 95 %%)", n, pairs, all)
	}
}

// A cost that is 10 % higher is a regression at the default rounds and limit, in 95 %
// of the cases; and hardly ever passes, however few rounds there are.
func TestDetection(t *testing.T) {
	t.Parallel()
	all, found := verdicts(3, compare.Rounds, false, 1.1)
	t.Logf("%d of %d costs, %v", found, 3*pairs, all)
	if found < 3*pairs*95/100 {
		t.Errorf("found %d of %d slow-downs by 10 %% (want 95 %%)", found, 3*pairs)
	}
	for _, rounds := range []int{6, 30, 100} {
		all, _ := verdicts(4, rounds, false, 1.1)
		t.Logf("%d rounds: %v", rounds, all)
		if n := all[compare.Same] + all[compare.Better]; n > pairs/20 {
			t.Errorf("%d rounds: %d of %d slow-downs by 10 %% pass", rounds, n, pairs)
		}
	}
}
