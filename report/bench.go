package report

import (
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/nsbpf/nsbpf/bench/result"
	"github.com/nsbpf/nsbpf/bench/stat"
)

// BenchTable writes what bench measured: a line for each metric, with its ratio to the
// first variant's where there are several; what became of the packets, what each hop
// took, and what is doubtful.
func BenchTable(w io.Writer, d *result.Document, style Style) error {
	t := newTable("VARIANT", "METRIC", ">MEDIAN", ">INTERVAL", ">RATIO", ">INTERVAL", ">N", "")
	for i := range d.Variants {
		v := &d.Variants[i]
		name := v.Name
		for _, m := range v.Metrics {
			ratio, within := benchRatio(d, v, m)
			t.row(name, m.Name, result.Figure(m.Median, m.Unit), result.Range(m.Low, m.High, m.Unit),
				ratio, within, strconv.Itoa(len(m.Samples)), benchMarks(m))
			name = ""
		}
	}
	if err := t.writeUnlessEmpty(w, style); err != nil {
		return err
	}
	var b strings.Builder
	for i := range d.Variants {
		benchVariant(&b, &d.Variants[i], style)
	}
	benchNoise(&b, d.Noise)
	if d.Interrupted {
		b.WriteString(style.Bad + "interrupted: this is what was measured until then" + style.Reset + "\n")
	}
	for _, n := range d.Notes {
		b.WriteString(style.Note + n + style.Reset + "\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// benchRatio returns by what factor a metric is that of the first variant, round by
// round; nothing for the first.
func benchRatio(d *result.Document, v *result.Variant, m result.Metric) (ratio, within string) {
	base := d.Variants[0].Metric(m.Name)
	if v == &d.Variants[0] || base == nil || base.Unit != m.Unit {
		return "", ""
	}
	r := stat.PairedRatio(base.Samples, m.Samples, 0.95)
	three := func(x float64) string { return strconv.FormatFloat(x, 'f', 3, 64) }
	return three(r.Center), three(r.Low) + " … " + three(r.High)
}

// benchMarks says what the samples are not as they should be.
func benchMarks(m result.Metric) string {
	var marks []string
	if n := len(stat.Outliers(m.Samples)); n > 0 {
		marks = append(marks, quantity(uint64(n), "outlier"))
	}
	if r, notable := stat.Autocorrelation(m.Samples); notable && r > 0 {
		marks = append(marks, "rounds depend on each other")
	}
	if m.Confidence < 0.95 {
		marks = append(marks, fmt.Sprintf("interval of %.0f %%", 100*m.Confidence))
	}
	return strings.Join(marks, ", ")
}

// benchVariant writes what is known of a variant besides its metrics.
func benchVariant(b *strings.Builder, v *result.Variant, style Style) {
	if a := &v.Account; a.Sent > 0 {
		fmt.Fprintf(b, "%s: sent %d = received %d", v.Name, a.Sent, a.Received)
		for _, l := range a.Lost {
			fmt.Fprintf(b, " + lost in %s %d", l.Place, l.Count)
		}
		if n := a.Unexplained(); n != 0 {
			fmt.Fprintf(b, "%s + unexplained %d%s", style.Bad, n, style.Reset)
		}
		b.WriteByte('\n')
	}
	if h := v.Latency; h != nil {
		fmt.Fprintf(b, "%s: p50 %s  p90 %s  p99 %s  p99.9 %s  max %s\n", v.Name,
			threeDigits(h.P50), threeDigits(h.P90), threeDigits(h.P99), threeDigits(h.P999), threeDigits(h.Max))
	}
	for _, h := range v.Hops {
		fmt.Fprintf(b, "  %-28s %5.0f ns/packet  %3.0f %%", h.Hop, h.NSPerPacket, 100*h.Share)
		if h.Dropped > 0 {
			fmt.Fprintf(b, "  %sdropped %d%s", style.Bad, h.Dropped, style.Reset)
		}
		b.WriteByte('\n')
	}
	if v.Bottleneck != "" {
		fmt.Fprintf(b, "%s: %s%s%s\n", v.Name, style.Head, v.Bottleneck, style.Reset)
	}
	if v.Limited != "" {
		fmt.Fprintf(b, "%s: %s%s%s\n", v.Name, style.Bad, v.Limited, style.Reset)
	}
}

// benchNoise writes what two equal variants differed by.
func benchNoise(b *strings.Builder, n *result.Noise) {
	if n == nil || len(n.Metrics) == 0 {
		return
	}
	var all []string
	for _, m := range n.Metrics {
		all = append(all, fmt.Sprintf("%s ±%.1f %%", m.Metric, 100*m.Floor))
	}
	fmt.Fprintf(b, "noise of this machine, %s measured twice: %s\n", n.Variant, strings.Join(all, ", "))
}
