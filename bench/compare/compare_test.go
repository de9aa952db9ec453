package compare_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nsbpf/nsbpf/bench/compare"
	"github.com/nsbpf/nsbpf/bench/result"
)

// spread returns n samples within ±by of a median.
func spread(median, by float64, n int) []float64 {
	xs := make([]float64, n)
	for i := range xs {
		xs[i] = median * (1 + by*(2*float64((i*7)%n)/float64(n-1)-1))
	}
	return xs
}

// calm returns a result of a machine with little noise: a variant, and the reference.
func calm(cpu float64) *result.Document {
	metric := func(x float64) []result.Metric {
		return []result.Metric{
			result.NewMetric("cpu", "ns/packet", result.Lower, true, spread(x, 0.02, 23)),
			result.NewMetric("rate", "pps", result.Higher, false, spread(1e9/x, 0.3, 23)),
		}
	}
	return &result.Document{
		Schema: result.Schema, Lab: "pair", Path: []string{"left:l out", "right:r in"},
		Environment: result.Environment{Kernel: "6.18", CPU: "c", CPUs: 2},
		Variants: []result.Variant{
			{Name: "pps", Settings: map[string]string{"size": "64"}, Metrics: metric(cpu)},
			{Name: "floor", Reference: true, Metrics: metric(54)},
		},
	}
}

func TestVerdicts(t *testing.T) {
	type change func(was, is *result.Document, o *compare.Options)
	metric := func(d *result.Document) *result.Metric { return &d.Variants[0].Metrics[0] }
	for _, test := range []struct {
		name   string
		cpu    float64 // new, was 200
		change change
		want   compare.Verdict
		exit   int
		reason string // part of the finding's reason
	}{
		{"equal", 200, nil, compare.Same, 0, ""},
		{"worse, allowed", 205, nil, compare.Same, 0, "worse, but not by more"},
		{"worse", 220, nil, compare.Regression, 3, ""},
		{"better", 180, nil, compare.Better, 0, ""},
		{"at the limit", 210.5, nil, compare.Inconclusive, 4, "may be more than 5.0 % worse"},
		{"more is allowed", 220, func(_, _ *result.Document, o *compare.Options) { o.MaxRegression = 0.2 }, compare.Same, 0, "not by more"},
		{"a rate falls", 200, func(was, is *result.Document, _ *compare.Options) {
			*metric(was) = result.NewMetric("cpu", "pps", result.Higher, true, spread(1000, 0.02, 23))
			*metric(is) = result.NewMetric("cpu", "pps", result.Higher, true, spread(900, 0.02, 23))
		}, compare.Regression, 3, ""},
		{"nothing arrives", 200, func(was, is *result.Document, _ *compare.Options) {
			*metric(was) = result.NewMetric("cpu", "pps", result.Higher, true, spread(1000, 0.02, 23))
			*metric(is) = result.NewMetric("cpu", "pps", result.Higher, true, make([]float64, 23))
		}, compare.Regression, 3, ""},
		{"too few", 220, func(_, is *result.Document, _ *compare.Options) {
			metric(is).Samples = metric(is).Samples[:5]
		}, compare.Inconclusive, 4, "too few samples: 23 and 5 (want 6 at least)"},
		{"noisy samples", 200, func(_, is *result.Document, _ *compare.Options) {
			metric(is).Samples = spread(200, 0.5, 23)
		}, compare.Inconclusive, 4, "noise: known only to ±"},
		{"noisy machine", 204, func(_, is *result.Document, _ *compare.Options) {
			is.Noise = &result.Noise{Variant: "pps", Metrics: []result.MetricNoise{{Metric: "cpu", Ratio: 1, Floor: 0.12}}}
		}, compare.Inconclusive, 4, "equal variants differ by up to 12 %"},
		{"worse than the noise", 260, func(was, _ *result.Document, _ *compare.Options) {
			was.Noise = &result.Noise{Variant: "pps", Metrics: []result.MetricNoise{{Metric: "cpu", Ratio: 1, Floor: 0.12}}}
		}, compare.Regression, 3, ""},
		{"steal", 220, func(_, is *result.Document, _ *compare.Options) { is.Environment.Steal = 0.05 },
			compare.Inconclusive, 4, "new: the hypervisor took 5.0 % of the CPU time"},
		{"limited", 220, func(was, _ *result.Document, _ *compare.Options) { was.Variants[0].Limited = "CPU 0 was full" },
			compare.Inconclusive, 4, "old: CPU 0 was full"},
		{"other kernel", 220, func(_, is *result.Document, _ *compare.Options) { is.Environment.Kernel = "6.19" },
			compare.Inconclusive, 4, "the environment differs: kernel"},
		{"other kernel, known", 220, func(_, is *result.Document, o *compare.Options) {
			is.Environment.Kernel, o.IgnoreEnvironment = "6.19", []string{"kernel"}
		}, compare.Regression, 3, ""},
		{"other mitigation, known", 200, func(_, is *result.Document, o *compare.Options) {
			is.Environment.Mitigations, o.IgnoreEnvironment = map[string]string{"mds": "x"}, []string{"mitigations"}
		}, compare.Same, 0, ""},
		{"other version", 200, func(_, is *result.Document, _ *compare.Options) { is.Environment.Nsbpf = "2" }, compare.Same, 0, ""},
		{"other path", 200, func(_, is *result.Document, _ *compare.Options) { is.Path = []string{"left:l out"} },
			compare.Inconclusive, 4, "the path differs"},
		{"other machine", 220, func(_, is *result.Document, _ *compare.Options) {
			is.Variants[1].Metrics[0].Samples = spread(60, 0.02, 23)
		}, compare.Inconclusive, 4, "the machine itself differs: floor cpu is 11 % worse"},
		{"gone", 200, func(_, is *result.Document, _ *compare.Options) { is.Variants = is.Variants[1:] },
			compare.Inconclusive, 4, "the new result does not have it"},
		{"other size", 200, func(_, is *result.Document, _ *compare.Options) {
			is.Variants[0].Settings = map[string]string{"size": "1514"}
		}, compare.Inconclusive, 4, `the settings differ: size "1514", was "64"`},
		{"other unit", 200, func(_, is *result.Document, _ *compare.Options) { metric(is).Unit = "µs/packet" },
			compare.Inconclusive, 4, "it was in ns/packet and is in µs/packet"},
		{"no gate", 200, func(was, _ *result.Document, _ *compare.Options) { metric(was).Gate = false },
			compare.Inconclusive, 4, ""},
	} {
		was, is, o := calm(200), calm(test.cpu), compare.Options{}
		if test.change != nil {
			test.change(was, is, &o)
		}
		c := compare.Compare(was, is, o)
		if got := c.Verdict(); got != test.want || got.ExitCode() != test.exit {
			t.Errorf("%s: %s, exit %d, want %s, %d\n%+v", test.name, got, got.ExitCode(), test.want, test.exit, c.Findings[0])
		}
		if len(c.Findings) != 2 {
			t.Errorf("%s: %d findings, want cpu and rate", test.name, len(c.Findings))
		}
		if got := c.Findings[0].Reason; !strings.Contains(got, test.reason) || test.reason == "" && test.want != compare.Inconclusive && got != "" {
			t.Errorf("%s: reason %q, want %q", test.name, got, test.reason)
		}
		if got := c.Findings[1].Verdict; got != compare.Unjudged {
			t.Errorf("%s: the rate is %s", test.name, got)
		}
	}
}

func TestDifferencesAreShown(t *testing.T) {
	was, is := calm(200), calm(200)
	is.Environment.Kernel, is.Environment.Go, is.Lab = "6.19", "go1.27", "nat"
	is.Variants = append(is.Variants, result.Variant{Name: "more"})
	c := compare.Compare(was, is, compare.Options{IgnoreEnvironment: []string{"all"}})
	if d := cmp.Diff([]result.Difference{{Setting: "kernel", Old: "6.18", New: "6.19"}, {Setting: "go", New: "go1.27"}}, c.Environment); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
	if d := cmp.Diff([]string{`lab: "nat", was "pair"`, "only in the new result: more"}, c.Notes); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
}
