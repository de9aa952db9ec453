package diff

import (
	"cmp"
	"math"
	"slices"
)

// confidence95 is how many standard deviations 95 % of a normal distribution lie
// within.
const confidence95 = 1.959963984540054

// comparison is how two series of times differ.
type comparison struct {
	P      float64 // that they do not
	Median [2]float64
	Ratio  float64 // of the medians, and the bounds of its 95 % interval
	Low    float64
	High   float64
}

// compareTimes tests by Mann and Whitney's U whether a or b, each in the order of
// time, has the larger values.
//
// The packets of a burst take alike long. So the variance of each series' mean rank
// is taken from that of batches of neighbours, never less than independent values
// would have (Dehling and Fried, Asymptotic distribution of two-sample empirical
// U-quantiles, 2012, for the test; Law and Kelton for batch means).
func compareTimes(a, b []float64) comparison {
	ra, rb, ties := ranks(a, b)
	va, da := inflation(ra)
	vb, db := inflation(rb)
	c := comparison{P: studentP(uScore(ra, rb, ties, va, vb), float64(da+db))}
	c.ratio(a, b, va, vb)
	return c
}

// uScore returns by how many standard deviations U is from what is expected of the
// ranks of series that do not differ, whose means vary va and vb times as much as
// those of independent values.
func uScore(ra, rb []float64, ties, va, vb float64) float64 {
	n, m := float64(len(ra)), float64(len(rb))
	u := sum(ra) - n*(n+1)/2
	variance := n * m / 12 * (n + m + 1 - ties/((n+m)*(n+m-1))) * (m*va + n*vb) / (n + m)
	if variance <= 0 {
		return 0
	}
	return max(0, math.Abs(u-n*m/2)-0.5) / math.Sqrt(variance)
}

// ranks returns the ranks of a and b among both, from 1, in their order: the mean
// rank where values are equal; and the sum of t³-t over the groups of t such.
func ranks(a, b []float64) (ra, rb []float64, ties float64) {
	type placed struct {
		value float64
		at    int
	}
	all := make([]placed, 0, len(a)+len(b))
	for _, values := range [...][]float64{a, b} {
		for _, v := range values {
			all = append(all, placed{v, len(all)})
		}
	}
	slices.SortFunc(all, func(x, y placed) int { return cmp.Compare(x.value, y.value) })
	out := make([]float64, len(all))
	for i := 0; i < len(all); {
		j := i + 1
		for j < len(all) && all[j].value == all[i].value {
			j++
		}
		for _, p := range all[i:j] {
			out[p.at] = float64(i+1+j) / 2
		}
		t := float64(j - i)
		ties += t*t*t - t
		i = j
	}
	return out[:len(a)], out[len(a):], ties
}

// studentP returns how likely Student's t with that many degrees of freedom is beyond
// t or -t, by the approximation of Wallace (Bounds on Normal Approximations to
// Student's and the Chi-Square Distributions, 1959).
func studentP(t, degrees float64) float64 {
	z := math.Sqrt(degrees*math.Log1p(t*t/degrees)) * (8*degrees + 1) / (8*degrees + 3)
	return math.Erfc(z / math.Sqrt2)
}

// inflation returns by how much the variance of the mean of x is larger than if its
// values were independent, at least 1, and the degrees of freedom of that.
func inflation(x []float64) (by float64, degrees int) {
	size := int(math.Pow(float64(len(x)), batchPower))
	var batches []float64
	for i := 0; i+size <= len(x); i += size {
		batches = append(batches, sum(x[i:i+size])/float64(size))
	}
	v := variance(x)
	if v == 0 {
		return 1, len(x) - 1
	}
	return max(1, float64(size)*variance(batches)/v), len(batches) - 1
}

// batchPower says how large batches are: of n values n to this.
const batchPower = 0.55

// ratio sets the ratio of the medians and its interval by Price and Bonett,
// Distribution-free confidence intervals for difference and ratio of medians, 2002.
func (c *comparison) ratio(a, b []float64, va, vb float64) {
	ma, ea := median(a)
	mb, eb := median(b)
	c.Median, c.Ratio = [2]float64{ma, mb}, mb/ma
	e := math.Exp(confidence95 * math.Sqrt(ea*ea*va+eb*eb*vb))
	c.Low, c.High = c.Ratio/e, c.Ratio*e
}

// median returns the median of x, and the standard error of its logarithm as the order
// statistics about it tell.
func median(x []float64) (m, logErr float64) {
	s := slices.Sorted(slices.Values(x))
	n := float64(len(s))
	m = (s[(len(s)-1)/2] + s[len(s)/2]) / 2
	c := int(math.Max(1, math.Round((n+1)/2-math.Sqrt(n))))
	z := (n/2 - float64(c) + 0.5) / (math.Sqrt(n) / 2)
	return m, (math.Log(s[len(s)-c]) - math.Log(s[c-1])) / (2 * z)
}

func sum(x []float64) (s float64) {
	for _, v := range x {
		s += v
	}
	return s
}

func variance(x []float64) float64 {
	mean, v := sum(x)/float64(len(x)), 0.0
	for _, xi := range x {
		v += (xi - mean) * (xi - mean)
	}
	return v / float64(len(x)-1)
}
