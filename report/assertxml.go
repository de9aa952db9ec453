package report

import (
	"encoding/xml"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/nsbpf/nsbpf/assert"
)

type junitSuites struct {
	XMLName  xml.Name   `xml:"testsuites"`
	Name     string     `xml:"name,attr"`
	Tests    int        `xml:"tests,attr"`
	Failures int        `xml:"failures,attr"`
	Errors   int        `xml:"errors,attr"`
	Time     string     `xml:"time,attr"`
	Suite    junitSuite `xml:"testsuite"`
}

type junitSuite struct {
	Name      string      `xml:"name,attr"`
	Tests     int         `xml:"tests,attr"`
	Failures  int         `xml:"failures,attr"`
	Errors    int         `xml:"errors,attr"`
	Skipped   int         `xml:"skipped,attr"`
	Time      string      `xml:"time,attr"`
	Timestamp string      `xml:"timestamp,attr"`
	Cases     []junitCase `xml:"testcase"`
}

type junitCase struct {
	Name    string        `xml:"name,attr"`
	Class   string        `xml:"classname,attr"`
	Time    string        `xml:"time,attr"`
	Failure *junitFailure `xml:"failure,omitempty"`
	Out     string        `xml:"system-out,omitempty"`
}

type junitFailure struct {
	Message string `xml:"message,attr"`
	Type    string `xml:"type,attr"`
	Text    string `xml:",cdata"`
}

// AssertJUnit writes a JUnit document with one test case for each assertion.
func AssertJUnit(w io.Writer, a *Asserted) error {
	seconds := func(d time.Duration) string { return fmt.Sprintf("%.6f", d.Seconds()) }
	s := junitSuite{
		Name: "nsbpf assert " + a.File, Tests: len(a.Results), Failures: a.Failed(),
		Time: seconds(a.Took), Timestamp: a.Time.UTC().Format("2006-01-02T15:04:05"),
	}
	for i := range a.Results {
		r := &a.Results[i]
		c := junitCase{Name: r.Name, Class: "nsbpf." + a.Lab, Time: seconds(r.Took), Out: r.Summary}
		if t := tries(r); t != "" {
			c.Out = strings.Trim(c.Out+" · "+t, " ·")
		}
		if !r.Holds() {
			c.Failure = a.junitFailure(r)
		}
		s.Cases = append(s.Cases, c)
	}
	if _, err := io.WriteString(w, xml.Header); err != nil {
		return err
	}
	e := xml.NewEncoder(w)
	e.Indent("", "  ")
	err := e.Encode(junitSuites{
		Name: "nsbpf", Tests: s.Tests, Failures: s.Failures, Time: s.Time, Suite: s,
	})
	if err != nil {
		return err
	}
	_, err = io.WriteString(w, "\n")
	return err
}

func (a *Asserted) junitFailure(r *assert.Result) *junitFailure {
	f := &junitFailure{Message: r.Failures[0].Text, Type: r.Failures[0].What}
	lines := []string{fmt.Sprintf("%s:%d: %s", a.File, r.Line, r.Text)}
	for _, one := range r.Failures {
		lines = append(lines, one.Text)
	}
	f.Text = strings.Join(lines, "\n") + "\n" + a.path(r, Style{})
	return f
}
