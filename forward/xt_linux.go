package forward

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// xt is how an iptables match or target is laid out in memory.
type xt struct {
	least, most uint32 // revisions of the layout that is known
	size        int    // what parse reads
	parse       func(e *Expr, b []byte)
}

// xts are those that are understood, by kind and name.
var xts = map[string]xt{
	"match addrtype":  {1, 1, 8, (*Expr).parseAddrtype},
	"match conntrack": {2, 3, 154, (*Expr).parseConntrack},
	"match icmp":      {0, 0, 4, (*Expr).parseICMP},
	"match icmp6":     {0, 0, 4, (*Expr).parseICMP},
	"match mark":      {1, 1, 9, (*Expr).parseMarkMatch},
	"match multiport": {1, 1, 48, (*Expr).parseMultiport},
	"match tcp":       {0, 0, 12, (*Expr).parseTCP},
	"match udp":       {0, 0, 9, (*Expr).parseUDP},

	"target CT":   {0, 2, 2, (*Expr).parseCTTarget},
	"target MARK": {2, 2, 8, (*Expr).parseMark},

	"target DNAT":       {0, 2, 20, nil}, // parseRange knows which layout
	"target SNAT":       {0, 2, 20, nil},
	"target MASQUERADE": {0, 0, 20, nil},
	"target REDIRECT":   {0, 0, 20, nil},
}

// parseXT takes out of an iptables match or target what [machine.match] and
// [machine.target] want to know; nothing, if it is one they do not, or of a
// revision whose layout is not known.
func (e *Expr) parseXT(family byte, a attrs) {
	const name, revision, info = 1, 2, 3
	e.Key = a.text(name)
	x, ok := xts[e.Op+" "+e.Key]
	b, rev := a[info], a.u32(revision)
	switch {
	case !ok || rev < x.least || rev > x.most || len(b) < x.size:
	case x.parse != nil:
		x.parse(e, b)
	default:
		e.parseNATRange(family, rev, b)
	}
}

// parseAddrtype reads struct xt_addrtype_info_v1.
func (e *Expr) parseAddrtype(b []byte) {
	const invertBoth = 3 // others limit it to a device
	if flags := native.Uint32(b[4:]); flags&^invertBoth == 0 {
		e.put16(b[0:], b[2:])
		e.Data = append(e.Data, byte(flags))
	}
}

// parseConntrack reads struct xt_conntrack_mtinfo3, and that before it, if nothing
// but the state is asked for.
func (e *Expr) parseConntrack(b []byte) {
	const matchFlags, invertFlags, stateMask = 146, 148, 150 // behind four addresses, their masks, and ports
	const state, alias = 1, 1 << 13
	if native.Uint16(b[matchFlags:])&^alias == state {
		e.Not = native.Uint16(b[invertFlags:])&state != 0
		e.put16(b[stateMask:])
	}
}

// parseICMP reads struct ipt_icmp, or ip6t_icmp: type, first and last code.
func (e *Expr) parseICMP(b []byte) {
	e.Data = append(e.Data, b[:3]...)
	e.Not = b[3]&1 != 0
}

// parseMarkMatch reads struct xt_mark_mtinfo1.
func (e *Expr) parseMarkMatch(b []byte) {
	e.parseMark(b)
	e.Not = b[8] != 0
}

// parseMark reads struct xt_mark_tginfo2: a mark and its mask.
func (e *Expr) parseMark(b []byte) {
	e.Data = binary.BigEndian.AppendUint32(e.Data, native.Uint32(b))
	e.Data = binary.BigEndian.AppendUint32(e.Data, native.Uint32(b[4:]))
}

// parseMultiport reads struct xt_multiport_v1: of the ports some begin a range
// that the next one ends.
func (e *Expr) parseMultiport(b []byte) {
	const room, ranges, invert = 15, 32, 47
	side, count := b[0], int(b[1])
	if count > room {
		return
	}
	e.Data = Bytes{side}
	for i := 0; i < count; i++ {
		first := b[2+2*i:]
		if b[ranges+i] != 0 && i+1 < count {
			i++
		}
		e.put16(first, b[2+2*i:])
	}
	e.Not = b[invert] != 0
}

// parseTCP reads struct xt_tcp, if it asks for no option.
func (e *Expr) parseTCP(b []byte) {
	const option, flagMask, inverted = 8, 9, 11
	const invertOption = 8
	if b[option] == 0 && b[inverted]&invertOption == 0 {
		e.put16(b, b[2:], b[4:], b[6:])
		e.Data = append(e.Data, b[inverted], b[flagMask], b[flagMask+1])
	}
}

// parseUDP reads struct xt_udp.
func (e *Expr) parseUDP(b []byte) {
	e.put16(b, b[2:], b[4:], b[6:])
	e.Data = append(e.Data, b[8], 0, 0)
}

// parseCTTarget reads the flags of struct xt_ct_target_info.
func (e *Expr) parseCTTarget(b []byte) { e.put16(b) }

// parseNATRange reads struct nf_nat_range2, its older form nf_nat_range, or the
// oldest nf_nat_ipv4_multi_range_compat, and makes it the first in network byte
// order.
func (e *Expr) parseNATRange(family byte, rev uint32, b []byte) {
	r := make(Bytes, natRangeSize)
	masquerades := e.Key == "MASQUERADE" || e.Key == "REDIRECT"
	switch {
	case family == unix.NFPROTO_IPV4 && rev == 0:
		binary.BigEndian.PutUint32(r[natFlags:], native.Uint32(b[4:]))
		copy(r[natAddr:], b[8:12])
		copy(r[natLastAddr:], b[12:16])
		copy(r[natPort:], b[16:20])
	case rev > 0 && len(b) >= natBase || masquerades && len(b) >= natBase:
		binary.BigEndian.PutUint32(r[natFlags:], native.Uint32(b))
		copy(r[natAddr:], b[natAddr:natBase])
		if rev == 2 && len(b) >= natRangeSize {
			copy(r[natBase:], b[natBase:natRangeSize])
		}
	default:
		return
	}
	e.Data = r
}

var native = binary.NativeEndian

// put16 appends numbers of two bytes that the kernel has in its own byte order.
func (e *Expr) put16(from ...[]byte) {
	for _, b := range from {
		e.Data = binary.BigEndian.AppendUint16(e.Data, native.Uint16(b))
	}
}
