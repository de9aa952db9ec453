package forward

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
)

// Tables that the kernel knows by name.
const (
	tableDefault = 253
	tableMain    = 254
	tableLocal   = 255
)

// Flow is what a route is looked up for.
type Flow struct {
	Src, Dst     netip.Addr // Src may be zero: it is not chosen yet
	IIF          string     // where it came in; "" of the node's own packets
	OIF          string     // where it must leave; "" if that is open
	Mark         uint32
	TOS          uint8
	Proto        uint8
	Sport, Dport uint16
}

// Ruled is what a lookup found.
type Ruled struct {
	// Kind is the kind of the route, or of the rule that answered instead of one;
	// "none" if there is no route.
	Kind  string
	Table int
	Route *Route // nil if a rule answered, or nothing
	Rule  *Rule  // the rule that led there; nil if there is none
	Via   netip.Addr
	// Device is that of the route; of local routes too.
	Device string
	// Unknown says why it may be otherwise.
	Unknown string
}

// String returns what `ip route` would say, for people.
func (r Ruled) String() string {
	if r.Route == nil {
		if r.Rule != nil && r.Kind != "none" {
			return fmt.Sprintf("%s by rule %d", r.Kind, r.Rule.Priority)
		}
		return "no route"
	}
	s := r.Route.Dst.String()
	if r.Route.Dst.Bits() == 0 {
		s = "default"
	}
	if r.Kind != "unicast" {
		s = r.Kind + " " + s
	}
	if r.Via.IsValid() {
		s += " via " + r.Via.String()
	}
	if r.Device != "" {
		s += " dev " + r.Device
	}
	if r.Table != tableMain && r.Table != tableLocal {
		s += " table " + strconv.Itoa(r.Table)
	}
	return s
}

// Lookup returns where the node sends a packet, as the kernel finds it: rules by
// priority, then the longest prefix, then the lowest metric
// (net/ipv4/fib_trie.c, net/ipv6/ip6_fib.c).
func (n *Node) Lookup(f Flow) Ruled {
	family, unknown := familyOf(f.Dst), ""
	from := -1 // of a goto: rules before that priority are skipped
	for _, r := range n.rules(family) {
		if r.Priority < from {
			continue
		}
		if !r.fits(f) {
			continue
		}
		if r.Other != "" {
			unknown = cmp.Or(unknown, fmt.Sprintf("rule %d asks for %s", r.Priority, r.Other))
			continue
		}
		switch r.Action {
		case "goto":
			from = r.Goto
		case "nop":
		case "table":
			if found, ok := n.lookIn(r, f); ok {
				found.Unknown = cmp.Or(unknown, found.Unknown)
				return found
			}
		default:
			return Ruled{Kind: r.Action, Rule: &r, Unknown: unknown}
		}
	}
	return Ruled{Kind: "none", Unknown: unknown}
}

// rules returns those of a family; without any those that the kernel begins with.
func (n *Node) rules(family string) []Rule {
	var rs []Rule
	for _, r := range n.Rules {
		if r.Family == family {
			rs = append(rs, r)
		}
	}
	if rs == nil {
		for i, t := range []int{tableLocal, tableMain, tableDefault} {
			rs = append(rs, Rule{Family: family, Priority: []int{0, 32766, 32767}[i], Action: "table", Table: t})
		}
	}
	return rs
}

func (r *Rule) fits(f Flow) bool { return r.asked(f) != r.Not }

func (r *Rule) asked(f Flow) bool {
	iif := cmp.Or(f.IIF, "lo")
	src := f.Src
	if !src.IsValid() {
		src = unspecified(f.Dst)
	}
	within := func(ports [2]uint16, p uint16) bool { return ports == [2]uint16{} || ports[0] <= p && p <= ports[1] }
	return (!r.From.IsValid() || r.From.Contains(src)) &&
		(!r.To.IsValid() || r.To.Contains(f.Dst.WithZone(""))) &&
		(r.IIF == "" || r.IIF == iif) &&
		(r.OIF == "" || r.OIF == f.OIF) &&
		(f.Mark^r.Mark)&r.Mask == 0 &&
		(r.TOS == 0 || r.TOS == int(f.TOS)) &&
		(r.Proto == 0 || r.Proto == int(f.Proto)) &&
		within(r.Sport, f.Sport) && within(r.Dport, f.Dport)
}

// lookIn asks the table of a rule. It reports false if the next rule is to be asked.
func (n *Node) lookIn(r Rule, f Flow) (Ruled, bool) {
	candidates := n.candidates(r.Table, f)
	for i, route := range candidates {
		if route.Kind == "throw" {
			return Ruled{}, false
		}
		found := Ruled{Kind: route.Kind, Table: r.Table, Route: route, Rule: &r}
		if !route.unusable() && !n.choose(&found, f) {
			continue
		}
		if r.Suppress != nil && route.Dst.Bits() <= *r.Suppress {
			return Ruled{}, false
		}
		if i+1 < len(candidates) && !f.Dst.Is4() && route.rivals(candidates[i+1]) && f.OIF == "" {
			found.Unknown = fmt.Sprintf("there are several routes to %s with metric %d", route.Dst, route.Metric)
		}
		return found, true
	}
	return Ruled{}, false
}

// unusable says that the route's word is an error.
func (r *Route) unusable() bool {
	return r.Kind == "blackhole" || r.Kind == "unreachable" || r.Kind == "prohibit"
}

func (r *Route) rivals(o *Route) bool {
	return r.Kind == "unicast" && o.Kind == "unicast" && r.Dst == o.Dst && r.Metric == o.Metric && r.From == o.From
}

// candidates returns the routes of a table that lead to f, best first.
func (n *Node) candidates(table int, f Flow) []*Route {
	var rs []*Route
	dst := f.Dst.WithZone("")
	for i := range n.Routes {
		r := &n.Routes[i]
		if r.Table != table || r.Dead || !r.Dst.Contains(dst) {
			continue
		}
		if r.From.IsValid() && r.From.Bits() > 0 && !(f.Src.IsValid() && r.From.Contains(f.Src)) {
			continue
		}
		if r.TOS != 0 && r.TOS != int(f.TOS) {
			continue
		}
		rs = append(rs, r)
	}
	slices.SortStableFunc(rs, func(a, b *Route) int {
		return cmp.Or(b.Dst.Bits()-a.Dst.Bits(), cmp.Compare(b.TOS, a.TOS), cmp.Compare(a.Metric, b.Metric))
	})
	return rs
}

// choose fills in the next hop, and reports false if the route has none that is
// fit for f.
func (n *Node) choose(found *Ruled, f Flow) bool {
	r := found.Route
	if len(r.Hops) == 0 {
		found.Via, found.Device = r.Via, r.Device
		return f.OIF == "" || r.Device == f.OIF || r.Kind == "local"
	}
	usable := 0
	for _, h := range r.Hops {
		if h.Dead || f.OIF != "" && h.Device != f.OIF {
			continue
		}
		if usable++; usable == 1 {
			found.Via, found.Device = h.Via, h.Device
		}
	}
	if usable > 1 {
		found.Unknown = fmt.Sprintf("the route to %s has %d next hops, and a hash chooses", r.Dst, usable)
	}
	return usable > 0
}

// Local says whether an address is the node's own.
func (n *Node) Local(a netip.Addr) bool {
	for i := range n.Routes {
		r := &n.Routes[i]
		if r.Kind == "local" && r.Table == tableLocal && r.Dst.Contains(a.WithZone("")) {
			return true
		}
	}
	return false
}

// familyOf returns ip or ip6.
func familyOf(a netip.Addr) string {
	if a.Is4() {
		return "ip"
	}
	return "ip6"
}

func unspecified(like netip.Addr) netip.Addr {
	if like.Is4() {
		return netip.IPv4Unspecified()
	}
	return netip.IPv6Unspecified()
}
