package diff

import (
	"net/netip"
	"slices"
	"strconv"

	"github.com/nsbpf/nsbpf/internal/hop"
	"github.com/nsbpf/nsbpf/trace"
)

// Outcome is what became of a packet in one respect: how it was dropped, or how it
// was translated. The zero Outcome is that nothing of the sort happened.
type Outcome struct {
	// Node is where it was dropped, or if nothing said so Hop is where it was seen
	// last.
	Node string
	Hop  string
	// Partly says that only some of it was.
	Partly   bool
	Hook     string // of netfilter, if it was dropped at one
	Reason   string // as in [trace.Drop]; "FILTER": a filter of the user's
	Function string // of the kernel, where that is all that it says
	Rule     trace.Rule
	NAT      string // what was translated on which edge, in order
	Again    bool   // it was sent before: a retransmission
}

// fateOf returns how p was dropped. It is not known if the trace ended or gave up
// before the packet did, or if it went on in another Path.
func fateOf(p *trace.Path, name func(hop.ID) string) (o Outcome, known bool) {
	switch p.Verdict {
	case trace.Delivered, trace.LeftLab:
		return Outcome{}, true
	case trace.Unfinished, trace.Merged:
		return Outcome{}, false
	}
	if p.GivenUp {
		return Outcome{}, false
	}
	o.Partly = p.Verdict == trace.PartlyDelivered
	switch {
	case len(p.Drops) > 0:
		o.dropped(dropOf(p))
	case p.DroppedBy != 0:
		o.Hop, o.Reason = name(p.Steps[p.End].HopID()), "FILTER"
	default:
		o.Hop = name(p.Steps[p.End].HopID())
	}
	return o, true
}

// dropOf returns the drop that p's end is about: copies of a packet may be dropped
// that would have come nowhere.
func dropOf(p *trace.Path) *trace.Drop {
	for i := range p.Drops {
		if p.Drops[i].Step == p.End {
			return &p.Drops[i]
		}
	}
	return &p.Drops[len(p.Drops)-1]
}

// dropped says what the kernel does. A rule is known by its text, because its
// handle is another one each time that it is loaded.
func (o *Outcome) dropped(d *trace.Drop) {
	o.Node, o.Reason = d.Node, d.Reason
	switch {
	case d.Rule != nil:
		o.Rule = *d.Rule
		if o.Rule.Text != "" {
			o.Rule.Handle = 0
		}
		fallthrough
	case d.Reason == "NETFILTER_DROP":
		o.Hook = hookOf(d.Callers)
	case d.Reason == "NOT_SPECIFIED":
		o.Function = d.Function
	}
}

// hooks are the kernel's functions that go through a hook of netfilter.
var hooks = map[string]string{
	"ip_rcv": "prerouting", "ipv6_rcv": "prerouting", "ip_list_rcv": "prerouting", "ipv6_list_rcv": "prerouting",
	"ip_local_deliver": "input", "ip6_input": "input",
	"ip_forward": "forward", "ip6_forward": "forward",
	"__ip_local_out": "output", "__ip6_local_out": "output", "ip6_xmit": "output",
	"ip_output": "postrouting", "ip_mc_output": "postrouting", "ip6_output": "postrouting",
	"br_handle_frame": "prerouting", "__br_forward": "forward",
}

// hookOf returns the hook that the innermost of callers that has one goes through.
func hookOf(callers []string) string {
	for _, c := range callers {
		if h := hooks[c]; h != "" {
			return h
		}
	}
	return ""
}

// appendNAT appends what was translated on an edge, and to what. The port that a
// source gets is any that is free, so it is not of it. What a reply is translated
// back to is what the request had.
func appendNAT(b []byte, edge Edge, st *trace.Step) []byte {
	if len(b) > 0 {
		b = append(b, ", then "...)
	}
	words := st.Change.Words()
	if len(words) == 0 {
		b = append(b, "echo id"...)
	}
	for i, w := range words {
		if i > 0 {
			b = append(b, " and "...)
		}
		b = append(b, w...)
		switch w {
		case "snat":
			b = st.Src().AppendTo(append(b, " to "...))
		case "dnat":
			b = appendService(append(b, " to "...), st)
		}
	}
	b = append(append(b, " at "...), edge.From...)
	return append(append(b, " > "...), edge.To...)
}

// appendService appends the destination, with its port if it is not a client's.
func appendService(b []byte, st *trace.Step) []byte {
	if port := st.Packet.Dport; st.HasPorts() && port < firstClientPort {
		return netip.AddrPortFrom(st.Dst(), port).AppendTo(b)
	}
	return st.Dst().AppendTo(b)
}

// compareOutcomes orders outcomes as they are listed.
func compareOutcomes(a, b Outcome) int {
	return slices.Compare(a.fields(), b.fields())
}

// fields returns o in words.
func (o Outcome) fields() []string {
	word := func(yes bool, word string) string {
		if yes {
			return word
		}
		return ""
	}
	r := &o.Rule
	return []string{
		o.Node, o.Hop, word(o.Partly, "partly"), o.Hook, o.Reason, o.Function,
		r.Family, r.Table, r.Chain, r.Text, r.Verdict, word(r.Handle != 0, strconv.FormatUint(r.Handle, 10)), o.NAT, word(o.Again, "again"),
	}
}
