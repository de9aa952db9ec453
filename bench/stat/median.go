package stat

import (
	"cmp"
	"math"
	"slices"
)

// Interval is an estimate and what it may be off.
type Interval struct {
	Center, Low, High float64
	// Confidence is the share of such intervals that hold the true value. It is
	// what was asked for or more, unless there are too few samples for that: then
	// Low and High are the least and the greatest, and it is what they are worth.
	Confidence float64
}

// Spread returns half the width of the interval as a part of its center, infinite
// if the center is 0.
func (i Interval) Spread() float64 {
	if i.Center == 0 {
		return math.Inf(1)
	}
	return (i.High - i.Low) / 2 / math.Abs(i.Center)
}

// Median returns the median of xs and its interval between two order statistics,
// which is exact for every continuous distribution (H. A. David and H. N.
// Nagaraja, Order Statistics, 3rd ed., section 7.1). 6 samples are the least
// for 95 %. Of no samples it is NaN.
func Median(xs []float64, confidence float64) Interval {
	n := len(xs)
	if n == 0 {
		return Interval{Center: math.NaN(), Low: math.NaN(), High: math.NaN()}
	}
	xs = sorted(xs)
	// The interval from the k-th least to the k-th greatest misses the median if
	// fewer than k samples lie on one side of it: Binomial(n, ½) < k.
	k, missed := 1, 2*binomial(n, 0)
	for k < (n+1)/2 {
		more := missed + 2*binomial(n, k)
		if more > 1-confidence {
			break
		}
		k, missed = k+1, more
	}
	return Interval{middle(xs), xs[k-1], xs[n-k], max(1-missed, 0)}
}

// binomial returns P(X = k), X being Binomial(n, ½).
func binomial(n, k int) float64 {
	whole, _ := math.Lgamma(float64(n + 1))
	in, _ := math.Lgamma(float64(k + 1))
	out, _ := math.Lgamma(float64(n - k + 1))
	return math.Exp(whole - in - out - float64(n)*math.Ln2)
}

// middle returns the median of xs, which are sorted.
func middle(xs []float64) float64 {
	n := len(xs)
	if n%2 == 1 {
		return xs[n/2]
	}
	return (xs[n/2-1] + xs[n/2]) / 2
}

func sorted(xs []float64) []float64 {
	return slices.SortedFunc(slices.Values(xs), cmp.Compare[float64])
}

// Outliers returns the indices of the samples that are further from the median than
// 3.5 scaled median absolute deviations (B. Iglewicz and D. Hoaglin, How to
// Detect and Handle Outliers, 1993). They are marked, never left out: a machine
// that stalls is a finding. If half of the samples are equal there are none.
func Outliers(xs []float64) []int {
	if len(xs) == 0 {
		return nil
	}
	center := middle(sorted(xs))
	off := make([]float64, len(xs))
	for i, x := range xs {
		off[i] = math.Abs(x - center)
	}
	mad := middle(sorted(off))
	var out []int
	for i, o := range off {
		if mad > 0 && 0.6745*o/mad > 3.5 {
			out = append(out, i)
		}
	}
	return out
}

// Enough says whether the interval of the median at 95 % is within ±part of it.
// If not, need is about how many samples it would take, were they like these and
// independent; 0 if that cannot be told yet.
func Enough(xs []float64, part float64) (ok bool, now Interval, need int) {
	const least = 6
	now = Median(xs, 0.95)
	if len(xs) < least {
		return false, now, least
	}
	widened := now.Spread() * math.Sqrt(Inflation(xs))
	if widened <= part {
		return true, now, len(xs)
	}
	// An interval is narrower by the root of the number of samples.
	n := float64(len(xs)) * (widened / part) * (widened / part)
	if !(n < 1e6) {
		return false, now, 0
	}
	return false, now, int(math.Ceil(n))
}
