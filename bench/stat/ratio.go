package stat

import "math"

// Ratio returns by what factor the values of b are those of a: the median of all
// quotients of one of b by one of a. It is the shift of J. L. Hodges and E. L.
// Lehmann (1963) in logarithms, so b is thought to be distributed like a times a
// factor. The interval lies between the two quotients that the Mann-Whitney test
// would just not reject (M. Hollander and D. A. Wolfe, Nonparametric Statistical
// Methods, section 4.3, by the normal approximation); the samples' dependence on
// each other widens it as [Inflation] says. Values are not below 0, and 0 by 0
// is 1. With fewer than 4 samples of either it is all quotients, and of none NaN.
func Ratio(a, b []float64, confidence float64) Interval {
	m, n := len(a), len(b)
	if m == 0 || n == 0 {
		return Interval{Center: math.NaN(), Low: math.NaN(), High: math.NaN()}
	}
	q := newQuotients(a, b)
	all := m * n
	center := kth(q, (all+1)/2)
	if high := kth(q, all/2+1); !math.IsInf(high, 0) {
		center = math.Sqrt(center * high)
	}
	whole := Interval{center, kth(q, 1), kth(q, all), 0}
	fewest := float64(choose(m+n, m)) // arrangements of a and b, all as likely
	if exact := 1 - 2/fewest; m < 4 || n < 4 || exact < confidence {
		whole.Confidence = max(exact, 0)
		return whole
	}
	z := quantileNormal(1 - (1-confidence)/2)
	half := float64(all) / 2
	sd := math.Sqrt(float64(all) * float64(m+n+1) / 12 * jointInflation(a, b))
	if half-z*sd < 1 { // they depend on each other too much
		whole.Confidence = 2*normal(half/sd) - 1
		return whole
	}
	k := int(half - z*sd)
	return Interval{center, kth(q, k), kth(q, all+1-k), confidence}
}

// choose returns n over k, or more than any test needs.
func choose(n, k int) uint64 {
	c := uint64(1)
	for i := 1; i <= k; i++ {
		if c = c * uint64(n-k+i) / uint64(i); c > 1<<40 {
			return c
		}
	}
	return c
}

// quotients are all quotients of one of b by one of a, unwritten.
type quotients struct{ a, b []float64 } // sorted

func newQuotients(a, b []float64) quotients { return quotients{sorted(a), sorted(b)} }

// of falls with a and rises with b.
func (quotients) of(a, b float64) float64 {
	if a == 0 && b == 0 {
		return 1
	}
	return b / a
}

// upTo returns how many quotients are t or less.
func (q quotients) upTo(t float64) int {
	sum, j := 0, 0
	for _, x := range q.a {
		for j < len(q.b) && q.of(x, q.b[j]) <= t {
			j++
		}
		sum += j
	}
	return sum
}

// PairedRatio returns by what factor the samples of b are those of a that were
// taken in the same round, so that what the machine did between rounds cancels. It
// is the median of the geometric means of all pairs of the rounds' quotients, and
// its interval holds those that the signed-rank test would not reject (F. Wilcoxon,
// 1945; Hollander and Wolfe, section 3.3, by the normal approximation). Samples
// without a partner are left out, and so are rounds in which a is 0. 6 rounds are
// the least for 95 %; of none it is NaN.
func PairedRatio(a, b []float64, confidence float64) Interval {
	var qs means
	for i := range min(len(a), len(b)) {
		if a[i] != 0 {
			qs = append(qs, b[i]/a[i])
		}
	}
	n := float64(len(qs))
	if n == 0 {
		return Interval{Center: math.NaN(), Low: math.NaN(), High: math.NaN()}
	}
	qs = sorted(qs)
	all := len(qs) * (len(qs) + 1) / 2
	center := math.Sqrt(kth(qs, (all+1)/2) * kth(qs, all/2+1))
	z := quantileNormal(1 - (1-confidence)/2)
	k := int(float64(all)/2 - z*math.Sqrt(n*(n+1)*(2*n+1)/24))
	if exact := 1 - math.Exp2(1-n); k < 1 || exact < confidence {
		return Interval{center, qs[0], qs[len(qs)-1], exact}
	}
	return Interval{center, kth(qs, k), kth(qs, all+1-k), confidence}
}

// means are the geometric means of each of the numbers, which are sorted, with itself
// and with every other.
type means []float64

func (m means) upTo(t float64) int {
	sum, j := 0, len(m) // m[i:j] are those that a mean with m[i] of t or less has
	for i := range m {
		for j > i && math.Sqrt(m[i]*m[j-1]) > t {
			j--
		}
		sum += max(j-i, 0)
	}
	return sum
}

// kth returns the k-th least, from 1, of numbers that are 0 or more, given how many are
// up to one. It halves the numbers between 0 and infinity, which are in the order
// of their bits, until one is left.
func kth(numbers interface{ upTo(t float64) int }, k int) float64 {
	low, high := uint64(0), math.Float64bits(math.Inf(1))
	for low < high {
		mid := low + (high-low)/2
		if numbers.upTo(math.Float64frombits(mid)) >= k {
			high = mid
		} else {
			low = mid + 1
		}
	}
	return math.Float64frombits(low)
}

// Floor returns the effect, as a part of 1, that nothing but chance shows in such a ratio
// of two equal variants: how far it is from 1, and at least how far it may be off.
func Floor(aa Interval) float64 {
	return max(math.Abs(aa.Center-1), (aa.High-aa.Low)/2)
}
