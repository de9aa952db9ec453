package forward

import (
	"fmt"
	"net/netip"

	"github.com/nsbpf/nsbpf/internal/hop"
)

// Types of ICMPv6 by which neighbours find each other (RFC 4861).
const (
	solicitation  = 135
	advertisement = 136
)

// Solicitation returns the packet by which src asks for the MAC of an IPv6
// neighbour.
func Solicitation(src, neighbour netip.Addr) Packet {
	// The group of all whose address ends in the same three bytes (RFC 4291).
	group := [16]byte{0: 0xff, 1: 0x02, 11: 1, 12: 0xff}
	last := neighbour.As16()
	copy(group[13:], last[13:])
	return Packet{Src: src, Dst: netip.AddrFrom16(group), Proto: ICMP6, Type: solicitation, TTL: 255, Length: 72}
}

// trackable says whether conntrack takes note of a packet (icmpv6_error in
// nf_conntrack_proto_icmpv6.c: of groups and of neighbours it does not).
func (p Packet) trackable() bool {
	const firstGroup, lastGroup, groupReport = 130, 132, 143
	const routerSolicitation = 133
	return p.Proto != ICMP6 ||
		!(p.Type >= firstGroup && p.Type <= lastGroup || p.Type >= routerSolicitation && p.Type <= advertisement || p.Type == groupReport)
}

// discovers follows the question who has the IPv6 address next, from d to its
// owner, and the answer; rules may stop either. It reports whether the node gets
// the answer, as far as that is known.
func (w *walker) discovers(node *Node, d *Device, owner spot, next netip.Addr) bool {
	from := node.source6(d.Name, next)
	ask := Solicitation(from, next)
	reply := Packet{Src: next, Dst: from, Proto: ICMP6, Type: advertisement, TTL: 255, Length: 72}
	for i, way := range []struct {
		p        Packet
		from, to spot
	}{{ask, spot{node, d}, owner}, {reply, owner, spot{node, d}}} {
		what := []string{"question who has", "answer who has"}[i]
		j := w.carry(way.p, way.from, way.to)
		for _, o := range j.Obstacles {
			if o.Code == Legacy {
				continue // the packet itself meets it too
			}
			o.Code, o.Node, o.Device, o.Hook = Unresolved, node.Name, d.Name, ""
			o.Sentence = fmt.Sprintf("neighbour discovery, the %s %s: %s", what, next, o.Sentence)
			if o.Effect == Stops {
				w.stop(o)
				return false
			}
			if o.Effect == Unknown {
				w.doubt(o)
			}
		}
	}
	return true
}

// carry follows a packet of neighbour discovery over a link.
func (w *walker) carry(p Packet, from, to spot) *Journey {
	c := &walker{net: w.net, conns: map[string][]*conn{}, pkt: p, link: true}
	c.j = &Journey{From: from.node.Name, Packet: p, End: Lost, At: from.node.Name}
	c.enter(from.node)
	if c.hook(from.node, c.place("output", "", from.device.Name)) &&
		c.hook(from.node, c.place("postrouting", "", from.device.Name)) && c.guests(from.node, from.device, "egress") {
		c.step(from.node, from.device, hop.Egress)
		c.transmit(from.node, from.device, neighbour{spot: to})
	}
	return c.j
}

// StopsBridged returns what of the node's rules stops a packet that comes in by a
// bridge port and goes on by another; nil if nothing does for sure.
func (n *Node) StopsBridged(port string, p Packet) *Obstacle {
	in := n.Device(port)
	if in == nil || n.Device(in.Master) == nil {
		return nil
	}
	bridge := n.Device(in.Master)
	for _, out := range n.ports(bridge.Name) {
		if out == in {
			continue
		}
		w := &walker{net: &Net{Nodes: []*Node{n}}, conns: map[string][]*conn{}, pkt: p, j: &Journey{}}
		if w.entersBridge(n, bridge, in) && w.bridged(n, bridge, in, out) || w.j.End != Stopped {
			return nil
		}
		return &w.j.Obstacles[len(w.j.Obstacles)-1]
	}
	return nil
}
