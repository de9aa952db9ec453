package report

import (
	"fmt"
	"io"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/nsbpf/nsbpf/forward"
	"github.com/nsbpf/nsbpf/internal/hop"
	"github.com/nsbpf/nsbpf/ping"
	"github.com/nsbpf/nsbpf/trace"
	"github.com/nsbpf/nsbpf/trace/why"
)

// Ping is what probes from one node to an address did.
type Ping struct {
	Lab, From, To string // To as it was asked for
	Options       ping.Options
	Source        netip.Addr
	MTU           int
	Hops          []hop.Hop

	Probes  []Probe
	Results ping.Results
	Forward ping.Leg // of the probes
	Back    ping.Leg // of what answered them
	// Differences say where the probes did not do what was to be expected from the
	// configuration; none: all as predicted.
	Differences []string
	// Stop is what keeps the probes, or else their answers, from every hop, by the
	// configuration; nil if one came to a hop, or nothing is known to.
	Stop *forward.Obstacle
	// Untold says why there is no prediction, "" if there is one.
	Untold string
}

// Probe is a probe, the Paths of it and of its answer, nil where they are not
// known, and why these were lost.
type Probe struct {
	ping.Probe
	Forward, Back       *trace.Path
	ForwardWhy, BackWhy *why.Conclusion
}

// ProbeText returns what became of a probe, such as "probe 1: answered by echo
// reply in 61.0 µs".
func ProbeText(p *ping.Probe, timeout time.Duration, style Style) string {
	s := "probe " + strconv.Itoa(p.Number) + ": "
	bad := func(text string) string { return s + style.Bad + text + style.Reset }
	a := p.Answer
	switch {
	case p.Err != nil:
		return bad("not sent: " + p.Err.Error())
	case a == nil:
		return bad("no answer within " + Duration(timeout))
	case !a.Reached(p.Key.Dst):
		return bad("refused by "+a.From.String()+": "+AnswerName(p.Key.Dst, a)) + " in " + Duration(a.RTT)
	}
	s += style.Good + "answered by " + AnswerName(p.Key.Dst, a) + style.Reset
	if a.From != p.Key.Dst {
		s += " from " + a.From.String()
	}
	return s + " in " + Duration(a.RTT)
}

// AnswerName returns what an answer to a probe for to is, such as "echo reply".
func AnswerName(to netip.Addr, a *ping.Answer) string {
	switch a.Kind {
	case ping.EchoReply:
		return "echo reply"
	case ping.Datagram:
		return "datagram"
	case ping.SYNACK:
		return "SYN-ACK, the port is open"
	case ping.RST:
		return "RST, the port is closed"
	}
	names := icmpNames
	if to.Is6() {
		names = icmp6Names
	}
	name := named(names, a.Type, a.Code)
	if a.MTU > 0 {
		name += ", MTU " + strconv.Itoa(a.MTU)
	}
	return name
}

// PingText writes what the probes did together: by edge, where they were lost and
// why, how that compares with the prediction, and the totals.
func PingText(w io.Writer, p *Ping, style Style) error {
	if _, err := io.WriteString(w, "\n"); err != nil {
		return err
	}
	for _, l := range []struct {
		head string
		leg  *ping.Leg
	}{{"forward", &p.Forward}, {"return", &p.Back}} {
		if err := p.legTable(w, l.head, l.leg, style); err != nil {
			return err
		}
	}
	var b strings.Builder
	for _, d := range p.Differences {
		b.WriteString(style.Note + d + style.Reset + "\n")
	}
	switch {
	case p.Untold != "":
		b.WriteString("no prediction: " + p.Untold + "\n")
	case len(p.Differences) == 0 && p.Stop != nil:
		b.WriteString("as predicted: " + p.Stop.Sentence + "\n")
		if p.Stop.Advice != "" {
			b.WriteString("    " + p.Stop.Advice + "\n")
		}
	case len(p.Differences) == 0:
		b.WriteString("as predicted\n")
	}
	b.WriteString(p.totals() + "\n")
	_, err := io.WriteString(w, b.String())
	return err
}

// legTable writes the edges of one direction, and nothing if there are none.
func (p *Ping) legTable(w io.Writer, head string, l *ping.Leg, style Style) error {
	at := p.hopNames()
	t := newTable(head, ">packets", ">lost", ">min", ">median", ">max")
	timed := func(what string, n int, s ping.Spread) {
		t.row(what, strconv.Itoa(n), "", Duration(s.Min), Duration(s.Median), Duration(s.Max))
	}
	for i := range l.Edges {
		e := &l.Edges[i]
		timed(edgeName(at[e.From], at[e.To]), e.Packets(), e.Time())
	}
	for i := range l.Lost {
		lost := &l.Lost[i]
		t.row("✗ "+p.behind(lost.At), "", strconv.Itoa(lost.Packets), "", "", "")
		t.setOff()
	}
	if l.Arrived > 0 {
		timed("from end to end", l.Arrived, l.Time())
	}
	if err := t.writeUnlessEmpty(w, style); err != nil {
		return err
	}
	for i := range l.Lost {
		if c := p.whyOf(l.Lost[i].Path); c != nil {
			text := "  " + p.behind(l.Lost[i].At) + ": " + c.Sentence + "\n"
			if c.Advice != "" {
				text += "    " + c.Advice + "\n"
			}
			if _, err := io.WriteString(w, text); err != nil {
				return err
			}
		}
	}
	return nil
}

// behind says that packets ended behind a hop, or before the first.
func (p *Ping) behind(id hop.ID) string {
	if h, ok := p.hopNames()[id]; ok {
		return "behind " + h.String()
	}
	return "before the first hop"
}

func (p *Ping) hopNames() map[hop.ID]hop.Hop {
	at := make(map[hop.ID]hop.Hop, len(p.Hops))
	for _, h := range p.Hops {
		at[h.ID] = h
	}
	return at
}

// whyOf returns why a probe's or an answer's Path ended, or nil.
func (p *Ping) whyOf(path *trace.Path) *why.Conclusion {
	for i := range p.Probes {
		switch pr := &p.Probes[i]; path {
		case pr.Forward:
			return pr.ForwardWhy
		case pr.Back:
			return pr.BackWhy
		}
	}
	return nil
}

// totals is the last line.
func (p *Ping) totals() string {
	r := &p.Results
	to := p.Options.Dst.String()
	if p.To != to {
		to = p.To + " (" + to + ")"
	}
	s := fmt.Sprintf("%s from %s to %s: %d answered", quantity(uint64(r.Sent+r.Unsent), p.Options.Proto.String()+" probe"), p.From, to, r.Answered)
	for _, n := range []struct {
		n    int
		what string
	}{
		{r.Refused, "refused"}, {r.Silent(), "without answer"}, {r.Unsent, "not sent"},
		{r.Duplicates, "answered twice"}, {r.Late, "answered too late"},
	} {
		if n.n > 0 {
			s += fmt.Sprintf(", %d %s", n.n, n.what)
		}
	}
	if r.Answered > 0 {
		t := r.RTT()
		s += " · round trip " + Duration(t.Min) + " / " + Duration(t.Median) + " / " + Duration(t.Max) + " (min, median, max)"
	}
	return s
}
