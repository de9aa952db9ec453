package forward

import (
	"math/bits"
	"net/netip"
)

// SourceOf returns the address that the node gives a packet of its own that was
// ruled as r, or a masqueraded one: the route's, else one of the device, else
// one of any device. It is zero if there is none.
func (n *Node) SourceOf(r Ruled, dst netip.Addr) netip.Addr {
	switch {
	case r.Route != nil && r.Route.Src.IsValid():
		return r.Route.Src
	case r.Kind == "local" && dst.Is6():
		return dst.WithZone("")
	case dst.Is4():
		return n.source4(r.Device, r.Via)
	}
	return n.source6(r.Device, dst)
}

// source4 follows inet_select_addr: the device's first address, of those in the
// gateway's subnet if there is one; else the first one of another device.
func (n *Node) source4(device string, via netip.Addr) netip.Addr {
	var first netip.Addr
	if d := n.Device(device); d != nil {
		for _, p := range d.Addrs {
			if !p.Addr().Is4() {
				continue
			}
			if !via.IsValid() || p.Contains(via) {
				return p.Addr()
			}
			if !first.IsValid() {
				first = p.Addr()
			}
		}
	}
	if first.IsValid() {
		return first
	}
	for _, d := range n.Devices {
		for _, p := range d.Addrs {
			if p.Addr().Is4() && !p.Addr().IsLoopback() && !p.Addr().IsLinkLocalUnicast() {
				return p.Addr()
			}
		}
	}
	return netip.Addr{}
}

// source6 follows RFC 6724 as far as addresses alone decide: fitting scope, then
// the device's own, then the longest common prefix.
func (n *Node) source6(device string, dst netip.Addr) netip.Addr {
	type rank struct {
		scope, device bool
		prefix        int
	}
	better := func(a, b rank) bool {
		if a.scope != b.scope {
			return a.scope
		}
		if a.device != b.device {
			return a.device
		}
		return a.prefix > b.prefix
	}
	var best netip.Addr
	var at rank
	for _, d := range n.Devices {
		for _, p := range d.Addrs {
			a := p.Addr()
			if !a.Is6() || a.IsLoopback() || a.IsLinkLocalUnicast() && d.Name != device {
				continue
			}
			r := rank{a.IsLinkLocalUnicast() == dst.IsLinkLocalUnicast(), d.Name == device, common(a, dst)}
			if !best.IsValid() || better(r, at) {
				best, at = a, r
			}
		}
	}
	return best
}

// common returns how many leading bits of two addresses are the same.
func common(a, b netip.Addr) int {
	x, y := a.As16(), b.As16()
	for i := range x {
		if d := x[i] ^ y[i]; d != 0 {
			return 8*i + bits.LeadingZeros8(d)
		}
	}
	return 128
}
