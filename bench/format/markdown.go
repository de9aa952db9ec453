package format

import (
	"fmt"
	"io"
	"strings"

	"github.com/nsbpf/nsbpf/bench/compare"
	"github.com/nsbpf/nsbpf/bench/result"
)

// Markdown writes a table of the medians, as comments of pull requests have it.
func Markdown(w io.Writer, d *result.Document) error {
	var b strings.Builder
	fmt.Fprintf(&b, "### nsbpf bench: %s to %s%s\n\n", cell(d.From), cell(d.To), interrupted(d))
	b.WriteString("| variant | metric | median | 95 % interval | samples |\n|---|---|--:|--:|--:|\n")
	for _, v := range d.Variants {
		for _, m := range v.Metrics {
			fmt.Fprintf(&b, "| %s | %s | %s | %s | %d |\n", cell(v.Name), cell(m.Name),
				cell(result.Figure(m.Median, m.Unit)), cell(result.Range(m.Low, m.High, m.Unit)), len(m.Samples))
		}
	}
	var below []string
	for _, v := range d.Variants {
		if v.Bottleneck != "" {
			below = append(below, fmt.Sprintf("**%s**: %s", cell(v.Name), cell(v.Bottleneck)))
		}
	}
	below = append(below, fmt.Sprintf("Linux %s, %s, %d CPUs, nsbpf %s",
		cell(d.Environment.Kernel), cell(d.Environment.CPU), d.Environment.CPUs, cell(d.Version)))
	for _, n := range d.Notes {
		below = append(below, cell(n))
	}
	b.WriteString("\n" + strings.Join(below, "\n\n") + "\n")
	_, err := io.WriteString(w, b.String())
	return err
}

func interrupted(d *result.Document) string {
	if d.Interrupted {
		return " (interrupted)"
	}
	return ""
}

// signs stand before verdicts, for those who only glance.
var signs = map[compare.Verdict]string{
	compare.Same: "✅", compare.Better: "🚀", compare.Regression: "❌", compare.Inconclusive: "❔", compare.Unjudged: "·",
}

// CompareMarkdown writes what was found of each metric, what is judged first, and the
// others folded away.
func CompareMarkdown(w io.Writer, c *compare.Comparison) error {
	var b strings.Builder
	v := c.Verdict()
	fmt.Fprintf(&b, "### %s nsbpf bench: %s\n\n", signs[v], v)
	for _, d := range c.Doubts {
		fmt.Fprintf(&b, "- %s\n", cell(d))
	}
	if len(c.Doubts) > 0 {
		b.WriteByte('\n')
	}
	var judged, shown []compare.Finding
	for _, f := range c.Findings {
		if f.Verdict == compare.Unjudged {
			shown = append(shown, f)
		} else {
			judged = append(judged, f)
		}
	}
	findings(&b, judged)
	if len(shown) > 0 {
		b.WriteString("\n<details><summary>Not judged</summary>\n\n")
		findings(&b, shown)
		b.WriteString("\n</details>\n")
	}
	if len(c.Environment) > 0 {
		b.WriteString("\n<details><summary>The environment differs</summary>\n\n| setting | old | new |\n|---|---|---|\n")
		for _, d := range c.Environment {
			fmt.Fprintf(&b, "| %s | %s | %s |\n", cell(d.Setting), cell(d.Old), cell(d.New))
		}
		b.WriteString("\n</details>\n")
	}
	for _, n := range c.Notes {
		fmt.Fprintf(&b, "\n%s\n", cell(n))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func findings(b *strings.Builder, all []compare.Finding) {
	if len(all) == 0 {
		return
	}
	b.WriteString("| | variant | metric | old | new | change | 90 % interval | |\n|---|---|---|--:|--:|--:|--:|---|\n")
	for _, f := range all {
		change, interval := "", ""
		if f.Samples[1] > 0 {
			change, interval = compare.Signed(f.Ratio.Center-1), compare.Signed(f.Ratio.Low-1)+" … "+compare.Signed(f.Ratio.High-1)
		}
		said := string(f.Verdict)
		if f.Reason != "" {
			said += ": " + f.Reason
		}
		fmt.Fprintf(b, "| %s | %s | %s | %s | %s | %s | %s | %s |\n", signs[f.Verdict], cell(f.Variant), cell(f.Metric),
			cell(result.Figure(f.Old.Center, f.Unit)), cell(figureIf(f.Samples[1] > 0, f.New.Center, f.Unit)), change, interval, cell(said))
	}
}

func figureIf(there bool, x float64, unit string) string {
	if !there {
		return "-"
	}
	return result.Figure(x, unit)
}

// cell escapes what would end a cell of a table or begin something else.
func cell(s string) string {
	s = strings.Join(strings.Fields(s), " ")
	return strings.NewReplacer("|", `\|`, "<", "&lt;", ">", "&gt;", "*", `\*`, "_", `\_`, "`", "\\`", "[", `\[`, "@", "@\u200b").Replace(s)
}
