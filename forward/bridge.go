package forward

import (
	"fmt"
	"slices"

	"github.com/nsbpf/nsbpf/internal/hop"
)

// bridgeIn takes a frame that came in by a port: up to the bridge's own stack, or
// out by another port. With br_netfilter an IP packet passes the hooks of
// prerouting here, as if it came in by the bridge.
func (w *walker) bridgeIn(s spot, to neighbour) {
	node, port := s.node, s.device
	bridge := node.Device(port.Master)
	if bridge == nil || !bridge.Up {
		w.stop(Obstacle{Code: DeviceDown, Node: node.Name, Device: port.Master,
			Sentence: fmt.Sprintf("%s:%s is down, and %s is its port", node.Name, port.Master, port.Name),
			Advice:   node.run("ip link set %s up", port.Master)})
		return
	}
	if !w.open(node, bridge, port) {
		return
	}
	before := w.pkt.Dst
	if !w.entersBridge(node, bridge, port) {
		return
	}
	own := to.mac != "" && bridge.FDB[to.mac] == bridge.Name || to.device == bridge || to.mac != "" && to.mac == bridge.MAC
	if own || to.all || w.pkt.Dst != before {
		at := place{family: "bridge", hook: "input", in: port.Name}
		if !w.unTracked(node, at) {
			return
		}
		w.step(node, bridge, hop.Ingress)
		if !w.done && w.guests(node, bridge, "ingress") {
			w.receive(node, bridge, node.filtersBridged(bridge, w.pkt))
		}
		return
	}
	w.bridgeOut(node, bridge, port, to)
}

// entersBridge lets a frame pass the rules at a bridge port, and reports whether it
// goes on.
func (w *walker) entersBridge(node *Node, bridge, port *Device) bool {
	if !w.unTracked(node, place{family: "bridge", hook: "prerouting", in: port.Name}) {
		return false
	}
	if !node.filtersBridged(bridge, w.pkt) {
		return true
	}
	w.enter(node)
	return w.hook(node, w.place("prerouting", bridge.Name, ""), Ruled{Device: bridge.Name})
}

// unTracked lets a frame pass a hook of the bridge's own, where conntrack is not.
func (w *walker) unTracked(node *Node, at place) bool {
	track := w.track
	w.track = tracked{state: stateInvalid}
	goes := w.hook(node, at)
	w.track = track
	return goes
}

// open checks that a port forwards.
func (w *walker) open(node *Node, bridge, port *Device) bool {
	if bridge.VLANs {
		w.doubt(Obstacle{Code: NotFollowed, Node: node.Name, Device: bridge.Name,
			Sentence: fmt.Sprintf("%s:%s filters by VLAN, which is not followed", node.Name, bridge.Name)})
	}
	if port.Port == "forwarding" {
		return true
	}
	w.stop(Obstacle{Code: PortState, Node: node.Name, Device: port.Name,
		Sentence: fmt.Sprintf("%s:%s, a port of %s, is in state %s", node.Name, port.Name, bridge.Name, port.Port),
		Advice:   "bring it up; wait for spanning tree, or " + node.run("ip link set %s type bridge stp_state 0", bridge.Name)})
	return false
}

// filtersBridged says whether bridged packets pass the hooks of IP
// (net/bridge/br_netfilter_hooks.c).
func (n *Node) filtersBridged(bridge *Device, p Packet) bool {
	family := familyOf(p.Dst)
	key := "net.bridge.bridge-nf-call-iptables"
	if family == "ip6" {
		key = "net.bridge.bridge-nf-call-ip6tables"
	}
	return n.Sysctls[key] == "1" || slices.Contains(bridge.Netfilter, family)
}

// bridgeOut sends a frame out by the port that leads to whom it is for. It came in
// by the port in, or is the bridge's own if that is nil.
func (w *walker) bridgeOut(node *Node, bridge, in *Device, to neighbour) {
	if to.all {
		w.doubt(Obstacle{Code: NotFollowed, Node: node.Name, Device: bridge.Name,
			Sentence: "the copies that a bridge makes of a broadcast are not followed"})
		w.finish(Lost, node.Name)
		return
	}
	leads := w.portTo(node, bridge, in, to)
	told := node.Device(bridge.FDB[to.mac])
	if told != nil && told.Master != bridge.Name {
		told = nil
	}
	out := leads
	switch {
	case told != nil && leads != nil && told != leads && to.asked:
		// The answer teaches the bridge where it came from.
	case told != nil && leads != nil && told != leads:
		w.stop(Obstacle{Code: WrongPort, Node: node.Name, Device: told.Name,
			Sentence: fmt.Sprintf("%s:%s takes %s for reached by %s, and it is reached by %s", node.Name, bridge.Name, to.mac, told.Name, leads.Name),
			Advice:   node.run("bridge fdb del %s dev %s master", to.mac, told.Name)})
		return
	case told != nil:
		out = told
	case out == nil:
		w.stop(Obstacle{Code: NoNeighbour, Node: node.Name, Device: bridge.Name,
			Sentence: fmt.Sprintf("no port of %s:%s leads to %s", node.Name, bridge.Name, to.mac),
			Advice:   "check that the ports are up and forward"})
		return
	}
	if !w.open(node, bridge, out) || !w.apart(node, in, out) {
		return
	}
	if in != nil && !w.bridged(node, bridge, in, out) {
		return
	}
	if in == nil && !w.unTracked(node, place{family: "bridge", hook: "output", out: out.Name}) {
		return
	}
	if !w.unTracked(node, place{family: "bridge", hook: "postrouting", out: out.Name}) || !w.guests(node, out, "egress") {
		return
	}
	if w.size() > out.MTU && out.MTU > 0 {
		w.stop(Obstacle{Code: TooBig, Node: node.Name, Device: out.Name,
			Sentence: fmt.Sprintf("%d bytes do not fit through %s:%s, whose MTU is %d, and a bridge says so to nobody", w.size(), node.Name, out.Name, out.MTU),
			Advice:   "give all links of the bridge the same MTU"})
		return
	}
	w.step(node, out, hop.Egress)
	w.transmit(node, out, to)
}

// apart checks that two ports reach each other.
func (w *walker) apart(node *Node, in, out *Device) bool {
	if in == nil || !in.Isolated || !out.Isolated {
		return true
	}
	w.stop(Obstacle{Code: PortState, Node: node.Name, Device: out.Name,
		Sentence: fmt.Sprintf("%s and %s of %s are isolated ports, which do not reach each other", in.Name, out.Name, node.Name),
		Advice:   node.run("bridge link set dev %s isolated off", out.Name)})
	return false
}

// bridged lets a frame that goes from port to port pass the hooks on its way.
func (w *walker) bridged(node *Node, bridge, in, out *Device) bool {
	if !w.unTracked(node, place{family: "bridge", hook: "forward", in: in.Name, out: out.Name}) {
		return false
	}
	if !node.filtersBridged(bridge, w.pkt) {
		return true
	}
	if !w.hook(node, w.place("forward", bridge.Name, bridge.Name)) {
		if w.j.End != Stopped {
			return false
		}
		o := &w.j.Obstacles[len(w.j.Obstacles)-1]
		key, tool := "net.bridge.bridge-nf-call-iptables", "iptables"
		if w.pkt.Dst.Is6() {
			key, tool = "net.bridge.bridge-nf-call-ip6tables", "ip6tables"
		}
		o.Sentence += fmt.Sprintf("; it is bridged by %s, and bridged packets pass these rules because br_netfilter is on", bridge.Name)
		off := node.run("sysctl -w %s=0", key)
		o.Advice = fmt.Sprintf("accept in that chain what goes out by %s, or keep all bridged packets out: %s", bridge.Name, off)
		if node.docker(o.Rule) {
			o.Advice = node.run("%s -I DOCKER-USER -i %s -o %[2]s -j ACCEPT", tool, bridge.Name) + ", or keep all bridged packets out: " + off
		}
		return false
	}
	return w.hook(node, w.place("postrouting", "", bridge.Name))
}

// portTo returns the port that leads to somebody; nil if none does.
func (w *walker) portTo(node *Node, bridge, in *Device, to neighbour) *Device {
	var outside *Device
	for _, p := range node.ports(bridge.Name) {
		if p == in || !p.Up {
			continue
		}
		if to.device == nil && p.Peer == "" {
			outside = p
			continue
		}
		if p.Port != "forwarding" {
			continue
		}
		behind := w.net.segment(spot{node, &Device{Name: p.Name, Kind: p.Kind, Peer: p.Peer}}, false)
		if slices.ContainsFunc(behind.others, func(s spot) bool { return s.device == to.device }) {
			return p
		}
	}
	return outside
}
