package bpf

import "structs"

// The types below have the layout of their namesakes in hop.h.

// Count is one counter of one hop and one [Reason].
type Count struct {
	_         structs.HostLayout
	Packets   uint64 // skbs or XDP frames, as `ip -s link` counts them
	Segments  uint64 // what GSO stands for; 1 for an ordinary packet
	Bytes     uint64 // skb length with the Ethernet header
	WireBytes uint64 // the same with every segment's headers
}

// Ledger says what became of every packet that the trace program of one hop
// saw: Seen = Traced + Filtered + SampledOut + Lost.
type Ledger struct {
	_          structs.HostLayout
	Seen       uint64
	Traced     uint64 // a sighting went to the ring
	Filtered   uint64 // the expression did not match
	SampledOut uint64 // not of the sample
	Lost       uint64 // the ring was full
	Unsnapped  uint64 // of the traced: their [Snap] is missing, since the ring was full
}

// PacketFlag is a bit of [Packet.Flags].
type PacketFlag uint8

const (
	PacketShort    PacketFlag = 1 << iota // headers not all readable; fields after the gap are zero
	PacketFragment                        // a later fragment: no transport header
	PacketPorts                           // Sport and Dport are valid
	PacketVLAN                            // VLAN is valid
	PacketQinQ                            // there is a second tag
)

// Packet is what the programs read of one packet's headers, and what filter
// expressions are compiled against. Numbers are in host order; addresses are in
// network order, IPv4 as ::ffff:a.b.c.d.
type Packet struct {
	_          structs.HostLayout
	Src        [16]byte // ARP: the sender's protocol address
	Dst        [16]byte // ARP: the target's protocol address
	EthDst     [6]byte
	EthSrc     [6]byte
	Len        uint32 // with the Ethernet header
	Seq        uint32
	Ack        uint32
	TSVal      uint32 // TCP timestamp where options have the usual layout, else 0
	FragID     uint32 // of an IPv6 fragment header
	EtherType  uint16 // behind VLAN tags; 0 if there is none
	VLAN       uint16 // the outermost tag's TCI
	Sport      uint16
	Dport      uint16
	ICMPID     uint16 // of an echo
	ICMPSeq    uint16 // of an echo
	IPID       uint16 // IPv4 only
	Frag       uint16 // IPv4's flags and offset; an IPv6 fragment header's offset word
	PayloadOff uint16 // from the packet's start; 0 if there is none
	Proto      uint8  // IPv6: the first header that is not an extension
	NextHdr    uint8  // IPv6: the fixed header's; IPv4: as Proto
	FragNext   uint8  // IPv6: the fragment header's, if that came first
	TCPFlags   uint8
	ICMPType   uint8 // ARP: the operation
	ICMPCode   uint8
	TTL        uint8 // or hop limit
	TOS        uint8 // or traffic class
	Flags      PacketFlag
	_          uint8
}

// Tuple is conntrack's original tuple of the packet's connection. Status is
// enum ip_conntrack_status of the kernel and 0 where there is no connection.
type Tuple struct {
	_      structs.HostLayout
	Src    [16]byte
	Dst    [16]byte
	Sport  uint16 // ICMP: the id
	Dport  uint16 // ICMP: type and code
	Status uint32
}

// Sighting is one packet at one hop.
type Sighting struct {
	_           structs.HostLayout
	TimeNS      uint64 // CLOCK_MONOTONIC
	Skb         uint64 // address
	Head        uint64 // address of the buffer
	PayloadHash uint32 // of up to 32 bytes behind the UDP or ICMP header; else 0
	Hop         uint16
	GSOSize     uint16
	Segments    uint16 // at least 1
	Steps       uint8  // further hops of its Run
	Tracked     uint8  // 1 if there is a connection
	Packet      Packet
}

// Step is a further hop of a packet with the same addresses, ports and length.
type Step struct {
	_       structs.HostLayout
	DeltaNS uint32 // since the sighting's time
	Hop     uint16
	_       uint16
}

// Record tells the records of a ring apart that are no [Run]: it stands in the
// place of [Sighting.Steps].
type Record uint8

const (
	RecordDrop    Record = 0x80 + iota // a [Drop]
	RecordPassage                      // a [Passage]
	RecordSnap                         // a [Snap], and the bytes behind it
)

// MaxCallers is how many callers a [Drop] can have.
const MaxCallers = 8

// Drop is a packet that the kernel ended. The sighting's hop is the number of the
// node, and its Steps is [RecordDrop].
type Drop struct {
	_        structs.HostLayout
	Seen     Sighting
	Location uint64 // in the kernel's code
	// Callers are return addresses, innermost first; 0: no more. Of a flood of drops
	// whose reason says where they were, few have any.
	Callers  [MaxCallers]uint64
	Reason   uint32 // enum skb_drop_reason
	IfIndex  uint32 // of the packet's device in the node; 0: it had none
	Matched  uint8  // the expression holds for it as it was then
	Followed uint8  // a trace program selected the skb that had its address last
	_        [6]uint8
}

// Passage is a packet at one end of a netfilter hook. Its first fields are where a
// [Sighting] has them.
type Passage struct {
	_      structs.HostLayout
	TimeNS uint64 // CLOCK_MONOTONIC
	Skb    uint64
	_      uint64
	_      uint32
	Node   uint16 // the number of the node
	Family uint8  // enum nfproto: 2 is IPv4, 10 IPv6
	Hook   uint8  // enum nf_inet_hooks
	Last   uint8  // 1 behind all that stands at the hook, 0 before
	_      uint8
	Record Record // RecordPassage
	_      [5]uint8
}

// FamilyName returns "ip" or "ip6", as nft has it.
func (p *Passage) FamilyName() string {
	if p.Family == 10 {
		return "ip6"
	}
	return "ip"
}

// HookName returns the hook as nft has it, such as "forward", and "" of one that
// is not known.
func (p *Passage) HookName() string {
	if int(p.Hook) < len(hookNames) {
		return hookNames[p.Hook]
	}
	return ""
}

var hookNames = [...]string{"prerouting", "input", "forward", "output", "postrouting"}

// Snap goes before the first bytes of a packet. Its first fields are where a
// [Sighting] has them.
type Snap struct {
	_        structs.HostLayout
	TimeNS   uint64 // that of the run that begins with the packet
	Skb      uint64
	Captured uint64 // how many bytes follow
	Length   uint32 // of the packet, with the Ethernet header
	Hop      uint16
	_        [4]uint8
	Record   Record // RecordSnap
	_        [5]uint8
}

// MaxSteps is how many steps a [Run] can have.
const MaxSteps = 6

// Run is one packet at hops one after another, as long as its skb, its buffer,
// its addresses, ports and length were the same. A record of the ring is First and as many steps as it has, or all of a
// Run if the packet is tracked.
type Run struct {
	_     structs.HostLayout
	First Sighting
	Rest  [MaxSteps]Step
	Orig  Tuple
}

// Reason says why a program ended with a packet.
type Reason uint32

const (
	ReasonPass   Reason = iota // handed on
	ReasonFilter               // dropped because a filter of the user's matched
	ReasonCount                // how many there are
)

var reasonNames = [...]string{"pass", "filter"}

// String returns the reason's name as JSON and tables have it.
func (r Reason) String() string {
	if int(r) < len(reasonNames) {
		return reasonNames[r]
	}
	return "unknown"
}

// Outcome indexes a filter program's own counters.
type Outcome uint32

const (
	OutcomeMatched Outcome = iota // dropped
	OutcomeUnread                 // passed, because its headers could not be read
	OutcomeCount                  // how many there are
)
