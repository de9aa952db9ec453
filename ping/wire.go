package ping

import (
	"encoding/binary"
	"net/netip"
)

// Protocol numbers and ICMP types.
const (
	ipICMP, ipTCP, ipUDP, ipFragment, ipICMP6 = 1, 6, 17, 44, 58

	icmpEchoReply, icmpUnreachable, icmpEcho, icmpExceeded, icmpParameter               = 0, 3, 8, 11, 12
	icmp6Unreachable, icmp6TooBig, icmp6Exceeded, icmp6Parameter, icmp6Echo, icmp6Reply = 1, 2, 3, 4, 128, 129
)

// Flags of a TCP header.
const (
	tcpSYN = 0x02
	tcpRST = 0x04
	tcpACK = 0x10
)

// echoRequest returns the ICMP message of a probe. That of IPv6 has no checksum
// yet, which the kernel adds.
func echoRequest(k Key, payload []byte) []byte {
	kind := byte(icmpEcho)
	if k.Dst.Is6() {
		kind = icmp6Echo
	}
	b := []byte{kind, 0, 0, 0}
	b = binary.BigEndian.AppendUint16(b, k.ID)
	b = binary.BigEndian.AppendUint16(b, uint16(k.Seq))
	b = append(b, payload...)
	if k.Dst.Is4() {
		binary.BigEndian.PutUint16(b[2:], checksum(b))
	}
	return b
}

// synSize is the length of a SYN: a header and the option MSS.
const synSize = 24

// syn returns the TCP header of a probe.
func syn(k Key) []byte {
	b := binary.BigEndian.AppendUint16(make([]byte, 0, synSize), k.Sport)
	b = binary.BigEndian.AppendUint16(b, k.Dport)
	b = binary.BigEndian.AppendUint32(b, k.Seq)
	b = append(b, 0, 0, 0, 0) // no acknowledgement
	b = append(b, synSize/4<<4, tcpSYN)
	b = binary.BigEndian.AppendUint16(b, 64240) // the window, as Linux has it
	b = append(b, 0, 0, 0, 0)                   // checksum, urgent pointer
	b = append(b, 2, 4)
	b = binary.BigEndian.AppendUint16(b, 1460)
	binary.BigEndian.PutUint16(b[16:], checksum(pseudo(k, ipTCP, len(b)), b))
	return b
}

// pseudo returns what a transport checksum covers besides the transport.
func pseudo(k Key, proto byte, length int) []byte {
	b := append(k.Src.AsSlice(), k.Dst.AsSlice()...)
	b = binary.BigEndian.AppendUint32(b, uint32(length))
	return append(b, 0, 0, 0, proto)
}

// checksum is the internet checksum of parts, each of an even length but the last
// (RFC 1071).
func checksum(parts ...[]byte) uint16 {
	var sum uint32
	for _, b := range parts {
		for ; len(b) > 1; b = b[2:] {
			sum += uint32(binary.BigEndian.Uint16(b))
		}
		if len(b) == 1 {
			sum += uint32(b[0]) << 8
		}
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum>>16 + sum&0xffff)
}

// parseICMP returns what the ICMP message b, which came from from to a prober
// at self, answers: the key of the probe, as far as the message has it, and the
// answer but for its times. An echo reply has no key but id and seq; carried is
// its payload.
func parseICMP(self, from netip.Addr, b []byte) (k Key, a Answer, carried []byte, ok bool) {
	if len(b) < 8 {
		return k, a, nil, false
	}
	six := self.Is6()
	a = Answer{From: from, Type: b[0], Code: b[1]}
	if b[0] == icmpEchoReply && !six || b[0] == icmp6Reply && six {
		a = Answer{Kind: EchoReply, From: from}
		k = Key{Proto: ICMP, ID: binary.BigEndian.Uint16(b[4:]), Seq: uint32(binary.BigEndian.Uint16(b[6:]))}
		return k, a, b[8:], true
	}
	a.Kind = ICMPError
	if six {
		switch a.Type {
		case icmp6TooBig:
			a.MTU = int(binary.BigEndian.Uint32(b[4:]))
		case icmp6Unreachable, icmp6Exceeded, icmp6Parameter:
		default:
			return k, a, nil, false
		}
		k, ok = quoted6(b[8:])
		return k, a, nil, ok
	}
	switch {
	case a.Type == icmpUnreachable && a.Code == 4:
		a.MTU = int(binary.BigEndian.Uint16(b[6:]))
	case a.Type == icmpUnreachable || a.Type == icmpExceeded || a.Type == icmpParameter:
	default:
		return k, a, nil, false
	}
	k, ok = quoted4(b[8:])
	return k, a, nil, ok
}

// quoted4 returns the key of the IPv4 packet that b begins with.
func quoted4(b []byte) (k Key, ok bool) {
	if len(b) < 20 || b[0]>>4 != 4 {
		return k, false
	}
	header := int(b[0]&15) * 4
	later := binary.BigEndian.Uint16(b[6:])&0x1fff != 0
	if header < 20 || len(b) < header+8 || later {
		return k, false
	}
	k.Src, k.Dst = netip.AddrFrom4([4]byte(b[12:])), netip.AddrFrom4([4]byte(b[16:]))
	return k.transport(b[9], b[header:])
}

// quoted6 is quoted4 for IPv6. Probes have no extension headers but that of a
// fragment.
func quoted6(b []byte) (k Key, ok bool) {
	if len(b) < 48 || b[0]>>4 != 6 {
		return k, false
	}
	k.Src, k.Dst = netip.AddrFrom16([16]byte(b[8:])), netip.AddrFrom16([16]byte(b[24:]))
	next, b := b[6], b[40:]
	if next == ipFragment {
		if binary.BigEndian.Uint16(b[2:])&^7 != 0 || len(b) < 16 {
			return k, false
		}
		next, b = b[0], b[8:]
	}
	return k.transport(next, b)
}

// transport returns k with what the first 8 bytes of a transport header say.
func (k Key) transport(proto byte, b []byte) (Key, bool) {
	switch proto {
	case ipUDP, ipTCP:
		k.Proto = UDP
		k.Sport, k.Dport = binary.BigEndian.Uint16(b), binary.BigEndian.Uint16(b[2:])
		if proto == ipTCP {
			k.Proto, k.Seq = TCP, binary.BigEndian.Uint32(b[4:])
		}
		return k, true
	case ipICMP, ipICMP6:
		if b[0] != icmpEcho && b[0] != icmp6Echo {
			return k, false
		}
		k.ID, k.Seq = binary.BigEndian.Uint16(b[4:]), uint32(binary.BigEndian.Uint16(b[6:]))
		return k, true
	}
	return k, false
}

// parseTCP returns what the TCP header b, of a packet from dst to src, answers,
// and the answer but for its times.
func parseTCP(src, dst netip.Addr, b []byte) (k Key, a Answer, ok bool) {
	if len(b) < 20 {
		return k, a, false
	}
	a = Answer{Kind: RST, From: dst}
	switch flags := b[13]; {
	case flags&tcpACK == 0:
		return k, a, false
	case flags&tcpRST != 0:
	case flags&tcpSYN != 0:
		a.Kind = SYNACK
	default:
		return k, a, false
	}
	return Key{
		Proto: TCP, Src: src, Dst: dst,
		Sport: binary.BigEndian.Uint16(b[2:]), Dport: binary.BigEndian.Uint16(b),
		Seq: binary.BigEndian.Uint32(b[8:]) - 1,
	}, a, true
}
