package why

import (
	"github.com/nsbpf/nsbpf/collector"
	"github.com/nsbpf/nsbpf/forward"
)

// answers says whether the packet is not the first of its connection: it is of a
// kind that never is, conntrack says so, or it got the address of who had asked.
func (s *scene) answers() bool {
	return isAnswer(s.packet) || s.tracked() || s.restored()
}

// isAnswer says whether a packet is an echo reply, an ICMP error, or TCP's with an
// acknowledgement.
func isAnswer(p *collector.Sighting) bool {
	const ack = 0x10
	switch {
	case p.IsFragment() || !p.IsIP():
		return false
	case p.Packet.Proto == collector.ProtoTCP:
		return p.Packet.TCPFlags&ack != 0
	case p.Packet.Proto == collector.ProtoICMP && p.Packet.EtherType == collector.EtherIPv4:
		t := p.Packet.ICMPType
		return t == 0 || t == 3 || t == 11 || t == 12
	case p.Packet.Proto == collector.ProtoICMPv6:
		t := p.Packet.ICMPType
		return t >= 1 && t <= 4 || t == 129
	}
	return false
}

// tracked says whether the packet came by a hop of the node with a connection of
// which it goes against the original direction.
func (s *scene) tracked() bool {
	for i := s.Path.End; i >= 0; i = s.Path.Steps[i].Prev {
		st := &s.Path.Steps[i].Sighting
		h := s.hop(st.HopID())
		if h == nil || h.Node != s.node() {
			break
		}
		if o, p := &st.Orig, &st.Packet; o.Status != 0 {
			along := p.Src == o.Src || p.Dst == o.Dst
			return !along && (p.Src == o.Dst || p.Dst == o.Src)
		}
	}
	return false
}

// restored says whether the node gave the packet another destination, and would not
// have done so with the first of a connection.
func (s *scene) restored() bool {
	if s.drop == nil || s.config == nil || s.last == nil || s.last.Node != s.node() {
		return false
	}
	was := &s.Path.Steps[s.Path.End].Sighting
	if !was.IsIP() || !was.Addressed() || was.Packet.Dst == s.packet.Packet.Dst {
		return false
	}
	return !s.config.Redirects(s.in(), packetOf(was))
}

// packetOf returns a packet as forward has it.
func packetOf(s *collector.Sighting) forward.Packet {
	p := &s.Packet
	out := forward.Packet{Src: s.Src(), Dst: s.Dst(), Proto: p.Proto, TTL: p.TTL, Length: int(p.Len) - ethernetHeader}
	if s.HasPorts() {
		out.Sport, out.Dport = p.Sport, p.Dport
	}
	if p.Proto == collector.ProtoICMP || p.Proto == collector.ProtoICMPv6 {
		out.Type, out.Code = p.ICMPType, p.ICMPCode
	}
	return out
}

// dockers says whether Docker made a node's table: it leaves the chain DOCKER-USER
// to others.
func dockers(t *forward.Table) bool {
	for i := range t.Chains {
		if t.Chains[i].Name == "DOCKER-USER" {
			return t.Name == "filter" && (t.Family == "ip" || t.Family == "ip6")
		}
	}
	return false
}
