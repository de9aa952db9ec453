package forward

import (
	"fmt"
	"net/netip"

	"github.com/nsbpf/nsbpf/internal/hop"
)

// originate routes and sends a packet of the node's own.
func (w *walker) originate(node *Node) {
	flow := w.flow("")
	flow.OIF = w.pkt.Dst.Zone()
	r := node.Lookup(flow)
	if !w.routed(node, r, "") {
		return
	}
	if !w.pkt.Src.IsValid() {
		w.pkt.Src = node.SourceOf(r, w.pkt.Dst)
		w.j.Packet.Src = w.pkt.Src
		if !w.pkt.Src.IsValid() {
			w.stop(Obstacle{Code: NoSource, Node: node.Name, Device: r.Device,
				Sentence: fmt.Sprintf("%s has no address to send %s from", node.Name, ProtoName(w.pkt.Proto)),
				Advice:   "give it one"})
			return
		}
		// The source has a say in rules and IPv6 routes.
		flow.Src = w.pkt.Src
		if r = node.Lookup(flow); !w.routed(node, r, "") {
			return
		}
	}
	w.enter(node)
	before, mark := w.pkt.Dst, w.pkt.Mark
	if !w.hook(node, w.place("output", "", r.Device), r) {
		return
	}
	if w.pkt.Dst != before || w.pkt.Mark != mark { // ip_route_me_harder
		if r = node.Lookup(w.flow("")); !w.routed(node, r, "") {
			return
		}
	}
	if r.Kind == "local" {
		w.loop(node)
		return
	}
	w.emit(node, r)
}

// loop takes a packet of the node to the node itself, by lo.
func (w *walker) loop(node *Node) {
	lo := node.Device("lo")
	if lo == nil || !lo.Up {
		w.stop(Obstacle{Code: DeviceDown, Node: node.Name, Device: "lo",
			Sentence: fmt.Sprintf("lo is down in %s, and what the node sends to itself goes by it", node.Name),
			Advice:   node.run("ip link set lo up")})
		return
	}
	if w.hook(node, w.place("postrouting", "", "lo")) && w.hook(node, w.place("prerouting", "lo", "")) {
		w.deliver(node, lo)
	}
}

func (w *walker) flow(iif string) Flow {
	p := w.pkt
	return Flow{Src: p.Src, Dst: p.Dst, IIF: iif, Mark: p.Mark, Proto: p.Proto, Sport: p.Sport, Dport: p.Dport}
}

func (w *walker) place(hook, in, out string) place {
	return place{family: familyOf(w.pkt.Dst), hook: hook, in: in, out: out}
}

// routed tells what hinders about the result of a lookup, and reports whether
// there is a way.
func (w *walker) routed(node *Node, r Ruled, in string) bool {
	if r.Unknown != "" {
		w.doubt(Obstacle{Code: SeveralRoutes, Node: node.Name,
			Sentence: fmt.Sprintf("which way %s sends it is not sure: %s", node.Name, r.Unknown)})
	}
	o := Obstacle{Node: node.Name, Device: in}
	switch r.Kind {
	case "unicast", "local", "broadcast", "anycast":
		return true
	case "multicast":
		o.Code, o.Sentence = NotFollowed, "where a multicast packet goes is not followed"
		w.doubt(o)
		w.finish(Lost, node.Name)
		return false
	case "none":
		o.Code = NoRoute
		o.Sentence = fmt.Sprintf("%s has no route to %s", node.Name, w.pkt.Dst)
		o.Advice = node.run("%s route add %s via GATEWAY", ipTool(w.pkt.Dst), w.pkt.Dst) + ", or a default route"
		if w.pkt.Dst.IsLinkLocalUnicast() {
			o.Advice = fmt.Sprintf("name the device: %s%%DEVICE", w.pkt.Dst)
		}
	default:
		o.Code = RouteRefuses
		o.Sentence = fmt.Sprintf("%s refuses packets to %s: %s", node.Name, w.pkt.Dst, r)
		o.Advice = "delete that route, or add a more specific one"
		if r.Route == nil {
			o.Advice = "delete that rule, or put one before it"
		}
	}
	w.stop(o)
	return false
}

// ipTool returns the ip command of an address's family.
func ipTool(a netip.Addr) string {
	if a.Is4() {
		return "ip"
	}
	return "ip -6"
}

// emit lets a routed packet out of a node.
func (w *walker) emit(node *Node, r Ruled) {
	d := node.Device(r.Device)
	if d == nil {
		w.doubt(Obstacle{Code: NotFollowed, Node: node.Name, Sentence: fmt.Sprintf("route %s leads to no device", r)})
		w.finish(Lost, node.Name)
		return
	}
	if !w.fits(node, d, r) || !w.hook(node, w.place("postrouting", "", d.Name), r) {
		return
	}
	w.route = r.String()
	if d.Kind == "loopback" {
		w.deliver(node, d)
		return
	}
	if !d.Up {
		w.stop(Obstacle{Code: DeviceDown, Node: node.Name, Device: d.Name,
			Sentence: fmt.Sprintf("%s is down in %s", d.Name, node.Name), Advice: node.run("ip link set %s up", d.Name)})
		return
	}
	next := w.pkt.Dst
	if r.Via.IsValid() {
		next = r.Via
	}
	to, ok := w.resolve(node, d, next, r.Kind == "broadcast")
	if !ok || !w.guests(node, d, "egress") {
		return
	}
	w.from = spot{node, d}
	w.step(node, d, hop.Egress)
	w.transmit(node, d, to)
}

// size returns how long the packet is, or its largest fragment.
func (w *walker) size() int {
	if w.piece > 0 {
		return w.piece
	}
	return w.pkt.Length
}

// fits checks the packet's length against the MTUs of the link and of the route,
// and makes fragments if that is allowed: of IPv6 only its sender makes them.
func (w *walker) fits(node *Node, d *Device, r Ruled) bool {
	mtu := d.MTU
	if r.Route != nil && r.Route.MTU > 0 {
		mtu = r.Route.MTU
	}
	if w.size() <= mtu || mtu == 0 {
		return true
	}
	sender := node.Name == w.j.From && len(w.j.Steps) == 0
	if w.pkt.Dst.Is4() && !w.pkt.DF || w.pkt.Dst.Is6() && sender {
		w.piece = mtu
		return true
	}
	o := Obstacle{Code: TooBig, Node: node.Name, Device: d.Name,
		Sentence: fmt.Sprintf("%d bytes do not fit through %s:%s, whose MTU is %d, and must not be fragmented", w.size(), node.Name, d.Name, mtu),
		Advice:   fmt.Sprintf("raise the MTU of the link, or send no more than %d bytes", mtu)}
	if mtu != d.MTU {
		o.Sentence = fmt.Sprintf("%d bytes are more than the MTU %d of the route %s in %s, and must not be fragmented", w.size(), mtu, r, node.Name)
		o.Advice = fmt.Sprintf("send no more than %d bytes; what %s learnt of a way is forgotten with ", mtu, node.Name) + node.run("%s route flush cache", ipTool(w.pkt.Dst))
	}
	w.stop(o)
	return false
}

// receive takes a packet that came in by a device that is no port. Where
// br_netfilter was at work prerouting is over.
func (w *walker) receive(node *Node, d *Device, filtered bool) {
	if w.pkt.Dst.Is6() && node.Sysctls["net.ipv6.conf."+d.Name+".disable_ipv6"] == "1" {
		w.stop(Obstacle{Code: FamilyOff, Node: node.Name, Device: d.Name,
			Sentence: fmt.Sprintf("IPv6 is off at %s:%s", node.Name, d.Name),
			Advice:   node.run("sysctl -w net.ipv6.conf.%s.disable_ipv6=0", d.Name)})
		return
	}
	if !filtered {
		w.enter(node)
		if !w.hook(node, w.place("prerouting", d.Name, ""), Ruled{Device: d.Name}) {
			return
		}
	}
	if w.link {
		w.deliver(node, d)
		return
	}
	if o, bad := node.martian(d, w.pkt); bad {
		w.stop(o)
		return
	}
	flow := w.flow(d.Name)
	if w.pkt.Dst.IsLinkLocalUnicast() && w.pkt.Dst.Is6() {
		flow.OIF = d.Name
	}
	r := node.Lookup(flow)
	if r.Kind != "local" && r.Kind != "broadcast" && !w.forwards(node, d) {
		return
	}
	if !w.routed(node, r, d.Name) || !w.sourceFits(node, d, r) {
		return
	}
	if r.Kind != "unicast" {
		w.deliver(node, d)
		return
	}
	if w.pkt.TTL <= 1 {
		w.stop(Obstacle{Code: HopLimit, Node: node.Name, Device: d.Name,
			Sentence: fmt.Sprintf("its TTL is used up in %s", node.Name),
			Advice:   "send it with a higher TTL, or look for a routing loop"})
		return
	}
	w.pkt.TTL--
	if w.fits(node, node.deviceOr(r.Device), r) && w.hook(node, w.place("forward", d.Name, r.Device)) {
		w.emit(node, r)
	}
}

func (n *Node) deviceOr(name string) *Device {
	if d := n.Device(name); d != nil {
		return d
	}
	return &Device{Name: name}
}

// forwards checks that the node is a router for what comes in by d.
func (w *walker) forwards(node *Node, d *Device) bool {
	key := "net.ipv4.ip_forward"
	conf := node.Sysctls["net.ipv4.conf."+d.Name+".forwarding"]
	if w.pkt.Dst.Is6() { // a device's own setting makes no router
		key = "net.ipv6.conf.all.forwarding"
		conf = node.Sysctls[key]
	}
	if conf == "" {
		w.doubt(Obstacle{Code: NotForwarding, Node: node.Name, Device: d.Name,
			Sentence: fmt.Sprintf("whether %s forwards is not known", node.Name)})
	}
	if conf != "0" {
		return true
	}
	o := Obstacle{Code: NotForwarding, Node: node.Name, Device: d.Name,
		Sentence: fmt.Sprintf("%s is not an address of %s, and %s does not forward (%s=0)", w.pkt.Dst, node.Name, node.Name, key),
		Advice:   node.run("sysctl -w %s=1", key) + ", if it is to be a router"}
	if node.Sysctls[key] == "1" {
		o.Sentence = fmt.Sprintf("%s does not forward what comes in by %s (net.ipv4.conf.%s.forwarding=0)", node.Name, d.Name, d.Name)
		o.Advice = node.run("sysctl -w net.ipv4.conf.%s.forwarding=1", d.Name)
	}
	w.stop(o)
	return false
}

func (w *walker) sourceFits(node *Node, d *Device, r Ruled) bool {
	out := ""
	if r.Kind == "unicast" {
		out = r.Device
	}
	o, bad := node.reverse(d, w.flow(d.Name), out)
	if bad {
		w.stop(o)
	}
	return !bad
}

// deliver ends the journey in a node that owns the destination, unless nobody
// there wants the packet.
func (w *walker) deliver(node *Node, d *Device) {
	if !w.hook(node, w.place("input", d.Name, "")) {
		return
	}
	if !w.answered(node, d) {
		return
	}
	w.finish(Delivered, node.Name)
}

// masquerade returns the address that a packet gets whose rule says no more than
// that it shall be the node's own: of the way out, or for a redirect of where it
// came in.
func (n *Node) masquerade(at place, p *Packet, r []Ruled) netip.Addr {
	switch {
	case at.hook == "output":
		if p.Dst.Is4() {
			return netip.AddrFrom4([4]byte{127, 0, 0, 1})
		}
		return netip.IPv6Loopback()
	case len(r) == 0:
		if d := n.Device(at.out); d != nil { // a bridge that br_netfilter stands for
			return n.SourceOf(Ruled{Device: d.Name}, p.Dst)
		}
		return netip.Addr{}
	}
	// Like masq and redirect in the kernel, whose choice knows no preferred source.
	return n.SourceOf(Ruled{Device: r[0].Device, Via: r[0].Via}, p.Dst)
}
