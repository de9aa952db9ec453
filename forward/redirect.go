package forward

// Redirects says whether the node's rules give a packet that comes in by a device
// another destination, if it is the first of its connection.
func (n *Node) Redirects(device string, p Packet) bool {
	w := &walker{net: &Net{Nodes: []*Node{n}}, conns: map[string][]*conn{}, pkt: p, j: &Journey{}}
	w.enter(n)
	w.hook(n, w.place("prerouting", device, ""), Ruled{Device: device})
	return w.pkt.Dst != p.Dst || w.pkt.Dport != p.Dport
}
