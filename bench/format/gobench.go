package format

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode"

	"github.com/nsbpf/nsbpf/bench/result"
)

// Go writes the samples as lines of Go benchmarks, one a variant and round, which
// benchstat reads, with the direction of each unit
// (https://go.dev/design/14313-benchmark-format). A metric that shares its unit
// with another goes by its name too, as in p99-ns.
func Go(w io.Writer, d *result.Document) error {
	var b strings.Builder
	for _, kv := range [][2]string{
		{"pkg", "nsbpf/" + d.Lab}, {"cpu", d.Environment.CPU}, {"kernel", d.Environment.Kernel},
		{"nsbpf", d.Version}, {"path", d.From + "-to-" + d.To},
	} {
		if kv[1] != "" {
			fmt.Fprintf(&b, "%s: %s\n", kv[0], strings.Join(strings.Fields(kv[1]), " "))
		}
	}
	units := goUnits(d)
	told := make(map[string]bool)
	for _, v := range d.Variants {
		for _, m := range v.Metrics {
			if u := units(m); !told[u] {
				told[u] = true
				fmt.Fprintf(&b, "Unit %s better=%s\n", u, m.Better)
			}
		}
	}
	for i := range d.Variants {
		v := &d.Variants[i]
		for round := range rounds(v) {
			fmt.Fprintf(&b, "Benchmark%s 1", goName(v.Name))
			for _, m := range v.Metrics {
				if round < len(m.Samples) {
					fmt.Fprintf(&b, " %s %s", number(m.Samples[round]), units(m))
				}
			}
			b.WriteByte('\n')
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// goUnits returns the unit of each metric: its own if no other metric has it.
func goUnits(d *result.Document) func(result.Metric) string {
	names := make(map[string]map[string]bool)
	for _, v := range d.Variants {
		for _, m := range v.Metrics {
			if names[m.Unit] == nil {
				names[m.Unit] = make(map[string]bool)
			}
			names[m.Unit][m.Name] = true
		}
	}
	return func(m result.Metric) string {
		u := m.Unit
		if len(names[u]) > 1 {
			u = m.Name + "-" + u
		}
		return unspaced(u)
	}
}

// goName returns name as that of a Go benchmark: no spaces, and first a letter that is
// not in lower case.
func goName(name string) string {
	r := []rune(unspaced(name))
	r[0] = unicode.ToUpper(r[0])
	if unicode.IsLower(r[0]) {
		return "_" + string(r)
	}
	return string(r)
}

func unspaced(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsSpace(r) || !unicode.IsPrint(r) {
			return '_'
		}
		return r
	}, s)
}

// rounds returns how many samples the metric with the most has.
func rounds(v *result.Variant) int {
	n := 0
	for _, m := range v.Metrics {
		n = max(n, len(m.Samples))
	}
	return n
}

// number writes all digits that x has.
func number(x float64) string { return strconv.FormatFloat(x, 'g', -1, 64) }
