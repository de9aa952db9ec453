package load

import (
	"encoding/binary"
	"net"
	"net/netip"

	"github.com/nsbpf/nsbpf/bpf"
)

const (
	ethernetLen = 14
	ipv4Len     = 20
	ipv6Len     = 40
	udpLen      = 8
	udpProto    = 17
	hopLimit    = 64
)

// frame describes the frames of one load: UDP datagrams of zeros behind
// [bpf.FrameMark].
type frame struct {
	srcMAC, dstMAC net.HardwareAddr
	src, dst       netip.Addr
	dport          uint16
}

// headers returns how long the headers of a UDP datagram are in a frame.
func headers(v6 bool) int {
	if v6 {
		return ethernetLen + ipv6Len + udpLen
	}
	return ethernetLen + ipv4Len + udpLen
}

// transport returns where the UDP header begins.
func (f frame) transport() int { return headers(f.src.Is6()) - udpLen }

// bytes returns a frame of the given length, at least [MinFrame], with source port
// and UDP checksum left zero.
func (f frame) bytes(size int) []byte {
	b := make([]byte, size)
	copy(b, f.dstMAC)
	copy(b[6:], f.srcMAC)
	ip, udp := b[ethernetLen:], b[f.transport():]
	if f.src.Is6() {
		binary.BigEndian.PutUint16(b[12:], 0x86dd)
		ip[0] = 6 << 4
		binary.BigEndian.PutUint16(ip[4:], uint16(len(udp)))
		ip[6], ip[7] = udpProto, hopLimit
		copy(ip[8:], f.src.AsSlice())
		copy(ip[24:], f.dst.AsSlice())
	} else {
		binary.BigEndian.PutUint16(b[12:], 0x0800)
		ip[0] = 4<<4 | ipv4Len/4
		binary.BigEndian.PutUint16(ip[2:], uint16(len(ip)))
		ip[6] = 0x40 // don't fragment
		ip[8], ip[9] = hopLimit, udpProto
		copy(ip[12:], f.src.AsSlice())
		copy(ip[16:], f.dst.AsSlice())
		binary.BigEndian.PutUint16(ip[10:], ^sum16(words(ip[:ipv4Len])))
	}
	binary.BigEndian.PutUint16(udp[2:], f.dport)
	binary.BigEndian.PutUint16(udp[4:], uint16(len(udp)))
	binary.BigEndian.PutUint16(udp[udpLen:], bpf.FrameMark)
	return b
}

// shape returns the frame of that length as a generator takes it.
func (f frame) shape(size int) bpf.Shape {
	b := f.bytes(size)
	udp := b[f.transport():]
	s := bpf.Shape{Len: uint32(size)}
	for i := range s.Head {
		s.Head[i] = binary.NativeEndian.Uint64(b[8*i:])
	}
	sum := words(f.src.AsSlice()) + words(f.dst.AsSlice()) + udpProto + uint32(len(udp)) + words(udp[:udpLen+2])
	// The generator adds the port as it lies in memory; a sum of ones' complement
	// is the same in either order, bytes swapped (RFC 1071).
	var swapped [2]byte
	binary.BigEndian.PutUint16(swapped[:], sum16(sum))
	s.Sum = uint32(binary.NativeEndian.Uint16(swapped[:]))
	return s
}

// words returns the sum of b's words of 16 bits.
func words(b []byte) (sum uint32) {
	for ; len(b) >= 2; b = b[2:] {
		sum += uint32(binary.BigEndian.Uint16(b))
	}
	return sum
}

// sum16 folds a sum to 16 bits as ones' complement does.
func sum16(sum uint32) uint16 {
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	return uint16(sum)
}
