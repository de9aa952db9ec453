package compare

import (
	"slices"

	"github.com/nsbpf/nsbpf/bench/result"
	"github.com/nsbpf/nsbpf/bench/stat"
)

// Defaults of [Options].
const (
	MaxRegression = 0.05
	MaxSteal      = 0.02
)

// Rounds is how many rounds nsbpf bench measures for results that are to be compared.
// With the noise of shared machines, a CPU cost varying by 10 to 19 % from sample to
// sample, a slow-down by 10 % is then found in 95 of 100 cases over that range, if
// [MaxRegression] is allowed. At 10 % 150 rounds do; at 19 %, 9 in 10 are found.
const Rounds = 400

// Alpha is the probability with which a comparison finds a difference, over all its
// metrics, where there is none. The interval of an effect is of twice 5 % less
// than certainty, so that each end of it alone holds with 95 %.
const (
	Alpha      = 0.01
	Confidence = 0.90
)

// Options says what is allowed.
type Options struct {
	// MaxRegression is by how much a metric may be worse, as a part of the old; 0 is
	// [MaxRegression].
	MaxRegression float64
	// MaxSteal is the share of CPU time that a hypervisor may have taken; 0 is [MaxSteal].
	MaxSteal float64
	// IgnoreEnvironment lets verdicts stand in spite of differences between the
	// environments in these settings, such as kernel, or all that begin with one of
	// them and a dot; "all" is every one.
	IgnoreEnvironment []string
}

func (o Options) withDefaults() Options {
	if o.MaxRegression == 0 {
		o.MaxRegression = MaxRegression
	}
	if o.MaxSteal == 0 {
		o.MaxSteal = MaxSteal
	}
	return o
}

// Verdict is what is found of one metric, or of all.
type Verdict string

const (
	Same         Verdict = "same"         // not worse than allowed, as far as could be seen
	Better       Verdict = "better"       // for certain
	Regression   Verdict = "regression"   // certainly worse, and certainly by more than allowed
	Inconclusive Verdict = "inconclusive" // it cannot be known, and Reason says why
	Unjudged     Verdict = "not judged"   // the metric is only shown
)

// ExitCode is what a command ends with that has reached the verdict.
func (v Verdict) ExitCode() int {
	switch v {
	case Regression:
		return 3
	case Inconclusive:
		return 4
	}
	return 0
}

// Finding is one metric of one variant in both results.
type Finding struct {
	Variant string
	Metric  string
	Unit    string
	Better  result.Better
	Old     stat.Interval // median
	New     stat.Interval // median
	Samples [2]int        // of old and new
	Ratio   stat.Interval // by what factor the new values are the old ones
	// Worse is by how much the new is worse, as a part of the old; below 0 if it is
	// better. Low and High are the ends of its interval.
	Worse stat.Interval
	// P is the probability of such a difference by chance (Mann-Whitney), of judged
	// metrics adjusted for their number (Holm).
	P float64
	// Noise is the effect that equal variants showed in the same results, 0 if that
	// was not measured.
	Noise   float64
	Verdict Verdict
	Reason  string // in a few words; "" if the verdict says all
}

// Comparison is two results, compared.
type Comparison struct {
	Options     Options
	Findings    []Finding           // in the order of the old result; what only the new has is left out
	Environment []result.Difference // what differs; Forbids is false of what is ignored
	Doubts      []string            // why no verdict can stand; none if they can
	Notes       []string
}

// Verdict returns that of all findings together: a regression is one whatever the
// others are; otherwise one that is inconclusive makes all so.
func (c *Comparison) Verdict() Verdict {
	has := func(v Verdict) bool {
		return slices.ContainsFunc(c.Findings, func(f Finding) bool { return f.Verdict == v })
	}
	switch {
	case has(Regression):
		return Regression
	case len(c.Doubts) > 0 || has(Inconclusive) || !has(Same) && !has(Better):
		return Inconclusive
	case has(Better):
		return Better
	}
	return Same
}

// Compare judges each metric of old that has a gate, and shows the others.
//
// A regression is what differs significantly, by the Mann-Whitney test at [Alpha]
// over all metrics, and is worse than allowed by the nearer end of its interval.
// There is no verdict where the environment differs, the hypervisor stole time,
// a reference variant shows that the machine differs, the generator was at its
// limit, or noise and number of the samples do not allow one.
func Compare(before, after *result.Document, o Options) *Comparison {
	c := &Comparison{Options: o.withDefaults()}
	c.environment(before, after)
	c.references(before, after)
	var pairs []pair
	for i := range before.Variants {
		pairs = append(pairs, pairsOf(&before.Variants[i], after, before.Noise, after.Noise)...)
	}
	judged := make([]float64, 0, len(pairs))
	for i := range pairs {
		if pairs[i].comparable() {
			judged = append(judged, pairs[i].P)
		}
	}
	judged = stat.Holm(judged)
	tests := len(judged)
	for _, p := range pairs {
		if p.comparable() {
			p.P, judged = judged[0], judged[1:]
		}
		c.judge(&p, tests)
		c.Findings = append(c.Findings, p.Finding)
	}
	if !slices.ContainsFunc(pairs, func(p pair) bool { return p.gate }) {
		c.Doubts = append(c.Doubts, "the old result has no metric that is judged")
	}
	for i := range after.Variants {
		if v := &after.Variants[i]; before.Variant(v.Name) == nil {
			c.Notes = append(c.Notes, "only in the new result: "+v.Name)
		}
	}
	return c
}
