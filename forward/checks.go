package forward

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// martian says whether the kernel takes a packet that came in by d for a fake by
// its addresses alone (ip_route_input_slow).
func (n *Node) martian(d *Device, p Packet) (Obstacle, bool) {
	if p.Dst.Is6() || d.Kind == "loopback" {
		return Obstacle{}, false
	}
	localnet := n.setting(d.Name, "route_localnet", false) == 1
	o := Obstacle{Code: Martian, Node: n.Name, Device: d.Name}
	switch {
	case p.Src.IsMulticast() || p.Src == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		o.Sentence = fmt.Sprintf("%s is no address that a packet can come from", p.Src)
	case !localnet && (p.Src.IsLoopback() || p.Dst.IsLoopback()):
		o.Sentence = fmt.Sprintf("%s takes no packet of 127.0.0.0/8 from %s", n.Name, d.Name)
		o.Advice = n.run("sysctl -w net.ipv4.conf.%s.route_localnet=1", d.Name)
	default:
		return o, false
	}
	return o, true
}

// setting returns the IPv4 setting of a device: the larger one of its own and
// that for all with biggest, else whether one of both is on.
func (n *Node) setting(device, name string, biggest bool) int {
	read := func(who string) int {
		v, _ := strconv.Atoi(n.Sysctls["net.ipv4.conf."+who+"."+name])
		return v
	}
	all, own := read("all"), read(device)
	if biggest {
		return max(all, own)
	}
	return min(all|own, 1)
}

// reverse says whether the kernel refuses a packet for its source, as
// fib_validate_source does: its own address from outside, and with rp_filter one
// that it would not reach by the device.
//
// Out is the device that it is to leave by, "" of one for the node itself.
func (n *Node) reverse(d *Device, f Flow, out string) (Obstacle, bool) {
	if f.Dst.Is6() || d.Kind == "loopback" || !f.Src.IsValid() || f.Src.IsUnspecified() {
		return Obstacle{}, false
	}
	o := Obstacle{Code: Martian, Node: n.Name, Device: d.Name}
	own := n.setting(d.Name, "accept_local", false) == 1
	if n.Local(f.Src) && !own {
		o.Sentence = fmt.Sprintf("%s has the packet's source %s itself, and takes none of these from %s", n.Name, f.Src, d.Name)
		o.Advice = "give the sender another address, or " + n.run("sysctl -w net.ipv4.conf.%s.accept_local=1", d.Name)
		return o, true
	}
	mode := n.setting(d.Name, "rp_filter", true)
	if mode == 0 {
		return o, false
	}
	back := Flow{Src: f.Dst, Dst: f.Src, TOS: f.TOS, IIF: out}
	if n.setting(d.Name, "src_valid_mark", false) == 1 {
		back.Mark = f.Mark
	}
	r := n.Lookup(back)
	if n.reaches(r, d.Name) || r.Kind == "local" && own || mode == 2 && r.Kind == "unicast" && n.addressed(d) {
		return o, false
	}
	o.Code = ReversePath
	o.Sentence = fmt.Sprintf("rp_filter of %s:%s drops it: answers to %s would go %s", n.Name, d.Name, f.Src, leaving(r))
	o.Advice = fmt.Sprintf("route %s by %s, or be loose: ", f.Src, d.Name) + n.run("sysctl -w net.ipv4.conf.%s.rp_filter=2", d.Name)
	return o, true
}

func leaving(r Ruled) string {
	if r.Kind == "unicast" {
		return "out by " + r.Device + " (" + r.String() + ")"
	}
	return "nowhere (" + r.String() + ")"
}

// reaches says whether one of the next hops of a route is by the device.
func (n *Node) reaches(r Ruled, device string) bool {
	if r.Kind != "unicast" {
		return false
	}
	return r.Device == device || r.Route != nil &&
		slices.ContainsFunc(r.Route.Hops, func(h NextHop) bool { return h.Device == device })
}

// addressed says whether a device has an IPv4 address.
func (n *Node) addressed(d *Device) bool {
	return slices.ContainsFunc(d.Addrs, func(p netip.Prefix) bool { return p.Addr().Is4() })
}

// answered tells if nobody in the node wants the packet.
func (w *walker) answered(node *Node, d *Device) bool {
	p := w.pkt
	echo := p.Proto == ICMP && p.Type == 8 || p.Proto == ICMP6 && p.Type == 128
	key := "net.ipv4.icmp_echo_ignore_all"
	if p.Dst.Is6() {
		key = "net.ipv6.icmp.echo_ignore_all"
	}
	if echo && node.Sysctls[key] == "1" {
		w.stop(Obstacle{Code: Ignored, Node: node.Name, Device: d.Name,
			Sentence: fmt.Sprintf("%s does not answer echo requests (%s=1)", node.Name, key),
			Advice:   node.run("sysctl -w %s=0", key)})
		return false
	}
	proto := map[uint8]string{TCP: "tcp", UDP: "udp"}[p.Proto]
	if proto == "" || p.Dport == 0 || w.track.reply || node.listens(proto, p.Dst, p.Dport) {
		return true
	}
	o := Obstacle{Code: NobodyListens, Node: node.Name, Device: d.Name}
	if node.Sockets == nil {
		o.Sentence = fmt.Sprintf("whether somebody in %s listens on %s port %d is not known", node.Name, proto, p.Dport)
		w.doubt(o)
		return true
	}
	o.Sentence = fmt.Sprintf("nobody in %s listens on %s port %d", node.Name, proto, p.Dport)
	if addr, ok := node.listensElsewhere(proto, p.Dport); ok {
		o.Sentence += fmt.Sprintf(" at %s, only at %s", p.Dst, addr)
	}
	o.Advice = "start the service there, or look at which address and port it listens: " + node.run("ss -ltun")
	w.stop(o)
	return false
}

func (n *Node) listens(proto string, dst netip.Addr, port uint16) bool {
	return slices.ContainsFunc(n.Sockets, func(s Socket) bool {
		if s.Proto != proto || s.Port != port {
			return false
		}
		if s.Addr.IsUnspecified() {
			return s.Addr.Is4() == dst.Is4() || s.Addr.Is6() && !s.Only6
		}
		return s.Addr.Unmap().WithZone("") == dst.WithZone("")
	})
}

func (n *Node) listensElsewhere(proto string, port uint16) (string, bool) {
	for _, s := range n.Sockets {
		if s.Proto == proto && s.Port == port {
			return s.Addr.String(), true
		}
	}
	return "", false
}

// guests tells of programs at a device that are not nsbpf's own, and lets the
// packet pass the rules of family netdev. It reports whether it goes on.
func (w *walker) guests(node *Node, d *Device, hook string) bool {
	var programs []string
	if hook == "ingress" && d.XDP != "" {
		programs = append(programs, "XDP program "+d.XDP)
	}
	for _, p := range d.Programs {
		if at, name, _ := strings.Cut(p, " "); at == hook {
			programs = append(programs, "tc program "+name)
		}
	}
	for _, p := range programs {
		name := p[strings.LastIndexByte(p, ' ')+1:]
		if ours(name) {
			continue
		}
		o := Obstacle{Code: Program, Node: node.Name, Device: d.Name,
			Sentence: fmt.Sprintf("what the %s does at %s:%s %s is not known", p, node.Name, d.Name, hook)}
		if strings.HasPrefix(name, "filter_") || strings.HasPrefix(name, "nsbpf/") {
			o.Sentence = fmt.Sprintf("a filter of nsbpf's stands at %s:%s %s, and may drop it", node.Name, d.Name, hook)
			o.Advice = "`nsbpf filter ls`"
		}
		w.doubt(o)
	}
	at := place{family: "netdev", hook: hook, in: d.Name}
	if hook == "egress" {
		at.in, at.out = "", d.Name
	}
	track := w.track
	w.track = tracked{state: stateInvalid}
	goes := w.hook(node, at)
	w.track = track
	return goes
}

// ours says whether a program is one of nsbpf's that lets everything pass. With
// clsact it has the name of the filter: nsbpf/LAB/ROLE.
func ours(name string) bool {
	for _, p := range []string{"count_tc", "count_xdp", "trace_tc", "trace_xdp", "gate_tc", "gate_xdp", "latency_tc"} {
		if name == p {
			return true
		}
	}
	return strings.HasPrefix(name, "nsbpf/") && !strings.Contains(name, "filter")
}
