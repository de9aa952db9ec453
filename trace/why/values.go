package why

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/nsbpf/nsbpf/collector"
	"github.com/nsbpf/nsbpf/forward"
	"github.com/nsbpf/nsbpf/internal/hop"
)

// value returns what the table calls name, and "" if it is not known or does not
// hold. Each is worked out once.
func (s *scene) value(name string) string {
	v, ok := s.known[name]
	if !ok {
		if s.known == nil {
			s.known = make(map[string]string)
		}
		v = values[name](s)
		s.known[name] = v
	}
	return v
}

// values are what the table may ask for and say, by name.
var values = map[string]func(*scene) string{
	// Where.
	"node":    (*scene).node,
	"device":  (*scene).here,
	"in":      (*scene).in,
	"port":    (*scene).port,
	"out":     (*scene).out,
	"hook":    func(s *scene) string { h, _ := s.hook(); return h },
	"bridged": func(s *scene) string { _, b := s.hook(); return is(b) },
	"exec":    func(s *scene) string { return "nsbpf exec " + s.node() + " --" },

	// Where it should have come next.
	"next":        func(s *scene) string { return nameOf(s.next) },
	"next-node":   func(s *scene) string { return of(s.next, func(h *hop.Hop) string { return h.Node }) },
	"next-device": func(s *scene) string { return of(s.next, func(h *hop.Hop) string { return h.Device }) },
	"next-xdp":    func(s *scene) string { return of(s.nextDevice(), func(d *forward.Device) string { return d.XDP }) },
	"next-state":  func(s *scene) string { return stateOf(s.nextDevice()) },
	"next-mtu": func(s *scene) string {
		return of(s.nextDevice(), func(d *forward.Device) string { return positive(d.MTU) })
	},
	"over-next-mtu": func(s *scene) string {
		return of(s.nextDevice(), func(d *forward.Device) string { return is(!d.Takes(s.length())) })
	},

	"onward":   func(s *scene) string { return is(len(s.Path.Next) > 0) },
	"incoming": func(s *scene) string { return is(s.last != nil && s.last.Direction == hop.Ingress) },
	"given-up": func(s *scene) string { return is(s.Path.GivenUp) },

	// What the kernel and the counters say.
	"reason":   func(s *scene) string { return s.drop.Reason },
	"function": func(s *scene) string { return s.drop.Function },
	"round": func(s *scene) string {
		if s.Path.Round == 0 {
			return ""
		}
		return strconv.FormatUint(s.Path.Round, 10)
	},
	"round-at":  func(s *scene) string { return nameOf(s.hop(s.Path.RoundAt)) },
	"filter-at": func(s *scene) string { return nameOf(s.hop(s.Path.DroppedAt)) },
	"filter":    func(s *scene) string { return strconv.Itoa(s.Path.DroppedBy) },
	"counters":  func(s *scene) string { return strings.Join(s.Changed[s.node()], ", ") },
	"watched":   func(s *scene) string { return is(s.Armed.Rules) },

	// The packet.
	"src":       func(s *scene) string { return addr(s.packet.Src()) },
	"dst":       func(s *scene) string { return addr(s.packet.Dst()) },
	"sport":     func(s *scene) string { return s.portNumber(s.packet.Packet.Sport) },
	"dport":     func(s *scene) string { return s.portNumber(s.packet.Packet.Dport) },
	"proto":     (*scene).proto,
	"ethertype": func(s *scene) string { return fmt.Sprintf("0x%04x", s.packet.Packet.EtherType) },
	"mac":       func(s *scene) string { return mac(s.packet.Packet.EthDst) },
	"length":    func(s *scene) string { return strconv.Itoa(s.length()) },
	"ttl":       func(s *scene) string { return strconv.Itoa(int(s.packet.Packet.TTL)) },
	"ttl-name":  func(s *scene) string { return s.either("TTL", "hop limit") },
	"again":     func(s *scene) string { return is(s.Path.Attempt > 1) },
	"bare-ack": func(s *scene) string {
		p := &s.packet.Packet
		return is(p.TCPFlags == 0x10 && p.Len <= uint32(p.PayloadOff))
	},
	"syn":         func(s *scene) string { return is(s.packet.Packet.TCPFlags&2 != 0) },
	"answer":      func(s *scene) string { return is(s.answers()) },
	"group":       func(s *scene) string { return is(s.packet.IsGroup()) },
	"bad-source":  func(s *scene) string { return is(s.packet.Src().IsMulticast() || s.packet.Src().IsLoopback()) },
	"loopback":    func(s *scene) string { return is(s.packet.Src().IsLoopback() || s.packet.Dst().IsLoopback()) },
	"whole":       (*scene).whole,
	"family-name": func(s *scene) string { return s.either("IPv4", "IPv6") },
	"sysctls":     func(s *scene) string { return s.either("net.ipv4", "net.ipv6") },
	"ip":          func(s *scene) string { return s.either("ip", "ip -6") },
	"iptables":    func(s *scene) string { return s.either("iptables", "ip6tables") },
	"resolution":  func(s *scene) string { return s.either("ARP", "neighbour discovery") },

	// Netfilter.
	"rule":        func(s *scene) string { return of(s.drop.Rule, func(r *rule) string { return r.Text }) },
	"rule-kind":   (*scene).ruleKind,
	"rule-family": func(s *scene) string { return of(s.drop.Rule, func(r *rule) string { return r.Family }) },
	"table": func(s *scene) string {
		return of(s.drop.Rule, func(r *rule) string { return r.Family + " " + r.Table })
	},
	"chain": func(s *scene) string { return of(s.drop.Rule, func(r *rule) string { return r.Chain }) },
	"handle": func(s *scene) string {
		return of(s.drop.Rule, func(r *rule) string { return strconv.FormatUint(r.Handle, 10) })
	},
	"owner":     (*scene).owner,
	"chains":    func(s *scene) string { return s.chains(func(*forward.Chain) bool { return true }) },
	"policy":    (*scene).policies,
	"legacy":    (*scene).legacy,
	"bridge-nf": (*scene).bridgeNF,
	"discovery-rule": func(s *scene) string {
		return of(s.discovery(), func(o *forward.Obstacle) string { return o.Rule.String() })
	},
	"discovery-end":    func(s *scene) string { return of(s.discovery(), func(o *forward.Obstacle) string { return o.Node }) },
	"discovery-advice": func(s *scene) string { return of(s.discovery(), func(o *forward.Obstacle) string { return o.Advice }) },
	"bridge-nf-on":     func(s *scene) string { return is(s.packet.IsIP() && s.set("1", s.bridgeNF()) != "") },

	// Routing.
	"route":          func(s *scene) string { return of(s.route(), (*forward.Ruled).String) },
	"route-kind":     func(s *scene) string { return of(s.route(), func(r *forward.Ruled) string { return r.Kind }) },
	"via":            func(s *scene) string { return addr(s.via()) },
	"neighbour":      (*scene).neighbour,
	"leaf":           (*scene).leaf,
	"back":           (*scene).back,
	"back-differs":   func(s *scene) string { return is(s.back() != s.in()) },
	"rp-filter":      (*scene).rpFilter,
	"forwarding-off": (*scene).forwardingOff,
	"src-local":      func(s *scene) string { return is(s.config != nil && s.config.Local(s.packet.Src())) },
	"local":          func(s *scene) string { return is(s.config != nil && s.config.Local(s.packet.Dst())) },
	"ipv6-off": func(s *scene) string {
		return s.set("1", "net.ipv6.conf."+s.here()+".disable_ipv6", "net.ipv6.conf.all.disable_ipv6")
	},

	// Devices.
	"device-mac":   func(s *scene) string { return of(s.own(s.here()), func(d *forward.Device) string { return d.MAC }) },
	"device-state": func(s *scene) string { return stateOf(s.own(s.here())) },
	"device-mtu": func(s *scene) string {
		return of(s.own(s.here()), func(d *forward.Device) string { return positive(d.MTU) })
	},
	"mtu":        func(s *scene) string { return positive(s.mtu()) },
	"over-mtu":   func(s *scene) string { return is(s.mtu() > 0 && s.segment() > s.mtu()) },
	"xdp":        func(s *scene) string { return of(s.own(s.here()), func(d *forward.Device) string { return d.XDP }) },
	"tc-ingress": func(s *scene) string { return s.programs("ingress ") },
	"tc-egress":  func(s *scene) string { return s.programs("egress ") },

	// Bridges.
	"port-state": func(s *scene) string { return of(s.own(s.port()), func(d *forward.Device) string { return d.Port }) },
	"fdb-port":   (*scene).fdbPort,
	"fdb-same":   func(s *scene) string { return is(s.fdbPort() != "" && s.fdbPort() == s.port()) },
	"idle-ports": func(s *scene) string { return s.ports(func(d *forward.Device) bool { return d.Port != "forwarding" }) },
	"isolated":   func(s *scene) string { return is(s.isolated(s.port())) },
	"isolated-ports": func(s *scene) string {
		return s.ports(func(d *forward.Device) bool { return s.isolated(d.Name) && d.Name != s.port() })
	},

	// Sockets.
	"listens-at": (*scene).listensAt,
}

// is is how a value says yes.
func is(b bool) string {
	if b {
		return "yes"
	}
	return ""
}

// of returns f of v, or "" if there is none.
func of[T any](v *T, f func(*T) string) string {
	if v == nil {
		return ""
	}
	return f(v)
}

func nameOf(h *hop.Hop) string { return of(h, func(h *hop.Hop) string { return h.String() }) }

func (s *scene) nextDevice() *forward.Device {
	if s.next == nil {
		return nil
	}
	return s.device(s.next.Node, s.next.Device)
}

func addr(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}

func mac(a [6]byte) string {
	if a == [6]byte{} {
		return ""
	}
	return net.HardwareAddr(a[:]).String()
}

func positive(n int) string {
	if n <= 0 {
		return ""
	}
	return strconv.Itoa(n)
}

// either returns four for an IPv4 packet and for ARP, and six for IPv6.
func (s *scene) either(four, six string) string {
	if s.packet.Packet.EtherType == collector.EtherIPv6 {
		return six
	}
	return four
}

func (s *scene) portNumber(p uint16) string {
	if !s.packet.HasPorts() {
		return ""
	}
	return strconv.Itoa(int(p))
}

func (s *scene) proto() string {
	if !s.packet.IsIP() {
		return fmt.Sprintf("0x%04x", s.packet.Packet.EtherType)
	}
	switch p := s.packet.Packet.Proto; p {
	case collector.ProtoICMP:
		return "ICMP"
	case collector.ProtoTCP:
		return "TCP"
	case collector.ProtoUDP:
		return "UDP"
	case collector.ProtoICMPv6:
		return "ICMPv6"
	default:
		return strconv.Itoa(int(p))
	}
}

const ethernetHeader = 14

// length returns how long the IP packet is.
func (s *scene) length() int { return int(s.packet.Packet.Len) - ethernetHeader }

// segment returns how long it is on the wire: of one that is yet to be cut into
// segments the longest of these, nearly.
func (s *scene) segment() int {
	if s.packet.GSOSize == 0 || s.packet.Segments < 2 {
		return s.length()
	}
	return int(s.packet.GSOSize) + 40
}

// whole says why the packet is not cut into fragments, if it is not.
func (s *scene) whole() string {
	const dontFragment = 0x4000
	switch {
	case s.packet.Packet.EtherType == collector.EtherIPv6:
		return "IPv6 is fragmented by its sender alone"
	case s.packet.Packet.Frag&dontFragment != 0:
		return "it may not be fragmented (DF)"
	}
	return ""
}

// listensAt returns where else somebody listens on the packet's port.
func (s *scene) listensAt() string {
	if s.config == nil || !s.packet.HasPorts() {
		return ""
	}
	var at []string
	for _, k := range s.config.Sockets {
		if k.Proto != strings.ToLower(s.proto()) || k.Port != s.packet.Packet.Dport || k.Addr.Is4() != s.packet.Dst().Is4() {
			continue
		}
		if k.Addr != s.packet.Dst() && !k.Addr.IsUnspecified() {
			at = append(at, k.Addr.String())
		}
	}
	slices.Sort(at)
	return strings.Join(slices.Compact(at), ", ")
}

// leaf says whether the node has one way out only, so that it is no router.
func (s *scene) leaf() string {
	n := s.nodeNamed(s.node())
	if n == nil {
		return ""
	}
	out := 0
	for i := range n.Devices {
		if n.Devices[i].Kind != "loopback" {
			out++
		}
	}
	return is(out == 1)
}
