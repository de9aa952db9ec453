package report

import (
	"encoding/xml"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"

	"github.com/nsbpf/nsbpf/assert"
)

// asserted is what became of assertions about the packets of [probes].
func asserted(t *testing.T) *Asserted {
	t.Helper()
	p := probes(t)
	s, err := assert.Parse("checks.yaml", []byte(`
- left -> wan icmp
- packet: left -> wan icmp
  name: the way out # by <masquerade>
  via: [host:eth0 out dnat]
  latency: < 1us
- left -> 8.8.8.8 icmp
- left -x-> wan icmp
- packet: left -> 203.0.113.1 icmp
  within: 5s
`))
	if err != nil {
		t.Fatal(err)
	}
	a := &Asserted{Lab: "nat", File: "checks.yaml", Time: time.Unix(1700000000, 0), Took: 250 * time.Millisecond, Hops: p.Hops}
	for i, pr := range []*Probe{&p.Probes[0], &p.Probes[0], &p.Probes[2], &p.Probes[2], nil} {
		o := assert.Outcome{Unsent: "network is unreachable"}
		if pr != nil {
			one := assert.Probe{Probe: pr.Probe, Forward: pr.Forward, Back: pr.Back, ForwardWhy: pr.ForwardWhy, BackWhy: pr.BackWhy}
			if pr.Answer != nil {
				one.Said = AnswerName(pr.Key.Dst, pr.Answer)
			}
			o = assert.Outcome{Probes: []assert.Probe{one}}
		}
		r := assert.Judge(&s.Assertions[i], o, p.Hops)
		r.Took = 20 * time.Millisecond
		if pr == nil {
			r.Tries, r.Took = 49, 5*time.Second
		}
		a.Results = append(a.Results, r)
	}
	return a
}

func TestAssert(t *testing.T) {
	golden(t, "assert.txt", func(w io.Writer) error { return AssertText(w, asserted(t), Style{}) })
	golden(t, "assert-colour.txt", func(w io.Writer) error { return AssertText(w, asserted(t), Colour) })
	tap := golden(t, "assert.tap", func(w io.Writer) error { return AssertTAP(w, asserted(t)) })
	for _, block := range strings.Split(tap, "  ---\n")[1:] {
		text, _, _ := strings.Cut(block, "  ...\n")
		var doc struct {
			At       string
			Tries    int
			Failures []struct{ What, Text string }
		}
		if err := yaml.Unmarshal([]byte(text), &doc); err != nil || doc.At == "" || doc.Tries == 0 {
			t.Errorf("the diagnostics are not YAML: %v\n%s", err, text)
		}
	}
	goldenJSON(t, "assert.json", "nsbpf.assert/1", func(w io.Writer) error { return AssertJSON(w, asserted(t)) })
}

// TestAssertJUnit reads the document as a CI server does: that the counts are those
// of the cases, and that texts come back as they were.
func TestAssertJUnit(t *testing.T) {
	text := golden(t, "assert.xml", func(w io.Writer) error { return AssertJUnit(w, asserted(t)) })
	var doc struct {
		Suites []struct {
			Tests    int `xml:"tests,attr"`
			Failures int `xml:"failures,attr"`
			Cases    []struct {
				Name    string `xml:"name,attr"`
				Failure *struct {
					Message string `xml:"message,attr"`
					Text    string `xml:",chardata"`
				} `xml:"failure"`
			} `xml:"testcase"`
		} `xml:"testsuite"`
	}
	if err := xml.Unmarshal([]byte(text), &doc); err != nil {
		t.Fatal(err)
	}
	a := asserted(t)
	failed := 0
	for i, c := range doc.Suites[0].Cases {
		if c.Name != a.Results[i].Name {
			t.Errorf("case %d is %q, want %q", i, c.Name, a.Results[i].Name)
		}
		if c.Failure == nil {
			continue
		}
		failed++
		if path := a.path(&a.Results[i], Style{}); !strings.HasSuffix(c.Failure.Text, path) {
			t.Errorf("%s: the failure has no path:\n%s", c.Name, c.Failure.Text)
		}
	}
	if s := doc.Suites[0]; s.Tests != len(a.Results) || s.Failures != failed || failed != a.Failed() {
		t.Errorf("%d tests with %d failures are said, there are %d with %d", s.Tests, s.Failures, len(a.Results), failed)
	}
}
