// Package collector reads what the programs write, counters and sightings, into
// plain Go values. Only the files named *_linux.go touch the kernel.
package collector

import (
	"net/netip"

	"github.com/nsbpf/nsbpf/bpf"
	"github.com/nsbpf/nsbpf/internal/hop"
)

// Ethertypes and protocols that [Sighting]s are told apart by.
const (
	EtherIPv4 = 0x0800
	EtherARP  = 0x0806
	EtherIPv6 = 0x86dd

	ProtoICMP   = 1
	ProtoTCP    = 6
	ProtoUDP    = 17
	ProtoICMPv6 = 58
)

// Bits of enum ip_conntrack_status in [bpf.Tuple.Status]: how the connection's
// original direction is translated.
const (
	ConnSNAT = 1 << 4
	ConnDNAT = 1 << 5
)

// Sighting is one packet at one hop. Its fields are those of [bpf.Sighting], and
// conntrack's original tuple where the packet carries a connection; the methods
// give them their meaning. It is a value without pointers, so copying one costs
// a few nanoseconds and keeping many costs the garbage collector nothing.
type Sighting struct {
	bpf.Sighting
	Orig bpf.Tuple // Status is 0 if there is no connection
}

// HopID returns the hop, which may be one that the lab does not have.
func (s *Sighting) HopID() hop.ID { return hop.ID(s.Hop) }

// Src returns the source, of an ARP packet the sender's protocol address, and
// the zero Addr if the packet has none.
func (s *Sighting) Src() netip.Addr { return s.addr(s.Packet.Src) }

// Dst returns the destination, of an ARP packet the target's protocol address,
// and the zero Addr if the packet has none.
func (s *Sighting) Dst() netip.Addr { return s.addr(s.Packet.Dst) }

func (s *Sighting) addr(a [16]byte) netip.Addr {
	if !s.Addressed() {
		return netip.Addr{}
	}
	return netip.AddrFrom16(a).Unmap()
}

// IsIP says whether the packet is IPv4 or IPv6.
func (s *Sighting) IsIP() bool {
	return s.Packet.EtherType == EtherIPv4 || s.Packet.EtherType == EtherIPv6
}

// Addressed says whether Src and Dst are valid: the packet is IP or ARP and its
// network header was read.
func (s *Sighting) Addressed() bool {
	p := &s.Packet
	return (s.IsIP() || p.EtherType == EtherARP) && (p.Src != [16]byte{} || p.Dst != [16]byte{})
}

// HasPorts says whether Sport and Dport are valid.
func (s *Sighting) HasPorts() bool { return s.Packet.Flags&bpf.PacketPorts != 0 }

// IsFragment says whether the packet is a fragment behind the first, which has
// no transport header.
func (s *Sighting) IsFragment() bool { return s.Packet.Flags&bpf.PacketFragment != 0 }

// IsShort says whether not all headers could be read.
func (s *Sighting) IsShort() bool { return s.Packet.Flags&bpf.PacketShort != 0 }

// IsEcho says whether the packet is an ICMP or ICMPv6 echo request or reply.
func (s *Sighting) IsEcho() bool {
	p := &s.Packet
	switch {
	case s.IsFragment():
		return false
	case p.EtherType == EtherIPv4 && p.Proto == ProtoICMP:
		return p.ICMPType == 8 || p.ICMPType == 0
	case p.EtherType == EtherIPv6 && p.Proto == ProtoICMPv6:
		return p.ICMPType == 128 || p.ICMPType == 129
	}
	return false
}

// IsGroup says whether the packet is for more than one receiver: the Ethernet
// or the IP destination is multicast or broadcast.
func (s *Sighting) IsGroup() bool {
	p := &s.Packet
	if p.EthDst[0]&1 == 1 {
		return true
	}
	switch p.EtherType {
	case EtherIPv4:
		return p.Dst[12] >= 224 && p.Dst[12] < 240 || [4]byte(p.Dst[12:]) == [4]byte{255, 255, 255, 255}
	case EtherIPv6:
		return p.Dst[0] == 0xff
	}
	return false
}
