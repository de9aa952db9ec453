package diff

import "math"

// table is a fourfold table: of aN packets here and bN there, a and b had the
// outcome.
type table struct{ a, aN, b, bN uint64 }

// p is the two-sided p value of Fisher's exact test, twice that of the smaller
// tail: how likely it is that two samples of the same traffic differ so much.
func (t table) p() float64 {
	lo, hi := t.tail(false), t.tail(true)
	return min(1, 2*min(lo, hi))
}

// floor is the least p that there can be with as many packets of each recording
// and of the outcome.
func (t table) floor() float64 {
	k := t.a + t.b
	least := table{k - min(k, t.bN), t.aN, min(k, t.bN), t.bN}
	most := table{min(k, t.aN), t.aN, k - min(k, t.aN), t.bN}
	return min(1, 2*min(math.Exp(least.logProb()), math.Exp(most.logProb())))
}

// logProb is the logarithm of the hypergeometric probability of t.
func (t table) logProb() float64 {
	return logChoose(t.aN, t.a) + logChoose(t.bN, t.b) - logChoose(t.aN+t.bN, t.a+t.b)
}

// tail is the probability of t and of all that lie further up in a, or down.
func (t table) tail(up bool) float64 {
	sum, term := 0.0, math.Exp(t.logProb())
	for term > sum*1e-17 {
		sum += term
		if up {
			if t.a == t.aN || t.b == 0 {
				break
			}
			term *= float64(t.aN-t.a) * float64(t.b) / (float64(t.a+1) * float64(t.bN-t.b+1))
			t.a, t.b = t.a+1, t.b-1
		} else {
			if t.b == t.bN || t.a == 0 {
				break
			}
			term *= float64(t.bN-t.b) * float64(t.a) / (float64(t.b+1) * float64(t.aN-t.a+1))
			t.a, t.b = t.a-1, t.b+1
		}
	}
	return sum
}

// deflated returns t as if each run of packets with the outcome were as many
// packets as it tells independent ones of: with runs much fewer than chance would
// make, packets have their outcome together. As in a Markov chain of two states,
// whose variance is (1+r)/(1-r) of that of independent trials.
func (t table) deflated(aRuns, bRuns uint64) table {
	t.a, t.aN = deflate(t.a, t.aN, aRuns)
	t.b, t.bN = deflate(t.b, t.bN, bRuns)
	return t
}

func deflate(k, n, runs uint64) (uint64, uint64) {
	expected := float64(k) * float64(n-k) / float64(n)
	if n == 0 || float64(runs) >= expected {
		return k, n
	}
	changes := float64(runs) / expected // 1-r
	by := (2 - changes) / changes
	return uint64(math.Round(float64(k) / by)), uint64(math.Ceil(float64(n) / by))
}

func logChoose(n, k uint64) float64 {
	if k > n {
		return math.Inf(-1)
	}
	return logFactorial(n) - logFactorial(k) - logFactorial(n-k)
}

func logFactorial(n uint64) float64 {
	l, _ := math.Lgamma(float64(n) + 1)
	return l
}

// strata are tables of one outcome, by flow: so traffic that one of the recordings
// has more of proves nothing.
type strata []table

// onlyOne is the two-sided p value of what all packets with the outcome are in the
// same recording: the product over the flows, because that is the end of the tail.
// It is 1 if both recordings have some.
func (s strata) onlyOne() float64 {
	var a, b uint64
	logP := 0.0
	for _, t := range s {
		a, b = a+t.a, b+t.b
		logP += t.logProb()
	}
	if a > 0 && b > 0 {
		return 1
	}
	return min(1, 2*math.Exp(logP))
}

// floor is the least that onlyOne can be.
func (s strata) floor() float64 {
	a, b := 0.0, 0.0
	for _, t := range s {
		k := t.a + t.b
		a += allIn(k, t.aN, t.bN)
		b += allIn(k, t.bN, t.aN)
	}
	return min(1, 2*math.Exp(min(a, b)))
}

// allIn is the logarithm of how likely all k packets are of the first n. Where they
// are more, they cannot be.
func allIn(k, n, other uint64) float64 {
	if k > n {
		return math.Inf(1)
	}
	return logChoose(n, k) - logChoose(n+other, k)
}
