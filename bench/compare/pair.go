package compare

import (
	"fmt"
	"maps"

	"github.com/nsbpf/nsbpf/bench/result"
	"github.com/nsbpf/nsbpf/bench/stat"
)

// pair is a metric that the old result has.
type pair struct {
	Finding
	gate    bool
	forbids string // why this one cannot be judged, "" if it can
}

// comparable says whether the pair is to be judged, and can be tested.
func (p *pair) comparable() bool { return p.gate && p.Samples[1] > 0 }

// pairsOf returns a pair for each metric of the old variant, none if it is a reference.
func pairsOf(v *result.Variant, after *result.Document, noise ...*result.Noise) []pair {
	if v.Reference {
		return nil
	}
	w := after.Variant(v.Name)
	var all []pair
	for i := range v.Metrics {
		m := &v.Metrics[i]
		p := pair{Finding: Finding{Variant: v.Name, Metric: m.Name, Unit: m.Unit, Better: m.Better}, gate: m.Gate}
		p.forbids = variantDoubt(v, w)
		if w == nil {
			p.Old, p.Samples[0] = stat.Median(m.Samples, 0.95), len(m.Samples)
		} else {
			p.measure(m, w.Metric(m.Name))
		}
		for _, n := range noise {
			if of := n.Of(m.Name); of != nil {
				p.Noise = max(p.Noise, of.Floor)
			}
		}
		all = append(all, p)
	}
	return all
}

// variantDoubt says why two variants cannot be compared, w being nil if there is none.
func variantDoubt(v, w *result.Variant) string {
	switch {
	case w == nil:
		return "the new result does not have it"
	case !maps.Equal(v.Settings, w.Settings):
		return "the settings differ: " + differing(v.Settings, w.Settings)
	case v.Limited != "":
		return "old: " + v.Limited
	case w.Limited != "":
		return "new: " + w.Limited
	}
	return ""
}

// measure compares the samples; n is nil if the new result has none.
func (p *pair) measure(m, n *result.Metric) {
	p.Old, p.Samples[0], p.P = stat.Median(m.Samples, 0.95), len(m.Samples), 1
	switch {
	case n == nil:
		p.forbids = "the new result does not have it"
		return
	case n.Unit != m.Unit || n.Better != m.Better:
		p.forbids = fmt.Sprintf("it was in %s and is in %s", m.Unit, n.Unit)
		return
	}
	p.New, p.Samples[1] = stat.Median(n.Samples, 0.95), len(n.Samples)
	p.Ratio = stat.Ratio(m.Samples, n.Samples, Confidence)
	p.Worse = worse(p.Ratio, m.Better)
	p.P = stat.MannWhitney(m.Samples, n.Samples)
}

// worse returns by how much the new is worse, given by what factor it is the old.
func worse(r stat.Interval, b result.Better) stat.Interval {
	if b == result.Higher {
		return stat.Interval{Center: 1 - r.Center, Low: 1 - r.High, High: 1 - r.Low, Confidence: r.Confidence}
	}
	return stat.Interval{Center: r.Center - 1, Low: r.Low - 1, High: r.High - 1, Confidence: r.Confidence}
}
