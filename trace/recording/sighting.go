package recording

import (
	"encoding/hex"
	"fmt"
	"net"
	"net/netip"
	"strconv"

	"github.com/nsbpf/nsbpf/bpf"
	"github.com/nsbpf/nsbpf/collector"
)

// sightingDoc is a sighting as the lines have it. What is 0 is left out.
type sightingDoc struct {
	TimeNS      uint64    `json:"time_ns"`
	Hop         uint16    `json:"hop"`
	Skb         address   `json:"skb,omitzero"`
	Head        address   `json:"head,omitzero"`
	GSOSize     uint16    `json:"gso_size,omitzero"`
	Segments    uint16    `json:"segments,omitzero"`
	PayloadHash uint32    `json:"payload_hash,omitzero"`
	EthSrc      mac       `json:"eth_src,omitzero"`
	EthDst      mac       `json:"eth_dst,omitzero"`
	EtherType   etherType `json:"ethertype,omitzero"`
	VLAN        uint16    `json:"vlan,omitzero"`
	Src         ipAddr    `json:"src,omitzero"`
	Dst         ipAddr    `json:"dst,omitzero"`
	Proto       uint8     `json:"proto,omitzero"`
	Sport       uint16    `json:"sport,omitzero"`
	Dport       uint16    `json:"dport,omitzero"`
	Length      uint32    `json:"length,omitzero"`
	TTL         uint8     `json:"ttl,omitzero"`
	TOS         uint8     `json:"tos,omitzero"`
	IPID        uint16    `json:"ip_id,omitzero"`
	Frag        uint16    `json:"frag,omitzero"`
	FragID      uint32    `json:"frag_id,omitzero"`
	NextHdr     uint8     `json:"next_header,omitzero"`
	FragNext    uint8     `json:"frag_next,omitzero"`
	Seq         uint32    `json:"seq,omitzero"`
	Ack         uint32    `json:"ack,omitzero"`
	TCPFlags    uint8     `json:"tcp_flags,omitzero"`
	TSVal       uint32    `json:"tsval,omitzero"`
	ICMPType    uint8     `json:"icmp_type,omitzero"`
	ICMPCode    uint8     `json:"icmp_code,omitzero"`
	ICMPID      uint16    `json:"icmp_id,omitzero"`
	ICMPSeq     uint16    `json:"icmp_seq,omitzero"`
	PayloadOff  uint16    `json:"payload_off,omitzero"`
	Flags       uint8     `json:"packet_flags,omitzero"`
	Orig        *tupleDoc `json:"orig,omitempty"` // of a tracked packet
}

// tupleDoc is conntrack's original tuple.
type tupleDoc struct {
	Src    ipAddr `json:"src,omitzero"`
	Dst    ipAddr `json:"dst,omitzero"`
	Sport  uint16 `json:"sport,omitzero"`
	Dport  uint16 `json:"dport,omitzero"`
	Status uint32 `json:"status,omitzero"`
}

// set makes d what s is. It uses the tuple that d has.
func (d *sightingDoc) set(s *collector.Sighting, room *tupleDoc) {
	p := &s.Packet
	*d = sightingDoc{
		TimeNS: s.TimeNS, Hop: s.Hop, Skb: address(s.Skb), Head: address(s.Head),
		GSOSize: s.GSOSize, Segments: s.Segments, PayloadHash: s.PayloadHash,
		EthSrc: mac(p.EthSrc), EthDst: mac(p.EthDst), EtherType: etherType(p.EtherType), VLAN: p.VLAN,
		Src: ipAddr(p.Src), Dst: ipAddr(p.Dst), Proto: p.Proto, Sport: p.Sport, Dport: p.Dport,
		Length: p.Len, TTL: p.TTL, TOS: p.TOS, IPID: p.IPID, Frag: p.Frag, FragID: p.FragID,
		NextHdr: p.NextHdr, FragNext: p.FragNext, Seq: p.Seq, Ack: p.Ack, TCPFlags: p.TCPFlags, TSVal: p.TSVal,
		ICMPType: p.ICMPType, ICMPCode: p.ICMPCode, ICMPID: p.ICMPID, ICMPSeq: p.ICMPSeq,
		PayloadOff: p.PayloadOff, Flags: uint8(p.Flags),
	}
	if t := &s.Orig; s.Tracked != 0 || *t != (bpf.Tuple{}) {
		*room = tupleDoc{Src: ipAddr(t.Src), Dst: ipAddr(t.Dst), Sport: t.Sport, Dport: t.Dport, Status: t.Status}
		d.Orig = room
	}
}

// sighting returns what d says.
func (d *sightingDoc) sighting() collector.Sighting {
	s := collector.Sighting{Sighting: bpf.Sighting{
		TimeNS: d.TimeNS, Hop: d.Hop, Skb: uint64(d.Skb), Head: uint64(d.Head),
		GSOSize: d.GSOSize, Segments: d.Segments, PayloadHash: d.PayloadHash,
		Packet: bpf.Packet{
			EthSrc: d.EthSrc, EthDst: d.EthDst, EtherType: uint16(d.EtherType), VLAN: d.VLAN,
			Src: d.Src, Dst: d.Dst, Proto: d.Proto, Sport: d.Sport, Dport: d.Dport,
			Len: d.Length, TTL: d.TTL, TOS: d.TOS, IPID: d.IPID, Frag: d.Frag, FragID: d.FragID,
			NextHdr: d.NextHdr, FragNext: d.FragNext, Seq: d.Seq, Ack: d.Ack, TCPFlags: d.TCPFlags, TSVal: d.TSVal,
			ICMPType: d.ICMPType, ICMPCode: d.ICMPCode, ICMPID: d.ICMPID, ICMPSeq: d.ICMPSeq,
			PayloadOff: d.PayloadOff, Flags: bpf.PacketFlag(d.Flags),
		},
	}}
	if t := d.Orig; t != nil {
		s.Tracked = 1
		s.Orig = bpf.Tuple{Src: t.Src, Dst: t.Dst, Sport: t.Sport, Dport: t.Dport, Status: t.Status}
	}
	return s
}

// The types below are written as an engineer knows them, and each value has one
// text only.

// address is one in the kernel's memory: a JSON number would lose its last bits
// in most programs.
type address uint64

func (a address) MarshalText() ([]byte, error) {
	return strconv.AppendUint([]byte("0x"), uint64(a), 16), nil
}

func (a *address) UnmarshalText(b []byte) error {
	v, err := parseHex(b, 64)
	*a = address(v)
	return err
}

type etherType uint16

func (e etherType) MarshalText() ([]byte, error) { return fmt.Appendf(nil, "0x%04x", uint16(e)), nil }

func (e *etherType) UnmarshalText(b []byte) error {
	v, err := parseHex(b, 16)
	*e = etherType(v)
	return err
}

func parseHex(b []byte, bits int) (uint64, error) {
	if len(b) < 3 || b[0] != '0' || b[1] != 'x' {
		return 0, fmt.Errorf("%q is no hexadecimal number (want one like 0x1f)", b)
	}
	v, err := strconv.ParseUint(string(b[2:]), 16, bits)
	if err != nil {
		return 0, fmt.Errorf("%q is no hexadecimal number of %d bits", b, bits)
	}
	return v, nil
}

type mac [6]byte

func (m mac) MarshalText() ([]byte, error) { return []byte(net.HardwareAddr(m[:]).String()), nil }

func (m *mac) UnmarshalText(b []byte) error {
	var v mac
	for i := range v {
		at := 3 * i
		if len(b) != 3*len(v)-1 || i > 0 && b[at-1] != ':' {
			return fmt.Errorf("%q is no Ethernet address", b)
		}
		if _, err := hex.Decode(v[i:i+1], b[at:at+2]); err != nil {
			return fmt.Errorf("%q is no Ethernet address", b)
		}
	}
	*m = v
	return nil
}

// ipAddr is an address as [bpf.Packet] has it, IPv4 as ::ffff:a.b.c.d.
type ipAddr [16]byte

func (a ipAddr) MarshalText() ([]byte, error) { return netip.AddrFrom16(a).Unmap().MarshalText() }

func (a *ipAddr) UnmarshalText(b []byte) error {
	v, err := netip.ParseAddr(string(b))
	if err != nil || v.Zone() != "" {
		return fmt.Errorf("%q is no IP address", b)
	}
	*a = v.As16()
	return nil
}
