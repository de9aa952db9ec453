package diff

import (
	"net/netip"

	"github.com/nsbpf/nsbpf/collector"
)

// Kind is what sort of packet it is.
type Kind struct {
	EtherType uint16
	Proto     uint8 // of IPv4 and IPv6
}

// Flow is the packets that are taken for the same traffic in two recordings. The
// port and address of a client are not of it: they differ from run to run.
type Flow struct {
	// Origin is the hop where its packets begin, or the node if they came to none.
	Origin string
	Kind   Kind
	// Peer is the service, or of an echo who is asked. Its port is 0 where there is
	// none and where both are a client's; the zero AddrPort is none at all.
	Peer  netip.AddrPort
	Reply bool // from Peer, not to it
	// ICMPType and ICMPCode are those of ICMP; of ARP the first is the operation.
	ICMPType, ICMPCode uint8
}

// firstClientPort is the first of those that Linux gives to clients by itself.
const firstClientPort = 32768

// flowOf returns the flow of a packet as it was at its origin.
func flowOf(origin string, s *collector.Sighting) Flow {
	p := &s.Packet
	f := Flow{Origin: origin, Kind: Kind{EtherType: p.EtherType}}
	if s.IsIP() {
		f.Kind.Proto = p.Proto
	}
	switch {
	case p.EtherType == collector.EtherARP:
		f.ICMPType = p.ICMPType
	case !s.IsIP():
	case s.HasPorts():
		f.service(s)
	case s.IsEcho():
		f.ICMPType = p.ICMPType
		if f.Reply = p.ICMPType == 0 || p.ICMPType == 129; f.Reply {
			f.Peer = netip.AddrPortFrom(s.Src(), 0)
		} else {
			f.Peer = netip.AddrPortFrom(s.Dst(), 0)
		}
	case p.Proto == collector.ProtoICMP || p.Proto == collector.ProtoICMPv6:
		f.ICMPType, f.ICMPCode = p.ICMPType, p.ICMPCode
	default:
		f.Peer = netip.AddrPortFrom(s.Dst(), 0)
	}
	return f
}

// service says who serves whom: who has the lower port.
func (f *Flow) service(s *collector.Sighting) {
	addr, port := s.Dst(), s.Packet.Dport
	if f.Reply = s.Packet.Sport < port && s.Packet.Sport < firstClientPort; f.Reply {
		addr, port = s.Src(), s.Packet.Sport
	}
	if port >= firstClientPort {
		port = 0
	}
	f.Peer = netip.AddrPortFrom(addr, port)
}

// coarse returns f without what there may be too many of.
func (f Flow) coarse() Flow { return Flow{Origin: f.Origin, Kind: f.Kind} }
