package filter

import (
	"encoding/binary"
	"math/rand/v2"
	"net"
	"net/netip"

	"github.com/nsbpf/nsbpf/bpf"
)

// The pools that generated frames and expressions draw from, small enough that
// they meet often.
var (
	poolV4    = []string{"10.1.2.3", "10.1.2.4", "10.2.0.1", "172.16.16.10", "8.8.8.8", "0.0.0.0", "255.255.255.255", "192.168.1.129", "224.0.0.251"}
	poolV6    = []string{"fd16::10", "fd16::20", "fe80::1", "2001:4860:4860::8888", "::1", "::", "fd16:0:0:8000::10", "::ffff:10.1.2.3", "ff02::1"}
	poolMAC   = []string{"02:00:00:00:00:01", "02:00:00:00:00:02", "ff:ff:ff:ff:ff:ff", "33:33:00:00:00:01"}
	poolPorts = []uint16{0, 9, 22, 53, 67, 79, 80, 81, 443, 8080, 40000, 65535}
	poolProto = []uint8{0, 1, 2, 6, 17, 41, 44, 47, 50, 51, 58, 103, 112, 132, 255}
	poolFlags = []uint8{0x02, 0x12, 0x10, 0x18, 0x11, 0x04, 0x00, 0xff, 0x29}
	poolTypes = []uint8{0, 3, 8, 11, 128, 129, 135, 136}
	poolTTLs  = []uint8{1, 5, 64, 255}
	poolTOS   = []uint8{0, 0x10, 0xb8, 0xff}
	poolEther = []uint16{typeIPv4, typeIPv6, typeARP, typeRARP, 0x88cc, 0x0600}
)

func pick[T any](r *rand.Rand, from []T) T { return from[r.IntN(len(from))] }

// frames is a generator of Ethernet frames.
type frames struct {
	*rand.Rand
	sctp bool // may make what a Packet does not tell: SCTP and RARP
}

// frame returns a whole frame.
func (g frames) frame() []byte {
	b := append(macBytes(pick(g.Rand, poolMAC)), macBytes(pick(g.Rand, poolMAC))...)
	for range pick(g.Rand, []int{0, 0, 0, 0, 0, 0, 0, 1, 1, 2}) {
		b = binary.BigEndian.AppendUint16(b, pick(g.Rand, []uint16{0x8100, 0x88a8}))
		b = binary.BigEndian.AppendUint16(b, pick(g.Rand, []uint16{5, 6, 0x2005, 4095}))
	}
	switch n := g.IntN(20); {
	case n < 9:
		return append(b, append([]byte{0x08, 0x00}, g.ipv4()...)...)
	case n < 16:
		return append(b, append([]byte{0x86, 0xdd}, g.ipv6()...)...)
	case n < 18 || n == 18 && !g.sctp:
		return append(b, append([]byte{0x08, 0x06}, g.arp()...)...)
	case n == 18:
		return append(b, append([]byte{0x80, 0x35}, g.arp()...)...)
	default:
		return append(b, append([]byte{0x88, 0xcc}, make([]byte, 50)...)...)
	}
}

func macBytes(s string) []byte {
	b, err := net.ParseMAC(s)
	if err != nil {
		panic(err)
	}
	return b
}

func addrBytes(s string) []byte { return netip.MustParseAddr(s).AsSlice() }

func (g frames) proto() uint8 {
	if g.IntN(3) > 0 {
		return pick(g.Rand, []uint8{protoTCP, protoUDP, protoICMP, protoICMPv6})
	}
	for {
		if p := pick(g.Rand, poolProto); p != protoSCTP || g.sctp {
			return p
		}
	}
}

func (g frames) ipv4() []byte {
	options := 0
	if g.IntN(5) == 0 {
		options = 4 * g.IntN(11)
	}
	proto := g.proto()
	frag := pick(g.Rand, []uint16{0, 0, 0x4000, 0x2000, 0x2001, 0x00b9})
	b := []byte{0x40 | byte(5+options/4), pick(g.Rand, poolTOS), 0, 0, 0, 1}
	b = binary.BigEndian.AppendUint16(b, frag)
	b = append(b, pick(g.Rand, poolTTLs), proto, 0, 0)
	b = append(b, addrBytes(pick(g.Rand, poolV4))...)
	b = append(b, addrBytes(pick(g.Rand, poolV4))...)
	b = append(b, make([]byte, options)...)
	b = append(b, g.transport(proto)...)
	binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
	return b
}

func (g frames) ipv6() []byte {
	proto := g.proto()
	for proto == protoFragment || proto == 0 || proto == protoESP || proto == protoAH {
		proto = g.proto()
	}
	next, ext := proto, []byte(nil)
	for range g.IntN(3) * g.IntN(2) { // from the innermost out
		switch g.IntN(4) {
		case 0, 1:
			frag := pick(g.Rand, []uint16{0, 1, 8, 0x100})
			ext = append([]byte{next, 0, byte(frag >> 8), byte(frag), 0, 0, 0, 9}, ext...)
			next = protoFragment
		case 2:
			ext = append(append([]byte{next, 1}, make([]byte, 14)...), ext...)
			next = 0
		default:
			ext = append(append([]byte{next, 4}, make([]byte, 22)...), ext...)
			next = 51
		}
	}
	class := pick(g.Rand, poolTOS)
	b := []byte{0x60 | class>>4, class << 4, 0, 0, 0, 0, next, pick(g.Rand, poolTTLs)}
	b = append(b, addrBytes(pick(g.Rand, poolV6))...)
	b = append(b, addrBytes(pick(g.Rand, poolV6))...)
	return append(append(b, ext...), g.transport(proto)...)
}

// transport returns a header and a payload of any protocol.
func (g frames) transport(proto uint8) []byte {
	b := make([]byte, 20, 120)
	binary.BigEndian.PutUint16(b, pick(g.Rand, poolPorts))
	binary.BigEndian.PutUint16(b[2:], pick(g.Rand, poolPorts))
	switch proto {
	case protoTCP:
		b[12], b[13] = 5<<4, pick(g.Rand, poolFlags)
	case protoICMP, protoICMPv6:
		b[0], b[1] = pick(g.Rand, poolTypes), byte(g.IntN(4))
	}
	for range g.IntN(100) {
		b = append(b, byte(g.Uint32()))
	}
	return b
}

func (g frames) arp() []byte {
	b := []byte{0, 1, 8, 0, 6, 4, 0, byte(1 + g.IntN(2))}
	b = append(b, macBytes(pick(g.Rand, poolMAC))...)
	b = append(b, addrBytes(pick(g.Rand, poolV4))...)
	b = append(b, macBytes(pick(g.Rand, poolMAC))...)
	b = append(b, addrBytes(pick(g.Rand, poolV4))...)
	return append(b, make([]byte, g.IntN(30))...)
}

// cursor mirrors the one of bpf/parse.h.
type cursor struct {
	b   []byte
	pos int
}

func (c *cursor) take(n int) []byte {
	if c.pos+n > len(c.b) {
		return nil
	}
	c.pos += n
	return c.b[c.pos-n : c.pos]
}

// readFrame mirrors parse_xdp of bpf/parse.h.
func readFrame(frame []byte) *bpf.Packet {
	p := &bpf.Packet{Len: uint32(len(frame))}
	if !readEthernet(&cursor{b: frame}, p) {
		p.Flags |= bpf.PacketShort
	}
	return p
}

func readEthernet(c *cursor, p *bpf.Packet) bool {
	b := c.take(14)
	if b == nil {
		return false
	}
	copy(p.EthDst[:], b)
	copy(p.EthSrc[:], b[6:])
	proto := binary.BigEndian.Uint16(b[12:])
	for i := 0; i < 2 && (proto == 0x8100 || proto == 0x88a8); i++ {
		tag := c.take(4)
		if tag == nil {
			return false
		}
		if p.Flags&bpf.PacketVLAN == 0 {
			p.VLAN = binary.BigEndian.Uint16(tag)
			p.Flags |= bpf.PacketVLAN
		} else {
			p.Flags |= bpf.PacketQinQ
		}
		proto = binary.BigEndian.Uint16(tag[2:])
	}
	p.EtherType = proto
	switch proto {
	case typeIPv4:
		return readIPv4(c, p)
	case typeIPv6:
		return readIPv6(c, p)
	case typeARP:
		return readARP(c, p)
	}
	return true
}

func v4In16(b []byte) [16]byte { return netip.AddrFrom4([4]byte(b)).As16() }

func readARP(c *cursor, p *bpf.Packet) bool {
	b := c.take(28)
	if b == nil {
		return false
	}
	p.ICMPType = b[7]
	if binary.BigEndian.Uint16(b[2:]) == typeIPv4 && b[5] == 4 {
		p.Src, p.Dst = v4In16(b[14:18]), v4In16(b[24:28])
	}
	return true
}

func readIPv4(c *cursor, p *bpf.Packet) bool {
	b := c.take(20)
	if b == nil {
		return false
	}
	p.Src, p.Dst = v4In16(b[12:16]), v4In16(b[16:20])
	p.Proto, p.NextHdr = b[9], b[9]
	p.TOS, p.TTL = b[1], b[8]
	p.Frag = binary.BigEndian.Uint16(b[6:])
	if p.Frag&0x1fff != 0 {
		p.Flags |= bpf.PacketFragment
	}
	header := int(b[0]&0xf) * 4
	if header < 20 {
		return false
	}
	c.pos += header - 20
	return c.pos <= len(c.b) && readTransport(c, p)
}

func readIPv6(c *cursor, p *bpf.Packet) bool {
	b := c.take(40)
	if b == nil {
		return false
	}
	copy(p.Src[:], b[8:])
	copy(p.Dst[:], b[24:])
	p.NextHdr, p.TTL = b[6], b[7]
	p.TOS = b[0]<<4 | b[1]>>4
	next := b[6]
	for i := 0; i < 4 && isExtension(next); i++ {
		ext := c.take(8)
		if ext == nil {
			return false
		}
		switch next {
		case protoFragment:
			p.Frag = binary.BigEndian.Uint16(ext[2:])
			if i == 0 {
				p.FragNext = ext[0]
			}
			if p.Frag&0xfff8 != 0 {
				p.Flags |= bpf.PacketFragment
				p.Proto = ext[0]
				return true
			}
		case 51:
			c.pos += (int(ext[1])+2)*4 - 8
		default:
			c.pos += int(ext[1]) * 8
		}
		next = ext[0]
	}
	if isExtension(next) || c.pos > len(c.b) {
		return false
	}
	p.Proto = next
	return readTransport(c, p)
}

func isExtension(next uint8) bool {
	return next == 0 || next == 43 || next == protoFragment || next == 51 || next == 60
}

func readTransport(c *cursor, p *bpf.Packet) bool {
	start := c.pos
	icmp := p.Proto == protoICMP && p.EtherType == typeIPv4 || p.Proto == protoICMPv6 && p.EtherType == typeIPv6
	switch {
	case p.Flags&bpf.PacketFragment != 0:
	case p.Proto == protoTCP:
		b := c.take(20)
		if b == nil {
			return false
		}
		p.Sport, p.Dport = binary.BigEndian.Uint16(b), binary.BigEndian.Uint16(b[2:])
		p.TCPFlags = b[13]
		p.Flags |= bpf.PacketPorts
		header := int(b[12]>>4) * 4
		if header < 20 || start+header > len(c.b) {
			return false
		}
		p.PayloadOff = uint16(start + header)
	case p.Proto == protoUDP:
		b := c.take(8)
		if b == nil {
			return false
		}
		p.Sport, p.Dport = binary.BigEndian.Uint16(b), binary.BigEndian.Uint16(b[2:])
		p.Flags |= bpf.PacketPorts
		p.PayloadOff = uint16(c.pos)
	case icmp:
		b := c.take(8)
		if b == nil {
			return false
		}
		p.ICMPType, p.ICMPCode = b[0], b[1]
		p.PayloadOff = uint16(c.pos)
	}
	return true
}
