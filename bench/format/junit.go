package format

import (
	"encoding/xml"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/nsbpf/nsbpf/bench/compare"
	"github.com/nsbpf/nsbpf/bench/result"
)

// The elements of JUnit's XML, as Ant writes it and Jenkins and GitLab read it. All that
// either of their schemas requires is there.
type (
	junitSuites struct {
		XMLName xml.Name   `xml:"testsuites"`
		Suite   junitSuite `xml:"testsuite"`
	}
	junitSuite struct {
		Name       string          `xml:"name,attr"`
		Package    string          `xml:"package,attr"`
		ID         int             `xml:"id,attr"`
		Host       string          `xml:"hostname,attr"`
		Timestamp  string          `xml:"timestamp,attr"`
		Tests      int             `xml:"tests,attr"`
		Failures   int             `xml:"failures,attr"`
		Errors     int             `xml:"errors,attr"`
		Time       string          `xml:"time,attr"`
		Properties []junitProperty `xml:"properties>property"`
		Cases      []junitCase     `xml:"testcase"`
		Out        string          `xml:"system-out"`
		Err        string          `xml:"system-err"`
	}
	junitProperty struct {
		Name  string `xml:"name,attr"`
		Value string `xml:"value,attr"`
	}
	junitCase struct {
		Class   string        `xml:"classname,attr"`
		Name    string        `xml:"name,attr"`
		Time    string        `xml:"time,attr"`
		Failure *junitMessage `xml:"failure"`
		Error   *junitMessage `xml:"error"`
	}
	junitMessage struct {
		Type    string `xml:"type,attr"`
		Message string `xml:"message,attr"`
		Text    string `xml:",chardata"`
	}
)

// JUnit writes a test case for each metric of a result: all pass, and what was
// measured is the output. Only a path that lost packets without a trace is an error.
func JUnit(w io.Writer, d *result.Document) error {
	s := newSuite("nsbpf bench", d)
	var out strings.Builder
	for i := range d.Variants {
		v := &d.Variants[i]
		spent := time.Duration(rounds(v)) * d.Duration / time.Duration(max(len(v.Metrics), 1))
		for _, m := range v.Metrics {
			s.add(junitCase{Class: v.Name, Name: m.Name, Time: seconds(spent)}, spent)
			fmt.Fprintf(&out, "%s %s: %s (%s)\n", v.Name, m.Name, result.Figure(m.Median, m.Unit), result.Range(m.Low, m.High, m.Unit))
		}
		if n := v.Account.Unexplained(); n > 0 {
			s.add(junitCase{Class: v.Name, Name: "every packet accounted for", Time: "0.000",
				Error: &junitMessage{"unexplained", fmt.Sprintf("%d of %d packets are lost without a trace", n, v.Account.Sent), ""}}, 0)
		}
	}
	s.Out = printable(out.String())
	return s.write(w)
}

// CompareJUnit writes a test case for each metric that is judged: a regression fails,
// and what is inconclusive is an error. d is the new result.
func CompareJUnit(w io.Writer, c *compare.Comparison, d *result.Document) error {
	s := newSuite("nsbpf bench compare", d)
	for _, f := range c.Findings {
		said := fmt.Sprintf("%s (%s to %s), was %s", compare.Change(f.Worse.Center),
			compare.Percent(f.Worse.Low), compare.Percent(f.Worse.High), result.Figure(f.Old.Center, f.Unit))
		k := junitCase{Class: f.Variant, Name: f.Metric, Time: "0.000"}
		switch f.Verdict {
		case compare.Unjudged:
			continue
		case compare.Regression:
			k.Failure = &junitMessage{"regression", said, ""}
		case compare.Inconclusive:
			k.Error = &junitMessage{"inconclusive", f.Reason, ""}
		}
		s.add(k, 0)
	}
	for _, doubt := range c.Doubts {
		s.Out += doubt + "\n"
	}
	s.Out = printable(s.Out)
	return s.write(w)
}

func newSuite(name string, d *result.Document) *junitSuite {
	s := &junitSuite{Name: name, Package: "nsbpf", Host: "localhost",
		Timestamp: time.Unix(0, d.TimeNS).UTC().Format("2006-01-02T15:04:05"), Time: "0.000"}
	for _, p := range [][2]string{{"lab", d.Lab}, {"from", d.From}, {"to", d.To},
		{"kernel", d.Environment.Kernel}, {"cpu", d.Environment.CPU}, {"nsbpf", d.Version}} {
		s.Properties = append(s.Properties, junitProperty{p[0], printable(p[1])})
	}
	return s
}

func (s *junitSuite) add(k junitCase, spent time.Duration) {
	k.Class, k.Name = printable(k.Class), printable(k.Name)
	for _, m := range []*junitMessage{k.Failure, k.Error} {
		if m != nil {
			m.Message = printable(m.Message)
			m.Text = m.Message
		}
	}
	s.Tests++
	if k.Failure != nil {
		s.Failures++
	}
	if k.Error != nil {
		s.Errors++
	}
	was, _ := time.ParseDuration(s.Time + "s")
	s.Time = seconds(was + spent)
	s.Cases = append(s.Cases, k)
}

func (s *junitSuite) write(w io.Writer) error {
	text, err := xml.MarshalIndent(junitSuites{Suite: *s}, "", "  ")
	if err != nil {
		return fmt.Errorf("writing JUnit: %w", err)
	}
	_, err = io.WriteString(w, xml.Header+string(text)+"\n")
	return err
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.3f", d.Seconds()) }

// printable leaves out what XML 1.0 cannot have.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' && r != '\n' && r != '\t' {
			return -1
		}
		return r
	}, s)
}
