package bpf

import (
	"encoding/binary"
	"encoding/hex"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
)

// reading is a frame, made by gopacket, and what the programs are to read of it.
type reading struct {
	frame []byte
	want  Packet
	// headers is how many bytes are needed to read all headers.
	headers int
}

// readings returns frames of every shape the parser knows.
func readings(t testing.TB) map[string]reading {
	t.Helper()
	m := make(map[string]reading)
	add := func(name string, headers int, want Packet, ls ...gopacket.SerializableLayer) {
		t.Helper()
		f := frame(t, ls...)
		want.Len = uint32(len(f))
		want.EthDst, want.EthSrc = [6]byte(macB), [6]byte(macA)
		m[name] = reading{f, want, headers}
	}
	addIPv4(add)
	addIPv6(add)
	addLinks(add)
	return m
}

// tagged returns r with a VLAN tag, through which the programs look. The
// kernel's test run refuses skbs of IPv4 and IPv6 that are shorter than the IP
// header; behind a tag it does not see them.
func (r reading) tagged() reading {
	if r.want.Flags&PacketVLAN == 0 {
		r.frame = slices.Insert(slices.Clone(r.frame), 12, 0x81, 0x00, 0x00, 0x07)
		r.headers += 4
		r.want.Len += 4
		r.want.VLAN, r.want.Flags = 7, r.want.Flags|PacketVLAN
		if r.want.PayloadOff > 0 {
			r.want.PayloadOff += 4
		}
	}
	return r
}

type addReading func(name string, headers int, want Packet, ls ...gopacket.SerializableLayer)

func addIPv4(add addReading) {
	v4 := eth(layers.EthernetTypeIPv4)
	add("tcp with timestamp", 14+20+32, with(read4(6), tcpRead, func(p *Packet) {
		p.TSVal, p.PayloadOff = 0x11223344, 14+20+32
	}), v4, ip4(6), tcp(timestamp...), text("GET /"))
	add("tcp without options", 14+20+20, with(read4(6), tcpRead), v4, ip4(6), tcp(), text("GET /"))
	add("tcp with options in another order", 14+20+32, with(read4(6), tcpRead, func(p *Packet) {
		p.PayloadOff = 14 + 20 + 32
	}), v4, ip4(6), tcp(timestamp[2], timestamp[0], timestamp[1]))
	add("tcp with a header shorter than it may be", 14+20+21, with(read4(6), tcpRead, func(p *Packet) {
		p.PayloadOff, p.Flags = 0, p.Flags|PacketShort
	}), v4, ip4(6), raw("9c40 0050 01020304 05060708 4012 ffff 0000 0000"))
	add("udp", 14+20+8, with(read4(17), udpRead), v4, ip4(17), udp, text("what is asked for by name, in more than 32 bytes"))
	add("udp without payload", 14+20+8, with(read4(17), udpRead), v4, ip4(17), udp)
	add("icmp echo request", 14+20+8, with(read4(1), icmpRead(8, 0, 7, 9)), v4, ip4(1),
		&layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(8, 0), Id: 7, Seq: 9}, text("abc"))
	add("icmp echo reply", 14+20+8, with(read4(1), icmpRead(0, 0, 7, 9)), v4, ip4(1),
		&layers.ICMPv4{Id: 7, Seq: 9}, text("abcdefgh"))
	add("icmp port unreachable", 14+20+8, with(read4(1), icmpRead(3, 3, 0, 0)), v4, ip4(1),
		&layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(3, 3), Id: 7, Seq: 9}, ip4(17), udp)
	add("icmp6 in ipv4", 14+20, read4(58), v4, ip4(58), text("no ICMP of this version"))
	add("protocol unknown", 14+20, read4(89), v4, ip4(89), text("ospf"))

	options := ip4(17)
	options.Options = []layers.IPv4Option{{OptionType: 148, OptionLength: 4, OptionData: []byte{0, 0}}}
	add("ipv4 options", 14+24+8, with(read4(17), udpRead, func(p *Packet) { p.PayloadOff += 4 }), v4, options, udp, text("hi"))
	options = ip4(89)
	options.Options = []layers.IPv4Option{{OptionType: 148, OptionLength: 4, OptionData: []byte{0, 0}}}
	add("ipv4 options and protocol unknown", 14+24, read4(89), v4, options, text("ospf"))

	first, later := ip4(17), ip4(17)
	first.Flags, later.FragOffset = layers.IPv4MoreFragments, 185
	add("ipv4 first fragment", 14+20+8, with(read4(17), udpRead, func(p *Packet) { p.Frag = 0x2000 }), v4, first, udp, text("hi"))
	add("ipv4 later fragment", 14+20, with(read4(17), func(p *Packet) {
		p.Frag, p.Flags = 185, PacketFragment
	}), v4, later, text("no ports in here"))
}

func addIPv6(add addReading) {
	const (
		hopOpts  = "1100 0104 00000000"                   // next: UDP
		toDst    = "3c00 0104 00000000"                   // next: destination options
		dstOpts  = "2c01 010c 00000000 00000000 00000000" // 16 bytes, next: fragment
		ahToUDP  = "1104 0000 00000001 00000002 00000000 00000000 00000000"
		lastFrag = "3c00 0008 00000001" // later fragment, next: destination options
	)
	v6 := eth(layers.EthernetTypeIPv6)
	add("tcp6", 14+40+32, with(read6(6, 6), tcpRead, func(p *Packet) {
		p.TSVal, p.PayloadOff = 0x11223344, 14+40+32
	}), v6, ip6(6), tcp(timestamp...), text("GET /"))
	add("udp6", 14+40+8, with(read6(17, 17), udpRead, func(p *Packet) { p.PayloadOff = 14 + 40 + 8 }), v6, ip6(17), udp, text("hi"))
	add("icmp6 echo request", 14+40+8, with(read6(58, 58), icmpRead(128, 0, 7, 9)), v6, ip6(58),
		&layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(128, 0)}, &layers.ICMPv6Echo{Identifier: 7, SeqNumber: 9}, text("abc"))
	add("icmp6 echo reply", 14+40+8, with(read6(58, 58), icmpRead(129, 0, 7, 9)), v6, ip6(58),
		&layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(129, 0)}, &layers.ICMPv6Echo{Identifier: 7, SeqNumber: 9})
	add("icmp6 neighbour solicitation", 14+40+8, with(read6(58, 58), icmpRead(135, 0, 0, 0)), v6, ip6(58),
		&layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(135, 0)},
		&layers.ICMPv6NeighborSolicitation{TargetAddress: net.ParseIP("fd16::20")})
	add("icmp in ipv6", 14+40, read6(1, 1), v6, ip6(1), text("no ICMP of this version"))

	add("hop-by-hop", 14+40+8+8, with(read6(0, 17), udpRead, func(p *Packet) { p.PayloadOff = 14 + 40 + 8 + 8 }),
		v6, ip6(0), raw(hopOpts), udp, text("hi"))
	add("hop-by-hop and no next header", 14+40+16, read6(0, 59), v6, ip6(0), raw("3b01 010c 00000000 00000000 00000000"), text("pad"))
	add("authentication header", 14+40+24+8, with(read6(51, 17), udpRead, func(p *Packet) { p.PayloadOff = 14 + 40 + 24 + 8 }),
		v6, ip6(51), raw(ahToUDP), udp, text("hi"))
	add("four extension headers", 14+40+8+16+8+24+8, with(read6(0, 17), udpRead, func(p *Packet) {
		p.Frag, p.PayloadOff = 1, 14+40+8+16+8+24+8
	}), v6, ip6(0), raw(toDst), raw(dstOpts), &layers.IPv6Fragment{NextHeader: 51, MoreFragments: true}, raw(ahToUDP), udp, text("hi"))
	add("ipv6 first fragment", 14+40+8+8, with(read6(44, 17), udpRead, func(p *Packet) {
		p.Frag, p.FragID, p.FragNext, p.PayloadOff = 1, 0x11223344, 17, 14+40+8+8
	}), v6, ip6(44), &layers.IPv6Fragment{NextHeader: 17, MoreFragments: true, Identification: 0x11223344}, udp, text("hi"))
	add("ipv6 later fragment", 14+40+8, with(read6(44, 17), func(p *Packet) {
		p.Frag, p.FragID, p.FragNext, p.Flags = 185<<3, 5, 17, PacketFragment
	}), v6, ip6(44), &layers.IPv6Fragment{NextHeader: 17, FragmentOffset: 185, Identification: 5}, text("no ports in here"))
	add("ipv6 later fragment of options", 14+40+8, with(read6(44, 60), func(p *Packet) {
		p.Frag, p.FragID, p.FragNext, p.Flags = 1<<3, 1, 60, PacketFragment
	}), v6, ip6(44), raw(lastFrag), raw("0600 0000 00000000"), tcp())
	add("five extension headers", 14+40+5*8+21, with(read6(0, 0), func(p *Packet) { p.Flags = PacketShort }),
		v6, ip6(0), raw(strings.Repeat(toDst, 4)), raw(hopOpts), udp)
}

func addLinks(add addReading) {
	tag := func(vid uint16, t layers.EthernetType) *layers.Dot1Q {
		return &layers.Dot1Q{Priority: 2, VLANIdentifier: vid, Type: t}
	}
	tagged := func(p *Packet) {
		p.VLAN, p.Flags, p.PayloadOff = 2<<13|7, p.Flags|PacketVLAN, p.PayloadOff+4
	}
	add("arp request", 14+28, Packet{
		EtherType: 0x806, ICMPType: 1, Src: addrA4.As16(), Dst: addrB4.As16(),
	}, eth(layers.EthernetTypeARP), arp())
	add("arp of another protocol", 14+28, Packet{EtherType: 0x806, ICMPType: 2},
		eth(layers.EthernetTypeARP), raw("0001 0800 06 10 0002"), text("twenty bytes of body"))
	add("vlan", 14+4+20+8, with(read4(17), udpRead, tagged),
		eth(layers.EthernetTypeDot1Q), tag(7, layers.EthernetTypeIPv4), ip4(17), udp, text("hi"))
	add("two vlans", 14+8+20+8, with(read4(17), udpRead, tagged, func(p *Packet) { p.PayloadOff, p.Flags = p.PayloadOff+4, p.Flags|PacketQinQ }),
		eth(layers.EthernetTypeQinQ), tag(7, layers.EthernetTypeDot1Q), tag(8, layers.EthernetTypeIPv4), ip4(17), udp, text("hi"))
	add("not ip", 14, Packet{EtherType: 0x88cc}, eth(layers.EthernetTypeLinkLayerDiscovery), text("lldp"))
}

var (
	macA, macB     = net.HardwareAddr{2, 0, 0, 0, 0, 1}, net.HardwareAddr{2, 0, 0, 0, 0, 2}
	addrA4, addrB4 = netip.MustParseAddr("172.16.16.10"), netip.MustParseAddr("172.16.16.20")
	addrA6, addrB6 = netip.MustParseAddr("fd16::10"), netip.MustParseAddr("fd16::20")

	udp       = &layers.UDP{SrcPort: 40000, DstPort: 9}
	timestamp = []layers.TCPOption{
		{OptionType: layers.TCPOptionKindNop},
		{OptionType: layers.TCPOptionKindNop},
		{OptionType: layers.TCPOptionKindTimestamps, OptionLength: 10, OptionData: []byte{0x11, 0x22, 0x33, 0x44, 5, 6, 7, 8}},
	}
)

// eth is an Ethernet header. gopacket's own would pad the frame to 60 bytes.
func eth(t layers.EthernetType) gopacket.Payload {
	return binary.BigEndian.AppendUint16(slices.Concat(macB, macA), uint16(t))
}

func ip4(proto layers.IPProtocol) *layers.IPv4 {
	return &layers.IPv4{
		Version: 4, TOS: 0x10, Id: 0x1234, TTL: 63, Protocol: proto,
		SrcIP: addrA4.AsSlice(), DstIP: addrB4.AsSlice(),
	}
}

func ip6(next layers.IPProtocol) *layers.IPv6 {
	return &layers.IPv6{
		Version: 6, TrafficClass: 0xb8, FlowLabel: 0xabcde, HopLimit: 62, NextHeader: next,
		SrcIP: addrA6.AsSlice(), DstIP: addrB6.AsSlice(),
	}
}

func tcp(options ...layers.TCPOption) *layers.TCP {
	return &layers.TCP{
		SrcPort: 40000, DstPort: 80, Seq: 0x01020304, Ack: 0x05060708, SYN: true, ACK: true, Window: 0xffff,
		Options: options,
	}
}

func arp() *layers.ARP {
	return &layers.ARP{
		AddrType: layers.LinkTypeEthernet, Protocol: layers.EthernetTypeIPv4, HwAddressSize: 6, ProtAddressSize: 4,
		Operation: layers.ARPRequest, SourceHwAddress: macA, SourceProtAddress: addrA4.AsSlice(),
		DstHwAddress: make([]byte, 6), DstProtAddress: addrB4.AsSlice(),
	}
}

func text(s string) gopacket.Payload { return gopacket.Payload(s) }

// raw is a header that gopacket does not write, in hexadecimal.
func raw(s string) gopacket.Payload {
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		panic(err)
	}
	return b
}

func frame(t testing.TB, ls ...gopacket.SerializableLayer) []byte {
	t.Helper()
	b := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(b, gopacket.SerializeOptions{FixLengths: true}, ls...); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// read4 is what is read of ip4.
func read4(proto uint8) Packet {
	return Packet{
		EtherType: 0x800, Src: addrA4.As16(), Dst: addrB4.As16(),
		IPID: 0x1234, TTL: 63, TOS: 0x10, Proto: proto, NextHdr: proto,
	}
}

// read6 is what is read of ip6, with extension headers between the two protocols.
func read6(next, proto uint8) Packet {
	return Packet{
		EtherType: 0x86dd, Src: addrA6.As16(), Dst: addrB6.As16(),
		TTL: 62, TOS: 0xb8, NextHdr: next, Proto: proto,
	}
}

func tcpRead(p *Packet) {
	p.Sport, p.Dport, p.Seq, p.Ack, p.TCPFlags = 40000, 80, 0x01020304, 0x05060708, 0x12
	p.Flags |= PacketPorts
	p.PayloadOff = 14 + 20 + 20
}

func udpRead(p *Packet) {
	p.Sport, p.Dport = 40000, 9
	p.Flags |= PacketPorts
	p.PayloadOff = 14 + 20 + 8
}

func icmpRead(kind, code uint8, id, seq uint16) func(*Packet) {
	return func(p *Packet) {
		p.ICMPType, p.ICMPCode, p.ICMPID, p.ICMPSeq = kind, code, id, seq
		p.PayloadOff = 14 + 20 + 8
		if p.EtherType == 0x86dd {
			p.PayloadOff = 14 + 40 + 8
		}
	}
}

func with(p Packet, changes ...func(*Packet)) Packet {
	for _, change := range changes {
		change(&p)
	}
	return p
}
