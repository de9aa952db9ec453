package topology

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/nsbpf/nsbpf/internal/source"
)

// address parses an address with its prefix length.
func (d *declaration) address(path, s string) netip.Prefix {
	p, err := netip.ParsePrefix(s)
	if err != nil {
		hint := "such as 10.0.0.1/24 or fd00::1/64"
		if a, err := netip.ParseAddr(s); err == nil && a.Zone() == "" {
			hint = fmt.Sprintf("add the prefix length: %s/%d", a, map[bool]int{true: 24, false: 64}[a.Is4()])
		}
		d.Mistake(path, fmt.Sprintf("%q is not an address with a prefix length", s), hint)
		return netip.Prefix{}
	}
	if why := unusable(p); why != "" {
		d.Mistake(path, fmt.Sprintf("%s is %s", s, why), "give an address of one host")
		return netip.Prefix{}
	}
	return p
}

// unusable says why no device can have the address p, or nothing.
func unusable(p netip.Prefix) string {
	a := p.Addr()
	switch {
	case a.Is4In6():
		return "an IPv4 address in IPv6's form"
	case a.IsUnspecified():
		return "no address"
	case a.IsMulticast():
		return "a multicast address"
	case a.IsLoopback():
		return "a loopback address"
	case a.Is4() && a.As4() == [4]byte{255, 255, 255, 255}:
		return "the broadcast address"
	case a.Is4() && a.As4()[0] == 0:
		return "an address of this network only"
	case p.Bits() == 0:
		return "on a subnet of everything"
	case a.Is4() && p.Bits() < 31 && a == p.Masked().Addr():
		return "the subnet's own address"
	case a.Is4() && p.Bits() < 31 && a == broadcast(p):
		return "the subnet's broadcast address"
	}
	return ""
}

// broadcast returns the last address of the IPv4 subnet p.
func broadcast(p netip.Prefix) netip.Addr {
	a := p.Addr().As4()
	for i := range a {
		a[i] |= byte(0xff >> min(8, max(0, p.Bits()-8*i)))
	}
	return netip.AddrFrom4(a)
}

// subnet parses a prefix without host bits.
func (d *declaration) subnet(path, s string) netip.Prefix {
	p, err := netip.ParsePrefix(s)
	switch {
	case err != nil:
		d.Mistake(path, fmt.Sprintf("%q is not a subnet", s), "such as 10.0.0.0/24 or fd00::/64")
		return netip.Prefix{}
	case p.Addr().Is4In6():
		d.Mistake(path, s+" is an IPv4 subnet in IPv6's form", "")
		return netip.Prefix{}
	case p != p.Masked():
		d.Mistake(path, s+" has bits behind its prefix", "did you mean "+p.Masked().String()+"?")
		return netip.Prefix{}
	}
	return p
}

// route parses "DST via GATEWAY", where DST may be "default".
func (d *declaration) route(n source.Node, what string) Route {
	s, ok := d.Text(n, what+": route")
	if !ok {
		return Route{}
	}
	f := strings.Fields(s)
	if len(f) != 3 || f[1] != "via" {
		d.Mistake(n.Path, fmt.Sprintf("%s: %q is not a route", what, s), "such as default via 10.0.0.1")
		return Route{}
	}
	via, err := netip.ParseAddr(f[2])
	if err != nil || via.Zone() != "" || via.Is4In6() || via.IsUnspecified() {
		d.Mistake(n.Path, fmt.Sprintf("%s: next hop %q is not an address", what, f[2]), "")
		return Route{}
	}
	if f[0] == "default" {
		return Route{Dst: netip.PrefixFrom(unspecified(via), 0), Via: via}
	}
	dst := d.subnet(n.Path, f[0])
	if dst.IsValid() && dst.Addr().Is4() != via.Is4() {
		d.Mistake(n.Path, fmt.Sprintf("%s: route to %s goes via %s", what, dst, via), "use one family")
		return Route{}
	}
	return Route{Dst: dst, Via: via}
}

// unspecified returns the zero address of a's family.
func unspecified(a netip.Addr) netip.Addr {
	if a.Is4() {
		return netip.IPv4Unspecified()
	}
	return netip.IPv6Unspecified()
}
