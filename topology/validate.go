package topology

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// reporter takes a mistake: the path of the value, what is wrong, and how to
// mend it, which may be empty.
type reporter func(path, msg, hint string)

// validate reports the mistakes of t's parts. Zero values are what could not be
// read, which has been reported already.
func validate(t *Topology, report reporter) {
	if msg, hint := checkLab(t.Name); msg != "" {
		report("name", fmt.Sprintf("lab name %q %s", t.Name, msg), cmp.Or(hint, "add name: lab"))
	}
	checkNames(t, report)
	checkDevices(t, report)
	checkSysctls(t, report)
	checkLinks(t, report)
	checkAddrs(t, report)
}

func checkNames(t *Topology, report reporter) {
	for _, n := range t.Nodes {
		if msg, hint := checkName(n.Name, maxNode); msg != "" {
			report("nodes."+n.Name, fmt.Sprintf("node name %q %s", n.Name, msg), hint)
		}
	}
	for _, b := range t.Bridges {
		if msg, hint := checkDevice(b.Name); msg != "" {
			report("bridges."+b.Name, fmt.Sprintf("bridge name %q %s", b.Name, msg), hint)
		}
		if t.Node(b.Name) != nil {
			report("bridges."+b.Name, fmt.Sprintf("%q is the name of a bridge and of a node", b.Name), "rename one")
		}
	}
}

// checkDevices checks the devices' names, each of which is one namespace's.
func checkDevices(t *Topology, report reporter) {
	owner := map[string]string{} // "node:device" → what has it
	for _, b := range t.Bridges {
		owner[b.Node+":"+b.Name] = "a bridge"
	}
	for i, l := range t.Links {
		for _, e := range l.ends(i) {
			if e.Node == "" || e.Device == "" {
				continue
			}
			if msg, hint := checkDevice(e.Device); msg != "" {
				report(e.path+".device", fmt.Sprintf("device name %q %s", e.Device, msg), hint)
			}
			key := e.Node + ":" + e.Device
			if is, dup := owner[key]; dup {
				report(e.path+".device", fmt.Sprintf("device %q of node %q is already %s", e.Device, e.Node, is), "rename one")
			}
			owner[key] = fmt.Sprintf("an end of link %q", l)
		}
	}
}

func checkSysctls(t *Topology, report reporter) {
	for _, n := range t.Nodes {
		for _, s := range n.Sysctls {
			path, what := "nodes."+n.Name+".sysctls."+s.Key, fmt.Sprintf("node %q: sysctl %q", n.Name, s.Key)
			part := strings.Split(s.Key, ".")
			wrong := func(r rune) bool { return !isNameRune(r) && r != '/' }
			perDevice := len(part) > 3 && (part[2] == "conf" || part[2] == "neigh")
			switch {
			case part[0] != "net" || len(part) < 3 || slices.Contains(part, "") || strings.IndexFunc(s.Key, wrong) >= 0:
				report(path, what+" is not a key below net", "such as net.ipv4.tcp_ecn")
			case perDevice && !slices.Contains([]string{"all", "default", "lo"}, part[3]):
				report(path, fmt.Sprintf("%s is of a device, which does not exist yet", what), "set it for all or default")
			case s.Value != "" && strings.ContainsAny(s.Value, "\n\x00"):
				report(path, what+" has a value of several lines", "")
			}
		}
	}
}

// checkLinks finds MTUs that are too small and bridges connected in a ring.
func checkLinks(t *Topology, report reporter) {
	v6 := map[string]bool{}
	for _, p := range t.placed() {
		v6[p.segment] = v6[p.segment] || p.prefix.Addr().Is6()
	}
	ring := map[string]string{} // bridge → another one that it is connected to
	root := func(b string) string {
		for ring[b] != "" {
			b = ring[b]
		}
		return b
	}
	for i, l := range t.Links {
		path := fmt.Sprintf("links[%d]", i)
		if l.MTU != 0 && l.MTU < 1280 && v6[l.segment(i)] {
			report(path+".mtu", fmt.Sprintf("link %q: mtu %d is too small for its IPv6 addresses", l, l.MTU), "at least 1280")
		}
		if l.A.Bridge == "" || l.B.Bridge == "" {
			continue
		}
		a, b := root(l.A.Bridge), root(l.B.Bridge)
		if a == b {
			report(path, fmt.Sprintf("link %q closes a ring of bridges, where packets would run for ever", l), "bridges have no spanning tree; remove a link")
			continue
		}
		ring[a] = b
	}
}

// checkAddrs finds addresses that stand twice where one of them would be lost,
// and devices of a node that share a subnet.
func checkAddrs(t *Topology, report reporter) {
	all := t.placed()
	for i, p := range all {
		for _, q := range all[:i] {
			a, b := p.prefix, q.prefix
			same := a.Addr() == b.Addr()
			switch {
			case same && p.node == q.node:
				report(p.path, fmt.Sprintf("node %q has %s twice, on %s and %s", p.node, a.Addr(), q.device, p.device), "remove one")
			case same && p.segment == q.segment && p.segment != "":
				report(p.path, fmt.Sprintf("%s:%s and %s:%s both have %s", q.node, q.device, p.node, p.device, a.Addr()), "change one")
			case p.node == q.node && p.device != q.device && a.Overlaps(b) && !a.IsSingleIP() && !b.IsSingleIP() && !a.Addr().IsLinkLocalUnicast():
				report(p.path, fmt.Sprintf("node %q: subnet %s on %s overlaps %s on %s", p.node, a.Masked(), p.device, b.Masked(), q.device), "a node routes each subnet by one device")
			}
		}
	}
}

// validateWhole reports the mistakes of a t whose parts are valid: that it is
// empty, that a next hop is on no subnet of its node, and that a node has two
// routes to one place.
func validateWhole(t *Topology, report reporter) {
	if len(t.Nodes) == 0 {
		report("", "topology is empty", "name a node or a link")
	}
	all := t.placed()
	for _, n := range t.Nodes {
		seen := map[netip.Prefix]bool{}
		for i, r := range n.Routes {
			path := fmt.Sprintf("nodes.%s.routes[%d]", n.Name, i)
			if seen[r.Dst] {
				report(path, fmt.Sprintf("node %q has two routes to %s", n.Name, r.target()), "remove one")
			}
			seen[r.Dst] = true
			own, reachable := false, false
			for _, p := range all {
				if p.node == n.Name {
					own = own || p.prefix.Addr() == r.Via
					reachable = reachable || p.prefix.Contains(r.Via)
				}
			}
			switch {
			case own:
				report(path, fmt.Sprintf("node %q: next hop %s is the node itself", n.Name, r.Via), "")
			case !reachable:
				report(path, fmt.Sprintf("node %q: next hop %s is on no subnet of the node", n.Name, r.Via), "")
			}
		}
	}
}

// placed is an address where it stands.
type placed struct {
	node, device string
	segment      string // what shares a link layer with the device; "" for lo
	path         string
	prefix       netip.Prefix
}

// placed returns every address of t that could be read.
func (t *Topology) placed() []placed {
	var all []placed
	add := func(p placed, prefixes []netip.Prefix) {
		for i, x := range prefixes {
			if x.IsValid() {
				all = append(all, placed{p.node, p.device, p.segment, fmt.Sprintf("%s.addresses[%d]", p.path, i), x})
			}
		}
	}
	for _, n := range t.Nodes {
		add(placed{node: n.Name, device: "lo", path: "nodes." + n.Name}, n.Addrs)
	}
	for _, b := range t.Bridges {
		add(placed{node: b.Node, device: b.Name, segment: b.Name, path: "bridges." + b.Name}, b.Addrs)
	}
	for i, l := range t.Links {
		for _, e := range l.ends(i) {
			add(placed{node: e.Node, device: e.Device, segment: l.segment(i), path: e.path}, e.Addrs)
		}
	}
	return all
}
