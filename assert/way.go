package assert

import (
	"fmt"
	"slices"
	"strings"

	"github.com/nsbpf/nsbpf/internal/hop"
	"github.com/nsbpf/nsbpf/trace"
)

// trunk returns the steps of p to its End, the first one first; those of XDP, which
// stand before those of tc, are left out.
func (j *judge) trunk(p *trace.Path) []*trace.Step {
	var steps []*trace.Step
	for i := p.End; i >= 0; i = p.Steps[i].Prev {
		if h, known := j.names[p.Steps[i].HopID()]; known && h.Layer == hop.TC {
			steps = append(steps, &p.Steps[i])
		}
	}
	slices.Reverse(steps)
	return steps
}

// is says whether a step is at w.
func (j *judge) is(w *Waypoint, st *trace.Step) bool {
	h := j.names[st.HopID()]
	if h.Node != w.Node || h.Device != w.Device || w.Way != "" && w.Way != h.Direction.Short() {
		return false
	}
	words := st.Change.Words()
	for _, c := range w.Changes {
		if !slices.Contains(words, c) {
			return false
		}
	}
	return true
}

// via judges the way of a packet.
func (j *judge) via(i int, p *Probe) bool {
	if len(j.Via) == 0 {
		return true
	}
	what := j.viaField()
	if p.Forward == nil {
		return j.fail(what, i, "the packet's way is not known")
	}
	steps, at := j.trunk(p.Forward), 0
	for k := range j.Via {
		w := &j.Via[k]
		was := at
		for at < len(steps) && !j.is(w, steps[at]) {
			at++
		}
		switch {
		case at == len(steps) && k == 0:
			return j.fail(what, i, "it did not pass %s", w.Text)
		case at == len(steps):
			return j.fail(what, i, "it did not pass %s behind %s", w.Text, j.Via[k-1].Text)
		case j.Exactly && at > was:
			return j.fail(what, i, "it passed %s, where %s was to be", j.names[steps[was].HopID()], w.Text)
		}
		at++
	}
	if j.Exactly && at < len(steps) {
		return j.fail(what, i, "it went on to %s", j.names[steps[at].HopID()])
	}
	return true
}

// from judges the source that the receiver sees.
func (j *judge) from(i int, p *Probe) bool {
	switch {
	case !j.Source.IsValid():
		return true
	case p.Forward == nil || p.Forward.Lost():
		return j.fail("source", i, "what the receiver sees is not known")
	}
	if got := p.Forward.Steps[p.Forward.End].Src(); got != j.Source {
		return j.fail("source", i, "the receiver sees %s, not %s", got, j.Source)
	}
	return true
}

// ended judges how a packet was dropped.
func (j *judge) ended(i int, p *Probe) bool {
	if j.Dropped == nil {
		return true
	}
	end := j.endOf(p)
	type asked struct{ what, want, got string }
	for _, q := range []asked{
		{"in", j.Dropped.In, end.node},
		{"hook", j.Dropped.Hook, end.hook},
		{"reason", j.Dropped.Reason, end.reason},
		{"by", j.Dropped.By, end.rule},
	} {
		got := q.got
		if got == "" {
			got = "unknown"
		}
		fits := q.want == "" || strings.EqualFold(q.got, q.want)
		switch {
		case q.what == "reason":
			fits = fits || strings.EqualFold(end.code, q.want)
			if end.code != "" {
				got += " (" + end.code + ")"
			}
		case q.what == "by":
			fits = fits || q.got != "" && strings.Contains(q.got, q.want)
		}
		if !fits {
			return j.fail("dropped", i, "dropped: want %s %s, is %s: %s", q.what, q.want, got, j.fate(p))
		}
	}
	return true
}

// ending is how a packet ended, as far as it is known.
type ending struct{ node, hook, reason, code, rule string }

func (j *judge) endOf(p *Probe) ending {
	var e ending
	if p.Forward == nil {
		return e
	}
	e.node = j.names[p.Forward.Steps[p.Forward.End].HopID()].Node
	if p.Forward.DroppedBy != 0 {
		e.reason = "filter"
	} else if n := len(p.Forward.Drops); n > 0 {
		d := &p.Forward.Drops[n-1]
		e.node, e.reason = d.Node, d.Reason
		if r := d.Rule; r != nil {
			e.rule = fmt.Sprintf("table %s %s, chain %s, %s", r.Family, r.Table, r.Chain, r.Text)
		}
	}
	if c := p.ForwardWhy; c != nil {
		e.code = c.Code
		_, e.hook, _ = strings.Cut(c.Place, ", ")
	}
	return e
}
