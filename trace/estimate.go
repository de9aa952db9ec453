package trace

import "math"

// Estimate is how many there were of which a sample shows some, with the bounds
// of the confidence interval.
type Estimate struct {
	Value, Low, High float64
}

// z is the quantile of the normal distribution for a confidence of 95 %.
const z = 1.959964

// EstimateTotal returns how many there were if k of them are in a sample of one
// of n, chosen independently of each other, with a confidence of 95 %. n = 1 is
// no sample: all bounds are k.
//
// k is binomial with the unknown total; the bounds are where k would be z
// standard deviations from what is expected (Wilson's score interval, 1927,
// solved for the total), which also holds for small k.
func EstimateTotal(k uint64, n uint32) Estimate {
	if n <= 1 {
		return Estimate{float64(k), float64(k), float64(k)}
	}
	p := 1 / float64(n)
	middle := float64(k) + z*z*(1-p)/2
	half := z * math.Sqrt(float64(k)*(1-p)+z*z*(1-p)*(1-p)/4)
	return Estimate{
		Value: float64(k) / p,
		Low:   max(float64(k), (middle-half)/p),
		High:  (middle + half) / p,
	}
}
