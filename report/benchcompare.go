package report

import (
	"fmt"
	"io"
	"math"
	"strings"

	"github.com/nsbpf/nsbpf/bench/compare"
	"github.com/nsbpf/nsbpf/bench/result"
	"github.com/nsbpf/nsbpf/bench/stat"
)

// BenchCompareTable writes a line for each metric that two results share, what differs
// between their environments, and the verdict of all.
func BenchCompareTable(w io.Writer, c *compare.Comparison, style Style) error {
	t := newTable("VARIANT", "METRIC", ">OLD", ">NEW", ">CHANGE", ">INTERVAL", ">P", "VERDICT")
	last := ""
	for _, f := range c.Findings {
		name := f.Variant
		if name == last {
			name = ""
		}
		last = f.Variant
		was, is, change, within, p := result.Figure(f.Old.Center, f.Unit), "-", "-", "", ""
		if f.Samples[1] > 0 {
			is, change = result.Figure(f.New.Center, f.Unit), compare.Signed(f.Ratio.Center-1)
			within = compare.Signed(f.Ratio.Low-1) + " … " + compare.Signed(f.Ratio.High-1)
			p = fmt.Sprintf("%.3f", f.P)
		}
		t.row(name, f.Metric, was, is, change, within, p, benchVerdict(f))
		if f.Verdict == compare.Regression {
			t.setOff()
		}
	}
	if err := t.writeUnlessEmpty(w, style); err != nil {
		return err
	}
	var b strings.Builder
	for _, d := range c.Environment {
		colour := ""
		if d.Forbids {
			colour = style.Note
		}
		fmt.Fprintf(&b, "%s%s: %q, was %q%s\n", colour, d.Setting, d.New, d.Old, reset(colour, style))
	}
	for _, n := range c.Notes {
		b.WriteString(n + "\n")
	}
	for _, d := range c.Doubts {
		b.WriteString(style.Note + d + style.Reset + "\n")
	}
	v := c.Verdict()
	colour := map[compare.Verdict]string{compare.Regression: style.Bad, compare.Inconclusive: style.Note}[v]
	if colour == "" {
		colour = style.Good
	}
	fmt.Fprintf(&b, "%s%s%s: at most %s worse is allowed\n", colour, v, style.Reset, compare.Percent(c.Options.MaxRegression))
	_, err := io.WriteString(w, b.String())
	return err
}

func benchVerdict(f compare.Finding) string {
	if f.Reason == "" {
		return string(f.Verdict)
	}
	return string(f.Verdict) + ": " + f.Reason
}

func reset(colour string, style Style) string {
	if colour == "" {
		return ""
	}
	return style.Reset
}

type benchIntervalDoc struct {
	Center float64 `json:"center"`
	Low    float64 `json:"low"`
	High   float64 `json:"high"`
}

type benchFindingDoc struct {
	Variant string            `json:"variant"`
	Metric  string            `json:"metric"`
	Unit    string            `json:"unit"`
	Better  result.Better     `json:"better"`
	Old     benchIntervalDoc  `json:"old"`
	New     *benchIntervalDoc `json:"new,omitempty"`
	Samples [2]int            `json:"samples"`
	Ratio   *benchIntervalDoc `json:"ratio,omitempty"`
	P       float64           `json:"p"`
	Noise   float64           `json:"noise"`
	Verdict compare.Verdict   `json:"verdict"`
	Reason  string            `json:"reason,omitempty"`
}

// BenchCompareJSON writes the same as one object of schema nsbpf.compare/1.
func BenchCompareJSON(w io.Writer, c *compare.Comparison) error {
	doc := struct {
		Schema        string              `json:"schema"`
		Verdict       compare.Verdict     `json:"verdict"`
		MaxRegression float64             `json:"max_regression"`
		Alpha         float64             `json:"alpha"`
		Confidence    float64             `json:"confidence"`
		Findings      []benchFindingDoc   `json:"findings"`
		Environment   []result.Difference `json:"environment"`
		Doubts        []string            `json:"doubts"`
		Notes         []string            `json:"notes"`
	}{"nsbpf.compare/1", c.Verdict(), c.Options.MaxRegression, compare.Alpha, compare.Confidence, each(c.Findings, newBenchFindingDoc),
		append([]result.Difference{}, c.Environment...), append([]string{}, c.Doubts...), append([]string{}, c.Notes...)}
	if err := encoder(w).Encode(doc); err != nil {
		return fmt.Errorf("writing the comparison: %w", err)
	}
	return nil
}

func newBenchFindingDoc(f compare.Finding) benchFindingDoc {
	doc := benchFindingDoc{f.Variant, f.Metric, f.Unit, f.Better, newBenchIntervalDoc(f.Old), nil, f.Samples, nil, f.P, f.Noise, f.Verdict, f.Reason}
	if f.Samples[1] > 0 {
		is := newBenchIntervalDoc(f.New)
		doc.New = &is
		if !math.IsInf(f.Ratio.High, 0) { // the old is not 0
			ratio := newBenchIntervalDoc(f.Ratio)
			doc.Ratio = &ratio
		}
	}
	return doc
}

func newBenchIntervalDoc(i stat.Interval) benchIntervalDoc {
	return benchIntervalDoc{i.Center, i.Low, i.High}
}
