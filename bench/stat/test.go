package stat

import (
	"math"
	"slices"

	"golang.org/x/perf/benchmath"
)

// MannWhitney returns the probability that samples of one distribution differ as a
// and b do, or more: the U test, two-sided, of H. B. Mann and D. R. Whitney (1947).
// It is exact up to 50 samples without ties. Samples that depend on each other
// are worth less, as [Inflation] says. It is 1 if either is empty.
func MannWhitney(a, b []float64) float64 {
	if len(a) == 0 || len(b) == 0 {
		return 1
	}
	t := benchmath.DefaultThresholds
	p := benchmath.AssumeNothing.Compare(
		benchmath.NewSample(slices.Clone(a), &t), benchmath.NewSample(slices.Clone(b), &t)).P
	if f := jointInflation(a, b); f > 1 && p < 1 {
		p = 2 * (1 - normal(quantileNormal(1-p/2)/math.Sqrt(f)))
	}
	return min(p, 1)
}

// Holm returns the probabilities ps, adjusted so that what is below alpha afterwards
// holds a false one with a probability of at most alpha, over all of them (S. Holm,
// 1979). It leaves ps as it is.
func Holm(ps []float64) []float64 {
	order := make([]int, len(ps))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(i, j int) int {
		switch {
		case ps[i] < ps[j]:
			return -1
		case ps[i] > ps[j]:
			return 1
		}
		return 0
	})
	out := make([]float64, len(ps))
	least := 0.0
	for k, i := range order {
		least = max(least, min(1, ps[i]*float64(len(ps)-k)))
		out[i] = least
	}
	return out
}

// normal returns the share of a standard normal distribution below z.
func normal(z float64) float64 { return math.Erfc(-z/math.Sqrt2) / 2 }

// quantileNormal returns the z that a share p of a standard normal distribution is
// below; at most 37, which is as far as the arithmetic reaches.
func quantileNormal(p float64) float64 {
	return min(max(math.Sqrt2*math.Erfinv(2*p-1), -37), 37)
}

// FewestSamples returns how many samples of each it takes for [MannWhitney] to be alpha or
// less at all: all of a below all of b must be that unlikely. It is 6 at least.
func FewestSamples(alpha float64) int {
	n := 6
	for n < 30 && 2/float64(choose(2*n, n)) > alpha {
		n++
	}
	return n
}
