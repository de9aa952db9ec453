package report

import (
	"net/netip"
	"strconv"

	"github.com/nsbpf/nsbpf/collector"
)

// Headline returns a packet in one line: what it is, from where to where, the
// fields it is known by, and its length.
func Headline(s *collector.Sighting) string { return string(appendHeadline(nil, s)) }

func appendHeadline(b []byte, s *collector.Sighting) []byte {
	p := &s.Packet
	switch {
	case p.EtherType == collector.EtherARP:
		b = appendARP(b, s)
	case !s.IsIP():
		b = appendEthernet(b, s)
	case !s.Addressed():
		b = append(b, family(s)...)
	case s.IsFragment():
		b = append(appendProto(b, s), " fragment "...)
		b = appendEnds(b, s)
		b = appendField(b, "id", uint64(p.IPID))
		b = appendField(b, "offset", fragmentOffset(s))
	default:
		b = appendTransport(b, s)
	}
	if s.IsShort() {
		b = append(b, " (cut short)"...)
	}
	b = append(b, "  "...)
	b = strconv.AppendUint(b, uint64(p.Len), 10)
	b = append(b, " B"...)
	if s.Segments > 1 {
		b = append(b, " in "...)
		b = strconv.AppendUint(b, uint64(s.Segments), 10)
		b = append(b, " segments"...)
	}
	return b
}

func family(s *collector.Sighting) string {
	if s.Packet.EtherType == collector.EtherIPv6 {
		return "IPv6"
	}
	return "IPv4"
}

func appendTransport(b []byte, s *collector.Sighting) []byte {
	p := &s.Packet
	b = appendProto(b, s)
	if name := icmpName(s); name != "" {
		b = append(append(b, ' '), name...)
	}
	b = append(b, ' ')
	b = appendEnds(b, s)
	switch {
	case s.IsEcho():
		b = appendField(b, "id", uint64(p.ICMPID))
		b = appendField(b, "seq", uint64(p.ICMPSeq))
	case p.Proto == collector.ProtoTCP:
		b = append(b, " ["...)
		b = appendTCPFlags(b, p.TCPFlags)
		b = append(b, ']')
		b = appendField(b, "seq", uint64(p.Seq))
		if p.TCPFlags&0x10 != 0 {
			b = appendField(b, "ack", uint64(p.Ack))
		}
	}
	return b
}

func appendField(b []byte, name string, v uint64) []byte {
	b = append(append(append(b, ' '), name...), ' ')
	return strconv.AppendUint(b, v, 10)
}

var protoNames = map[uint8]string{2: "IGMP", 4: "IPIP", 41: "IPv6-in-IP", 47: "GRE", 50: "ESP", 132: "SCTP"}

func appendProto(b []byte, s *collector.Sighting) []byte {
	switch p := &s.Packet; {
	case p.Proto == collector.ProtoTCP:
		return append(b, "TCP"...)
	case p.Proto == collector.ProtoUDP:
		return append(b, "UDP"...)
	case p.Proto == collector.ProtoICMP && p.EtherType == collector.EtherIPv4:
		return append(b, "ICMP"...)
	case p.Proto == collector.ProtoICMPv6 && p.EtherType == collector.EtherIPv6:
		return append(b, "ICMPv6"...)
	}
	if name, ok := protoNames[s.Packet.Proto]; ok {
		return append(b, name...)
	}
	return appendField(append(b, family(s)...), "protocol", uint64(s.Packet.Proto))
}

// appendTCPFlags writes flags as tcpdump does: S, F, P, R, U, E, W and a dot for ACK.
func appendTCPFlags(b []byte, flags uint8) []byte {
	n := len(b)
	for _, f := range [...]struct {
		bit  uint8
		char byte
	}{{0x01, 'F'}, {0x02, 'S'}, {0x04, 'R'}, {0x08, 'P'}, {0x20, 'U'}, {0x40, 'E'}, {0x80, 'W'}, {0x10, '.'}} {
		if flags&f.bit != 0 {
			b = append(b, f.char)
		}
	}
	if len(b) == n {
		return append(b, "none"...)
	}
	return b
}

// appendEnds writes "source > destination", with ports where there are any.
func appendEnds(b []byte, s *collector.Sighting) []byte {
	b = appendEnd(b, s.Src(), s.Packet.Sport, s.HasPorts())
	b = append(b, " > "...)
	return appendEnd(b, s.Dst(), s.Packet.Dport, s.HasPorts())
}

func appendEnd(b []byte, a netip.Addr, port uint16, ported bool) []byte {
	if !a.IsValid() {
		return append(b, '?')
	}
	if ported {
		return netip.AddrPortFrom(a, port).AppendTo(b)
	}
	return a.AppendTo(b)
}

func appendARP(b []byte, s *collector.Sighting) []byte {
	p := &s.Packet
	switch {
	case !s.Addressed():
		return appendField(append(b, "ARP"...), "operation", uint64(p.ICMPType))
	case p.ICMPType == 1:
		b = append(b, "ARP who-has "...)
		b = s.Dst().AppendTo(b)
		b = append(b, " tell "...)
		return s.Src().AppendTo(b)
	case p.ICMPType == 2:
		b = append(b, "ARP "...)
		b = s.Src().AppendTo(b)
		b = append(b, " is-at "...)
		return appendMAC(b, p.EthSrc)
	}
	b = appendField(append(b, "ARP"...), "operation", uint64(p.ICMPType))
	return appendEnds(append(b, ' '), s)
}

func appendEthernet(b []byte, s *collector.Sighting) []byte {
	p := &s.Packet
	b = append(b, "Ethernet 0x"...)
	b = strconv.AppendUint(b, uint64(p.EtherType), 16)
	b = appendMAC(append(b, ' '), p.EthSrc)
	return appendMAC(append(b, " > "...), p.EthDst)
}

func appendMAC(b []byte, mac [6]byte) []byte {
	const hex = "0123456789abcdef"
	for i, x := range mac {
		if i > 0 {
			b = append(b, ':')
		}
		b = append(b, hex[x>>4], hex[x&15])
	}
	return b
}

// fragmentOffset returns where the fragment belongs, in bytes.
func fragmentOffset(s *collector.Sighting) uint64 {
	if s.Packet.EtherType == collector.EtherIPv6 {
		return uint64(s.Packet.Frag &^ 7)
	}
	return uint64(s.Packet.Frag&0x1fff) * 8
}

type icmpKind struct{ kind, code uint8 }

// anyCode stands for a type whose codes do not matter.
const anyCode = 255

var icmpNames = map[icmpKind]string{
	{0, anyCode}: "echo reply", {8, anyCode}: "echo request",
	{3, 0}: "network unreachable", {3, 1}: "host unreachable", {3, 2}: "protocol unreachable",
	{3, 3}: "port unreachable", {3, 4}: "fragmentation needed", {3, 9}: "network prohibited",
	{3, 10}: "host prohibited", {3, 13}: "prohibited", {3, anyCode}: "unreachable",
	{5, anyCode}: "redirect", {9, anyCode}: "router advertisement", {10, anyCode}: "router solicitation",
	{11, anyCode}: "time exceeded", {12, anyCode}: "parameter problem",
}

var icmp6Names = map[icmpKind]string{
	{128, anyCode}: "echo request", {129, anyCode}: "echo reply",
	{1, 0}: "no route", {1, 1}: "prohibited", {1, 3}: "address unreachable", {1, 4}: "port unreachable",
	{1, anyCode}: "unreachable", {2, anyCode}: "packet too big", {3, anyCode}: "time exceeded",
	{4, anyCode}: "parameter problem", {130, anyCode}: "listener query", {131, anyCode}: "listener report",
	{132, anyCode}: "listener done", {143, anyCode}: "listener report",
	{133, anyCode}: "router solicitation", {134, anyCode}: "router advertisement",
	{135, anyCode}: "neighbour solicitation", {136, anyCode}: "neighbour advertisement", {137, anyCode}: "redirect",
}

// icmpName returns what an ICMP packet says, and nothing for another packet.
func icmpName(s *collector.Sighting) string {
	p := &s.Packet
	names := icmpNames
	switch {
	case p.EtherType == collector.EtherIPv4 && p.Proto == collector.ProtoICMP:
	case p.EtherType == collector.EtherIPv6 && p.Proto == collector.ProtoICMPv6:
		names = icmp6Names
	default:
		return ""
	}
	return named(names, p.ICMPType, p.ICMPCode)
}

// named returns the name of an ICMP message.
func named(names map[icmpKind]string, kind, code uint8) string {
	if name, ok := names[icmpKind{kind, code}]; ok {
		return name
	}
	if name, ok := names[icmpKind{kind, anyCode}]; ok {
		return name
	}
	return "type " + strconv.Itoa(int(kind)) + " code " + strconv.Itoa(int(code))
}
