package chart

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/nsbpf/nsbpf/bench/result"
)

// Write draws, each in a panel of its own, the medians of every metric with their
// intervals, the distribution of latency, and loss by offered rate; the last two if
// the result has them.
func Write(w io.Writer, d *result.Document) error {
	c := &canvas{}
	c.heading(d)
	for _, m := range metrics(d) {
		bars(c, d, m)
	}
	latency(c, d)
	loss(c, d)
	_, err := io.WriteString(w, c.svg("nsbpf bench: "+d.From+" to "+d.To))
	return err
}

// heading says what was measured, and on what.
func (c *canvas) heading(d *result.Document) {
	c.y = 30
	c.text(left, c.y, "h", "start", d.From+" → "+d.To)
	said := fmt.Sprintf("lab %s · Linux %s · %s · %d × %s", d.Lab, d.Environment.Kernel, d.Environment.CPU, d.Rounds, d.Duration)
	if d.Interrupted {
		said += " · interrupted"
	}
	c.y += 20
	c.text(left, c.y, "m", "start", shorten(said, 110))
}

// metrics returns the distinct metrics of a result in their order, without samples.
func metrics(d *result.Document) []result.Metric {
	var all []result.Metric
	for _, v := range d.Variants {
		for _, m := range v.Metrics {
			same := func(o result.Metric) bool { return o.Name == m.Name && o.Unit == m.Unit }
			if !slices.ContainsFunc(all, same) {
				all = append(all, m)
			}
		}
	}
	return all
}

// bars draws one metric: a bar for each variant, from 0 so that lengths compare.
func bars(c *canvas, d *result.Document, of result.Metric) {
	type bar struct {
		name string
		*result.Metric
	}
	var all []bar
	top := 0.0
	for i := range d.Variants {
		if m := d.Variants[i].Metric(of.Name); m != nil && m.Unit == of.Unit {
			all = append(all, bar{d.Variants[i].Name, m})
			top = max(top, m.High)
		}
	}
	c.panel(fmt.Sprintf("%s, %s", of.Name, of.Unit), fmt.Sprintf("median and 95 %% interval, %s is better", of.Better))
	const pitch, thick = 26.0, 14.0
	height := pitch * float64(len(all))
	// The figures stand to the right of the bars.
	x := linear(0, top, axisLeft, right-90)
	c.ticksX(x, c.y, c.y+height, func(v float64) string { return short(v) })
	for i, b := range all {
		y := c.y + pitch*float64(i) + pitch/2
		c.open("", b.name)
		c.text(axisLeft-8, y+4, "", "end", shorten(b.name, 20))
		c.rect("s0", x.at(0), y-thick/2, max(x.at(b.Median)-x.at(0), 1), thick)
		c.line("w", x.at(b.Low), y, x.at(b.High), y)
		c.line("w", x.at(b.Low), y-4, x.at(b.Low), y+4)
		c.line("w", x.at(b.High), y-4, x.at(b.High), y+4)
		c.text(x.at(max(b.High, b.Median))+8, y+4, "", "start", short(b.Median))
		c.close()
	}
	c.y += height + 26
}

// latency draws what share of packets took at most so long, on a logarithmic axis.
func latency(c *canvas, d *result.Document) {
	var curves []curve
	low, high := 0.0, 0.0
	for i := range d.Variants {
		v := &d.Variants[i]
		if v.Latency == nil || v.Latency.Count == 0 || len(v.Latency.Buckets) == 0 {
			continue
		}
		k := curve{name: v.Name, note: "p50 " + duration(v.Latency.P50) + " · p99 " + duration(v.Latency.P99)}
		var upTo uint64
		k.add(float64(max(v.Latency.Min, 1)), 0)
		for _, b := range v.Latency.Buckets {
			upTo += b.Count
			k.add(float64(max(min(b.High, v.Latency.Max), 1)), 100*float64(upTo)/float64(v.Latency.Count))
		}
		if low == 0 || k.points[0][0] < low {
			low = k.points[0][0]
		}
		high = max(high, k.points[len(k.points)-1][0])
		curves = append(curves, k)
	}
	if len(curves) == 0 {
		return
	}
	c.panel("latency", "share of packets that took at most so long, %")
	x := logarithmic(low, high, plotLeft, right-10)
	c.plot(x, linear(0, 100, c.y+plotHeight, c.y), curves, func(v float64) string { return nanoseconds(v) })
}

// loss draws what share of packets was lost at each offered rate.
func loss(c *canvas, d *result.Document) {
	var curves []curve
	rate, lost := 0.0, 0.0
	for i := range d.Variants {
		v := &d.Variants[i]
		if len(v.Curve) == 0 {
			continue
		}
		k := curve{name: v.Name, marks: true}
		for _, p := range v.Curve {
			k.add(p.Offered, 100*p.Loss)
			rate, lost = max(rate, p.Offered), max(lost, 100*p.Loss)
		}
		slices.SortStableFunc(k.points, func(a, b [2]float64) int {
			if a[0] < b[0] {
				return -1
			}
			return 1
		})
		curves = append(curves, k)
	}
	if len(curves) == 0 {
		return
	}
	c.panel("loss by offered rate", "% of packets lost, by packets a second")
	// A curve of no loss is a line at the bottom, not noise blown up.
	y := linear(0, max(lost, 1), c.y+plotHeight, c.y)
	c.plot(linear(0, rate, plotLeft, right-10), y, curves, func(v float64) string { return short(v) })
}

// shorten cuts s to n characters.
func shorten(s string, n int) string {
	r := []rune(s)
	if len(r) <= n {
		return s
	}
	return strings.TrimSpace(string(r[:n-1])) + "…"
}
