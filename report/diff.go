package report

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/nsbpf/nsbpf/collector"
	"github.com/nsbpf/nsbpf/trace"
	"github.com/nsbpf/nsbpf/trace/diff"
)

// diffText writes a Difference.
type diffText struct {
	strings.Builder
	style Style
	*diff.Difference
}

// DiffText writes what two recordings differ in, the worst first, and below it what
// is not certain and what was compared.
func DiffText(w io.Writer, d *diff.Difference, style Style) error {
	t := diffText{style: style, Difference: d}
	if err := t.sides(); err != nil {
		return err
	}
	for i := range d.Findings {
		t.WriteByte('\n')
		t.finding(&d.Findings[i])
	}
	t.doubts()
	t.traffic()
	t.WriteByte('\n')
	for _, s := range t.notes() {
		t.wrapped("", s, "  ")
	}
	t.closing()
	_, err := io.WriteString(w, t.String())
	return err
}

// sides says what the recordings are.
func (t *diffText) sides() error {
	tab := newTable("", "RECORDING", "LAB", ">PATHS", ">SPAN")
	tab.head[0] = " "
	for i, s := range [...]diff.Side{t.A, t.B} {
		tab.row("AB"[i:i+1], s.Name, s.Lab, decimal(s.Paths), Duration(s.Span))
	}
	return tab.write(t, t.style)
}

// changeText is how a change is told: how it begins, and the sign before it.
var changeText = map[diff.Change]string{
	diff.DropNew: "dropped now: ", diff.DropMore: "dropped more often: ", diff.DropMoved: "dropped otherwise: ",
	diff.EdgeGone: "not used any more by ", diff.NATGone: "not translated any more: ", diff.NATChanged: "translated otherwise: ",
	diff.ResentMore: "sent again more often", diff.Slower: "slower by ", diff.NATNew: "translated now: ",
	diff.EdgeNew: "used now by ", diff.Faster: "faster by ", diff.ResentFewer: "sent again less often",
	diff.DropFewer: "dropped less often: ", diff.DropGone: "not dropped any more: ",
}

func (t *diffText) finding(f *diff.Finding) {
	sign, style := "• ", t.style.Note
	switch {
	case f.Change.Worse():
		sign, style = "✗ ", t.style.Bad
	case f.Change.Better():
		sign, style = "✓ ", t.style.Good
	}
	t.WriteString(style)
	t.wrapped("", sign+subject(f), "  ")
	t.WriteString(t.style.Reset)
	if f.Change == diff.DropMoved || f.Change == diff.NATChanged {
		t.wrapped("    ", "before: "+outcomeText(f.Was), "  ")
	}
	if f.Time != nil {
		t.wrapped("    ", timeText(f.Time)+"   "+chance(f.P), "  ")
		return
	}
	t.wrapped("    ", flowsText(f.Flows), "  ")
	t.wrapped("    ", shares(f)+"   "+chance(f.P), "  ")
}

// subject says what changed of what, in a line.
func subject(f *diff.Finding) string {
	s := changeText[f.Change]
	if f.Was.Hop+f.Is.Hop != "" && f.Was.Reason+f.Is.Reason == "" {
		s = strings.Replace(s, "dropped", "lost", 1) // nothing said that it was dropped
	}
	switch {
	case f.Time != nil:
		return s + factor(f) + ": " + courseText(f.Time)
	case f.Edge != diff.Edge{}:
		s += strings.Join(each(f.Kinds, kindText), ", ") + ": " + f.Edge.From + " > " + f.Edge.To
		if f.NotInLab && f.Change == diff.EdgeGone {
			s += ", which the lab of B does not have"
		} else if f.NotInLab {
			s += ", which the lab of A does not have"
		}
		return s
	case f.Is != diff.Outcome{} && !f.Is.Again:
		return s + outcomeText(f.Is)
	case f.Was != diff.Outcome{} && !f.Was.Again:
		return s + outcomeText(f.Was)
	}
	return s
}

// factor says by how much the median differs, and its bounds.
func factor(f *diff.Finding) string {
	t := f.Time
	low, high := t.Low-1, t.High-1
	if f.Change == diff.Faster {
		low, high = 1-t.High, 1-t.Low
	}
	by := t.Ratio - 1
	if by < 0 {
		by = -by
	}
	return fmt.Sprintf("%s (%.0f to %.0f %%)", percent(by), 100*low, 100*high)
}

func percent(part float64) string {
	digits := 0
	if part < .1 {
		digits = 1
	}
	return strconv.FormatFloat(100*part, 'f', digits, 64) + " %"
}

func courseText(t *diff.Time) string {
	if t.Whole {
		return t.Edge.From + " to " + t.Edge.To + ", " + kindText(t.Kind)
	}
	return t.Edge.From + " > " + t.Edge.To + ", " + kindText(t.Kind)
}

func timeText(t *diff.Time) string {
	return fmt.Sprintf("median A %s of %d, B %s of %d", threeDigits(time.Duration(t.Median[0])), t.Count[0],
		threeDigits(time.Duration(t.Median[1])), t.Count[1])
}

func shares(f *diff.Finding) string {
	return fmt.Sprintf("A %d of %d, B %d of %d", f.A.N, f.A.Of, f.B.N, f.B.Of)
}

// chance says how likely it is that there is nothing.
func chance(p float64) string {
	if p < .001 {
		return "p < 0.001"
	}
	return "p = " + strconv.FormatFloat(p, 'f', 3, 64)
}

// outcomeText says how a packet was dropped, or translated.
func outcomeText(o diff.Outcome) string {
	if o.NAT != "" {
		return o.NAT
	}
	s := o.Node
	if o.Hop != "" {
		s = "last seen at " + o.Hop
	}
	if o.Hook != "" {
		s += ", " + o.Hook
	}
	switch {
	case o.Reason == "FILTER":
		s = "by a filter at " + o.Hop
	case o.Reason != "":
		s += ": " + o.Reason
	}
	if o.Function != "" {
		s += " in " + o.Function
	}
	if o.Rule != (trace.Rule{}) {
		s += " by " + outcomeRule(o.Rule)
	}
	if o.Partly {
		s += " (some pieces)"
	}
	return s
}

func outcomeRule(r trace.Rule) string {
	where := "(" + r.Family + " " + r.Table + ", chain " + r.Chain + ")"
	switch {
	case r.Text != "":
		return "`" + r.Text + "` " + where
	case r.Handle != 0:
		return "rule " + strconv.FormatUint(r.Handle, 10) + " " + where
	}
	return "policy " + r.Verdict + " " + where
}

// flowsText names up to three flows.
func flowsText(flows []diff.Flow) string {
	const most = 3
	var names []string
	for i, f := range flows {
		if i == most {
			names = append(names, "and "+quantity(uint64(len(flows)-most), "more flow"))
			break
		}
		names = append(names, flowText(f))
	}
	return strings.Join(names, "; ")
}

func flowText(f diff.Flow) string {
	var s collector.Sighting
	p := &s.Packet
	p.EtherType, p.Proto, p.ICMPType, p.ICMPCode = f.Kind.EtherType, f.Kind.Proto, f.ICMPType, f.ICMPCode
	text := kindText(f.Kind)
	if name := icmpName(&s); name != "" {
		text += " " + name
	}
	if p.EtherType == collector.EtherARP && p.ICMPType == 1 {
		text += " who-has"
	} else if p.EtherType == collector.EtherARP && p.ICMPType == 2 {
		text += " is-at"
	}
	if f.Peer.IsValid() {
		peer := f.Peer.String()
		if f.Peer.Port() == 0 {
			peer = f.Peer.Addr().String()
		}
		if f.Reply {
			text += " from " + peer
		} else {
			text += " to " + peer
		}
	}
	if f.Origin != "" {
		text += " at " + f.Origin
	}
	return text
}

// kindText names a kind, with the family where the protocol does not say it.
func kindText(k diff.Kind) string {
	var s collector.Sighting
	s.Packet.EtherType, s.Packet.Proto = k.EtherType, k.Proto
	switch {
	case k.EtherType == collector.EtherARP:
		return "ARP"
	case !s.IsIP():
		return fmt.Sprintf("Ethernet 0x%x", k.EtherType)
	case k.Proto == collector.ProtoTCP || k.Proto == collector.ProtoUDP:
		return family(&s) + " " + string(appendProto(nil, &s))
	}
	return string(appendProto(nil, &s))
}

func isICMP(k diff.Kind) bool {
	return k.EtherType == collector.EtherIPv4 && k.Proto == collector.ProtoICMP ||
		k.EtherType == collector.EtherIPv6 && k.Proto == collector.ProtoICMPv6
}

// wrapped writes s in lines of at most 80 characters, the first after indent and the
// others after indent and more.
func (t *diffText) wrapped(indent, s, more string) {
	const width = 80
	at := 0
	for i, word := range strings.Split(s, " ") {
		n := utf8.RuneCountInString(word)
		switch {
		case i == 0:
			t.WriteString(indent)
			at = len(indent)
		case at+1+n > width:
			t.WriteString("\n" + indent + more)
			at = len(indent) + len(more)
		default:
			t.WriteByte(' ')
			at++
		}
		t.WriteString(word)
		at += n
	}
	t.WriteByte('\n')
}
