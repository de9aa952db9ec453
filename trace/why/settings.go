package why

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/nsbpf/nsbpf/forward"
	"github.com/nsbpf/nsbpf/trace"
)

// What the node's settings say: the values of the table that have their own rules.

type rule = trace.Rule

func (s *scene) ruleKind() string {
	switch {
	case s.drop.Rule == nil:
		return ""
	case s.drop.Rule.Handle == 0:
		return "policy"
	}
	return "rule"
}

// owner returns whose the chain is that dropped the packet, or, where no rule was
// watched, whose the only one is that has policy drop; "" if that is not known.
func (s *scene) owner() string {
	if s.config == nil {
		return ""
	}
	r := s.drop.Rule
	for i := range s.config.Tables {
		t := &s.config.Tables[i]
		dropped := r != nil && t.Family == r.Family && t.Name == r.Table ||
			r == nil && s.policies() == "FORWARD of table "+t.Family+" "+t.Name
		if dropped && dockers(t) {
			return "Docker"
		}
	}
	return ""
}

// policies lists the base chains at the hook where the packet ended that have policy
// drop.
func (s *scene) policies() string {
	return s.chains(func(c *forward.Chain) bool { return c.Policy == "drop" })
}

// chains lists the base chains at the hook where the packet ended that want accepts.
func (s *scene) chains(want func(*forward.Chain) bool) string {
	hook, _ := s.hook()
	family, bridge := strings.CutPrefix(hook, "bridge ")
	if s.config == nil || hook == "" {
		return ""
	}
	var names []string
	for _, t := range s.config.Tables {
		if bridge != (t.Family == "bridge") || !bridge && t.Family != "inet" && t.Family != s.either("ip", "ip6") {
			continue
		}
		for i := range t.Chains {
			if c := &t.Chains[i]; c.Hook == family && c.Kind != "nat" && want(c) {
				names = append(names, fmt.Sprintf("%s of table %s %s", c.Name, t.Family, t.Name))
			}
		}
	}
	return strings.Join(names, ", ")
}

// legacy lists the node's tables of iptables-legacy.
func (s *scene) legacy() string {
	if s.config == nil {
		return ""
	}
	var names []string
	for _, t := range s.config.Legacy {
		if name, ok := strings.CutPrefix(t, s.either("ip ", "ip6 ")); ok {
			names = append(names, name)
		}
	}
	return strings.Join(names, ", ")
}

// discovery returns the rule that bridged packets come to, of the node at the other
// end of the link, which drops the question for the MAC of the next host; or nil.
func (s *scene) discovery() *forward.Obstacle {
	d, via := s.own(s.here()), s.via()
	if d == nil || !via.Is6() {
		return nil
	}
	name, port, _ := strings.Cut(d.Peer, ":")
	n := s.nodeNamed(name)
	if n == nil {
		return nil
	}
	o := n.StopsBridged(port, forward.Solicitation(s.packet.Src(), via))
	if o == nil || o.Rule == nil || o.Rule.Family == "bridge" {
		return nil
	}
	return o
}

// set returns the first of the kernel's parameters that has that value.
func (s *scene) set(value string, names ...string) string {
	if s.config == nil {
		return ""
	}
	for _, n := range names {
		if s.config.Sysctls[n] == value {
			return n
		}
	}
	return ""
}

// bridgeNF returns the parameter that brings bridged packets to the hooks of IP.
func (s *scene) bridgeNF() string {
	return "net.bridge.bridge-nf-call-" + s.either("iptables", "ip6tables")
}

// rpFilter returns the parameter that makes the node check where sources are. The
// larger one of all's and the device's counts (ip-sysctl.rst).
func (s *scene) rpFilter() string {
	all, own := "net.ipv4.conf.all.rp_filter", "net.ipv4.conf."+s.in()+".rp_filter"
	for _, v := range []string{"2", "1"} {
		if n := s.set(v, own, all); n != "" {
			return n + "=" + v
		}
	}
	return ""
}

// forwardingOff returns the parameter that keeps the node from forwarding.
func (s *scene) forwardingOff() string {
	if s.either("4", "6") == "4" {
		return s.set("0", "net.ipv4.ip_forward", "net.ipv4.conf."+s.in()+".forwarding")
	}
	return s.set("0", "net.ipv6.conf.all.forwarding")
}

// back returns the device that the node would answer by.
func (s *scene) back() string {
	if s.config == nil || !s.packet.Addressed() {
		return ""
	}
	r := s.config.Lookup(forward.Flow{Dst: s.packet.Src()})
	if r.Device == "" {
		return "no device"
	}
	return r.Device
}

func (s *scene) neighbour() string {
	via, out := s.via(), s.out()
	if s.config == nil || via == (netip.Addr{}) {
		return ""
	}
	for _, n := range s.config.Neighbours {
		if n.Addr == via && n.Device == out {
			return n.State
		}
	}
	return ""
}

// mtu returns that of the device by which the packet is to leave, or of the route
// if that is smaller, and 0 if it is not known.
func (s *scene) mtu() int {
	d := s.own(s.out())
	if d == nil {
		return 0
	}
	if r := s.ruled; r != nil && r.Device == d.Name && r.Route != nil && r.Route.MTU > 0 {
		return min(d.MTU, r.Route.MTU)
	}
	return d.MTU
}

// programs lists the tc programs and filters of the device that are not nsbpf's,
// in that direction.
func (s *scene) programs(direction string) string {
	d := s.own(s.here())
	if d == nil {
		return ""
	}
	var names []string
	for _, p := range d.Programs {
		if name, ok := strings.CutPrefix(p, direction); ok && !isOurs(name) {
			names = append(names, name)
		}
	}
	return strings.Join(names, ", ")
}

// isOurs says whether a program at tc is nsbpf's own: by clsact it has its filter's
// name, by tcx that of the function.
func isOurs(name string) bool {
	switch name {
	case "count_tc", "gate_tc", "trace_tc", "filter_tc", "latency_tc":
		return true
	}
	return strings.HasPrefix(name, "nsbpf/")
}

// fdbPort returns the port behind which the bridge knows the packet's destination.
func (s *scene) fdbPort() string {
	p := s.own(s.port())
	if p == nil {
		return ""
	}
	if b := s.own(p.Master); b != nil {
		return b.FDB[mac(s.packet.Packet.EthDst)]
	}
	return ""
}

// ports lists the ports of the bridge that want accepts, with their state if that
// is not forwarding.
func (s *scene) ports(want func(*forward.Device) bool) string {
	p := s.own(s.port())
	if p == nil {
		return ""
	}
	var names []string
	for i := range s.config.Devices {
		d := &s.config.Devices[i]
		if d.Master != p.Master || d.Master == "" || !want(d) {
			continue
		}
		name := d.Name
		if state := stateOf(d); state != "" {
			name += " " + state
		} else if d.Port != "forwarding" {
			name += " " + d.Port
		}
		names = append(names, name)
	}
	return strings.Join(names, ", ")
}

func (s *scene) isolated(port string) bool {
	d := s.own(port)
	return d != nil && d.Isolated
}
