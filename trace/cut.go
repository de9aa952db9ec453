package trace

import (
	"github.com/nsbpf/nsbpf/bpf"
	"github.com/nsbpf/nsbpf/collector"
)

// cut says how a packet may be cut into pieces and these put together again,
// and so how a piece is known from its packet.
type cut uint8

const (
	whole    cut = iota // not at all
	stream              // a TCP segment with payload: by sequence number
	burst               // a UDP packet: by IPv4 id, of IPv6 by lengths and order
	datagram            // a fragment, or what a router may fragment: by offset
)

// minFrame is what Ethernet pads a frame to, without its checksum: of shorter
// ones the length does not tell the payload.
const minFrame = 60

// cutOf returns how s can be cut.
func cutOf(s *collector.Sighting) cut {
	p := &s.Packet
	switch {
	case !s.IsIP() || s.IsShort():
		return whole
	case isPiece(s):
		return datagram
	case p.Proto == collector.ProtoTCP:
		if payload(s) > 0 && p.Len > minFrame {
			return stream
		}
		return whole
	case p.EtherType == collector.EtherIPv4 && p.Frag&dontFragment == 0 && s.Segments <= 1:
		return datagram
	case p.Proto == collector.ProtoUDP:
		return burst
	}
	return whole
}

// Bits of IPv4's fragment word, and of an IPv6 fragment header's.
const (
	dontFragment   = 0x4000
	moreFragments  = 0x2000
	offsetMask     = 0x1fff
	moreFragments6 = 1
	offsetMask6    = 0xfff8
)

// isPiece says whether s is a fragment, be it the first.
func isPiece(s *collector.Sighting) bool {
	if s.Packet.EtherType == collector.EtherIPv6 {
		return s.Packet.Frag&(offsetMask6|moreFragments6) != 0
	}
	return s.Packet.Frag&(offsetMask|moreFragments) != 0
}

// isLastPiece says whether no fragment comes behind s, or s is none.
func isLastPiece(s *collector.Sighting) bool {
	if s.Packet.EtherType == collector.EtherIPv6 {
		return s.Packet.Frag&moreFragments6 == 0
	}
	return s.Packet.Frag&moreFragments == 0
}

// payload returns how many bytes are behind the transport header. A GSO packet
// has its headers once.
func payload(s *collector.Sighting) uint32 {
	p := &s.Packet
	if p.PayloadOff == 0 || p.Len <= uint32(p.PayloadOff) {
		return 0
	}
	return p.Len - uint32(p.PayloadOff)
}

// fragment returns where s, which may be a whole datagram, belongs in a datagram.
// All fragments but the last are multiples of 8 bytes, whatever options are
// before them.
func fragment(s *collector.Sighting) Piece {
	p := &s.Packet
	header := uint32(20)
	offset := uint32(p.Frag&offsetMask) * 8
	if p.EtherType == collector.EtherIPv6 {
		header, offset = 40, uint32(p.Frag&offsetMask6)
		if isPiece(s) {
			header += 8
		}
	}
	if p.EthSrc != [6]byte{} || p.EthDst != [6]byte{} {
		header += 14
	}
	if p.PayloadOff > 8 && p.Proto != collector.ProtoTCP {
		header = uint32(p.PayloadOff) - 8
	}
	if p.Len <= header {
		return Piece{Offset: offset}
	}
	length := p.Len - header
	if !isLastPiece(s) {
		length &^= 7
	}
	return Piece{offset, length}
}

// laneBits says how many IPv4 ids of UDP packets share a lane: 1 << laneBits.
const laneBits = 6

// laneOf returns the number under which packets are filed that can be cut like
// that: those that s can be a piece of are filed under s's. It is of IPv4 id id.
func laneOf(c cut, s *collector.Sighting, id uint16) uint64 {
	p := &s.Packet
	h := uint64(c)<<32 | uint64(p.EtherType)<<8 | uint64(p.Proto)
	switch c {
	case stream:
		return mix(mix(h, uint64(p.Ack)), uint64(p.TSVal))
	case burst:
		if p.EtherType == collector.EtherIPv4 {
			return mix(h, uint64(id)>>laneBits)
		}
		return mix(h, uint64(p.Sport)<<16|uint64(p.Dport))
	case datagram:
		return mix(h, uint64(id))
	}
	return 0
}

// span is where a sighting lies in a packet: from its first byte to before to,
// and beyond both ends of the packet where it is of more than that.
type span struct{ from, to int64 }

// within returns the part of sp that lies in a packet of so many bytes.
func (sp span) within(size uint32) (Piece, bool) {
	from, to := max(sp.from, 0), min(sp.to, int64(size))
	return Piece{uint32(from), uint32(max(to-from, 0))}, from < to
}

// piece returns what sp is of a packet that is at least so long.
func (sp span) piece() Piece {
	from := min(max(sp.from, 0), maxPayload)
	return Piece{uint32(from), uint32(min(max(sp.to, from), maxPayload) - from)}
}

// span returns where s lies in o's packet, if it can be a piece of it or have
// pieces of it. fill is how much of s is known to be of the packets before o.
func (o *open) span(s *collector.Sighting, fill int64) (span, bool) {
	first := &o.Steps[0].Sighting
	p, q := &first.Packet, &s.Packet
	if p.EtherType != q.EtherType || p.Proto != q.Proto || s.IsShort() {
		return span{}, false
	}
	n := int64(payload(s))
	switch o.cut {
	case stream:
		from := int64(int32(q.Seq - p.Seq))
		same := p.Ack == q.Ack && p.TSVal == q.TSVal && (p.TCPFlags^q.TCPFlags)&^looseFlags == 0
		return span{from, from + n}, same && n > 0 && !isPiece(s)
	case burst:
		from, ok := burstOffset(first, s, fill)
		return span{from, from + n}, ok && n > 0 && !isPiece(s)
	case datagram:
		f := fragment(s)
		same := p.EtherType != collector.EtherIPv4 || p.IPID == q.IPID
		return span{int64(f.Offset), int64(f.Offset) + int64(f.Length)}, same && s.Segments <= 1
	}
	return span{}, false
}

// looseFlags are those that segments of one packet need not share: FIN and PSH
// are on the last, CWR is on the first.
const looseFlags = flagFIN | flagPSH | flagCWR

// idFits says whether a piece that begins so many bytes behind st's first has the
// IPv4 id that the kernel gives it. The ids of a GSO packet's segments count up,
// or are all the same.
func idFits(st *Step, behind int64, s *collector.Sighting) bool {
	if st.Packet.EtherType != collector.EtherIPv4 || st.Packet.Proto != collector.ProtoTCP {
		return true
	}
	k := uint16(0)
	if st.GSOSize > 0 && st.Segments > 1 {
		k = uint16(behind / int64(st.GSOSize))
	}
	d := s.Packet.IPID - st.Packet.IPID
	return behind < 0 || d == k || d == 0
}

// oneDatagram says whether the fragment s can be of st's datagram by its id. The
// bridge gives IPv6 datagrams another when it fragments them again.
func oneDatagram(st *Step, s *collector.Sighting, wire bool) bool {
	p, q := &st.Packet, &s.Packet
	return p.FragID == q.FragID || !wire || p.Flags&bpf.PacketFragment == 0 && !isPiece(&st.Sighting) || !isPiece(s)
}
