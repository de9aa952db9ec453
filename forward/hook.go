package forward

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// Priorities at which conntrack itself stands (linux/netfilter_ipv4.h).
const (
	priorityConntrack = -200
	priorityDNAT      = -100
	prioritySNAT      = 100
)

// tuple is one direction of a connection.
type tuple struct {
	src, dst     netip.Addr
	sport, dport uint16
	proto        uint8
}

func tupleOf(p *Packet) tuple { return tuple{p.Src, p.Dst, p.Sport, p.Dport, p.Proto} }

func (t tuple) reverse() tuple { return tuple{t.dst, t.src, t.dport, t.sport, t.proto} }

// conn is a connection that a node tracks.
type conn struct {
	orig       tuple
	now        tuple // as it leaves
	snat, dnat bool  // it was decided on, translated or not
}

// back returns what replies look like when they come.
func (c *conn) back() tuple { return c.now.reverse() }

// passed is what became of a packet at a hook.
type passed struct {
	verdict string // accept, drop, reject, queue
	rule    RuleAt // of a packet that was not accepted
	// doubts are what could not be told.
	doubts []outcome
	nat    string // snat, dnat, snat-back, dnat-back; "" if nothing was translated
	by     RuleAt // that translated
}

// station is something that stands at a hook.
type station struct {
	priority int
	table    *Table
	chain    *Chain // nil: conntrack's own translation of replies
}

// hook lets a packet pass everything that stands at a place. It changes pkt and
// track. masq is the address that a masquerade would give.
func (n *Node) hook(at place, pkt *Packet, track *tracked, masq netip.Addr) passed {
	p := passed{verdict: "accept"}
	m := &machine{node: n, at: at, pkt: pkt}
	for _, s := range n.stations(at) {
		m.track = *track
		if early := s.priority <= priorityConntrack; early && (at.hook == "prerouting" || at.hook == "output") {
			m.track = tracked{state: stateInvalid}
		}
		switch {
		case s.chain == nil:
			p.restore(at, pkt, track)
		case s.chain.Kind == "nat":
			if track.translates(at.hook) {
				p.translate(m, s, track, masq)
			}
		default:
			p.judge(m.base(s.table, s.chain))
		}
		if m.track.state == stateUntracked {
			*track = tracked{state: stateUntracked}
		}
		if p.verdict != "accept" {
			return p
		}
	}
	return p
}

// legacyHooks are where the tables of iptables-legacy stand.
var legacyHooks = map[string][]string{
	"raw":      {"prerouting", "output"},
	"mangle":   {"prerouting", "input", "forward", "output", "postrouting"},
	"nat":      {"prerouting", "input", "output", "postrouting"},
	"filter":   {"input", "forward", "output"},
	"security": {"input", "forward", "output"},
}

// legacyAt returns the tables of iptables-legacy that stand at a place.
func (n *Node) legacyAt(at place) []string {
	var names []string
	for _, t := range n.Legacy {
		family, name, _ := strings.Cut(t, " ")
		if family == at.family && slices.Contains(legacyHooks[name], at.hook) {
			names = append(names, name)
		}
	}
	return names
}

// stations returns what stands at a place, in the kernel's order.
func (n *Node) stations(at place) []station {
	var ss []station
	for i := range n.Tables {
		t := &n.Tables[i]
		if t.Dormant || t.Family != at.family && !(t.Family == "inet" && (at.family == "ip" || at.family == "ip6" || at.hook == "ingress")) {
			continue
		}
		for j := range t.Chains {
			c := &t.Chains[j]
			if c.Hook == at.hook && (c.Device == "" || c.Device == at.in || c.Device == at.out) {
				ss = append(ss, station{c.Priority, t, c})
			}
		}
	}
	if at.family == "ip" || at.family == "ip6" {
		switch at.hook {
		case "prerouting", "output":
			ss = append(ss, station{priority: priorityDNAT})
		case "postrouting", "input":
			ss = append(ss, station{priority: prioritySNAT})
		}
	}
	slices.SortStableFunc(ss, func(a, b station) int { return cmp.Compare(a.priority, b.priority) })
	return ss
}

// judge takes the outcomes of a base chain: the sure one holds, unless one before
// it that says otherwise may be true.
func (p *passed) judge(out []outcome) {
	last := out[slices.IndexFunc(out, func(o outcome) bool { return o.sure })]
	for _, o := range out {
		if o.sure {
			break
		}
		if o.verdict != last.verdict && !(stops(o.verdict) && stops(last.verdict)) {
			p.doubts = append(p.doubts, o)
		}
	}
	if last.verdict == "accept" || last.verdict == "nat" {
		return
	}
	if slices.ContainsFunc(p.doubts, func(o outcome) bool { return !stops(o.verdict) }) {
		// It may have been accepted before it came to this.
		last.why = cmp.Or(p.doubts[len(p.doubts)-1].why, "a rule before it")
		p.doubts = []outcome{last}
		return
	}
	p.verdict, p.rule = last.verdict, last.rule
}

func stops(verdict string) bool { return verdict == "drop" || verdict == "reject" }

// translates says whether NAT rules are asked: for the first packet only, once
// for each direction.
func (t *tracked) translates(hook string) bool {
	if t.conn == nil || t.reply || t.state != stateNew {
		return false
	}
	if hook == "prerouting" || hook == "output" {
		return !t.conn.dnat
	}
	return !t.conn.snat
}

func (p *passed) translate(m *machine, s station, track *tracked, masq netip.Addr) {
	out := m.base(s.table, s.chain)
	for _, o := range out {
		if !o.sure {
			p.doubts = append(p.doubts, o)
			continue
		}
		switch o.verdict {
		case "nat":
			p.apply(m.pkt, track, o, masq)
		case "drop", "reject", "queue":
			p.verdict, p.rule = o.verdict, o.rule
		}
		return
	}
}

func (p *passed) apply(pkt *Packet, track *tracked, o outcome, masq netip.Addr) {
	before := tupleOf(pkt)
	t := o.nat
	if t.masq {
		t.addr, t.lastAddr = masq, masq
	}
	if t.lastAddr.IsValid() && t.lastAddr != t.addr {
		o.why = fmt.Sprintf("which address of %s-%s the kernel takes", t.addr, t.lastAddr)
		p.doubts = append(p.doubts, o)
	}
	c := track.conn
	addr, port := &pkt.Src, &pkt.Sport
	if t.kind == "dnat" {
		addr, port = &pkt.Dst, &pkt.Dport
		c.dnat = true
	} else {
		c.snat = true
	}
	if t.addr.IsValid() {
		*addr = t.addr
	}
	if why := t.setPort(port); why != "" {
		o.why = why
		p.doubts = append(p.doubts, o)
	}
	if c.now = tupleOf(pkt); c.now != before {
		p.nat, p.by = t.kind, o.rule
	}
}

// setPort gives a packet its port as nf_nat_l4proto_unique_tuple does where no
// other connection has it. A port that is not chosen yet stays so. If the
// kernel's choice is not known it returns what that depends on.
func (t *translation) setPort(port *uint16) (why string) {
	switch {
	case *port == 0:
	case t.flags&natRandom != 0 && t.kind == "snat":
		*port = 0
	case t.port == 0:
	case t.flags&natOffset != 0:
		*port += t.port - t.basePort
	case t.flags&natRandom == 0 && t.port <= *port && *port <= t.lastPort:
	case t.lastPort > t.port:
		why = fmt.Sprintf("which port of %d-%d the kernel takes", t.port, t.lastPort)
		fallthrough
	default:
		*port = t.port
	}
	return why
}

// restore gives a reply the addresses that the sender of the first packet knows.
func (p *passed) restore(at place, pkt *Packet, track *tracked) {
	c := track.conn
	if c == nil || !track.reply {
		return
	}
	before := tupleOf(pkt)
	kind := "snat-back"
	if at.hook == "prerouting" || at.hook == "output" {
		pkt.Dst, pkt.Dport = c.orig.src, c.orig.sport
	} else {
		pkt.Src, pkt.Sport = c.orig.dst, c.orig.dport
		kind = "dnat-back"
	}
	if tupleOf(pkt) != before {
		p.nat = kind
	}
}
