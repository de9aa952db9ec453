package topology

import (
	"crypto/sha256"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
)

// Plan returns the Steps that build t, always the same for the same t.
//
// The ends inside nodes come up first, then the bridges, then their ports: that
// way round a port forwards and a bridge has IPv6 at once, else they wait for
// the kernel's delayed carrier work. Forwarding starts when all routes stand,
// translation comes last.
func (t *Topology) Plan() Plan {
	var p Plan
	for _, n := range t.Nodes {
		if n.Netns != "" {
			p = append(p, AddNetns{Netns: n.Netns, Lab: t.Name})
		}
	}
	for _, n := range t.Nodes {
		p = append(p, n.sysctls()...)
	}
	p = append(p, t.devices()...)
	p = append(p, t.addresses()...)
	p = append(p, t.ups()...)
	for _, n := range t.Nodes {
		for _, r := range n.Routes {
			p = append(p, AddRoute{n.Netns, r.Dst, r.Via})
		}
	}
	for _, n := range t.Nodes {
		p = append(p, t.forwarding(n)...)
	}
	for _, n := range t.Nodes {
		if len(n.Masquerade) != 0 {
			p = append(p, AddMasquerade{n.Netns, "nsbpf-" + t.Name, n.Masquerade, t.bridgesOf(n.Name)})
		}
	}
	return p
}

// Group returns the number that marks the links of t's lab as its own. Its
// first byte is 'n', so that it is neither 0 nor one that people choose.
func (t *Topology) Group() uint32 {
	h := hash(t.Name)
	return 'n'<<24 | (h>>24^h)&0xffffff
}

// sysctls returns what is set before a node has links. A new namespace has the
// first one's IPv4 forwarding, so that it must be turned off.
func (n Node) sysctls() Plan {
	var p Plan
	if n.Netns != "" && !n.Forward {
		p = append(p, SetSysctl{n.Netns, "net.ipv4.ip_forward", "0"})
	}
	for _, s := range n.Sysctls {
		p = append(p, SetSysctl{n.Netns, s.Key, s.Value})
	}
	return p
}

func (t *Topology) devices() Plan {
	var p Plan
	for _, b := range t.Bridges {
		p = append(p, AddBridge{t.netns(b.Node), b.Name, b.AltName, b.mac(t.Name), t.Group()})
	}
	for i, l := range t.Links {
		a, b := t.vethEnd(l.A, firstIndex+2*i), t.vethEnd(l.B, firstIndex+2*i+1)
		p = append(p, AddVeth{a, b, l.MTU, t.Group()})
	}
	return p
}

// firstIndex is the first interface index that a veth end is made with. It is
// above what the kernel gives bridges in our namespaces and, most often, its
// devices on the real host.
const firstIndex = 1000

// vethEnd returns what makes e. On the real host the kernel chooses the index.
func (t *Topology) vethEnd(e End, index int) VethEnd {
	v := VethEnd{Netns: t.netns(e.Node), Name: e.Device, AltName: e.AltName, Master: e.Bridge}
	if v.Netns != "" {
		v.Index = index
	}
	return v
}

func (t *Topology) addresses() Plan {
	var p Plan
	add := func(node, device string, addrs []netip.Prefix) {
		for _, a := range addrs {
			p = append(p, AddAddr{t.netns(node), device, a})
		}
	}
	for _, n := range t.Nodes {
		add(n.Name, "lo", n.Addrs)
	}
	for _, l := range t.Links {
		add(l.A.Node, l.A.Device, l.A.Addrs)
		add(l.B.Node, l.B.Device, l.B.Addrs)
	}
	for _, b := range t.Bridges {
		add(b.Node, b.Name, b.Addrs)
	}
	return p
}

func (t *Topology) ups() Plan {
	var ends, ports, bridges Plan
	for _, l := range t.Links {
		for _, e := range []End{l.A, l.B} {
			up := SetUp{t.netns(e.Node), e.Device}
			if e.Bridge == "" {
				ends = append(ends, up)
			} else {
				ports = append(ports, up)
			}
		}
	}
	for _, b := range t.Bridges {
		bridges = append(bridges, SetUp{t.netns(b.Node), b.Name})
	}
	return slices.Concat(ends, bridges, ports)
}

// forwarding returns the sysctls that make n forward the families it has
// addresses of. A host that learned its IPv6 default route from router
// advertisements would forget it as soon as it forwards, unless told otherwise.
func (t *Topology) forwarding(n Node) Plan {
	if !n.Forward {
		return nil
	}
	var p Plan
	addrs := t.LocalAddrs(n.Name)
	if slices.ContainsFunc(addrs, netip.Addr.Is4) {
		p = append(p, SetSysctl{n.Netns, "net.ipv4.ip_forward", "1"})
	}
	if slices.ContainsFunc(addrs, netip.Addr.Is6) {
		for _, dev := range n.Uplinks {
			key := "net.ipv6.conf." + strings.ReplaceAll(dev, ".", "/") + ".accept_ra"
			p = append(p, SetSysctl{n.Netns, key, "2"})
		}
		p = append(p, SetSysctl{n.Netns, "net.ipv6.conf.all.forwarding", "1"})
	}
	return p
}

func (t *Topology) netns(node string) string {
	if n := t.Node(node); n != nil {
		return n.Netns
	}
	return ""
}

func (t *Topology) bridgesOf(node string) []string {
	var names []string
	for _, b := range t.Bridges {
		if b.Node == node {
			names = append(names, b.Name)
		}
	}
	return names
}

// mac returns a locally administered address that is the bridge's own. Without
// one a bridge takes the lowest of its ports', which changes as they come.
func (b Bridge) mac(lab string) string {
	sum := sha256.Sum256([]byte(lab + "/" + b.Node + "/" + b.Name))
	mac := net.HardwareAddr(sum[:6])
	mac[0] = mac[0]&^1 | 2
	return mac.String()
}

// Script returns the plan as a shell script that builds the same network.
func (p Plan) Script() string {
	var b strings.Builder
	b.WriteString("#!/bin/sh\n")
	for _, s := range p {
		if n, ok := s.(AddNetns); ok {
			fmt.Fprintf(&b, "# The network of lab %s, as nsbpf builds it.\n", n.Lab)
			break
		}
	}
	b.WriteString("set -eu\n")
	about := ""
	for _, s := range p {
		if h := heading(s); h != about {
			fmt.Fprintf(&b, "\n# %s\n", h)
			about = h
		}
		for _, c := range s.Commands() {
			b.WriteString(c + "\n")
		}
	}
	return b.String()
}

// heading returns the part of a script that s belongs to.
func heading(s Step) string {
	switch s.(type) {
	case AddNetns:
		return "namespaces"
	case SetSysctl:
		return "kernel parameters"
	case AddBridge, AddVeth:
		return "bridges and veth pairs"
	case AddAddr:
		return "addresses"
	case SetUp:
		return "up"
	case AddRoute:
		return "routes"
	case AddMasquerade:
		return "source NAT, but not of what leaves by a bridge"
	}
	return ""
}
