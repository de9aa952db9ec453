package topology

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
)

// clone returns a deep copy of t.
func (t *Topology) clone() *Topology {
	c := *t
	c.Nodes = slices.Clone(t.Nodes)
	for i := range c.Nodes {
		n := &c.Nodes[i]
		n.Addrs, n.Routes = slices.Clone(n.Addrs), slices.Clone(n.Routes)
		n.Masquerade, n.Uplinks = slices.Clone(n.Masquerade), slices.Clone(n.Uplinks)
		n.Sysctls = slices.Clone(n.Sysctls)
	}
	c.Bridges = slices.Clone(t.Bridges)
	for i := range c.Bridges {
		c.Bridges[i].Addrs = slices.Clone(c.Bridges[i].Addrs)
	}
	c.Links = slices.Clone(t.Links)
	for i := range c.Links {
		l := &c.Links[i]
		l.A.Addrs, l.B.Addrs = slices.Clone(l.A.Addrs), slices.Clone(l.B.Addrs)
	}
	return &c
}

// Isolated returns t with the node host made like any other, so that nothing of
// the real host is touched.
func (t *Topology) Isolated() *Topology {
	c := t.clone()
	if host := c.Node(HostNode); host != nil {
		host.Netns, host.Uplinks = HostNode, nil
	}
	return c
}

// WithUplinks returns t with devs as the uplinks of host, if that is the
// namespace nsbpf runs in and it forwards; else nothing leaves by them.
func (t *Topology) WithUplinks(devs []string) *Topology {
	c := t.clone()
	if host := c.Node(HostNode); host != nil && host.Netns == "" && host.Forward {
		host.Uplinks = slices.Clone(devs)
	}
	return c
}

// WithWAN returns t isolated and with a simulated outside: a node wan that
// answers at 8.8.8.8 and 2001:4860:4860::8888, as host's default route. As the
// real outside, it knows no way back to addresses that are not translated.
//
// It is an error if t has nothing on host, or what is added would collide.
func (t *Topology) WithWAN() (*Topology, error) {
	c := t.Isolated()
	host := c.Node(HostNode)
	if host == nil {
		return nil, fmt.Errorf("adding a wan to lab %q: nothing of it is on node host (try preset nat)", t.Name)
	}
	if c.Node(WANNode) != nil {
		return nil, fmt.Errorf("adding a wan to lab %q: it has a node %q already (rename that)", t.Name, WANNode)
	}
	c.Nodes = append(c.Nodes, Node{Name: WANNode, Netns: WANNode, Addrs: []netip.Prefix{
		netip.MustParsePrefix("8.8.8.8/32"), netip.MustParsePrefix("2001:4860:4860::8888/128"),
	}})
	host = c.Node(HostNode)
	host.Routes = append(host.Routes, defaultVia("192.0.2.1"), defaultVia("2001:db8::1"))
	c.Links = append(c.Links, Link{
		A: End{Node: HostNode, Device: freeDevice(c, HostNode), Addrs: []netip.Prefix{
			netip.MustParsePrefix("192.0.2.2/24"), netip.MustParsePrefix("2001:db8::2/64"),
		}},
		B: End{Node: WANNode, Device: "eth0", Addrs: []netip.Prefix{
			netip.MustParsePrefix("192.0.2.1/24"), netip.MustParsePrefix("2001:db8::1/64"),
		}},
	})
	return c, c.check("adding a wan to lab")
}

// check returns t's first mistake as an error that begins with doing, or nil.
func (t *Topology) check(doing string) error {
	var err error
	first := func(path, msg, hint string) {
		if err == nil {
			err = fmt.Errorf("%s %q: %w", doing, t.Name, &Error{Path: path, Msg: msg, Hint: hint})
		}
	}
	validate(t, first)
	validateWhole(t, first)
	return err
}

func defaultVia(gateway string) Route {
	via := netip.MustParseAddr(gateway)
	return Route{Dst: netip.PrefixFrom(unspecified(via), 0), Via: via}
}

// freeDevice returns the first of eth0, eth1, … that node does not have.
func freeDevice(t *Topology, node string) string {
	taken := t.bridgesOf(node)
	for _, l := range t.Links {
		for _, e := range []End{l.A, l.B} {
			if e.Node == node {
				taken = append(taken, e.Device)
			}
		}
	}
	for i := 0; ; i++ {
		if name := fmt.Sprintf("eth%d", i); !slices.Contains(taken, name) {
			return name
		}
	}
}

// Named returns t as lab name: its namespaces are called NAME-NODE, and its
// devices on the real host NAME-DEVICE, shortened by a hash where that is too
// long. Devices within its namespaces keep their names, and so do its nodes.
//
// Named comes after [Topology.Isolated] and [Topology.WithWAN], which decide
// what is on the real host.
func (t *Topology) Named(name string) (*Topology, error) {
	if msg, hint := checkLab(name); msg != "" {
		return nil, &Error{Path: "name", Msg: fmt.Sprintf("lab name %q %s", name, msg), Hint: hint}
	}
	c := t.clone()
	c.Name = name
	for i := range c.Nodes {
		if n := &c.Nodes[i]; n.Netns != "" {
			n.Netns = name + "-" + n.Name
		}
	}
	rename := func(node, device, alt string) (string, string) {
		if c.netns(node) != "" {
			return device, alt
		}
		return shorten(name + "-" + cmp.Or(alt, device))
	}
	bridges := map[string]string{}
	for i := range c.Bridges {
		b, old := &c.Bridges[i], c.Bridges[i].Name
		b.Name, b.AltName = rename(b.Node, b.Name, b.AltName)
		bridges[old] = b.Name
	}
	for i := range c.Links {
		for _, e := range []*End{&c.Links[i].A, &c.Links[i].B} {
			e.Device, e.AltName = rename(e.Node, e.Device, e.AltName)
			e.Bridge = bridges[e.Bridge]
		}
	}
	return c, c.check("naming lab")
}
