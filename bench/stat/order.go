package stat

import (
	"cmp"
	"math"
	"slices"
)

// Autocorrelation returns how much samples resemble the one before: the correlation of
// their ranks, -1…1, which outliers do not sway (A. Wald and J. Wolfowitz, 1943).
// notable says whether it is more than chance gives independent samples in one of 20
// cases. Of fewer than 4 samples it is 0.
func Autocorrelation(xs []float64) (r float64, notable bool) {
	n := len(xs)
	if n < 4 {
		return 0, false
	}
	ranks := ranked(xs)
	mean := float64(n-1) / 2
	var with, own float64
	for i, x := range ranks {
		own += (x - mean) * (x - mean)
		if i > 0 {
			with += (x - mean) * (ranks[i-1] - mean)
		}
	}
	if own == 0 {
		return 0, false
	}
	// Of independent samples it is -1/n on average; that is put right, or few
	// samples would seem less dependent than they are.
	r = min(max(with/own+1/float64(n), -1), 1)
	return r, math.Abs(r) > 1.96/math.Sqrt(float64(n))
}

// ranked returns the rank of each sample from 0, ties sharing their middle one.
func ranked(xs []float64) []float64 {
	order := make([]int, len(xs))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(i, j int) int { return cmp.Compare(xs[i], xs[j]) })
	ranks := make([]float64, len(xs))
	for i := 0; i < len(order); {
		j := i
		for j < len(order) && xs[order[j]] == xs[order[i]] {
			j++
		}
		for _, k := range order[i:j] {
			ranks[k] = float64(i+j-1) / 2
		}
		i = j
	}
	return ranks
}

// Inflation returns the factor, 1 or more, by which the variance of a median or mean of
// xs is larger than of independent samples: (1+r)/(1-r) for a lag-1 autocorrelation r
// (F. W. Zwiers and H. von Storch, 1995). It is at most the number of samples, which
// are then worth one.
func Inflation(xs []float64) float64 {
	r, _ := Autocorrelation(xs)
	if r <= 0 {
		return 1
	}
	return min((1+r)/(1-r), float64(len(xs)))
}

// jointInflation is the inflation of a comparison of a and b.
func jointInflation(a, b []float64) float64 {
	// The smaller one has the greater share in the variance.
	m, n := float64(len(a)), float64(len(b))
	return (Inflation(a)*n + Inflation(b)*m) / (m + n)
}

// WarmUp returns how many samples at the beginning are unlike the rest, so that
// leaving them out makes the mean of the rest most certain (MSER, K. P. White,
// 1997, on ranks). steady is false if that is half of them or more: the samples
// then never came to rest.
func WarmUp(xs []float64) (skip int, steady bool) {
	n := len(xs)
	if n < 4 {
		return 0, false
	}
	ranks := ranked(xs)
	var sum, squares float64
	best := math.Inf(1)
	for i := n - 1; i >= 0; i-- {
		sum += ranks[i]
		squares += ranks[i] * ranks[i]
		k := float64(n - i)
		// A few samples at the end are alike by chance.
		if k < 4 {
			continue
		}
		if s := (squares - sum*sum/k) / (k * k); s <= best {
			best, skip = s, i
		}
	}
	return skip, skip < n/2
}
