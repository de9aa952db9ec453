package forward

import (
	"encoding/binary"
	"net/netip"
)

// match tells whether an iptables match holds (linux/netfilter/xt_*.h), as
// iptables-nft puts them into nft's rules. Data is what was understood of it when
// it was read; a match without is not understood.
func (m *machine) match(e *Expr) truth {
	switch e.Key {
	case "comment":
		return yes
	case "conntrack": // Data: the states, as nft's bits
		if len(e.Data) == 4 {
			return truthOf((m.track.state&binary.BigEndian.Uint32(e.Data) != 0) != e.Not)
		}
	case "addrtype": // Data: kinds of the source and of the destination, as bits of 1 << RTN_*
		if len(e.Data) == 4 {
			return m.addressTypes(e)
		}
	case "tcp", "udp": // Data: first and last port of the source, of the destination
		if len(e.Data) == 8 && len(e.To) == 2 {
			return m.xtPorts(e)
		}
	}
	return m.doubt("the iptables match " + e.Key)
}

func (m *machine) addressTypes(e *Expr) truth {
	src, dst := binary.BigEndian.Uint16(e.Data), binary.BigEndian.Uint16(e.Data[2:])
	not := Bytes{0, 0}
	if len(e.To) == 2 {
		not = e.To
	}
	is := func(types uint16, kind uint32, not bool) bool {
		return types == 0 || (types>>kind&1 == 1) != not
	}
	return truthOf(is(src, m.node.addressType(m.pkt.Src), not[0] != 0) && is(dst, m.node.addressType(m.pkt.Dst), not[1] != 0))
}

func (m *machine) xtPorts(e *Expr) truth {
	held := yes
	for i, port := range []uint16{m.pkt.Sport, m.pkt.Dport} {
		first, last := binary.BigEndian.Uint16(e.Data[4*i:]), binary.BigEndian.Uint16(e.Data[4*i+2:])
		switch {
		case first == 0 && last == 0xffff:
		case port == 0:
			held = min(held, m.doubt("a port that is yet to be chosen"))
		default:
			held = min(held, truthOf((first <= port && port <= last) != (e.To[i] != 0)))
		}
	}
	return held
}

// target returns the ending that an iptables target means. Data is an address
// and To a port, where it has them.
func (m *machine) target(e *Expr) (ending, bool) {
	t := translation{}
	if len(e.To) == 2 {
		t.port = binary.BigEndian.Uint16(e.To)
	}
	switch e.Key {
	case "REJECT":
		return ending{verdict: "reject"}, true
	case "MASQUERADE":
		t.kind, t.masq = "snat", true
	case "REDIRECT":
		t.kind, t.masq = "dnat", true
	case "DNAT", "SNAT":
		t.kind = map[string]string{"DNAT": "dnat", "SNAT": "snat"}[e.Key]
		t.addr = addrOf(e.Data)
		if !t.addr.IsValid() && t.port == 0 {
			return ending{verdict: "queue"}, true
		}
	case "LOG", "NFLOG", "AUDIT", "TRACE", "TCPMSS", "CLASSIFY", "CT", "CONNMARK", "TOS", "DSCP":
		return ending{verdict: "continue"}, true
	default:
		return ending{verdict: "queue"}, true
	}
	return ending{verdict: "nat", nat: t}, true
}

// addrOf returns the address that b is; zero if it is none.
func addrOf(b []byte) netip.Addr {
	a, _ := netip.AddrFromSlice(b)
	return a
}
