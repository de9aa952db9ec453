package report

import (
	"fmt"

	"github.com/nsbpf/nsbpf/trace/diff"
)

// mostDoubts bounds the doubtful findings and the flows of one recording that are
// written. JSON has all of them.
const mostDoubts = 10

// doubts writes what may be different. Edges whose traffic is not there are named by
// the traffic.
func (t *diffText) doubts() {
	n := 0
	for i := range t.Doubtful {
		f := &t.Doubtful[i]
		if f.Doubt == diff.Absent {
			continue
		}
		if n++; n == 1 {
			t.WriteString("\n" + t.style.Head + "not certain" + t.style.Reset + "\n")
		}
		if n > mostDoubts {
			continue
		}
		what := shares(f)
		if f.Time != nil {
			what = timeText(f.Time)
		}
		t.wrapped("  ", subject(f)+" – "+what+" – "+t.doubt(f), "  ")
	}
	if n > mostDoubts {
		fmt.Fprintf(t, "  and %d more\n", n-mostDoubts)
	}
}

func (t *diffText) doubt(f *diff.Finding) string {
	if f.Doubt == diff.Incomplete {
		return "a recording lacks events, it may be among them"
	}
	return "that may be chance"
}

// traffic writes which traffic only one of the recordings has.
func (t *diffText) traffic() {
	for i, only := range [...][]diff.Presence{t.OnlyA, t.OnlyB} {
		if len(only) == 0 {
			continue
		}
		t.WriteString("\n" + t.style.Head + "only in " + "AB"[i:i+1] + t.style.Reset + "\n")
		for k, p := range only {
			if k == mostDoubts {
				fmt.Fprintf(t, "  and %s more\n", quantity(uint64(len(only)-k), "flow"))
				break
			}
			t.wrapped("  ", flowText(p.Flow)+", "+quantity(p.Paths, "path"), "  ")
		}
	}
}

// notes are what the recordings cannot tell.
func (t *diffText) notes() (all []string) {
	add := func(format string, args ...any) { all = append(all, fmt.Sprintf(format, args...)) }
	for i, s := range [...]diff.Side{t.A, t.B} {
		name := "AB"[i : i+1]
		switch {
		case s.Lost > 0:
			add("%s lost %s: what it lacks is no proof", name, quantity(s.Lost, "event"))
		case s.Cut:
			add("%s has no end, so it is not known what it lost: what it lacks is no proof", name)
		}
		if s.Sample > 1 {
			add("%s is a sample: 1 of %d packets", name, s.Sample)
		}
		if s.Rate > 0 {
			add("%s has at most %s a second", name, quantity(uint64(s.Rate), "packet"))
		}
	}
	if t.A.Expr != t.B.Expr {
		add("the packets were chosen otherwise: A %s, B %s", chosen(t.A.Expr), chosen(t.B.Expr))
	}
	return all
}

func chosen(expr string) string {
	if expr == "" {
		return "all"
	}
	return "'" + expr + "'"
}

// closing says how much was found, and among how much.
func (t *diffText) closing() {
	worse := 0
	for i := range t.Findings {
		if t.Findings[i].Change.Worse() {
			worse++
		}
	}
	s := "no difference"
	if n := len(t.Findings); n > 0 {
		s = fmt.Sprintf("%s, %d for the worse", quantity(uint64(n), "difference"), worse)
	}
	s += fmt.Sprintf(" · compared %s, %s, %s", quantity(uint64(t.Edges), "edge"), quantity(uint64(t.Flows), "flow"), latencies(len(t.Times)))
	if t.Thin > 0 {
		s += fmt.Sprintf(" (%d of fewer than %d packets not)", t.Thin, diff.FewestTimes)
	}
	s += fmt.Sprintf(" · by chance there is something in %g %% of comparisons", 100*t.Options.Alpha)
	t.wrapped("", s, "  ")
}

func latencies(n int) string {
	if n == 1 {
		return "1 latency"
	}
	return fmt.Sprintf("%d latencies", n)
}
