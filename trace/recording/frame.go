package recording

import (
	"encoding/binary"

	"github.com/nsbpf/nsbpf/bpf"
	"github.com/nsbpf/nsbpf/collector"
)

// Lengths of headers.
const (
	ethernetLen = 14
	tagLen      = 4
	ipv4Len     = 20
	ipv6Len     = 40
	tcpLen      = 20
)

// Ethertypes and protocols that headers are made with.
const (
	etherVLAN = 0x8100
	etherQinQ = 0x88a8
	protoFrag = 44
)

// longestHeaders is the most that appendHeaders appends: Ethernet with a tag, IPv6
// with a fragment header, TCP with a time stamp.
const longestHeaders = ethernetLen + tagLen + ipv6Len + 8 + 32

// appendHeaders appends the headers of a packet as far as p has their fields; what
// it does not have is 0. Headers other than Ethernet, ARP, IP, TCP, UDP and ICMP
// are not there, nor is anything behind a second VLAN tag. A bare packet has no
// Ethernet header.
//
// The first tag is taken for one that the kernel keeps beside the packet, so that
// p's lengths are without it.
func appendHeaders(b []byte, p *bpf.Packet, bare bool) []byte {
	link := 0
	if !bare {
		link = ethernetLen
		b = append(append(b, p.EthDst[:]...), p.EthSrc[:]...)
		if p.Flags&bpf.PacketVLAN != 0 {
			b = binary.BigEndian.AppendUint16(b, etherVLAN)
			b = binary.BigEndian.AppendUint16(b, p.VLAN)
		}
		b = binary.BigEndian.AppendUint16(b, p.EtherType)
	}
	if p.Flags&bpf.PacketQinQ != 0 || p.Src == [16]byte{} && p.Dst == [16]byte{} {
		return b
	}
	switch p.EtherType {
	case collector.EtherARP:
		return appendARP(b, p)
	case collector.EtherIPv4:
		return appendIPv4(b, p, link)
	case collector.EtherIPv6:
		return appendIPv6(b, p, link)
	}
	return b
}

func appendARP(b []byte, p *bpf.Packet) []byte {
	const reply = 2
	var target [6]byte
	if p.ICMPType == reply {
		target = p.EthDst
	}
	b = append(b, 0, 1, 8, 0, 6, 4, 0, p.ICMPType)
	b = append(append(b, p.EthSrc[:]...), p.Src[12:]...)
	return append(append(b, target[:]...), p.Dst[12:]...)
}

func appendIPv4(b []byte, p *bpf.Packet, off int) []byte {
	start := len(b)
	b = append(b, 0x45, p.TOS)
	b = binary.BigEndian.AppendUint16(b, behind(p, off))
	b = binary.BigEndian.AppendUint16(b, p.IPID)
	b = binary.BigEndian.AppendUint16(b, p.Frag)
	b = append(b, p.TTL, p.Proto, 0, 0)
	b = append(append(b, p.Src[12:]...), p.Dst[12:]...)
	binary.BigEndian.PutUint16(b[start+10:], checksum(b[start:]))
	return appendTransport(b, p, off+ipv4Len)
}

// behind returns how many bytes the packet has from offset off, and 0 if that does
// not go into a header's field: so the kernel has it in a large GSO packet.
func behind(p *bpf.Packet, off int) uint16 {
	n := int64(p.Len) - int64(off)
	if n < 0 || n > 1<<16-1 {
		return 0
	}
	return uint16(n)
}

// checksum is that of RFC 1071 over words whose own checksum is 0.
func checksum(b []byte) uint16 {
	var sum uint32
	for ; len(b) >= 2; b = b[2:] {
		sum += uint32(binary.BigEndian.Uint16(b))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}

func appendIPv6(b []byte, p *bpf.Packet, off int) []byte {
	off += ipv6Len
	b = binary.BigEndian.AppendUint32(b, 6<<28|uint32(p.TOS)<<20)
	b = binary.BigEndian.AppendUint16(b, behind(p, off))
	b = append(b, p.NextHdr, p.TTL)
	b = append(append(b, p.Src[:]...), p.Dst[:]...)
	next := p.NextHdr
	if next == protoFrag {
		b = append(b, p.FragNext, 0)
		b = binary.BigEndian.AppendUint16(b, p.Frag)
		b = binary.BigEndian.AppendUint32(b, p.FragID)
		next = p.FragNext
		off += 8
	}
	if next != p.Proto {
		return b // an extension header follows that is not known
	}
	return appendTransport(b, p, off)
}

// appendTransport appends the header of p's protocol, which is at offset off.
func appendTransport(b []byte, p *bpf.Packet, off int) []byte {
	icmp := p.EtherType == collector.EtherIPv4 && p.Proto == collector.ProtoICMP ||
		p.EtherType == collector.EtherIPv6 && p.Proto == collector.ProtoICMPv6
	switch {
	case p.Flags&(bpf.PacketFragment|bpf.PacketShort) != 0:
		return b
	case icmp:
		b = append(b, p.ICMPType, p.ICMPCode, 0, 0)
		b = binary.BigEndian.AppendUint16(b, p.ICMPID)
		return binary.BigEndian.AppendUint16(b, p.ICMPSeq)
	case p.Proto == collector.ProtoTCP:
		return appendTCP(b, p, off)
	case p.Proto == collector.ProtoUDP:
		b = binary.BigEndian.AppendUint16(b, p.Sport)
		b = binary.BigEndian.AppendUint16(b, p.Dport)
		b = binary.BigEndian.AppendUint16(b, behind(p, off))
		return append(b, 0, 0)
	}
	return b
}

func appendTCP(b []byte, p *bpf.Packet, off int) []byte {
	size := tcpLen
	if n := int(p.PayloadOff) - off; n > tcpLen && n <= 60 && n%4 == 0 {
		size = n
	}
	b = binary.BigEndian.AppendUint16(b, p.Sport)
	b = binary.BigEndian.AppendUint16(b, p.Dport)
	b = binary.BigEndian.AppendUint32(b, p.Seq)
	b = binary.BigEndian.AppendUint32(b, p.Ack)
	b = append(b, byte(size/4)<<4, p.TCPFlags, 0, 0, 0, 0, 0, 0)
	if p.TSVal != 0 && size == 32 {
		b = append(b, 1, 1, 8, 10) // padding twice, then the option
		b = binary.BigEndian.AppendUint32(b, p.TSVal)
		b = append(b, 0, 0, 0, 0)
	}
	return b
}

// tagged returns the packet with the VLAN tag that the kernel keeps beside it, and
// whether it was not there.
func tagged(raw []byte, p *bpf.Packet) ([]byte, bool) {
	if p.Flags&bpf.PacketVLAN == 0 || len(raw) < ethernetLen {
		return raw, false
	}
	if t := binary.BigEndian.Uint16(raw[12:]); t == etherVLAN || t == etherQinQ {
		return raw, false
	}
	b := append(make([]byte, 0, len(raw)+tagLen), raw[:12]...)
	b = binary.BigEndian.AppendUint16(b, etherVLAN)
	b = binary.BigEndian.AppendUint16(b, p.VLAN)
	return append(b, raw[12:]...), true
}
