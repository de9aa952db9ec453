package forward

import (
	"encoding/binary"
	"net/netip"
)

// Matches and targets are iptables' (linux/netfilter/xt_*.h), as iptables-nft puts
// them into nft's rules. [Expr.Data] is what was understood of one when it was
// read; one without any is not understood. Numbers in it are in network byte
// order.

// xtTests are the matches that are understood, and how long their Data is.
var xtTests = map[string]struct {
	size int
	test func(*machine, *Expr) truth
}{
	"addrtype":  {5, (*machine).addressTypes}, // bits of the source's types, of the destination's; what is inverted
	"conntrack": {2, (*machine).xtState},      // bits of states
	"icmp":      {3, (*machine).xtICMP},       // type, first and last code
	"icmp6":     {3, (*machine).xtICMP},
	"mark":      {8, (*machine).xtMark},      // mark and mask
	"multiport": {1, (*machine).xtMultiport}, // which port; first and last of each range
	"tcp":       {11, (*machine).xtPorts},    // first and last of the source and of the destination; what is inverted; flags
	"udp":       {11, (*machine).xtPorts},
}

// match tells whether an iptables match holds.
func (m *machine) match(e *Expr) truth {
	if e.Key == "comment" {
		return yes
	}
	if t, ok := xtTests[e.Key]; ok && len(e.Data) >= t.size {
		return t.test(m, e)
	}
	return m.doubt("the iptables match " + e.Key)
}

// Bits of xt_conntrack's states beyond those that nft has too.
const (
	xtStateSNAT      = 1 << 6
	xtStateDNAT      = 1 << 7
	xtStateUntracked = 1 << 8
)

// xtState follows conntrack_mt.
func (m *machine) xtState(e *Expr) truth {
	state := m.track.state
	if state == stateUntracked {
		state = xtStateUntracked
	}
	if c := m.track.conn; c != nil {
		if c.now.src != c.orig.src || c.now.sport != c.orig.sport {
			state |= xtStateSNAT
		}
		if c.now.dst != c.orig.dst || c.now.dport != c.orig.dport {
			state |= xtStateDNAT
		}
	}
	return truthOf((state&uint32(binary.BigEndian.Uint16(e.Data)) != 0) != e.Not)
}

// Bits of address types (xt_addrtype.h) that are tested apart for IPv6.
const (
	xtUnspec    = 1 << 0
	xtUnicast   = 1 << 1
	xtMulticast = 1 << 5
	xtRouted    = 1<<2 | 1<<4 | 1<<7 | 1<<8 // local, anycast, unreachable, prohibit
)

// addressTypes follows addrtype_mt_v1.
func (m *machine) addressTypes(e *Expr) truth {
	holds := yes
	for i, a := range []netip.Addr{m.pkt.Src, m.pkt.Dst} {
		types := binary.BigEndian.Uint16(e.Data[2*i:])
		if types == 0 {
			continue
		}
		is := types>>m.node.addressType(a)&1 == 1
		if a.Is6() {
			is = m.node.addressTypes6(a, types)
		}
		holds = min(holds, truthOf(is != (e.Data[4]>>i&1 == 1)))
	}
	return holds
}

// addressTypes6 follows match_type6: what the address says by itself must all
// hold, of what routes say one.
func (n *Node) addressTypes6(a netip.Addr, types uint16) bool {
	switch {
	case types&xtMulticast != 0 && !a.IsMulticast(),
		types&xtUnicast != 0 && (a.IsMulticast() || a.IsUnspecified()),
		types&xtUnspec != 0 && !a.IsUnspecified():
		return false
	case types&xtRouted == 0:
		return true
	}
	found := n.addressType(a)
	if found == routeTypes["blackhole"] || found == routeTypes["prohibit"] {
		found = routeTypes["unreachable"]
	}
	return types&xtRouted>>found&1 == 1
}

// xtICMP follows icmp_match, where 255 is any type.
func (m *machine) xtICMP(e *Expr) truth {
	is := e.Data[0] == 255 && m.pkt.Proto == ICMP ||
		m.pkt.Type == e.Data[0] && e.Data[1] <= m.pkt.Code && m.pkt.Code <= e.Data[2]
	return truthOf(is != e.Not)
}

func (m *machine) xtMark(e *Expr) truth {
	mark, mask := binary.BigEndian.Uint32(e.Data), binary.BigEndian.Uint32(e.Data[4:])
	return truthOf((m.pkt.Mark&mask == mark) != e.Not)
}

// xtPorts follows tcp_mt and udp_mt.
func (m *machine) xtPorts(e *Expr) truth {
	inverted, mask, flags := e.Data[8], e.Data[9], e.Data[10]
	const invertFlags = 4
	holds := yes
	for i, port := range []uint16{m.pkt.Sport, m.pkt.Dport} {
		is := m.within16(port, e.Data[4*i:])
		if inverted>>i&1 == 1 {
			is = is.not()
		}
		holds = min(holds, is)
	}
	if mask != 0 {
		const at = 13
		has := m.pkt.transport(m.track.reply).bytes[at]
		holds = min(holds, truthOf((has&mask == flags) != (inverted&invertFlags != 0)))
	}
	return holds
}

// xtMultiport follows multiport_mt.
func (m *machine) xtMultiport(e *Expr) truth {
	const source, destination = 0, 1
	holds := no
	for ranges := e.Data[1:]; len(ranges) >= 4; ranges = ranges[4:] {
		if e.Data[0] != destination {
			holds = max(holds, m.within16(m.pkt.Sport, ranges))
		}
		if e.Data[0] != source {
			holds = max(holds, m.within16(m.pkt.Dport, ranges))
		}
	}
	if e.Not {
		return holds.not()
	}
	return holds
}

// within16 says whether a port is one of a range, which may be all.
func (m *machine) within16(port uint16, ports Bytes) truth {
	first, last := binary.BigEndian.Uint16(ports), binary.BigEndian.Uint16(ports[2:])
	switch {
	case first == 0 && last == 0xffff:
		return yes
	case port == 0:
		return m.doubt("a port that is yet to be chosen")
	}
	return truthOf(first <= port && port <= last)
}

// goesOn are the targets after which the next rule is asked, and that change
// nothing that is followed.
var goesOn = map[string]bool{
	"AUDIT": true, "CHECKSUM": true, "CLASSIFY": true, "CONNMARK": true, "CONNSECMARK": true, "CT": true,
	"DSCP": true, "ECN": true, "IDLETIMER": true, "LED": true, "LOG": true, "MARK": true, "NFLOG": true,
	"RATEEST": true, "SECMARK": true, "SET": true, "TCPMSS": true, "TCPOPTSTRIP": true, "TEE": true, "TOS": true,
	"TRACE": true,
}

// target returns the ending that an iptables target means.
func (m *machine) target(e *Expr) ending {
	switch {
	case e.Key == "REJECT":
		return ending{verdict: "reject"}
	case (e.Key == "MARK" || e.Key == "CT") && len(e.Data) == 0:
		return ending{verdict: "queue"}
	case goesOn[e.Key]:
		m.effect(e)
		return ending{verdict: "continue"}
	}
	kind := map[string]string{"DNAT": "dnat", "REDIRECT": "dnat", "SNAT": "snat", "MASQUERADE": "snat"}[e.Key]
	if kind == "" || len(e.Data) < natRangeSize {
		return ending{verdict: "queue"}
	}
	t := e.natRange(m.pkt.Dst.Is4())
	t.kind, t.masq = kind, e.Key == "MASQUERADE" || e.Key == "REDIRECT"
	return ending{verdict: "nat", nat: t}
}

// effect does what a target does to the packet.
func (m *machine) effect(e *Expr) {
	const noTrack = 1
	switch {
	case e.Key == "CT" && binary.BigEndian.Uint16(e.Data)&noTrack != 0:
		m.track.state = stateUntracked
	case e.Key == "MARK":
		mark, mask := binary.BigEndian.Uint32(e.Data), binary.BigEndian.Uint32(e.Data[4:])
		m.pkt.Mark = m.pkt.Mark&^mask ^ mark
	}
}

// Places in struct nf_nat_range2.
const (
	natFlags     = 0
	natAddr      = 4
	natLastAddr  = 20
	natPort      = 36
	natLastPort  = 38
	natBase      = 40
	natRangeSize = 42
)

// natRange returns what a target with struct nf_nat_range2 in Data wants.
func (e *Expr) natRange(four bool) translation {
	const withAddrs, withPorts = 1, 2
	var t translation
	t.flags = binary.BigEndian.Uint32(e.Data[natFlags:])
	if t.flags&withAddrs != 0 {
		size := 16
		if four {
			size = 4
		}
		t.addr, t.lastAddr = addrOf(e.Data[natAddr:natAddr+size]), addrOf(e.Data[natLastAddr:natLastAddr+size])
	}
	if t.flags&withPorts != 0 {
		t.port, t.lastPort = binary.BigEndian.Uint16(e.Data[natPort:]), binary.BigEndian.Uint16(e.Data[natLastPort:])
		t.basePort = binary.BigEndian.Uint16(e.Data[natBase:])
	}
	return t
}

// addrOf returns the address that b is; zero if it is none.
func addrOf(b []byte) netip.Addr {
	a, _ := netip.AddrFromSlice(b)
	return a
}
