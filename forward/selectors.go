package forward

import (
	"encoding/binary"
	"net/netip"
)

// Bits of conntrack's states as nft has them (include/net/netfilter).
const (
	stateInvalid     = 1
	stateEstablished = 2
	stateRelated     = 4
	stateNew         = 8
	stateUntracked   = 64
)

// tracked is what conntrack knows of a packet.
type tracked struct {
	state uint32
	reply bool
	conn  *conn // nil of a packet that is invalid or untracked
}

func native32(v uint32) []byte { return binary.NativeEndian.AppendUint32(nil, v) }

// meta follows nft_meta.c.
func (m *machine) meta(e *Expr) truth {
	if e.Write {
		return m.setMeta(e)
	}
	value, ok := m.metaValue(e.Key)
	switch {
	case !ok:
		m.obscure(e.Dst, 16, "meta "+e.Key)
	case value == nil:
		return no
	default:
		m.load(e.Dst, value, nil)
	}
	return yes
}

// metaValue returns what meta loads: nil if the rule then does not hold, and false
// if it is not known.
func (m *machine) metaValue(key string) ([]byte, bool) {
	in, out := m.node.Device(m.at.in), m.node.Device(m.at.out)
	switch key {
	case "iifname":
		return ifname(m.at.in), true
	case "oifname":
		return ifname(m.at.out), true
	case "ibrname", "obrname": // the bridge of a port
		return m.bridgeName(key), true
	case "iif":
		return native32(index(in)), true
	case "oif":
		return native32(index(out)), true
	case "iiftype":
		return hardware(in)
	case "oiftype":
		return hardware(out)
	case "iifkind":
		return kind(in)
	case "oifkind":
		return kind(out)
	case "mark":
		return native32(m.pkt.Mark), true
	case "length":
		return native32(uint32(m.pkt.Length)), true
	case "l4proto":
		return []byte{m.pkt.Proto}, true
	case "nfproto":
		return []byte{map[string]byte{"ip": 2, "ip6": 10, "bridge": 7, "netdev": 5}[m.at.family]}, true
	case "protocol":
		if m.pkt.Dst.Is4() {
			return []byte{0x08, 0x00}, true
		}
		return []byte{0x86, 0xdd}, true
	case "nftrace":
		return []byte{0}, true
	case "pkttype":
		return []byte{0}, !m.pkt.Dst.IsMulticast()
	}
	return nil, false
}

func (m *machine) bridgeName(key string) []byte {
	name := m.at.in
	if key == "obrname" {
		name = m.at.out
	}
	if d := m.node.Device(name); d != nil {
		return ifname(d.Master)
	}
	return nil
}

func (m *machine) setMeta(e *Expr) truth {
	if e.Key != "mark" {
		return yes
	}
	b, err := m.addr(e.Src, 4)
	if err != nil {
		return m.doubt("which mark a rule sets")
	}
	m.pkt.Mark = binary.NativeEndian.Uint32(b)
	return yes
}

func ifname(name string) []byte {
	b := make([]byte, 16)
	copy(b, name)
	return b
}

func index(d *Device) uint32 {
	if d == nil {
		return 0
	}
	return uint32(d.Index)
}

// hardware returns the ARPHRD number of a device.
func hardware(d *Device) ([]byte, bool) {
	if d == nil {
		return nil, true
	}
	switch d.Kind {
	case "loopback":
		return binary.NativeEndian.AppendUint16(nil, 772), true
	case "veth", "bridge":
		return binary.NativeEndian.AppendUint16(nil, 1), true
	}
	return nil, false
}

func kind(d *Device) ([]byte, bool) {
	if d == nil || d.Kind == "loopback" {
		return nil, true
	}
	return ifname(d.Kind), true
}

// ct follows nft_ct.c for a packet that is the first of its connection, or the
// first reply.
func (m *machine) ct(e *Expr) truth {
	if e.Write {
		return yes // a mark or a zone of the connection: nothing that is followed
	}
	if e.Key == "state" {
		m.load(e.Dst, native32(m.track.state), nil)
		return yes
	}
	c := m.track.conn
	if c == nil {
		return no
	}
	tuple := c.orig
	reply := m.track.reply
	if e.Port != 0 { // a direction was asked for
		reply = e.Port == 2
		if reply {
			tuple = c.back()
		}
	}
	switch e.Key {
	case "direction":
		var b byte
		if m.track.reply {
			b = 1
		}
		m.load(e.Dst, []byte{b}, nil)
	case "protocol":
		m.load(e.Dst, []byte{m.pkt.Proto}, nil)
	case "l3proto":
		m.load(e.Dst, []byte{map[bool]byte{true: 2, false: 10}[m.pkt.Dst.Is4()]}, nil)
	case "saddr", "ip saddr", "ip6 saddr":
		m.load(e.Dst, tuple.src.AsSlice(), nil)
	case "daddr", "ip daddr", "ip6 daddr":
		m.load(e.Dst, tuple.dst.AsSlice(), nil)
	case "proto-dst":
		m.load(e.Dst, binary.BigEndian.AppendUint16(nil, tuple.dport), []bool{tuple.dport != 0, tuple.dport != 0})
	case "proto-src":
		m.load(e.Dst, binary.BigEndian.AppendUint16(nil, tuple.sport), []bool{tuple.sport != 0, tuple.sport != 0})
	case "mark":
		m.load(e.Dst, native32(0), nil)
	default:
		m.obscure(e.Dst, 16, "ct "+e.Key)
	}
	if reply && c.orig.sport == 0 {
		m.why = "a port that is yet to be chosen"
	}
	return yes
}

// Numbers of route types (linux/rtnetlink.h), which fib loads.
var routeTypes = map[string]uint32{
	"unicast": 1, "local": 2, "broadcast": 3, "anycast": 4, "multicast": 5,
	"blackhole": 6, "unreachable": 7, "prohibit": 8,
}

// fib follows nft_fib_ipv4.c where it asks for the type of an address.
func (m *machine) fib(e *Expr) truth {
	if e.Key != "daddr type" && e.Key != "saddr type" {
		m.obscure(e.Dst, 16, "fib "+e.Key)
		return yes
	}
	a := m.pkt.Dst
	if e.Key == "saddr type" {
		a = m.pkt.Src
	}
	m.load(e.Dst, native32(m.node.addressType(a)), nil)
	return yes
}

// addressType returns the number of the kind of route that leads to a, 0 if none
// does (inet_dev_addr_type).
func (n *Node) addressType(a netip.Addr) uint32 {
	if a.IsMulticast() {
		return routeTypes["multicast"]
	}
	best := -1
	kind := "unicast"
	if a.Is6() {
		if kind = n.Lookup(Flow{Dst: a}).Kind; kind == "none" {
			kind = "unreachable"
		}
	}
	for i := range n.Routes {
		r := &n.Routes[i]
		if r.Table == tableLocal && r.Dst.Contains(a.WithZone("")) && r.Dst.Bits() > best {
			best, kind = r.Dst.Bits(), r.Kind
		}
	}
	return routeTypes[kind]
}
