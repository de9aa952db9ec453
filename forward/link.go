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

// segment returns who shares a link with a device, and whether the link leads out
// of the lab too. What is down is not reached.
func (n *Net) segment(from spot) (others []spot, open bool) {
	seen := map[*Device]bool{from.device: true}
	var wire func(s spot)
	var bridge func(node *Node, name string, except *Device)
	arrive := func(s spot) {
		if seen[s.device] || !s.device.Up {
			return
		}
		seen[s.device] = true
		if s.device.Master != "" {
			bridge(s.node, s.device.Master, s.device)
			return
		}
		others = append(others, s)
	}
	wire = func(s spot) {
		if to, ok := n.peer(s.device); ok {
			arrive(to)
		} else if s.device.Kind != "loopback" {
			open = true
		}
	}
	bridge = func(node *Node, name string, except *Device) {
		b := node.Device(name)
		if b == nil || except != nil && except.Port != "forwarding" {
			return
		}
		if !seen[b] && b.Up {
			seen[b] = true
			others = append(others, spot{node, b})
		}
		for _, p := range node.ports(name) {
			if p != except && !seen[p] && p.Up && p.Port == "forwarding" && !(except != nil && except.Isolated && p.Isolated) {
				seen[p] = true
				wire(spot{node, p})
			}
		}
	}
	if from.device.Kind == "bridge" {
		bridge(from.node, from.device.Name, nil)
	} else {
		wire(from)
	}
	return others, open
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
	others, open := w.net.segment(spot{node, d})
	var owners []spot
	for _, s := range others {
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
		return w.knownAs(node, d, next, entry, others, open)
	case len(owners) > 0:
		if entry != nil && (entry.State == "failed" || entry.State == "incomplete") {
			o.Sentence = fmt.Sprintf("%s could not reach %s by %s lately (neighbour entry %s)", node.Name, next, d.Name, strings.ToUpper(entry.State))
			w.note(o)
		}
		return neighbour{mac: owners[0].device.MAC, spot: owners[0], asked: true}, true
	case open:
		return neighbour{}, true
	}
	o.Code = NoNeighbour
	o.Sentence = fmt.Sprintf("nobody that %s:%s reaches has the address %s", node.Name, d.Name, next)
	if entry != nil {
		o.Sentence += fmt.Sprintf(" (neighbour entry %s)", strings.ToUpper(entry.State))
	}
	o.Advice = "check the address, and that the links to its owner are up"
	if reach, ok := w.net.peer(d); ok && !reach.device.Up {
		o.Code = DeviceDown
		o.Sentence = fmt.Sprintf("%s:%s, the other end of %s:%s, is down", reach.node.Name, reach.device.Name, node.Name, d.Name)
		o.Advice = fmt.Sprintf("ip link set %s up in %s", reach.device.Name, reach.node.Name)
	} else if state := w.closedPort(d); state != "" {
		o.Code, o.Sentence = PortState, state
		o.Advice = "wait for spanning tree, or set stp_state of the bridge to 0"
	}
	w.stop(o)
	return neighbour{}, false
}

// closedPort returns what keeps the bridge port behind a device closed, if that
// is it.
func (w *walker) closedPort(d *Device) string {
	to, ok := w.net.peer(d)
	if !ok || to.device.Master == "" || to.device.Port == "forwarding" {
		return ""
	}
	return fmt.Sprintf("%s:%s, a port of %s, is in state %s", to.node.Name, to.device.Name, to.device.Master, cmp.Or(to.device.Port, "unknown"))
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
func (w *walker) knownAs(node *Node, d *Device, next netip.Addr, entry *Neighbour, others []spot, open bool) (neighbour, bool) {
	for _, s := range others {
		if s.device.MAC == entry.MAC {
			return neighbour{mac: entry.MAC, spot: s}, true
		}
	}
	for _, s := range others { // a port takes for its bridge what has its own address
		if s.device.Kind == "bridge" && s.device.FDB[entry.MAC] == s.device.Name {
			return neighbour{mac: entry.MAC, spot: s}, true
		}
	}
	if open {
		return neighbour{mac: entry.MAC}, true
	}
	o := Obstacle{Code: Unresolved, Node: node.Name, Device: d.Name,
		Sentence: fmt.Sprintf("%s sends packets for %s to %s (neighbour entry %s), and nobody that %s reaches has that address", node.Name, next, entry.MAC, strings.ToUpper(entry.State), d.Name),
		Advice:   fmt.Sprintf("ip neigh del %s dev %s in %s", next, d.Name, node.Name)}
	if to, ok := w.net.peer(d); ok && !to.device.Up {
		o.Code = DeviceDown
		o.Sentence = fmt.Sprintf("%s:%s, the other end of %s:%s, is down", to.node.Name, to.device.Name, node.Name, d.Name)
		o.Advice = fmt.Sprintf("ip link set %s up in %s", to.device.Name, to.node.Name)
	} else if state := w.closedPort(d); state != "" {
		o.Code, o.Sentence = PortState, state
		o.Advice = "wait for spanning tree, or set stp_state of the bridge to 0"
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
		w.finish(LeftLab, node.Name)
		return
	}
	other, ok := w.net.peer(d)
	if !ok {
		w.doubt(Obstacle{Code: NotFollowed, Node: node.Name, Device: d.Name, Sentence: "the configuration of " + d.Peer + " is not known"})
		w.finish(Lost, node.Name)
		return
	}
	w.arrive(other, to)
}

// arrive takes a packet into a node.
func (w *walker) arrive(s spot, to neighbour) {
	if !s.device.Up {
		w.stop(Obstacle{Code: DeviceDown, Node: s.node.Name, Device: s.device.Name,
			Sentence: fmt.Sprintf("%s:%s is down", s.node.Name, s.device.Name),
			Advice:   fmt.Sprintf("ip link set %s up in %s", s.device.Name, s.node.Name)})
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
