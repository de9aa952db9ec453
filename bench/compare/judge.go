package compare

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/nsbpf/nsbpf/bench/result"
	"github.com/nsbpf/nsbpf/bench/stat"
)

// judge gives p its verdict; it is one of so many tests.
func (c *Comparison) judge(p *pair, tests int) {
	switch {
	case !p.gate:
		p.Verdict, p.Reason = Unjudged, p.forbids
	case p.forbids != "":
		p.Verdict, p.Reason = Inconclusive, p.forbids
	case len(c.Doubts) > 0:
		p.Verdict, p.Reason = Inconclusive, c.Doubts[0]
	default:
		p.Verdict, p.Reason = p.decide(c.Options.MaxRegression, tests)
	}
}

// decide is the verdict from the samples alone.
func (p *pair) decide(limit float64, tests int) (Verdict, string) {
	if need := stat.FewestSamples(Alpha / float64(tests)); min(p.Samples[0], p.Samples[1]) < need {
		return Inconclusive, fmt.Sprintf("too few samples: %d and %d (want %d at least)", p.Samples[0], p.Samples[1], need)
	}
	w := p.Worse
	half := (w.High - w.Low) / 2
	significant := p.P <= Alpha && math.Abs(w.Center) > p.Noise
	switch {
	case significant && w.Low > limit:
		return Regression, ""
	case significant && w.High < 0:
		return Better, ""
	case p.Noise > limit:
		return Inconclusive, fmt.Sprintf("noise: equal variants differ by up to %s", Percent(p.Noise))
	case half > limit:
		return Inconclusive, fmt.Sprintf("noise: known only to ±%s (about %d rounds would tell)", Percent(half), p.rounds(half/limit))
	case w.High > limit && (w.Center > limit || significant && w.Center > 0):
		return Inconclusive, fmt.Sprintf("may be more than %s worse (about %d rounds would tell)", Percent(limit), p.rounds(2*half/limit))
	case significant && w.Low > 0:
		return Same, "worse, but not by more than allowed"
	}
	return Same, ""
}

// rounds returns about how many rounds make the interval narrower by a factor.
func (p *pair) rounds(factor float64) int {
	n := float64(max(p.Samples[0], p.Samples[1]))
	return int(min(math.Ceil(max(n+1, n*factor*factor)), 1e6))
}

// environment notes what differs between the machines, and doubts what it forbids.
func (c *Comparison) environment(before, after *result.Document) {
	var forbidden []string
	for _, d := range before.Environment.Compare(&after.Environment) {
		if d.Forbids && ignored(c.Options.IgnoreEnvironment, d.Setting) {
			d.Forbids = false
		}
		if d.Forbids {
			forbidden = append(forbidden, d.Setting)
		}
		c.Environment = append(c.Environment, d)
	}
	if len(forbidden) > 0 {
		c.Doubts = append(c.Doubts, "the environment differs: "+strings.Join(forbidden, ", "))
	}
	for i, d := range []*result.Document{before, after} {
		which := [...]string{"old", "new"}[i]
		if s := d.Environment.Steal; s > c.Options.MaxSteal {
			c.Doubts = append(c.Doubts, fmt.Sprintf("%s: the hypervisor took %s of the CPU time (at most %s is borne)",
				which, Percent(s), Percent(c.Options.MaxSteal)))
		}
		if d.Interrupted {
			c.Notes = append(c.Notes, which+": interrupted, so it is partial")
		}
	}
	for _, s := range [][3]string{{"lab", before.Lab, after.Lab}, {"from", before.From, after.From}, {"to", before.To, after.To}} {
		if s[1] != s[2] {
			c.Notes = append(c.Notes, fmt.Sprintf("%s: %q, was %q", s[0], s[2], s[1]))
		}
	}
	if !slices.Equal(before.Path, after.Path) {
		c.Doubts = append(c.Doubts, "the path differs: "+strings.Join(after.Path, " > ")+", was "+strings.Join(before.Path, " > "))
	}
}

// ignored says whether a setting is one of the list, or part of one.
func ignored(list []string, setting string) bool {
	return slices.ContainsFunc(list, func(s string) bool {
		return s == "all" || s == setting || strings.HasPrefix(setting, s+".")
	})
}

// references doubts all if the machine alone was faster or slower, by half of what is
// allowed or more: a regression could be the machine's, or be hidden by it.
func (c *Comparison) references(before, after *result.Document) {
	var all []pair
	var ps []float64
	for i := range before.Variants {
		v := before.Variants[i]
		w := after.Variant(v.Name)
		if !v.Reference || w == nil {
			continue
		}
		v.Reference = false
		for _, p := range pairsOf(&v, after) {
			if p.comparable() {
				all, ps = append(all, p), append(ps, p.P)
			}
		}
	}
	for i, p := range stat.Holm(ps) {
		w := all[i].Worse.Center
		if p > Alpha || math.Abs(w) <= c.Options.MaxRegression/2 {
			continue
		}
		c.Doubts = append(c.Doubts, fmt.Sprintf("the machine itself differs: %s %s is %s", all[i].Variant, all[i].Metric, Change(w)))
	}
}

// differing lists the settings of two variants that are not the same.
func differing(a, b map[string]string) string {
	both := maps.Clone(a)
	if both == nil {
		both = make(map[string]string)
	}
	maps.Copy(both, b)
	var out []string
	for _, k := range slices.Sorted(maps.Keys(both)) {
		if a[k] != b[k] {
			out = append(out, fmt.Sprintf("%s %q, was %q", k, b[k], a[k]))
		}
	}
	return strings.Join(out, ", ")
}

// Percent returns a part of 1 as in 3.2 %, with as many digits as mean something.
func Percent(x float64) string {
	digits := 1
	if math.Abs(x) >= 0.0995 {
		digits = 0
	}
	return strconv.FormatFloat(100*x, 'f', digits, 64) + " %"
}

// Change returns how much worse something is in words, as in 3.2 % worse.
func Change(worse float64) string {
	if worse < 0 {
		return Percent(-worse) + " better"
	}
	return Percent(worse) + " worse"
}

// Signed returns a change, as a part of 1, with its sign, as in +3.2 %.
func Signed(x float64) string {
	if x < 0 {
		return "−" + Percent(-x)
	}
	return "+" + Percent(x)
}
