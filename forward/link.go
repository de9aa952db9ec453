package forward

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/nsbpf/nsbpf/internal/hop"
)

// spot is a device of a node that has packets for the node itself: no port.
type spot struct {
	node   *Node
	device *Device
}

// neighbour is whom a packet is sent to on a link.
type neighbour struct {
	mac string // "" if it is not known
	spot
	all   bool // everybody
	asked bool // it has to be asked for its MAC first
}

// peer returns the other end of a veth.
func (n *Net) peer(d *Device) (spot, bool) {
	name, device, ok := strings.Cut(d.Peer, ":")
	node := n.Node(name)
	if !ok || node == nil || node.Device(device) == nil {
		return spot{}, false
	}
	return spot{node, node.Device(device)}, true
}

// ports returns a bridge's ports.
func (n *Node) ports(bridge string) []*Device {
	var ports []*Device
	for i := range n.Devices {
		if n.Devices[i].Master == bridge {
			ports = append(ports, &n.Devices[i])
		}
	}
	return ports
}

// segment is what a frame reaches from a device.
type segment struct {
	net     *Net
	others  []spot     // who takes packets there
	open    bool       // it leads out of the lab too
	blocked []Obstacle // where it would lead on, if something were not closed
	beyond  []spot     // by index of blocked: where that is
	loose   bool       // closed does not count
	seen    map[*Device]bool
}

// segment returns what a frame reaches that leaves by a device; with loose also
// what it would if nothing were down or closed.
func (n *Net) segment(from spot, loose bool) *segment {
	g := &segment{net: n, loose: loose, seen: map[*Device]bool{from.device: true}}
	if from.device.Kind == "bridge" {
		g.bridge(from.node, from.device.Name, nil)
	} else {
		g.wire(from)
	}
	return g
}

// shut says whether a frame ends at a device for a reason, and remembers it.
func (g *segment) shut(s spot, closed bool, code Code, sentence, advice string) bool {
	if !closed || g.loose {
		return false
	}
	g.blocked = append(g.blocked, Obstacle{Code: code, Node: s.node.Name, Device: s.device.Name, Sentence: sentence, Advice: advice})
	g.beyond = append(g.beyond, s)
	return true
}

func (g *segment) down(s spot) bool {
	return g.shut(s, !s.device.Up, DeviceDown, fmt.Sprintf("%s:%s is down", s.node.Name, s.device.Name),
		s.node.run("ip link set %s up", s.device.Name))
}

func (g *segment) closed(s spot) bool {
	return g.shut(s, s.device.Port != "forwarding", PortState,
		fmt.Sprintf("%s:%s, a port of %s, is in state %s", s.node.Name, s.device.Name, s.device.Master, cmp.Or(s.device.Port, "unknown")),
		"wait for spanning tree, or "+s.node.run("ip link set %s type bridge stp_state 0", s.device.Master))
}

func (g *segment) wire(s spot) {
	to, ok := g.net.peer(s.device)
	if !ok {
		g.open = g.open || s.device.Kind != "loopback"
		return
	}
	if g.seen[to.device] || g.down(to) {
		return
	}
	g.seen[to.device] = true
	if to.device.Master != "" {
		g.bridge(to.node, to.device.Master, to.device)
		return
	}
	g.others = append(g.others, to)
}

// bridge goes on by a bridge, to which a frame came by the port in, or from its
// own stack.
func (g *segment) bridge(node *Node, name string, in *Device) {
	b := node.Device(name)
	if b == nil || g.down(spot{node, b}) || in != nil && g.closed(spot{node, in}) {
		return
	}
	if !g.seen[b] {
		g.seen[b] = true
		g.others = append(g.others, spot{node, b})
	}
	for _, p := range node.ports(name) {
		s := spot{node, p}
		if p == in || g.seen[p] || g.down(s) || g.closed(s) {
			continue
		}
		if g.shut(s, in != nil && in.Isolated && p.Isolated, PortState,
			fmt.Sprintf("%s and its neighbour port are isolated in %s, and do not reach each other", p.Name, node.Name),
			node.run("bridge link set dev %s isolated off", p.Name)) {
			continue
		}
		g.seen[p] = true
		g.wire(s)
	}
}

// has says whether the node answers for an address on a link of d: for IPv4
// wherever it has the address, unless arp_ignore forbids it.
func (s spot) has(a netip.Addr) bool {
	a = a.WithZone("")
	onDevice := slices.ContainsFunc(s.device.Addrs, func(p netip.Prefix) bool { return p.Addr() == a })
	if a.Is6() {
		return onDevice || s.device.Addrs == nil && s.node.Local(a)
	}
	return onDevice || s.node.setting(s.device.Name, "arp_ignore", true) == 0 && s.node.Local(a)
}

// resolve finds out whom a packet goes to that is for next on the link of d.
func (w *walker) resolve(node *Node, d *Device, next netip.Addr, broadcast bool) (neighbour, bool) {
	if broadcast {
		return neighbour{mac: "ff:ff:ff:ff:ff:ff", all: true}, true
	}
	reach := w.net.segment(spot{node, d}, false)
	var owners []spot
	for _, s := range reach.others {
		if s.has(next) {
			owners = append(owners, s)
		}
	}
	o := Obstacle{Code: Unresolved, Node: node.Name, Device: d.Name}
	if len(owners) > 1 {
		o.Sentence = fmt.Sprintf("%s is an address of %s and of %s: who answers first gets it", next, owners[0].node.Name, owners[1].node.Name)
		w.doubt(o)
	}
	entry := node.neighbour(next, d.Name)
	known := entry != nil && entry.MAC != "" && entry.State != "failed" && entry.State != "incomplete"
	switch {
	case known:
		return w.knownAs(node, d, next, entry, reach)
	case len(owners) > 0:
		if entry != nil && (entry.State == "failed" || entry.State == "incomplete") {
			o.Sentence = fmt.Sprintf("%s could not reach %s by %s lately (neighbour entry %s)", node.Name, next, d.Name, strings.ToUpper(entry.State))
			w.note(o)
		}
		if next.Is6() && !w.discovers(node, d, owners[0], next) {
			return neighbour{}, false
		}
		return neighbour{mac: owners[0].device.MAC, spot: owners[0], asked: true}, true
	case reach.open:
		return neighbour{}, true
	}
	o.Code = NoNeighbour
	o.Sentence = fmt.Sprintf("nobody that %s:%s reaches has the address %s", node.Name, d.Name, next)
	if entry != nil {
		o.Sentence += fmt.Sprintf(" (neighbour entry %s)", strings.ToUpper(entry.State))
	}
	o.Advice = "check the address, and that the links to its owner are up"
	if shut, ok := reach.shutOff(func(s spot) bool { return s.has(next) }); ok {
		o = shut
	}
	w.stop(o)
	return neighbour{}, false
}

// shutOff returns what keeps a frame from somebody, if that is it.
func (g *segment) shutOff(is func(spot) bool) (Obstacle, bool) {
	for i, b := range g.blocked {
		s := g.beyond[i]
		reached := g.net.segment(s, true).others
		if bridge := s.node.Device(s.device.Master); bridge != nil {
			reached = append(reached, g.net.segment(spot{s.node, bridge}, true).others...)
		}
		if is(s) || slices.ContainsFunc(reached, is) {
			return b, true
		}
	}
	return Obstacle{}, false
}

func (n *Node) neighbour(a netip.Addr, device string) *Neighbour {
	for i := range n.Neighbours {
		if e := &n.Neighbours[i]; e.Addr == a.WithZone("") && e.Device == device {
			return e
		}
	}
	return nil
}

// knownAs finds the device that a neighbour entry means.
func (w *walker) knownAs(node *Node, d *Device, next netip.Addr, entry *Neighbour, reach *segment) (neighbour, bool) {
	for _, s := range reach.others {
		if s.device.MAC == entry.MAC {
			return neighbour{mac: entry.MAC, spot: s}, true
		}
	}
	for _, s := range reach.others { // a port takes for its bridge what has its own address
		if s.device.Kind == "bridge" && s.device.FDB[entry.MAC] == s.device.Name {
			return neighbour{mac: entry.MAC, spot: s}, true
		}
	}
	if reach.open {
		return neighbour{mac: entry.MAC}, true
	}
	o := Obstacle{Code: Unresolved, Node: node.Name, Device: d.Name,
		Sentence: fmt.Sprintf("%s sends packets for %s to %s (neighbour entry %s), and nobody that %s reaches has that address", node.Name, next, entry.MAC, strings.ToUpper(entry.State), d.Name),
		Advice:   node.run("ip neigh del %s dev %s", next, d.Name)}
	if shut, ok := reach.shutOff(func(s spot) bool { return s.device.MAC == entry.MAC }); ok {
		o = shut
	}
	w.stop(o)
	return neighbour{}, false
}

// transmit takes a packet from a device's egress to whom it is for.
func (w *walker) transmit(node *Node, d *Device, to neighbour) {
	if w.done {
		return
	}
	if d.Kind == "bridge" {
		w.bridgeOut(node, d, nil, to)
		return
	}
	if d.Peer == "" {
		if d.Kind != "veth" && d.Kind != "" && d.Kind != "tun" {
			w.doubt(Obstacle{Code: NotFollowed, Node: node.Name, Device: d.Name,
				Sentence: fmt.Sprintf("what happens in %s, a device of kind %s, is not followed", d.Name, d.Kind)})
		}
		if !to.all {
			w.exit = &exit{spot{node, d}, w.from}
		}
		w.finish(LeftLab, node.Name)
		return
	}
	other, ok := w.net.peer(d)
	if !ok {
		w.doubt(Obstacle{Code: NotFollowed, Node: node.Name, Device: d.Name, Sentence: "the configuration of " + d.Peer + " is not known"})
		w.finish(Lost, node.Name)
		return
	}
	if other.device.Up && !other.device.Takes(w.size()) {
		w.stop(Obstacle{Code: TooBig, Node: other.node.Name, Device: other.device.Name,
			Sentence: fmt.Sprintf("%d bytes are more than the MTU %d of %s:%s, at the other end of %s:%s, which tells nobody",
				w.size(), other.device.MTU, other.node.Name, other.device.Name, node.Name, d.Name),
			Advice: "give both ends the same MTU: " + other.node.run("ip link set %s mtu %d", other.device.Name, d.MTU)})
		return
	}
	w.arrive(other, to)
}

// Takes says whether a veth takes an IP packet of that length from its peer: it
// leaves room for a VLAN tag beyond its MTU (is_skb_forwardable in net/core/dev.c).
func (d *Device) Takes(length int) bool {
	const vlanTag = 4
	return d.MTU == 0 || length <= d.MTU+vlanTag
}

// arrive takes a packet into a node.
func (w *walker) arrive(s spot, to neighbour) {
	if !s.device.Up {
		w.stop(Obstacle{Code: DeviceDown, Node: s.node.Name, Device: s.device.Name,
			Sentence: fmt.Sprintf("%s:%s is down", s.node.Name, s.device.Name),
			Advice:   s.node.run("ip link set %s up", s.device.Name)})
		return
	}
	w.pkt.Mark = 0
	w.step(s.node, s.device, hop.Ingress)
	if w.done || !w.guests(s.node, s.device, "ingress") {
		return
	}
	if s.device.Master != "" {
		w.bridgeIn(s, to)
		return
	}
	w.receive(s.node, s.device, false)
}
