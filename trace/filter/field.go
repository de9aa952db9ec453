package filter

import (
	"unsafe"

	"github.com/cilium/ebpf/asm"

	"github.com/nsbpf/nsbpf/bpf"
)

// field is a number in a [bpf.Packet] that a comparison looks at.
type field uint8

const (
	none       field = iota
	plainType        // EtherType of a packet without a VLAN tag, else 0
	taggedType       // EtherType of a packet with one VLAN tag, else 0
	flags
	nextHdr
	fragNext
	src0 // the addresses' 32-bit words in memory order
	src1
	src2
	src3
	dst0
	dst1
	dst2
	dst3
	ethDst32 // the MACs in two aligned parts in memory order
	ethDst16
	ethSrc16
	ethSrc32
	size
	sport
	dport
	vlanTCI
	tcpFlags
	icmpType
	icmpCode
	ttl
	tos
	payloadOff
)

// depth is how much of a packet must have been read for a field to be valid.
type depth uint8

const (
	length depth = iota
	link
	network
)

const (
	offSrc    = int16(unsafe.Offsetof(bpf.Packet{}.Src))
	offDst    = int16(unsafe.Offsetof(bpf.Packet{}.Dst))
	offEthDst = int16(unsafe.Offsetof(bpf.Packet{}.EthDst))
	offEthSrc = int16(unsafe.Offsetof(bpf.Packet{}.EthSrc))
	offType   = int16(unsafe.Offsetof(bpf.Packet{}.EtherType))
	offProto  = int16(unsafe.Offsetof(bpf.Packet{}.Proto))
)

// fields says where each field is.
var fields = [...]struct {
	offset int16
	size   asm.Size
	depth  depth
}{
	plainType:  {offType, asm.Half, link},
	taggedType: {offType, asm.Half, link},
	flags:      {int16(unsafe.Offsetof(bpf.Packet{}.Flags)), asm.Byte, link},
	nextHdr:    {int16(unsafe.Offsetof(bpf.Packet{}.NextHdr)), asm.Byte, network},
	fragNext:   {int16(unsafe.Offsetof(bpf.Packet{}.FragNext)), asm.Byte, network},
	src0:       {offSrc, asm.Word, network},
	src1:       {offSrc + 4, asm.Word, network},
	src2:       {offSrc + 8, asm.Word, network},
	src3:       {offSrc + 12, asm.Word, network},
	dst0:       {offDst, asm.Word, network},
	dst1:       {offDst + 4, asm.Word, network},
	dst2:       {offDst + 8, asm.Word, network},
	dst3:       {offDst + 12, asm.Word, network},
	ethDst32:   {offEthDst, asm.Word, link},
	ethDst16:   {offEthDst + 4, asm.Half, link},
	ethSrc16:   {offEthSrc, asm.Half, link},
	ethSrc32:   {offEthSrc + 2, asm.Word, link},
	size:       {int16(unsafe.Offsetof(bpf.Packet{}.Len)), asm.Word, length},
	sport:      {int16(unsafe.Offsetof(bpf.Packet{}.Sport)), asm.Half, network},
	dport:      {int16(unsafe.Offsetof(bpf.Packet{}.Dport)), asm.Half, network},
	vlanTCI:    {int16(unsafe.Offsetof(bpf.Packet{}.VLAN)), asm.Half, link},
	tcpFlags:   {int16(unsafe.Offsetof(bpf.Packet{}.TCPFlags)), asm.Byte, network},
	icmpType:   {int16(unsafe.Offsetof(bpf.Packet{}.ICMPType)), asm.Byte, network},
	icmpCode:   {int16(unsafe.Offsetof(bpf.Packet{}.ICMPCode)), asm.Byte, network},
	ttl:        {int16(unsafe.Offsetof(bpf.Packet{}.TTL)), asm.Byte, network},
	tos:        {int16(unsafe.Offsetof(bpf.Packet{}.TOS)), asm.Byte, network},
	payloadOff: {int16(unsafe.Offsetof(bpf.Packet{}.PayloadOff)), asm.Half, network},
}

// read returns f's value in p.
func (f field) read(p *bpf.Packet) uint32 {
	switch f {
	case plainType:
		if p.Flags&bpf.PacketVLAN != 0 {
			return 0
		}
		return uint32(p.EtherType)
	case taggedType:
		if p.Flags&(bpf.PacketVLAN|bpf.PacketQinQ) != bpf.PacketVLAN {
			return 0
		}
		return uint32(p.EtherType)
	case flags:
		return uint32(p.Flags)
	case nextHdr:
		return uint32(p.NextHdr)
	case fragNext:
		return uint32(p.FragNext)
	case src0, src1, src2, src3:
		return memory32(p.Src[4*(f-src0):])
	case dst0, dst1, dst2, dst3:
		return memory32(p.Dst[4*(f-dst0):])
	case ethDst32:
		return memory32(p.EthDst[:])
	case ethDst16:
		return memory16(p.EthDst[4:])
	case ethSrc16:
		return memory16(p.EthSrc[:])
	case ethSrc32:
		return memory32(p.EthSrc[2:])
	case size:
		return p.Len
	case sport:
		return uint32(p.Sport)
	case dport:
		return uint32(p.Dport)
	case vlanTCI:
		return uint32(p.VLAN)
	case tcpFlags:
		return uint32(p.TCPFlags)
	case icmpType:
		return uint32(p.ICMPType)
	case icmpCode:
		return uint32(p.ICMPCode)
	case ttl:
		return uint32(p.TTL)
	case tos:
		return uint32(p.TOS)
	default:
		return uint32(p.PayloadOff)
	}
}
