package topology

import (
	"net/netip"
	"slices"

	"github.com/nsbpf/nsbpf/internal/hop"
)

// LocalAddrs returns every address that node owns, those of lo included but
// for 127.0.0.1, ::1 and the link-local ones that the kernel makes.
func (t *Topology) LocalAddrs(node string) []netip.Addr {
	var addrs []netip.Addr
	for _, p := range t.placed() {
		if p.node == node {
			addrs = append(addrs, p.prefix.Addr())
		}
	}
	return addrs
}

// device is where hops are: a veth end, a bridge or an uplink.
type device struct {
	node, name string
	kind       hop.Kind
	bridge     string // of a port and of the bridge itself
	peer       int    // of a veth end: the index of the other one
}

// watched returns the devices in the order a reader follows a packet: each
// link from the node to its peer, then bridges, uplinks and the way to wan.
func (t *Topology) watched() []device {
	var devices []device
	pair := func(l Link) {
		a, b := l.A, l.B
		if a.Bridge != "" && b.Bridge == "" {
			a, b = b, a
		}
		i := len(devices)
		devices = append(devices, a.device(i+1), b.device(i))
	}
	isWAN := func(l Link) bool { return l.A.Node == WANNode || l.B.Node == WANNode }
	for _, l := range t.Links {
		if !isWAN(l) {
			pair(l)
		}
	}
	for _, b := range t.Bridges {
		devices = append(devices, device{node: b.Node, name: b.Name, kind: hop.Bridge, bridge: b.Name})
	}
	for _, n := range t.Nodes {
		for _, up := range n.Uplinks {
			devices = append(devices, device{node: n.Name, name: up, kind: hop.Uplink})
		}
	}
	for _, l := range t.Links {
		if isWAN(l) {
			pair(l)
		}
	}
	return devices
}

func (e End) device(peer int) device {
	d := device{node: e.Node, name: e.Device, kind: hop.End, bridge: e.Bridge, peer: peer}
	if e.Bridge != "" {
		d.kind = hop.Port
	}
	return d
}

func (d device) veth() bool { return d.kind == hop.End || d.kind == hop.Port }

// Hops returns the places where t's packets are looked at, by ID: ingress and
// egress of every veth end, bridge and uplink, device by device along the way a
// packet takes. With xdp there follows an XDP hop for each veth end.
func (t *Topology) Hops(xdp bool) []Hop {
	var hops []Hop
	add := func(d device, dir hop.Direction, layer hop.Layer) {
		hops = append(hops, Hop{
			ID: hop.ID(len(hops)), Node: d.node, Device: d.name, Direction: dir, Layer: layer, Kind: d.kind,
		})
	}
	for _, d := range t.watched() {
		add(d, hop.Ingress, hop.TC)
		add(d, hop.Egress, hop.TC)
	}
	if !xdp {
		return hops
	}
	for _, d := range t.watched() {
		if d.veth() {
			add(d, hop.Ingress, hop.XDP)
		}
	}
	return hops
}

// Edges returns which of hops, which are all or some of t's, follow each other,
// sorted:
//
//   - wire: from a veth end's egress to its peer's ingress, as tc sees both. A
//     packet that an XDP program drops is lost on this edge.
//   - XDP: from that egress to the peer's XDP hop, and on to the peer's tc
//     ingress. They are no wires: XDP counts frames, and does not know how many
//     segments are in one.
//   - bridge: from a port to the other ports and to the bridge's own ingress,
//     and from the bridge's egress to the ports.
//   - stack: within a node that forwards, from the ingress of every device that
//     is no port to the egress of every such device, the same one included.
func (t *Topology) Edges(hops []Hop) []hop.Edge {
	g := graph{ids: map[Hop]hop.ID{}}
	for _, h := range hops {
		g.ids[Hop{Node: h.Node, Device: h.Device, Direction: h.Direction, Layer: h.Layer}] = h.ID
	}
	devices := t.watched()
	for _, d := range devices {
		if d.veth() {
			g.wire(d, devices[d.peer])
		}
		for _, e := range devices {
			if d.node == e.node {
				t.within(&g, d, e)
			}
		}
	}
	slices.SortFunc(g.edges, func(a, b hop.Edge) int {
		if a.From != b.From {
			return int(a.From) - int(b.From)
		}
		return int(a.To) - int(b.To)
	})
	return g.edges
}

// within adds the edges between two devices of one node.
func (t *Topology) within(g *graph, d, e device) {
	port, bridge := d.kind == hop.Port, d.kind == hop.Bridge
	sameBridge := d.bridge != "" && d.bridge == e.bridge
	switch {
	case sameBridge && port && e.kind == hop.Port && d.name != e.name:
		g.edge(d, hop.Ingress, e, hop.Egress)
	case sameBridge && port && e.kind == hop.Bridge:
		g.edge(d, hop.Ingress, e, hop.Ingress)
	case sameBridge && bridge && e.kind == hop.Port:
		g.edge(d, hop.Egress, e, hop.Egress)
	}
	if !port && e.kind != hop.Port && t.Node(d.node).Forward {
		g.edge(d, hop.Ingress, e, hop.Egress)
	}
}

// graph collects the edges between those hops that exist, which are known by
// place, direction and layer.
type graph struct {
	ids   map[Hop]hop.ID
	edges []hop.Edge
}

func (g *graph) join(from, to Hop, wire bool) {
	a, okA := g.ids[from]
	b, okB := g.ids[to]
	if okA && okB {
		g.edges = append(g.edges, hop.Edge{From: a, To: b, Wire: wire})
	}
}

func (g *graph) edge(d device, out hop.Direction, e device, in hop.Direction) {
	g.join(Hop{Node: d.node, Device: d.name, Direction: out}, Hop{Node: e.node, Device: e.name, Direction: in}, false)
}

func (g *graph) wire(d, peer device) {
	out := Hop{Node: d.node, Device: d.name, Direction: hop.Egress}
	in := Hop{Node: peer.node, Device: peer.name, Direction: hop.Ingress}
	xdp := in
	xdp.Layer = hop.XDP
	g.join(out, in, true)
	g.join(out, xdp, false)
	g.join(xdp, in, false)
}
