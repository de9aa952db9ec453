package trace

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/nsbpf/nsbpf/collector"
	"github.com/nsbpf/nsbpf/internal/hop"
)

// graph is a lab's hops, what follows each, and whose addresses are whose.
type graph struct {
	places []place // by hop.ID
}

// place is a hop and what a packet's way depends on there.
type place struct {
	hop.Hop
	exists bool
	fed    bool     // a hop of the lab comes before it
	next   []hop.ID // sorted
	wires  []bool   // by next: nothing is translated on the way
	onward []hop.ID // next, without the way back if there is another
	owned  map[[16]byte]struct{}

	filters []Filter
}

func newGraph(hops []hop.Hop, edges []hop.Edge, owners map[string][]netip.Addr) (*graph, error) {
	g := &graph{}
	owned := make(map[string]map[[16]byte]struct{}, len(owners))
	for node, addrs := range owners {
		owned[node] = make(map[[16]byte]struct{}, len(addrs))
		for _, a := range addrs {
			owned[node][a.As16()] = struct{}{}
		}
	}
	for _, h := range hops {
		if n := int(h.ID) + 1; n > len(g.places) {
			g.places = append(g.places, make([]place, n-len(g.places))...)
		}
		if p := &g.places[h.ID]; p.exists {
			return nil, fmt.Errorf("joining paths: hops %s and %s share the id %d", p.Hop, h, h.ID)
		}
		g.places[h.ID] = place{Hop: h, exists: true, owned: owned[h.Node]}
	}
	for _, e := range edges {
		if g.at(e.From) == nil || g.at(e.To) == nil {
			return nil, fmt.Errorf("joining paths: edge from hop %d to %d: no such hop", e.From, e.To)
		}
		g.at(e.From).next = append(g.at(e.From).next, e.To)
		g.at(e.To).fed = true
	}
	g.throughXDP()
	g.markWires(edges)
	for i := range g.places {
		g.places[i].onward = g.onward(&g.places[i])
	}
	return g, nil
}

// throughXDP takes away what leads past an XDP hop: every packet that comes to the
// device passes it.
func (g *graph) throughXDP() {
	for i := range g.places {
		p := &g.places[i]
		slices.Sort(p.next)
		p.next = slices.Compact(p.next)
		for _, id := range slices.Clone(p.next) {
			if x := g.at(id); x.Layer == hop.XDP {
				p.next = slices.DeleteFunc(p.next, func(id hop.ID) bool { return slices.Contains(x.next, id) })
			}
		}
	}
}

// markWires notes where nothing is translated on the way: on wires, and from and
// to XDP hops.
func (g *graph) markWires(edges []hop.Edge) {
	for i := range g.places {
		g.places[i].wires = make([]bool, len(g.places[i].next))
	}
	for _, e := range edges {
		from, to := g.at(e.From), g.at(e.To)
		if k, ok := slices.BinarySearch(from.next, e.To); ok && (e.Wire || from.Layer == hop.XDP || to.Layer == hop.XDP) {
			from.wires[k] = true
		}
	}
}

// onward returns what follows p but for p's own device, by which few packets
// leave that came by it.
func (g *graph) onward(p *place) []hop.ID {
	var ids []hop.ID
	for _, id := range p.next {
		if g.at(id).Place() != p.Place() {
			ids = append(ids, id)
		}
	}
	if len(ids) == 0 {
		return p.next
	}
	return ids
}

// at returns the place of that id, or nil.
func (g *graph) at(id hop.ID) *place {
	if int(id) >= len(g.places) || !g.places[id].exists {
		return nil
	}
	return &g.places[id]
}

// edge returns whether a packet can be at hop to next after hop from, and if so
// whether it comes there by a wire.
func (g *graph) edge(from, to uint16) (wire, ok bool) {
	p := &g.places[from]
	k, ok := slices.BinarySearch(p.next, hop.ID(to))
	return ok && p.wires[k], ok
}

// verdict says whether s, which is at p, has come to an end there as far as its
// addresses tell.
func (p *place) verdict(s *collector.Sighting) Verdict {
	switch {
	case p.droppedBy(s) != 0:
		return LastSeen
	case p.Direction == hop.Egress:
		if p.Kind == hop.Uplink {
			return LeftLab
		}
		return LastSeen
	case p.Kind == hop.Port || p.Layer == hop.XDP:
		return LastSeen
	case p.takes(s):
		return Delivered
	}
	return LastSeen
}

// takes says whether a packet that comes into p's node is for that node. A group
// packet is for every node. A link-local address is one that the kernel gave
// itself and that no router forwards, so the node reached is the one meant.
func (p *place) takes(s *collector.Sighting) bool {
	switch {
	case !s.Addressed():
		return true
	case s.Packet.EtherType == collector.EtherARP:
		return p.owns(s.Packet.Dst) || s.Packet.Src == s.Packet.Dst
	case s.IsGroup():
		return true
	}
	return p.owns(s.Packet.Dst) || linkLocal(s.Packet.Dst)
}

func (p *place) owns(addr [16]byte) bool {
	_, ok := p.owned[addr]
	return ok
}

func linkLocal(a [16]byte) bool { return a[0] == 0xfe && a[1]&0xc0 == 0x80 }

// begins says whether a packet can come to be at p, where it was seen first:
// from outside the lab, or from p's own node. A node sends by a port itself only
// what it sends by every device.
func (p *place) begins(s *collector.Sighting) bool {
	switch {
	case !p.fed:
		return true
	case p.Direction == hop.Ingress:
		return false
	case !s.IsIP() || !s.Addressed():
		return p.Kind != hop.Port
	}
	src := s.Packet.Src
	own := linkLocal(src) || netip.AddrFrom16(src).Unmap().IsUnspecified()
	return own || p.Kind != hop.Port && p.owns(src)
}

// copies returns how many hops a group packet goes to from p, if it goes to all
// that it can: a node's stack keeps it.
func (p *place) copies() int {
	if p.Direction == hop.Ingress && p.Kind != hop.Port {
		return 0
	}
	return len(p.next)
}

// node returns the node of the hop, "" if there is no such hop.
func (g *graph) node(id uint16) string {
	if p := g.at(hop.ID(id)); p != nil {
		return p.Node
	}
	return ""
}
