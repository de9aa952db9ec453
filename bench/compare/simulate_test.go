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

// run returns a result of three variants, each with a rate and a cost of CPU, one of
// them measured twice. The machine's noise in this pair of runs is cpu for costs.
func (m machine) run(rounds int, cpu [3]float64, rate [3]float64, slower float64) *result.Document {
	d := &result.Document{Schema: result.Schema, Rounds: rounds}
	for i, name := range []string{"tcp", "udp", "pps"} {
		d.Variants = append(d.Variants, result.Variant{Name: name, Metrics: []result.Metric{
			result.NewMetric("cpu", "ns/packet", result.Lower, true, m.samples(rounds, 250*slower, cpu[i], result.Lower)),
			result.NewMetric("rate", "pps", result.Higher, true, m.samples(rounds, 1e6, rate[i], result.Higher)),
		}})
	}
	again := result.Variant{Name: "tcp again", Metrics: []result.Metric{
		result.NewMetric("cpu", "ns/packet", result.Lower, true, m.samples(rounds, 250*slower, cpu[0], result.Lower)),
	}}
	d.Noise = result.NewNoise(&d.Variants[0], &again)
	return d
}

func (m machine) noise(low, high float64) (cv [3]float64) {
	for i := range cv {
		cv[i] = low + (high-low)*m.rng.Float64()
	}
	return cv
}

const pairs = 1000

// Of equal results at most one pair in 100 may be called a regression, whatever the
// number of rounds; and at the default rounds most must have a verdict.
func TestFalseAlarms(t *testing.T) {
	for _, rounds := range []int{10, 30, compare.Rounds} {
		m := machine{rand.New(rand.NewPCG(1, uint64(rounds))), 0.3}
		count := make(map[compare.Verdict]int)
		for range pairs {
			cpu, rate := m.noise(0.10, 0.19), m.noise(0.10, 0.50)
			c := compare.Compare(m.run(rounds, cpu, rate, 1), m.run(rounds, cpu, rate, 1), compare.Options{})
			count[c.Verdict()]++
		}
		t.Logf("%d rounds: %v", rounds, count)
		if n := count[compare.Regression]; n > pairs/100 {
			t.Errorf("%d of %d equal pairs of %d rounds are called a regression, %v", n, pairs, rounds, count)
		}
	}
}

// A cost of CPU that is 10 % higher must be found at the default rounds and limits.
func TestDetection(t *testing.T) {
	m := machine{rand.New(rand.NewPCG(2, 2)), 0.3}
	found, of := 0, 0
	for range pairs {
		cpu, rate := m.noise(0.10, 0.19), m.noise(0.10, 0.50)
		c := compare.Compare(m.run(compare.Rounds, cpu, rate, 1), m.run(compare.Rounds, cpu, rate, 1.1), compare.Options{})
		for _, f := range c.Findings {
			if f.Metric == "cpu" {
				of++
				if f.Verdict == compare.Regression {
					found++
				}
			}
		}
	}
	t.Logf("found %d of %d", found, of)
	if float64(found) < 0.95*float64(of) {
		t.Errorf("found %d of %d slow-downs by 10 %% (want 95 %%)", found, of)
	}
}
