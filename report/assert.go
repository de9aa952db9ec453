package report

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/nsbpf/nsbpf/assert"
	"github.com/nsbpf/nsbpf/internal/hop"
)

// Asserted is what became of the assertions of a file in a lab.
type Asserted struct {
	Lab, File string
	Time      time.Time // when it was begun to ask
	Took      time.Duration
	Hops      []hop.Hop
	EpochNS   int64 // see [NewPathJSON]
	Results   []assert.Result
}

// Failed returns how many assertions do not hold.
func (a *Asserted) Failed() int {
	n := 0
	for i := range a.Results {
		if !a.Results[i].Holds() {
			n++
		}
	}
	return n
}

// path returns the Path that shows why r does not hold, as a block of lines, or "".
func (a *Asserted) path(r *assert.Result, style Style) string {
	p := r.Shown()
	if p == nil {
		return ""
	}
	lost, c := p.Lost()
	if lost == nil {
		return ""
	}
	var b strings.Builder
	_ = NewPathText(&b, a.Hops, style).Path(lost, c) // a Builder takes everything
	return b.String()
}

// tries says how often it was asked, "" if that was once.
func tries(r *assert.Result) string {
	if r.Tries == 1 {
		return ""
	}
	return fmt.Sprintf("asked %d times in %s", r.Tries, Duration(r.Took))
}

// AssertText writes one line for each assertion, and below one that does not hold
// why, and the Path of a packet that shows it.
func AssertText(w io.Writer, a *Asserted, style Style) error {
	var b strings.Builder
	width := 0
	for i := range a.Results {
		width = max(width, len([]rune(a.Results[i].Name)))
	}
	for i := range a.Results {
		r := &a.Results[i]
		mark, first := style.Good+"✓"+style.Reset, r.Summary
		if !r.Holds() {
			mark, first = style.Bad+"✗"+style.Reset, r.Failures[0].Text
		}
		if t := tries(r); t != "" {
			first += " · " + t
		}
		name := r.Name + strings.Repeat(" ", width-len([]rune(r.Name)))
		fmt.Fprintf(&b, "%s\n", strings.TrimRight(fmt.Sprintf("%s %s  %s", mark, name, first), " "))
		if r.Holds() {
			continue
		}
		for _, f := range r.Failures[1:] {
			fmt.Fprintf(&b, "  %s\n", f.Text)
		}
		b.WriteString(indent(a.path(r, style), "  "))
	}
	n, failed := len(a.Results), a.Failed()
	fmt.Fprintf(&b, "%s in %s: %d held", quantity(uint64(n), "assertion"), Duration(a.Took), n-failed)
	if failed > 0 {
		fmt.Fprintf(&b, ", %s%d did not%s", style.Bad, failed, style.Reset)
	}
	b.WriteString("\n")
	_, err := io.WriteString(w, b.String())
	return err
}

// indent puts before in front of each line of text.
func indent(text, before string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		b.WriteString(before + line)
	}
	return b.String()
}

// AssertTAP writes what the Test Anything Protocol has for it, version 14.
func AssertTAP(w io.Writer, a *Asserted) error {
	var b strings.Builder
	fmt.Fprintf(&b, "TAP version 14\n1..%d\n", len(a.Results))
	escape := strings.NewReplacer(`\`, `\\`, "#", `\#`, "\n", " ")
	for i := range a.Results {
		r := &a.Results[i]
		ok := "ok"
		if !r.Holds() {
			ok = "not ok"
		}
		fmt.Fprintf(&b, "%s %d - %s\n", ok, i+1, escape.Replace(r.Name))
		fmt.Fprintf(&b, "  ---\n  at: %q\n  duration_ms: %.3f\n  tries: %d\n", fmt.Sprintf("%s:%d", a.File, r.Line), float64(r.Took)/1e6, r.Tries)
		if r.Summary != "" {
			fmt.Fprintf(&b, "  summary: %q\n", r.Summary)
		}
		if !r.Holds() {
			b.WriteString("  failures:\n")
			for _, f := range r.Failures {
				fmt.Fprintf(&b, "    - {what: %s, text: %q}\n", f.What, f.Text)
			}
			if text := a.path(r, Style{}); text != "" {
				b.WriteString("  path: |\n" + indent(text, "    "))
			}
		}
		b.WriteString("  ...\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}
