package format

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/nsbpf/nsbpf/bench/result"
)

// ActionBigger writes what is better higher for github-action-benchmark with tool
// customBiggerIsBetter, as its README describes: medians, which that draws over time.
func ActionBigger(w io.Writer, d *result.Document) error { return action(w, d, result.Higher) }

// ActionSmaller writes what is better lower, for tool customSmallerIsBetter.
func ActionSmaller(w io.Writer, d *result.Document) error { return action(w, d, result.Lower) }

func action(w io.Writer, d *result.Document, better result.Better) error {
	type entry struct {
		Name  string  `json:"name"`
		Unit  string  `json:"unit"`
		Value float64 `json:"value"`
		Range string  `json:"range"`
		Extra string  `json:"extra"`
	}
	all := []entry{}
	for i := range d.Variants {
		v := &d.Variants[i]
		for _, m := range v.Metrics {
			if m.Better != better {
				continue
			}
			all = append(all, entry{
				v.Name + " " + m.Name, m.Unit, m.Median, "± " + result.Digits((m.High-m.Low)/2),
				fmt.Sprintf("%s…%s, %d samples\n%s\nLinux %s, %s", result.Digits(m.Low), result.Digits(m.High), len(m.Samples),
					strings.Join(settings(v), " "), d.Environment.Kernel, d.Environment.CPU),
			})
		}
	}
	return indented(w, all)
}

// Bencher writes medians and their intervals as Bencher Metric Format
// (https://bencher.dev/docs/reference/bencher-metric-format). A measure is named by
// metric and unit, because a measure of Bencher has one unit.
func Bencher(w io.Writer, d *result.Document) error {
	type value struct {
		Value float64 `json:"value"`
		Low   float64 `json:"lower_value"`
		High  float64 `json:"upper_value"`
	}
	all := make(map[string]map[string]value)
	for _, v := range d.Variants {
		of := make(map[string]value)
		for _, m := range v.Metrics {
			of[m.Name+" ("+m.Unit+")"] = value{m.Median, m.Low, m.High}
		}
		all[v.Name] = of
	}
	return indented(w, all)
}

func indented(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}
