package forward

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/nsbpf/nsbpf/internal/nearest"
)

// Ask is the packet that somebody asks about, in words.
type Ask struct {
	From  string // node
	To    string // node, or an address
	Proto string // "": icmp
	Port  string // "": none
	IPv6  bool   // which address of the node To is meant
}

// Packet understands an Ask. Errors name the word and what was meant.
func (n *Net) Packet(a Ask) (Packet, error) {
	from := n.Node(a.From)
	if from == nil {
		return Packet{}, n.unknownNode(a.From)
	}
	dst, err := n.address(from, a)
	if err != nil {
		return Packet{}, err
	}
	p := Packet{Dst: dst}
	if p.Proto, err = parseProto(a.Proto, familyOf(dst)); err != nil {
		return Packet{}, err
	}
	if a.Port != "" {
		if !hasPorts(p.Proto) {
			return Packet{}, fmt.Errorf("port %q of %s (%s has no ports; want tcp or udp)", a.Port, ProtoName(p.Proto), ProtoName(p.Proto))
		}
		if p.Dport, err = parsePort(a.Port); err != nil {
			return Packet{}, err
		}
	}
	return p.complete(), nil
}

// address returns the address that To means.
func (n *Net) address(from *Node, a Ask) (netip.Addr, error) {
	if addr, err := netip.ParseAddr(a.To); err == nil {
		if zone := addr.Zone(); zone != "" && from.Device(zone) == nil {
			return addr, fmt.Errorf("address %q: %s has no device %q", a.To, a.From, zone)
		}
		return addr.Unmap(), nil
	}
	to := n.Node(a.To)
	if to == nil {
		if strings.ContainsAny(a.To, ".:/") {
			return netip.Addr{}, fmt.Errorf("%q is neither a node nor an address%s", a.To, hint(a.To, n.names()))
		}
		return netip.Addr{}, n.unknownNode(a.To)
	}
	want := netip.Addr.Is4
	version := "IPv4"
	if a.IPv6 {
		want, version = netip.Addr.Is6, "IPv6"
	}
	if best := to.addressFor(from, want); best.IsValid() {
		return best, nil
	}
	return netip.Addr{}, fmt.Errorf("node %q has no %s address (name one, or the other version)", a.To, version)
}

// addressFor returns the node's address that another one is most likely to use:
// in a subnet of both, else the first.
func (n *Node) addressFor(from *Node, want func(netip.Addr) bool) netip.Addr {
	var first netip.Addr
	for _, d := range n.Devices {
		for _, p := range d.Addrs {
			a := p.Addr()
			if !want(a) || a.IsLoopback() || a.IsLinkLocalUnicast() {
				continue
			}
			if !first.IsValid() {
				first = a
			}
			if n != from && from.shares(p) {
				return a
			}
		}
	}
	return first
}

func (n *Node) shares(p netip.Prefix) bool {
	return slices.ContainsFunc(n.Devices, func(d Device) bool {
		return slices.ContainsFunc(d.Addrs, func(q netip.Prefix) bool { return q.Masked() == p.Masked() })
	})
}

func (n *Net) names() []string {
	names := make([]string, len(n.Nodes))
	for i, node := range n.Nodes {
		names[i] = node.Name
	}
	return names
}

func (n *Net) unknownNode(name string) error { return unknownWord("node", name, n.names()) }

func unknownWord(kind, word string, names []string) error {
	return fmt.Errorf("%s %q does not exist%s", kind, word, hint(word, names))
}

// hint returns in parentheses what was meant, or what there is.
func hint(word string, names []string) string {
	if h := nearest.Hint(word, names); h != "" {
		return " (" + h + ")"
	}
	return " (there are " + strings.Join(names, ", ") + ")"
}
