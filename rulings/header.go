package rulings

import (
	"encoding/binary"

	"github.com/nsbpf/nsbpf/bpf"
	"github.com/nsbpf/nsbpf/collector"
)

const (
	ethernetLen = 14
	ipv4Len     = 20
	ipv6Len     = 40
	arpLen      = 28 // for IPv4 on Ethernet

	etherVLAN = 0x8100
	etherQinQ = 0x88a8
)

// headers are the first bytes of a packet's headers, as nft's trace gives them:
// of the link layer's at most 20, which are an Ethernet header if ethernet says
// so, of the network layer's 40 and of the transport layer's 20.
type headers struct {
	ethernet                 bool
	link, network, transport []byte
}

// packet reads them. What the trace does not give is zero: the payload's offset, a
// TCP timestamp, and what is behind IPv6's extension headers.
func (h headers) packet() bpf.Packet {
	var p bpf.Packet
	h.readLink(&p)
	whole := true
	switch {
	case p.EtherType == collector.EtherARP:
		whole = readARP(&p, h.network)
	case len(h.network) == 0:
		whole = p.EtherType != 0
	case h.network[0]>>4 == 4:
		whole = readIPv4(&p, h.network) && readTransport(&p, h.transport)
	case h.network[0]>>4 == 6:
		whole = readIPv6(&p, h.network) && readTransport(&p, h.transport)
	}
	if !whole {
		p.Flags |= bpf.PacketShort
	}
	return p
}

func (h headers) readLink(p *bpf.Packet) {
	b := h.link
	if !h.ethernet || len(b) < ethernetLen {
		return
	}
	p.EthDst, p.EthSrc = [6]byte(b[:6]), [6]byte(b[6:12])
	kind := binary.BigEndian.Uint16(b[12:])
	for b = b[ethernetLen:]; (kind == etherVLAN || kind == etherQinQ) && len(b) >= 4; b = b[4:] {
		if p.Flags&bpf.PacketVLAN == 0 {
			p.VLAN = binary.BigEndian.Uint16(b)
			p.Flags |= bpf.PacketVLAN
		} else {
			p.Flags |= bpf.PacketQinQ
		}
		kind = binary.BigEndian.Uint16(b[2:])
	}
	p.EtherType = kind
}

func readARP(p *bpf.Packet, b []byte) bool {
	if len(b) < arpLen {
		return false
	}
	p.Len = ethernetLen + arpLen
	p.ICMPType = b[7]
	if binary.BigEndian.Uint16(b[2:]) == collector.EtherIPv4 && b[5] == 4 {
		p.Src, p.Dst = mapped(b[14:18]), mapped(b[24:28])
	}
	return true
}

func readIPv4(p *bpf.Packet, b []byte) bool {
	p.EtherType = collector.EtherIPv4
	if len(b) < ipv4Len {
		return false
	}
	p.TOS = b[1]
	p.Len = ethernetLen + uint32(binary.BigEndian.Uint16(b[2:]))
	p.IPID = binary.BigEndian.Uint16(b[4:])
	p.Frag = binary.BigEndian.Uint16(b[6:])
	if p.Frag&0x1fff != 0 {
		p.Flags |= bpf.PacketFragment
	}
	p.TTL = b[8]
	p.Proto, p.NextHdr = b[9], b[9]
	p.Src, p.Dst = mapped(b[12:16]), mapped(b[16:20])
	return true
}

func readIPv6(p *bpf.Packet, b []byte) bool {
	p.EtherType = collector.EtherIPv6
	if len(b) < ipv6Len {
		return false
	}
	p.TOS = uint8(binary.BigEndian.Uint16(b) >> 4)
	p.Len = ethernetLen + ipv6Len + uint32(binary.BigEndian.Uint16(b[4:]))
	p.NextHdr = b[6]
	p.TTL = b[7]
	p.Src, p.Dst = [16]byte(b[8:24]), [16]byte(b[24:40])
	switch b[6] {
	case 0, 43, 44, 51, 60: // hop-by-hop, routing, fragment, authentication, destination
		return false // which protocol's header follows was cut off
	}
	p.Proto = b[6]
	return true
}

func readTransport(p *bpf.Packet, b []byte) bool {
	if p.Flags&bpf.PacketFragment != 0 {
		return true
	}
	switch {
	case p.Proto == collector.ProtoTCP:
		return readTCP(p, b)
	case p.Proto == collector.ProtoUDP:
		return readPorts(p, b)
	case p.Proto == collector.ProtoICMP && p.EtherType == collector.EtherIPv4:
		return readICMP(p, b, 8, 0)
	case p.Proto == collector.ProtoICMPv6 && p.EtherType == collector.EtherIPv6:
		return readICMP(p, b, 128, 129)
	}
	return true
}

func readPorts(p *bpf.Packet, b []byte) bool {
	if len(b) < 8 {
		return false
	}
	p.Sport, p.Dport = binary.BigEndian.Uint16(b), binary.BigEndian.Uint16(b[2:])
	p.Flags |= bpf.PacketPorts
	return true
}

func readTCP(p *bpf.Packet, b []byte) bool {
	if len(b) < 20 {
		return false
	}
	readPorts(p, b)
	p.Seq, p.Ack = binary.BigEndian.Uint32(b[4:]), binary.BigEndian.Uint32(b[8:])
	p.TCPFlags = b[13]
	return true
}

// readICMP reads a header of which the types request and reply are an echo's.
func readICMP(p *bpf.Packet, b []byte, request, reply uint8) bool {
	if len(b) < 8 {
		return false
	}
	p.ICMPType, p.ICMPCode = b[0], b[1]
	if b[0] == request || b[0] == reply {
		p.ICMPID, p.ICMPSeq = binary.BigEndian.Uint16(b[4:]), binary.BigEndian.Uint16(b[6:])
	}
	return true
}

// mapped returns an IPv4 address as ::ffff:a.b.c.d.
func mapped(b []byte) [16]byte {
	a := [16]byte{10: 0xff, 11: 0xff}
	copy(a[12:], b)
	return a
}
