package report

import (
	"strconv"
	"strings"
	"time"

	"github.com/nsbpf/nsbpf/internal/hop"
	"github.com/nsbpf/nsbpf/trace"
)

// explained writes the conclusion, and what it is drawn from.
func (t *PathText) explained() {
	p, c := t.path, t.why
	what := ""
	if p.Verdict == trace.PartlyDelivered && p.Missing > 0 {
		what = part(p.Missing, p.Payload)
	}
	t.say("  " + t.style.Bad + "✗ " + what + c.Sentence + t.style.Reset + t.after())
	if c.Advice != "" {
		t.say("    " + c.Advice)
	}
	for _, e := range c.Evidence {
		t.say("    " + e)
	}
	if len(p.Next) > 0 {
		t.say("    next hop would have been " + t.oneOf(p.Next))
	}
	if len(c.Arm) > 0 {
		t.say("    to know more: " + strings.Join(c.Arm, "; "))
	}
}

// after returns how long the packet had been on its way when it was dropped, or
// last seen.
func (t *PathText) after() string {
	p := t.path
	end := p.Steps[p.End].TimeNS
	for i := range p.Drops {
		if p.Drops[i].Step == p.End {
			end = p.Drops[i].TimeNS
		}
	}
	if end == p.Steps[0].TimeNS {
		return ""
	}
	return ", " + Duration(time.Duration(end-p.Steps[0].TimeNS))
}

// translations says how the packet was translated on its way to l, in the order in
// which that happened, and by which rules as far as they are known.
func (t *PathText) translations(l *line, c trace.Change) string {
	words := c.Words()
	if c&(trace.SNAT|trace.DNAT) == trace.SNAT|trace.DNAT {
		words[0], words[1] = words[1], words[0] // where it goes is decided before where it comes from
	}
	var parts []string
	known := false
	for _, w := range words {
		by := t.translator(l, w)
		known = known || by != ""
		parts = append(parts, w+by)
	}
	switch {
	case len(parts) == 0:
		return ""
	case known:
		return "   " + strings.Join(parts, "; ")
	}
	return "   " + strings.Join(parts, " ")
}

// translatesAt are the hooks of netfilter where rules translate.
var translatesAt = map[string][2]string{"dnat": {"prerouting", "output"}, "snat": {"postrouting", "input"}}

// translator returns the rule that did a translation on the packet's way to l, if it
// is known.
func (t *PathText) translator(l *line, word string) string {
	from := -1
	if l.parent >= 0 {
		from = t.lines[l.parent].first
	}
	node, hooks := t.hops[l.hop].Node, translatesAt[word]
	for i := range t.path.Rulings {
		r := &t.path.Rulings[i]
		if r.Node == node && !r.Rule.Ends() && (r.Hook == hooks[0] || r.Hook == hooks[1]) && r.Step >= from && r.Step <= l.first {
			return " by table " + r.Rule.Family + " " + r.Rule.Table + ", chain " + r.Rule.Chain
		}
	}
	return ""
}

// passages says which netfilter hooks the packet came to behind a step.
func (t *PathText) passages(step int) {
	var b strings.Builder
	ps := t.path.Passages
	for i := range ps {
		p := &ps[i]
		if p.Step != step || p.Last {
			continue
		}
		if b.Len() == 0 {
			b.WriteString("    netfilter: ")
		} else {
			b.WriteString(", ")
		}
		b.WriteString(p.Hook)
		if through := passedThrough(ps[i:], p); through > 0 {
			b.WriteString(" " + Duration(through))
		} else {
			b.WriteString(" " + t.style.Bad + "not passed" + t.style.Reset)
		}
	}
	if b.Len() > 0 {
		t.say(b.String())
	}
}

// passedThrough returns how long the packet took through the hook that it came to
// in p, the first of ps; 0 if it did not.
func passedThrough(ps []trace.Passage, p *trace.Passage) time.Duration {
	for i := range ps {
		if q := &ps[i]; q.Last && q.Hook == p.Hook && q.Node == p.Node && q.Family == p.Family {
			return max(time.Duration(q.TimeNS-p.TimeNS), 1)
		}
	}
	return 0
}

// lastSeen says where the Path, or that part of it, ended, and what is known of
// why.
func (t *PathText) lastSeen(what string) {
	p := t.path
	st := &p.Steps[p.End]
	h := t.hops[st.HopID()]
	switch {
	case p.DroppedBy != 0:
		t.say("  " + t.style.Bad + "✗ dropped by filter " + strconv.Itoa(p.DroppedBy) + " at " + t.hops[p.DroppedAt].String() + t.style.Reset + ", " + Duration(p.Duration()))
		return
	case p.Verdict == trace.Dropped && len(p.Drops) > 0:
		d := &p.Drops[len(p.Drops)-1]
		t.say("  " + t.style.Bad + "✗ " + what + "dropped in " + d.Node + ": " + d.Reason + t.style.Reset + t.after())
		return
	}
	t.say("  " + t.style.Bad + "✗ " + what + "last seen at " + h.String() + t.style.Reset + ", " + Duration(p.Duration()))
	switch {
	case p.GivenUp:
		t.say("    given up: too many packets were on their way at once")
	case len(p.Next) > 0:
		t.say("    next hop would have been " + t.oneOf(p.Next))
	case st.Addressed() && st.IsGroup():
		t.say("    no node that it came to is known to own " + st.Dst().String())
	case st.Addressed() && h.Direction == hop.Ingress:
		t.say("    " + st.Dst().String() + " is not known to be an address of " + h.Node + ", which does not forward")
	}
}

// oneOf names up to three hops.
func (t *PathText) oneOf(ids []hop.ID) string {
	const most = 3
	var s string
	for i, id := range ids {
		switch {
		case i == 0:
		case i == most:
			return s + " or one of " + strconv.Itoa(len(ids)-most) + " more"
		case i == len(ids)-1:
			s += " or "
		default:
			s += ", "
		}
		s += t.hops[id].String()
	}
	return s
}
