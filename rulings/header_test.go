package rulings

import (
	"net"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"github.com/nsbpf/nsbpf/bpf"
	"github.com/nsbpf/nsbpf/collector"
)

var (
	macA = net.HardwareAddr{2, 0, 0, 0, 0, 0xa}
	macB = net.HardwareAddr{2, 0, 0, 0, 0, 0xb}
	ip4A = net.IP{10, 0, 1, 2}
	ip4B = net.IP{10, 0, 2, 2}
	ip6A = net.ParseIP("fd01::2")
	ip6B = net.ParseIP("fd02::2")
)

// cut returns a packet's headers as the kernel gives them.
func cut(t testing.TB, link, network int, pieces ...gopacket.SerializableLayer) headers {
	t.Helper()
	b := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(b, gopacket.SerializeOptions{FixLengths: true}, pieces...); err != nil {
		t.Fatal(err)
	}
	all := b.Bytes()
	upTo := func(b []byte, n int) []byte { return b[:min(n, len(b))] }
	return headers{
		ethernet:  true,
		link:      all[:link],
		network:   upTo(all[link:link+network], 40),
		transport: upTo(all[link+network:], 20),
	}
}

func ethernet(kind layers.EthernetType) *layers.Ethernet {
	return &layers.Ethernet{DstMAC: macB, SrcMAC: macA, EthernetType: kind}
}

func ipv4(proto layers.IPProtocol) *layers.IPv4 {
	return &layers.IPv4{Version: 4, TTL: 63, TOS: 8, Id: 4711, Flags: layers.IPv4DontFragment, Protocol: proto, SrcIP: ip4A, DstIP: ip4B}
}

func ipv6(proto layers.IPProtocol) *layers.IPv6 {
	return &layers.IPv6{Version: 6, HopLimit: 62, TrafficClass: 0x28, NextHeader: proto, SrcIP: ip6A, DstIP: ip6B}
}

func ipv4Packet(p bpf.Packet) bpf.Packet {
	p.EthDst, p.EthSrc, p.EtherType = [6]byte(macB), [6]byte(macA), collector.EtherIPv4
	p.Src, p.Dst = [16]byte(ip4A.To16()), [16]byte(ip4B.To16())
	p.TTL, p.TOS, p.IPID, p.NextHdr = 63, 8, 4711, p.Proto
	if p.Frag == 0 {
		p.Frag = 0x4000
	}
	return p
}

func ipv6Packet(p bpf.Packet) bpf.Packet {
	p.EthDst, p.EthSrc, p.EtherType = [6]byte(macB), [6]byte(macA), collector.EtherIPv6
	p.Src, p.Dst = [16]byte(ip6A), [16]byte(ip6B)
	p.TTL, p.TOS, p.NextHdr = 62, 0x28, p.Proto
	return p
}

type packetTest struct {
	name string
	in   headers
	want bpf.Packet
}

func udpTests(t *testing.T) []packetTest {
	payload := gopacket.Payload("abcdefghijklmnopqrstuvwxyz")
	fragment := ipv4(layers.IPProtocolUDP)
	fragment.Flags, fragment.FragOffset = 0, 3
	options := ipv4(layers.IPProtocolUDP)
	options.Options = []layers.IPv4Option{{OptionType: 1}, {OptionType: 1}, {OptionType: 1}, {OptionType: 0}}
	tagged := cut(t, 18, 20, ethernet(layers.EthernetTypeDot1Q), &layers.Dot1Q{VLANIdentifier: 5, Priority: 1, Type: layers.EthernetTypeIPv4},
		ipv4(layers.IPProtocolUDP), &layers.UDP{SrcPort: 1, DstPort: 2}, payload)
	bare := cut(t, 14, 20, ethernet(layers.EthernetTypeIPv4), ipv4(layers.IPProtocolUDP), &layers.UDP{SrcPort: 1, DstPort: 2}, payload)
	own := bare // of a node's own packet there is no link header yet
	own.link = nil
	short := bare
	short.transport = short.transport[:7]
	return []packetTest{
		{"udp", bare, ipv4Packet(bpf.Packet{Proto: 17, Len: 68, Sport: 1, Dport: 2, Flags: bpf.PacketPorts})},
		{"vlan", tagged, ipv4Packet(bpf.Packet{Proto: 17, Len: 68, VLAN: 0x2005, Sport: 1, Dport: 2, Flags: bpf.PacketPorts | bpf.PacketVLAN})},
		{"cut off", short, ipv4Packet(bpf.Packet{Proto: 17, Len: 68, Flags: bpf.PacketShort})},
		{
			"ip options", cut(t, 14, 24, ethernet(layers.EthernetTypeIPv4), options, &layers.UDP{SrcPort: 1, DstPort: 2}),
			ipv4Packet(bpf.Packet{Proto: 17, Len: 46, Sport: 1, Dport: 2, Flags: bpf.PacketPorts}),
		},
		{
			"fragment", cut(t, 14, 20, ethernet(layers.EthernetTypeIPv4), fragment, payload),
			ipv4Packet(bpf.Packet{Proto: 17, Len: 60, Frag: 3, Flags: bpf.PacketFragment}),
		},
		{
			"own", own, func() bpf.Packet {
				p := ipv4Packet(bpf.Packet{Proto: 17, Len: 68, Sport: 1, Dport: 2, Flags: bpf.PacketPorts})
				p.EthDst, p.EthSrc = [6]byte{}, [6]byte{}
				return p
			}(),
		},
	}
}

func otherTests(t *testing.T) []packetTest {
	payload := gopacket.Payload("abcdefghijklmnopqrstuvwxyz")
	echo6 := layers.CreateICMPv6TypeCode(layers.ICMPv6TypeEchoReply, 0)
	arp := &layers.ARP{
		AddrType: layers.LinkTypeEthernet, Protocol: layers.EthernetTypeIPv4, HwAddressSize: 6, ProtAddressSize: 4, Operation: 2,
		SourceHwAddress: macA, SourceProtAddress: ip4A, DstHwAddress: macB, DstProtAddress: ip4B,
	}
	return []packetTest{
		{
			"tcp", cut(t, 14, 20, ethernet(layers.EthernetTypeIPv4), ipv4(layers.IPProtocolTCP), &layers.TCP{SrcPort: 80, DstPort: 40000, Seq: 7, Ack: 8, SYN: true, ACK: true}),
			ipv4Packet(bpf.Packet{Proto: 6, Len: 54, Sport: 80, Dport: 40000, Seq: 7, Ack: 8, TCPFlags: 0x12, Flags: bpf.PacketPorts}),
		},
		{
			"icmp", cut(t, 14, 20, ethernet(layers.EthernetTypeIPv4), ipv4(layers.IPProtocolICMPv4), &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(8, 0), Id: 5, Seq: 6}),
			ipv4Packet(bpf.Packet{Proto: 1, Len: 42, ICMPType: 8, ICMPID: 5, ICMPSeq: 6}),
		},
		{
			"icmp error", cut(t, 14, 20, ethernet(layers.EthernetTypeIPv4), ipv4(layers.IPProtocolICMPv4), &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(3, 4), Seq: 1400}),
			ipv4Packet(bpf.Packet{Proto: 1, Len: 42, ICMPType: 3, ICMPCode: 4}),
		},
		{
			"icmp6", cut(t, 14, 40, ethernet(layers.EthernetTypeIPv6), ipv6(layers.IPProtocolICMPv6), &layers.ICMPv6{TypeCode: echo6}, &layers.ICMPv6Echo{Identifier: 5, SeqNumber: 6}),
			ipv6Packet(bpf.Packet{Proto: 58, Len: 62, ICMPType: 129, ICMPID: 5, ICMPSeq: 6}),
		},
		{
			"extension header", cut(t, 14, 40, ethernet(layers.EthernetTypeIPv6), ipv6(layers.IPProtocolIPv6Fragment), payload),
			func() bpf.Packet {
				p := ipv6Packet(bpf.Packet{Len: 80, Flags: bpf.PacketShort})
				p.NextHdr = 44
				return p
			}(),
		},
		{
			"arp", cut(t, 14, 28, ethernet(layers.EthernetTypeARP), arp),
			bpf.Packet{
				EthDst: [6]byte(macB), EthSrc: [6]byte(macA), EtherType: collector.EtherARP, Len: 42,
				Src: [16]byte(ip4A.To16()), Dst: [16]byte(ip4B.To16()), ICMPType: 2,
			},
		},
	}
}

func TestPacket(t *testing.T) {
	for _, c := range append(udpTests(t), otherTests(t)...) {
		t.Run(c.name, func(t *testing.T) {
			if diff := cmp.Diff(c.want, c.in.packet(), cmpopts.IgnoreUnexported(bpf.Packet{})); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func FuzzPacket(f *testing.F) {
	f.Add([]byte{0x45}, []byte{}, []byte{})
	f.Add([]byte{0x60, 39: 1}, []byte{0, 1, 0, 2, 0, 3, 0, 4}, []byte{12: 0x81, 13: 0, 17: 0})
	f.Fuzz(func(t *testing.T, network, transport, link []byte) {
		p := headers{true, link, network, transport}.packet()
		if p.Flags&bpf.PacketPorts != 0 && p.Proto != collector.ProtoTCP && p.Proto != collector.ProtoUDP {
			t.Errorf("ports of protocol %d", p.Proto)
		}
		if p.Flags&bpf.PacketFragment != 0 && (p.Sport != 0 || p.ICMPType != 0) {
			t.Error("transport header of a fragment")
		}
	})
}
