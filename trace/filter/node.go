package filter

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/nsbpf/nsbpf/bpf"
)

// node is a part of an expression as the user wrote it.
type node interface {
	// String returns it in canonical form.
	String() string
	truth() truth
}

// truth is the meaning of a node in Kleene's strong logic: what tells that it
// holds, what tells that it does not, and neither where the packet does not say.
type truth struct{ yes, no cond }

// known is the truth of what every packet tells.
func known(c cond) truth { return truth{c, c.not()} }

// guarded is the truth of "on, and test of a field", where the field is not
// there if absent holds and was read if present does.
func guarded(on, absent, present, test cond) truth {
	return truth{
		yes: allOf(on, present, test),
		no:  someOf(on.not(), absent, allOf(present, test.not())),
	}
}

// unless takes back the no where c holds.
func (t truth) unless(c cond) truth { return truth{t.yes, allOf(t.no, c.not())} }

type (
	and struct{ left, right node }
	or  struct{ left, right node }
	not struct{ of node }
)

func (n and) String() string { return n.left.String() + " and " + operand(n.right) }
func (n or) String() string  { return n.left.String() + " or " + operand(n.right) }
func (n not) String() string { return "not " + operand(n.of) }

// operand returns n in parentheses if it needs them to the right of an operator.
func operand(n node) string {
	switch n.(type) {
	case and, or:
		return "(" + n.String() + ")"
	}
	return n.String()
}

func (n and) truth() truth {
	l, r := n.left.truth(), n.right.truth()
	return truth{allOf(l.yes, r.yes), someOf(l.no, r.no)}
}

func (n or) truth() truth {
	l, r := n.left.truth(), n.right.truth()
	return truth{someOf(l.yes, r.yes), allOf(l.no, r.no)}
}

func (n not) truth() truth {
	t := n.of.truth()
	return truth{t.no, t.yes}
}

// side says whose address or port is meant.
type side uint8

const (
	either side = iota
	source
	destination
	both
)

// String returns the words with a space behind; nothing for either.
func (s side) String() string { return [...]string{"", "src ", "dst ", "src and dst "}[s] }

// of combines the conditions on the two sides.
func (s side) of(src, dst cond) cond {
	switch s {
	case source:
		return src
	case destination:
		return dst
	case both:
		return allOf(src, dst)
	}
	return someOf(src, dst)
}

// qualified returns the words of a condition, without the empty proto.
func qualified(proto string, side side, rest string) string {
	if proto != "" {
		proto += " "
	}
	return proto + side.String() + rest
}

// family is ip, ip6, arp, or "" for IPv4 and IPv6, to the right of the word vlan
// if tagged.
type family struct {
	name   string
	tagged bool
}

func (n family) String() string { return n.name }
func (n family) truth() truth   { return known(n.cond()) }

func (n family) cond() cond {
	switch n.name {
	case "ip":
		return n.types(typeIPv4)
	case "ip6":
		return n.types(typeIPv6)
	case "arp":
		return n.types(typeARP)
	}
	return n.types(typeIPv4, typeIPv6)
}

func (n family) types(types ...uint32) cond {
	if n.tagged {
		return is(taggedType, types...)
	}
	return is(plainType, types...)
}

// proto is an IP protocol, directly behind the IP header or, as in libpcap,
// behind an IPv6 fragment header that is. word is how the user abbreviated it.
type proto struct {
	family family
	number uint8
	word   string
}

func (n proto) String() string {
	if n.word != "" {
		return n.word
	}
	return qualified(n.family.name, either, fmt.Sprintf("proto %d", n.number))
}

func (n proto) truth() truth {
	number := uint32(n.number)
	behind := is(fragNext, number)
	if number == 0 {
		// Without a fragment header, which only IPv6 has, FragNext is 0 too.
		behind = allOf(n.family.types(typeIPv6), is(nextHdr, protoFragment), behind)
	}
	if n.family.name == "ip" {
		return known(allOf(n.family.cond(), is(nextHdr, number)))
	}
	return known(allOf(n.family.cond(), someOf(is(nextHdr, number), behind)))
}

// host is an address or net.
type host struct {
	family family
	side   side
	net    bool // written net
	prefix netip.Prefix
}

func (n host) String() string {
	rest := "host " + n.prefix.Addr().String()
	if n.net {
		rest = "net " + n.prefix.String()
	}
	return qualified(n.family.name, n.side, rest)
}

func (n host) truth() truth {
	on := n.family.cond()
	if n.family.name == "" {
		on = n.family.types(typeIPv4, typeARP)
		if n.prefix.Addr().Is6() {
			on = n.family.types(typeIPv6)
		}
	}
	t := known(allOf(on, n.side.of(inside(src0, n.prefix), inside(dst0, n.prefix))))
	if n.family.name == "" && n.prefix.Addr().Is4() {
		// libpcap looks into RARP too, which is not read here.
		return t.unless(n.family.types(typeRARP))
	}
	return t
}

// inside holds if the address that starts with the word first is in prefix.
func inside(first field, prefix netip.Prefix) cond {
	const v4Word = 3
	addr := prefix.Addr().As16()
	bits, start := prefix.Bits(), 0
	if prefix.Addr().Is4() {
		bits += 32 * v4Word
		start = v4Word
		if memory32(addr[4*v4Word:]) == 0 {
			// Also in an ARP packet of another protocol, which has no address:
			// there the word before it is not that of an IPv4 address.
			start--
		}
	}
	var mask [16]byte
	for i := range bits {
		mask[i/8] |= 0x80 >> (i % 8)
	}
	var words []cond
	for w := start; w < 4; w++ {
		if m := memory32(mask[4*w:]); m != 0 {
			words = append(words, compare{first + field(w), m, eq, memory32(addr[4*w:])})
		}
	}
	return allOf(words...)
}

// ports is a range of ports. proto is tcp, udp or "".
type ports struct {
	proto  string
	tagged bool
	side   side
	lo, hi uint16
}

func (n ports) String() string {
	rest := fmt.Sprintf("port %d", n.lo)
	if n.lo != n.hi {
		rest = fmt.Sprintf("portrange %d-%d", n.lo, n.hi)
	}
	return qualified(n.proto, n.side, rest)
}

func (n ports) truth() truth {
	ip := family{tagged: n.tagged}.cond()
	numbers := map[string][]uint32{"tcp": {protoTCP}, "udp": {protoUDP}, "": {protoTCP, protoUDP}}[n.proto]
	lo, hi := uint32(n.lo), uint32(n.hi)
	test := n.side.of(within(sport, lo, hi), within(dport, lo, hi))
	later := flagged(bpf.PacketFragment)
	t := guarded(allOf(ip, is(nextHdr, numbers...)), later, flagged(bpf.PacketPorts), test)
	if n.proto == "" {
		t = t.unless(allOf(ip, is(nextHdr, protoSCTP), later.not()))
	}
	return t
}

// tcpFlag is a flag that stands alone, of TCP over IPv4 or IPv6.
type tcpFlag struct {
	name
	tagged bool
}

func (n tcpFlag) String() string { return n.text }

func (n tcpFlag) truth() truth {
	return guarded(
		allOf(family{tagged: n.tagged}.cond(), is(nextHdr, protoTCP)),
		flagged(bpf.PacketFragment), flagged(bpf.PacketPorts),
		compare{tcpFlags, uint32(n.value), ne, 0})
}

// octet compares a byte of a transport header; at indexes octets.
type octet struct {
	at     int
	tagged bool
	mask   uint8
	op     op
	value  uint8
}

func (n octet) String() string {
	o := octets[n.at]
	s := o.proto + "[" + o.text + "]"
	if n.mask != 0xff {
		mask := spell(o.names, n.mask)
		if strings.Contains(mask, "|") {
			mask = "(" + mask + ")"
		}
		s += " & " + mask
	}
	return s + " " + relations[n.op] + " " + spell(o.names, n.value)
}

// spell returns v by name: of flags, as their sum.
func spell(names []name, v uint8) string {
	var set []string
	for _, n := range names {
		if n.value == v {
			return n.text
		}
		if n.value&v != 0 {
			set = append(set, n.text)
		}
	}
	if len(set) == 0 || names[0] != flagNames[0] {
		return fmt.Sprint(v)
	}
	return strings.Join(set, "|")
}

func (n octet) truth() truth {
	test := compare{octets[n.at].field, uint32(n.mask), n.op, uint32(n.value)}
	if n.mask == 0xff {
		test.mask = ^uint32(0)
	}
	ip, ip6 := family{"ip", n.tagged}.cond(), family{"ip6", n.tagged}.cond()
	later, payload := flagged(bpf.PacketFragment), is(payloadOff, 0).not()
	switch octets[n.at].proto {
	case "ip":
		return known(allOf(ip, test))
	case "ip6":
		return known(allOf(ip6, test))
	case "tcp":
		return guarded(allOf(ip, is(nextHdr, protoTCP)), later, flagged(bpf.PacketPorts), test)
	case "icmp":
		return guarded(allOf(ip, is(nextHdr, protoICMP)), later, payload, test)
	default:
		return guarded(allOf(ip6, is(nextHdr, protoICMPv6)), some{}, payload, test)
	}
}
