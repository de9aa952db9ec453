package format

import (
	"encoding/csv"
	"io"
	"strconv"
	"strings"

	"github.com/nsbpf/nsbpf/bench/result"
)

// CSV writes a line for each sample, below one of headings (RFC 4180).
func CSV(w io.Writer, d *result.Document) error {
	c := csv.NewWriter(w)
	c.UseCRLF = true
	c.Write([]string{"time_ns", "lab", "from", "to", "variant", "settings", "metric", "unit", "better", "gate", "round", "value"})
	for i := range d.Variants {
		v := &d.Variants[i]
		for _, m := range v.Metrics {
			for round, x := range m.Samples {
				c.Write([]string{
					strconv.FormatInt(d.TimeNS, 10), d.Lab, d.From, d.To, v.Name, strings.Join(settings(v), " "),
					m.Name, m.Unit, string(m.Better), strconv.FormatBool(m.Gate), strconv.Itoa(round + 1), number(x),
				})
			}
		}
	}
	c.Flush()
	return c.Error()
}
