package forward

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// Numbers of IP protocols.
const (
	ICMP  = 1
	TCP   = 6
	UDP   = 17
	ICMP6 = 58
)

// Packet is a packet that nobody sends. Its family is that of Dst.
type Packet struct {
	Src   netip.Addr `json:"src,omitzero"` // zero: the route chooses
	Dst   netip.Addr `json:"dst"`
	Proto uint8      `json:"proto"`
	Sport uint16     `json:"sport,omitempty"` // 0: any free one
	Dport uint16     `json:"dport,omitempty"`
	// Type and Code are those of ICMP.
	Type   uint8  `json:"icmp_type,omitempty"`
	Code   uint8  `json:"icmp_code,omitempty"`
	TTL    uint8  `json:"ttl"`    // or hop limit
	Length int    `json:"length"` // with the IP header
	DF     bool   `json:"df,omitempty"`
	Mark   uint32 `json:"mark,omitempty"` // of the node it is in
}

// String returns "ICMP 10.0.0.1 > 10.0.0.2" or "UDP 10.0.0.1:5 > 10.0.0.2:9".
func (p Packet) String() string {
	end := func(a netip.Addr, port uint16) string {
		s := "?"
		if a.IsValid() {
			s = a.String()
		}
		if port == 0 {
			return s
		}
		if a.Is6() {
			s = "[" + s + "]"
		}
		return s + ":" + strconv.Itoa(int(port))
	}
	return fmt.Sprintf("%s %s > %s", ProtoName(p.Proto), end(p.Src, p.Sport), end(p.Dst, p.Dport))
}

// ProtoName returns a protocol's name as headlines have it, or its number.
func ProtoName(p uint8) string {
	for _, n := range protocols {
		if n.number == p {
			return n.title
		}
	}
	return "protocol " + strconv.Itoa(int(p))
}

var protocols = []struct {
	number      uint8
	name, title string
	ports       bool
}{
	{ICMP, "icmp", "ICMP", false},
	{ICMP6, "icmp6", "ICMPv6", false},
	{TCP, "tcp", "TCP", true},
	{UDP, "udp", "UDP", true},
	{132, "sctp", "SCTP", true},
	{47, "gre", "GRE", false},
	{50, "esp", "ESP", false},
}

func hasPorts(proto uint8) bool {
	for _, p := range protocols {
		if p.number == proto {
			return p.ports
		}
	}
	return false
}

// reply returns the packet that answers p.
func (p Packet) reply() Packet {
	r := p
	r.Src, r.Dst, r.Sport, r.Dport = p.Dst, p.Src, p.Dport, p.Sport
	r.TTL, r.Mark = 64, 0
	switch {
	case p.Proto == ICMP && p.Type == 8:
		r.Type = 0
	case p.Proto == ICMP6 && p.Type == 128:
		r.Type = 129
	}
	return r
}

// image is a part of a packet as bytes, and which of them are known.
type image struct {
	bytes []byte
	known []bool
}

func newImage(size int) image { return image{make([]byte, size), make([]bool, size)} }

func (m image) put(at int, b ...byte) {
	copy(m.bytes[at:], b)
	for i := range b {
		m.known[at+i] = true
	}
}

func (m image) put16(at int, v uint16) { m.put(at, binary.BigEndian.AppendUint16(nil, v)...) }

// network returns the packet's IP header.
func (p Packet) network() image {
	if p.Dst.Is4() {
		m := newImage(20)
		m.put(0, 0x45, 0)
		m.put16(2, uint16(p.Length))
		var flags byte
		if p.DF {
			flags = 0x40
		}
		m.put(6, flags, 0, p.TTL, p.Proto)
		if p.Src.IsValid() {
			m.put(12, p.Src.AsSlice()...)
		}
		m.put(16, p.Dst.AsSlice()...)
		return m
	}
	m := newImage(40)
	m.put(0, 0x60)
	m.put16(4, uint16(max(p.Length-40, 0)))
	m.put(6, p.Proto, p.TTL)
	if p.Src.IsValid() {
		m.put(8, p.Src.AsSlice()...)
	}
	m.put(24, p.Dst.AsSlice()...)
	return m
}

// transport returns the first bytes behind the IP header. Those of a TCP packet
// are a SYN's, or, of a reply, a SYN and ACK's.
func (p Packet) transport(reply bool) image {
	switch {
	case p.Proto == TCP:
		m := newImage(20)
		m.ports(p)
		m.put(13, 0x02)
		if reply {
			m.put(13, 0x12)
		}
		return m
	case hasPorts(p.Proto):
		m := newImage(8)
		m.ports(p)
		return m
	case p.Proto == ICMP || p.Proto == ICMP6:
		m := newImage(8)
		m.put(0, p.Type, p.Code)
		return m
	}
	return newImage(0)
}

// ports puts those that are known: a port that is 0 is yet to be chosen.
func (m image) ports(p Packet) {
	if p.Sport != 0 {
		m.put16(0, p.Sport)
	}
	if p.Dport != 0 {
		m.put16(2, p.Dport)
	}
}

// parseProto returns the protocol that a word names, for a destination of the
// given family.
func parseProto(word, family string) (uint8, error) {
	if word == "" || word == "icmp" || word == "icmp6" || word == "icmpv6" || word == "ping" {
		if family == "ip" {
			if word == "icmp6" || word == "icmpv6" {
				return 0, fmt.Errorf("protocol %q to an IPv4 address (want icmp)", word)
			}
			return ICMP, nil
		}
		return ICMP6, nil
	}
	for _, p := range protocols {
		if p.name == word {
			return p.number, nil
		}
	}
	if n, err := strconv.ParseUint(word, 10, 8); err == nil && n > 0 {
		return uint8(n), nil
	}
	names := make([]string, len(protocols))
	for i, p := range protocols {
		names[i] = p.name
	}
	return 0, unknownWord("protocol", word, names)
}

func parsePort(word string) (uint16, error) {
	n, err := strconv.ParseUint(word, 10, 16)
	if err != nil || n == 0 {
		return 0, fmt.Errorf("port %q is none (want a number from 1 to 65535)", strings.TrimSpace(word))
	}
	return uint16(n), nil
}
