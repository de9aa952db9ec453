package filter

import (
	"fmt"

	"github.com/nsbpf/nsbpf/bpf"
)

// mac is an Ethernet address.
type mac struct {
	side side
	addr [6]byte
}

func (n mac) String() string {
	a := n.addr
	return qualified("ether", n.side, fmt.Sprintf("host %02x:%02x:%02x:%02x:%02x:%02x", a[0], a[1], a[2], a[3], a[4], a[5]))
}

func (n mac) truth() truth {
	src := allOf(is(ethSrc32, memory32(n.addr[2:])), is(ethSrc16, memory16(n.addr[:])))
	dst := allOf(is(ethDst32, memory32(n.addr[:])), is(ethDst16, memory16(n.addr[4:])))
	return known(n.side.of(src, dst))
}

// group is multicast: of the Ethernet address if family has no name, else of the
// IP address. As in libpcap what is above the multicast addresses of IPv4 is, too.
type group struct{ family family }

func (n group) String() string {
	if n.family.name == "" {
		return "ether multicast"
	}
	return n.family.name + " multicast"
}

func (n group) truth() truth {
	switch n.family.name {
	case "ip":
		return known(allOf(n.family.cond(), leading(dst3, 0xe0, 0xe0)))
	case "ip6":
		return known(allOf(n.family.cond(), leading(dst0, 0xff, 0xff)))
	}
	return known(leading(ethDst32, 1, 1))
}

// leading holds if the first byte of a word of an address is value under mask.
func leading(word field, mask, value byte) cond {
	return compare{word, memory32([]byte{mask, 0, 0, 0}), eq, memory32([]byte{value, 0, 0, 0})}
}

// etherType is the protocol that the link layer's header names.
type etherType struct {
	tagged bool
	number uint16
}

func (n etherType) String() string { return fmt.Sprintf("ether proto %#x", n.number) }

func (n etherType) truth() truth {
	return known(family{tagged: n.tagged}.types(uint32(n.number)))
}

// sized compares the packet's length.
type sized struct {
	op    op
	bytes uint32
}

func (n sized) String() string {
	switch n.op {
	case ge:
		return fmt.Sprintf("greater %d", n.bytes)
	case le:
		return fmt.Sprintf("less %d", n.bytes)
	}
	return fmt.Sprintf("len %s %d", relations[n.op], n.bytes)
}

func (n sized) truth() truth { return known(compare{size, ^uint32(0), n.op, n.bytes}) }

// vlan is the outermost tag, with any id if id is negative.
type vlan struct{ id int }

func (n vlan) String() string {
	if n.id < 0 {
		return "vlan"
	}
	return fmt.Sprintf("vlan %d", n.id)
}

func (n vlan) truth() truth {
	tag := flagged(bpf.PacketVLAN)
	if n.id < 0 {
		return known(tag)
	}
	return known(allOf(tag, compare{vlanTCI, 0xfff, eq, uint32(n.id)}))
}
