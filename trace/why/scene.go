package why

import (
	"net/netip"
	"strings"

	"github.com/nsbpf/nsbpf/collector"
	"github.com/nsbpf/nsbpf/forward"
	"github.com/nsbpf/nsbpf/internal/hop"
	"github.com/nsbpf/nsbpf/trace"
)

// scene is a Case as seen from where the packet ended.
type scene struct {
	Case
	drop   *trace.Drop // nil: the kernel says nothing
	packet *collector.Sighting
	last   *hop.Hop // where it was seen last; nil: nowhere
	next   *hop.Hop // where it should have been seen; nil: not known
	config *forward.Node
	known  map[string]string // values that were asked for
	ruled  *forward.Ruled    // what the node's routes say of the packet, once asked
}

func newScene(c Case) *scene {
	s := &scene{Case: c}
	end := &c.Path.Steps[c.Path.End]
	s.packet = &end.Sighting
	s.last = s.hop(end.HopID())
	if s.drop = dropOf(c.Path); s.drop != nil {
		s.packet = &s.drop.Sighting
	}
	s.config = s.nodeNamed(s.node())
	s.next = s.suspect()
	return s
}

// dropOf returns the one that ended p: at its end, if there is one, else the last.
func dropOf(p *trace.Path) *trace.Drop {
	for i := len(p.Drops) - 1; i >= 0; i-- {
		if p.Drops[i].Step == p.End {
			return &p.Drops[i]
		}
	}
	if len(p.Drops) > 0 {
		return &p.Drops[len(p.Drops)-1]
	}
	return nil
}

func (s *scene) hop(id hop.ID) *hop.Hop {
	for i := range s.Hops {
		if s.Hops[i].ID == id {
			return &s.Hops[i]
		}
	}
	return nil
}

// suspect returns the hop that the packet did not come to: of several the one that
// has a fault.
func (s *scene) suspect() *hop.Hop {
	var one *hop.Hop
	for _, id := range s.Path.Next {
		h := s.hop(id)
		if h == nil {
			continue
		}
		d := s.device(h.Node, h.Device)
		if d != nil && (d.XDP != "" || stateOf(d) != "") {
			return h
		}
		if len(s.Path.Next) == 1 {
			one = h
		}
	}
	return one
}

// node returns the name of the node where the packet ended.
func (s *scene) node() string {
	switch {
	case s.drop != nil:
		return s.drop.Node
	case s.last != nil:
		return s.last.Node
	}
	return ""
}

func (s *scene) nodeNamed(name string) *forward.Node {
	for _, n := range s.Nodes {
		if n.Name == name {
			return n
		}
	}
	return nil
}

// device returns a device's configuration, or nil.
func (s *scene) device(node, device string) *forward.Device {
	if n := s.nodeNamed(node); n != nil {
		return n.Device(device)
	}
	return nil
}

// own returns the configuration of a device of the node where the packet ended, or nil.
func (s *scene) own(device string) *forward.Device { return s.device(s.node(), device) }

// here returns the name of the device that the packet was at when it ended.
func (s *scene) here() string {
	switch {
	case s.drop != nil:
		return s.drop.Device
	case s.last != nil:
		return s.last.Device
	}
	return ""
}

// way walks back what the packet went in the node where it ended, and returns the
// last device by which it came into it that want accepts, or "".
func (s *scene) way(want func(*hop.Hop) bool) string {
	for i := s.Path.End; i >= 0; i = s.Path.Steps[i].Prev {
		h := s.hop(s.Path.Steps[i].HopID())
		if h == nil || h.Node != s.node() {
			break
		}
		if h.Direction == hop.Ingress && want(h) {
			return h.Device
		}
	}
	return ""
}

// in returns the device by which the packet came to the node's IP, or "".
func (s *scene) in() string {
	if in := s.way(func(h *hop.Hop) bool { return h.Kind != hop.Port }); in != "" {
		return in
	}
	if d := s.own(s.port()); d != nil {
		return d.Master
	}
	return ""
}

// port returns the bridge port by which the packet came into the node, or "".
func (s *scene) port() string {
	return s.way(func(h *hop.Hop) bool { return h.Kind == hop.Port })
}

// route returns what the node's routes say of the packet, or nil.
func (s *scene) route() *forward.Ruled {
	if s.ruled == nil && s.config != nil && s.packet.IsIP() && s.packet.Addressed() {
		p := &s.packet.Packet
		r := s.config.Lookup(forward.Flow{
			Src: s.packet.Src(), Dst: s.packet.Dst(), IIF: s.in(),
			TOS: p.TOS, Proto: p.Proto, Sport: p.Sport, Dport: p.Dport,
		})
		s.ruled = &r
	}
	return s.ruled
}

// via returns the host on the link that the packet is to be handed to.
func (s *scene) via() netip.Addr {
	r := s.route()
	switch {
	case r == nil || r.Kind != "unicast":
		return netip.Addr{}
	case r.Via.IsValid():
		return r.Via
	}
	return s.packet.Dst()
}

// out returns the device by which the packet is to leave the node, or "".
func (s *scene) out() string {
	if d := s.own(s.here()); d != nil && d.Master != "" {
		return d.Name
	}
	if r := s.route(); r != nil && r.Kind == "unicast" {
		return r.Device
	}
	return ""
}

// stateOf returns "down", "without carrier", or "" of a device that can be used.
func stateOf(d *forward.Device) string {
	switch {
	case d == nil || d.Up && d.Carrier:
		return ""
	case d.Up:
		return "without carrier"
	}
	return "down"
}

// hook returns netfilter's hook where the packet ended, or "". It is "bridge
// forward" or the like where the bridge family has it.
func (s *scene) hook() (hook string, bridged bool) {
	if s.drop == nil {
		return "", false
	}
	functions := append([]string{s.drop.Function}, s.drop.Callers...)
	for i, f := range functions {
		if bare(f) != "nf_hook_slow" || i+1 == len(functions) {
			continue
		}
		asked := bare(functions[i+1])
		hook = causes().Hooks[asked]
		if strings.HasPrefix(asked, "br_nf_") { // br_netfilter asks on behalf of IP
			hook = strings.TrimPrefix(hook, "bridge ")
			return hook, hook == "forward" || hook == "postrouting"
		}
		return hook, false
	}
	if r := s.drop.Rule; r != nil {
		for i := range s.Path.Rulings {
			if s.Path.Rulings[i].Rule == *r {
				return s.Path.Rulings[i].Hook, false
			}
		}
	}
	for _, p := range s.Path.Passages {
		if p.Node != s.drop.Node {
			continue
		}
		hook = p.Hook
		if p.Last {
			hook = ""
		}
	}
	return hook, false
}
