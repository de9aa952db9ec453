package result

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"strings"
)

// ReadFile reads the Document in a file; see [Read].
func ReadFile(file string) (*Document, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("reading a result of bench: %w", err)
	}
	defer f.Close()
	return Read(f, file)
}

// Read reads one Document. Its fields may be more than are known here. All that is
// wrong with its values is told at once, each with name and where in the document.
func Read(r io.Reader, name string) (*Document, error) {
	text, err := io.ReadAll(r)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", name, err)
	}
	var head struct {
		Schema *string `json:"schema"`
	}
	if err := json.Unmarshal(text, &head); err != nil {
		return nil, misread(name, text, err)
	}
	switch {
	case head.Schema == nil:
		return nil, fmt.Errorf("%s: schema: missing (want a result of nsbpf bench --json, %q)", name, Schema)
	case *head.Schema != Schema:
		return nil, fmt.Errorf("%s: schema: %q is no result of nsbpf bench --json (want %q)", name, *head.Schema, Schema)
	}
	d := new(Document)
	if err := json.Unmarshal(text, d); err != nil {
		return nil, misread(name, text, err)
	}
	if err := d.Validate(); err != nil {
		var all []error
		for _, err := range err.(interface{ Unwrap() []error }).Unwrap() {
			all = append(all, fmt.Errorf("%s: %w", name, err))
		}
		return nil, errors.Join(all...)
	}
	return d, nil
}

// misread says where in text err is.
func misread(name string, text []byte, err error) error {
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	switch {
	case len(strings.TrimSpace(string(text))) == 0:
		return fmt.Errorf("%s: empty (want a result of nsbpf bench --json)", name)
	case errors.As(err, &syntax):
		return fmt.Errorf("%s:%s: no JSON: %w", name, position(text, syntax.Offset), err)
	case errors.As(err, &kind) && kind.Field != "":
		return fmt.Errorf("%s:%s: %s: %s is no %s", name, position(text, kind.Offset), kind.Field, kind.Value, kind.Type)
	case errors.As(err, &kind):
		return fmt.Errorf("%s: %s is no result of nsbpf bench --json (want an object)", name, kind.Value)
	}
	return fmt.Errorf("%s: %w", name, err)
}

// position returns line and column of an offset, both from 1.
func position(text []byte, offset int64) string {
	before := string(text[:min(max(offset-1, 0), int64(len(text)))])
	return fmt.Sprintf("%d:%d", 1+strings.Count(before, "\n"), len(before)-strings.LastIndexByte(before, '\n'))
}

// Write writes d as one line of JSON. It refuses what [Read] would.
func Write(w io.Writer, d *Document) error {
	if err := d.Validate(); err != nil {
		return fmt.Errorf("writing the result: %w", err)
	}
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	return enc.Encode(d)
}

// Validate returns all that makes d no valid Document, joined, each with the path to it.
func (d *Document) Validate() error {
	c := checker{}
	if d.Schema != Schema {
		c.add("schema", "%q (want %q)", d.Schema, Schema)
	}
	if len(d.Variants) == 0 {
		c.add("variants", "none, so nothing was measured")
	}
	c.share("environment.steal", d.Environment.Steal)
	seen := make(map[string]bool)
	for i := range d.Variants {
		v := &d.Variants[i]
		at := fmt.Sprintf("variants[%d]", i)
		c.name(at, v.Name, seen)
		c.variant(at, v)
	}
	if d.Noise != nil {
		c.noise(d)
	}
	return errors.Join(c...)
}

// checker collects what is wrong.
type checker []error

func (c *checker) add(at, format string, args ...any) {
	*c = append(*c, fmt.Errorf("%s: %s", at, fmt.Sprintf(format, args...)))
}

// name checks that there is a name, and that it is the only one of seen.
func (c *checker) name(at, name string, seen map[string]bool) {
	switch {
	case name == "":
		c.add(at+".name", "missing")
	case seen[name]:
		c.add(at+".name", "%q is there twice", name)
	}
	seen[name] = true
}

func (c *checker) variant(at string, v *Variant) {
	if len(v.Metrics) == 0 {
		c.add(at+".metrics", "none")
	}
	seen := make(map[string]bool)
	for i := range v.Metrics {
		at := fmt.Sprintf("%s.metrics[%d]", at, i)
		c.name(at, v.Metrics[i].Name, seen)
		c.metric(at, &v.Metrics[i])
	}
	for i, h := range v.Hops {
		c.share(fmt.Sprintf("%s.hops[%d].share", at, i), h.Share)
		c.number(fmt.Sprintf("%s.hops[%d].ns_per_packet", at, i), h.NSPerPacket)
	}
	for i, p := range v.Curve {
		at := fmt.Sprintf("%s.curve[%d]", at, i)
		c.share(at+".loss", p.Loss)
		c.number(at+".offered_pps", p.Offered)
		c.number(at+".received_pps", p.Received)
	}
	if v.Latency != nil {
		c.histogram(at+".latency", v.Latency)
	}
}

func (c *checker) metric(at string, m *Metric) {
	if m.Unit == "" {
		c.add(at+".unit", "missing")
	}
	if m.Better != Higher && m.Better != Lower {
		c.add(at+".better", "%q (want %q or %q)", m.Better, Higher, Lower)
	}
	if len(m.Samples) == 0 {
		c.add(at+".samples", "none (interrupted before the first round ended?)")
	}
	for i, x := range m.Samples {
		c.number(fmt.Sprintf("%s.samples[%d]", at, i), x)
	}
	c.number(at+".median", m.Median)
	c.number(at+".low", m.Low)
	c.number(at+".high", m.High)
	if m.Low > m.Median || m.Median > m.High {
		c.add(at+".median", "%g is not within %g…%g", m.Median, m.Low, m.High)
	}
}

func (c *checker) histogram(at string, h *Histogram) {
	var sum uint64
	for i, b := range h.Buckets {
		sum += b.Count
		if b.Low < 0 || b.High < b.Low || i > 0 && b.Low <= h.Buckets[i-1].High {
			c.add(fmt.Sprintf("%s.buckets[%d]", at, i), "%d…%d ns overlaps or is out of order", b.Low, b.High)
		}
	}
	if sum != h.Count {
		c.add(at+".count", "%d, but the buckets hold %d", h.Count, sum)
	}
}

func (c *checker) noise(d *Document) {
	if d.Variant(d.Noise.Variant) == nil {
		c.add("noise.variant", "%q is none of the variants", d.Noise.Variant)
	}
	for i, m := range d.Noise.Metrics {
		c.number(fmt.Sprintf("noise.metrics[%d].floor", i), m.Floor)
	}
}

// number checks that x is finite and not negative, which no figure of bench is.
func (c *checker) number(at string, x float64) {
	switch {
	case math.IsNaN(x) || math.IsInf(x, 0):
		c.add(at, "%g is no number", x)
	case x < 0:
		c.add(at, "%g is below 0", x)
	}
}

func (c *checker) share(at string, x float64) {
	if !(x >= 0 && x <= 1) {
		c.add(at, "%g is no share (want 0…1)", x)
	}
}
