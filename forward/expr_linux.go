package forward

import "golang.org/x/sys/unix"

// parseExpr understands an expression as the kernel sends it
// (linux/netfilter/nf_tables.h).
func parseExpr(family byte, a attrs) (Expr, error) {
	name := a.text(unix.NFTA_EXPR_NAME)
	d, err := parseAttrs(a[unix.NFTA_EXPR_DATA])
	if err != nil {
		return Expr{}, err
	}
	e := Expr{Op: name}
	if parse, ok := exprs[name]; ok {
		err = parse(&e, d)
	}
	if name == "match" || name == "target" {
		e.parseXT(family, d)
	}
	return e, err
}

var exprs = map[string]func(*Expr, attrs) error{
	"immediate": (*Expr).parseImmediate,
	"payload":   (*Expr).parsePayload,
	"meta":      (*Expr).parseMeta,
	"ct":        (*Expr).parseCT,
	"fib":       (*Expr).parseFIB,
	"cmp":       (*Expr).parseCmp,
	"range":     (*Expr).parseRange,
	"bitwise":   (*Expr).parseBitwise,
	"byteorder": (*Expr).parseByteorder,
	"lookup":    (*Expr).parseLookup,
	"nat":       (*Expr).parseNAT,
	"masq":      (*Expr).parseMasq,
	"redir":     (*Expr).parseRedir,
	"objref":    (*Expr).parseObjref,
	"exthdr":    (*Expr).parseExthdr,
	"dynset":    (*Expr).parseDynset,
	"reject":    (*Expr).parseReject,
	"limit":     (*Expr).parseLimit,
}

func (e *Expr) parseImmediate(a attrs) (err error) {
	e.Dst = a.u32(unix.NFTA_IMMEDIATE_DREG)
	e.Data, e.Verdict, e.Chain, err = a.data(unix.NFTA_IMMEDIATE_DATA)
	return err
}

func (e *Expr) parsePayload(a attrs) error {
	bases := []string{"link", "network", "transport", "inner"}
	if b := a.u32(unix.NFTA_PAYLOAD_BASE); int(b) < len(bases) {
		e.Key = bases[b]
	}
	e.Dst, e.Src = a.u32(unix.NFTA_PAYLOAD_DREG), a.u32(unix.NFTA_PAYLOAD_SREG)
	e.Offset, e.Len = a.u32(unix.NFTA_PAYLOAD_OFFSET), a.u32(unix.NFTA_PAYLOAD_LEN)
	e.Write = a[unix.NFTA_PAYLOAD_SREG] != nil
	return nil
}

var metaKeys = map[uint32]string{
	0: "length", 1: "protocol", 2: "priority", 3: "mark", 4: "iif", 5: "oif", 6: "iifname", 7: "oifname",
	8: "iiftype", 9: "oiftype", 10: "skuid", 11: "skgid", 12: "nftrace", 13: "rtclassid", 14: "secmark",
	15: "nfproto", 16: "l4proto", 17: "ibrname", 18: "obrname", 19: "pkttype", 20: "cpu", 21: "iifgroup",
	22: "oifgroup", 23: "cgroup", 24: "random", 25: "ipsec", 26: "iifkind", 27: "oifkind", 28: "ibrpvid",
	29: "ibrvproto", 30: "time", 31: "day", 32: "hour", 33: "sdif", 34: "sdifname",
}

func (e *Expr) parseMeta(a attrs) error {
	e.Key = metaKeys[a.u32(unix.NFTA_META_KEY)]
	e.Dst, e.Src = a.u32(unix.NFTA_META_DREG), a.u32(unix.NFTA_META_SREG)
	e.Write = a[unix.NFTA_META_SREG] != nil
	return nil
}

var ctKeys = map[uint32]string{
	0: "state", 1: "direction", 2: "status", 3: "mark", 4: "secmark", 5: "expiration", 6: "helper", 7: "l3proto",
	8: "saddr", 9: "daddr", 10: "protocol", 11: "proto-src", 12: "proto-dst", 13: "label", 14: "packets",
	15: "bytes", 16: "avgpkt", 17: "zone", 18: "event", 19: "ip saddr", 20: "ip daddr", 21: "ip6 saddr",
	22: "ip6 daddr", 23: "id",
}

func (e *Expr) parseCT(a attrs) error {
	e.Key = ctKeys[a.u32(unix.NFTA_CT_KEY)]
	e.Dst, e.Src = a.u32(unix.NFTA_CT_DREG), a.u32(unix.NFTA_CT_SREG)
	e.Write = a[unix.NFTA_CT_SREG] != nil
	if d := a[unix.NFTA_CT_DIRECTION]; len(d) == 1 {
		e.Port = uint32(d[0]) + 1
	}
	return nil
}

func (e *Expr) parseFIB(a attrs) error {
	const dreg, result, flags = 1, 2, 3
	e.Dst = a.u32(dreg)
	what := map[uint32]string{0: "daddr", 1: "saddr"}[a.u32(flags)&1]
	if f := a.u32(flags); f&^3 != 0 {
		what += " of more" // mark, iif or oif
	}
	e.Key = what + " " + map[uint32]string{1: "oif", 2: "oifname", 3: "type"}[a.u32(result)]
	return nil
}

var cmpOps = []string{"==", "!=", "<", "<=", ">", ">="}

func (e *Expr) parseCmp(a attrs) (err error) {
	e.Src = a.u32(unix.NFTA_CMP_SREG)
	if op := a.u32(unix.NFTA_CMP_OP); int(op) < len(cmpOps) {
		e.Cmp = cmpOps[op]
	}
	e.Data, _, _, err = a.data(unix.NFTA_CMP_DATA)
	return err
}

func (e *Expr) parseRange(a attrs) (err error) {
	e.Src = a.u32(unix.NFTA_RANGE_SREG)
	e.Cmp = cmpOps[a.u32(unix.NFTA_RANGE_OP)&1]
	if e.Data, _, _, err = a.data(unix.NFTA_RANGE_FROM_DATA); err != nil {
		return err
	}
	e.To, _, _, err = a.data(unix.NFTA_RANGE_TO_DATA)
	return err
}

func (e *Expr) parseBitwise(a attrs) (err error) {
	const op = 6 // others than mask and xor
	e.Src, e.Dst, e.Len = a.u32(unix.NFTA_BITWISE_SREG), a.u32(unix.NFTA_BITWISE_DREG), a.u32(unix.NFTA_BITWISE_LEN)
	if a.u32(op) != 0 {
		e.Key = "shift"
	}
	if e.Data, _, _, err = a.data(unix.NFTA_BITWISE_MASK); err != nil {
		return err
	}
	e.To, _, _, err = a.data(unix.NFTA_BITWISE_XOR)
	return err
}

func (e *Expr) parseByteorder(a attrs) error {
	e.Src, e.Dst = a.u32(unix.NFTA_BYTEORDER_SREG), a.u32(unix.NFTA_BYTEORDER_DREG)
	e.Len, e.Size = a.u32(unix.NFTA_BYTEORDER_LEN), a.u32(unix.NFTA_BYTEORDER_SIZE)
	return nil
}

func (e *Expr) parseLookup(a attrs) error {
	e.Set, e.Src, e.Dst = a.text(unix.NFTA_LOOKUP_SET), a.u32(unix.NFTA_LOOKUP_SREG), a.u32(unix.NFTA_LOOKUP_DREG)
	e.Not = a.u32(unix.NFTA_LOOKUP_FLAGS)&unix.NFT_LOOKUP_F_INV != 0
	if a[unix.NFTA_LOOKUP_DREG] != nil && e.Dst == unix.NFT_REG_VERDICT {
		e.Key = "vmap"
	}
	return nil
}

func (e *Expr) parseNAT(a attrs) error {
	const flags = 7
	e.Key = map[uint32]string{0: "snat", 1: "dnat"}[a.u32(unix.NFTA_NAT_TYPE)]
	e.Src, e.Offset = a.u32(unix.NFTA_NAT_REG_ADDR_MIN), a.u32(unix.NFTA_NAT_REG_ADDR_MAX)
	e.Port, e.Len, e.Size = a.u32(unix.NFTA_NAT_REG_PROTO_MIN), a.u32(unix.NFTA_NAT_REG_PROTO_MAX), a.u32(flags)
	return nil
}

func (e *Expr) parseMasq(a attrs) error {
	const flags, protoMin, protoMax = 1, 2, 3
	e.Port, e.Len, e.Size = a.u32(protoMin), a.u32(protoMax), a.u32(flags)
	return nil
}

func (e *Expr) parseRedir(a attrs) error {
	const protoMin, protoMax, flags = 1, 2, 3
	e.Port, e.Len, e.Size = a.u32(protoMin), a.u32(protoMax), a.u32(flags)
	return nil
}

func (e *Expr) parseObjref(a attrs) error {
	const kind, name = 1, 2
	kinds := []string{"", "counter", "quota", "ct helper", "limit", "connlimit", "tunnel", "ct timeout", "secmark", "ct expectation", "synproxy"}
	if k := a.u32(kind); int(k) < len(kinds) {
		e.Key = kinds[k]
	}
	e.Set = a.text(name)
	return nil
}

func (e *Expr) parseExthdr(a attrs) error {
	const dreg, length, sreg = 1, 4, 7
	e.Dst, e.Len, e.Write = a.u32(dreg), a.u32(length), a[sreg] != nil
	return nil
}

func (e *Expr) parseDynset(a attrs) error {
	e.Set = a.text(unix.NFTA_DYNSET_SET_NAME)
	return nil
}

func (e *Expr) parseReject(a attrs) error {
	e.Key = map[uint32]string{0: "icmp", 1: "tcp reset", 2: "icmpx"}[a.u32(unix.NFTA_REJECT_TYPE)]
	e.Len = a.u32(unix.NFTA_REJECT_ICMP_CODE)
	return nil
}

func (e *Expr) parseLimit(a attrs) error {
	e.Len = uint32(a.u64(unix.NFTA_LIMIT_RATE))
	e.Size = uint32(a.u64(unix.NFTA_LIMIT_UNIT))
	return nil
}
