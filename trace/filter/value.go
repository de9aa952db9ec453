package filter

import (
	"encoding/hex"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// parseNumber reads a decimal or hexadecimal number up to limit.
func (p *parser) parseNumber(what string, limit uint32) (uint32, error) {
	t := p.peek()
	if t.kind != word {
		return 0, p.fail(t, "", "expected %s, found %s", what, t.quote())
	}
	v, err := p.number(t, what, t.text, limit)
	if err == nil {
		p.next()
	}
	return v, err
}

// number is the value of text, a part of t.
func (p *parser) number(t token, what, text string, limit uint32) (uint32, error) {
	base := 10
	if digits, ok := strings.CutPrefix(text, "0x"); ok {
		text, base = digits, 16
	} else if len(text) > 1 && text[0] == '0' {
		return 0, p.fail(t, "a leading 0 means octal to libpcap, leave it out", "%s is not %s", t.text, what)
	}
	v, err := strconv.ParseUint(text, base, 64)
	switch {
	case text == "" || err != nil && strings.Trim(text, "0123456789") != "":
		return 0, p.fail(t, "", "%s is not %s", t.text, what)
	case err != nil || v > uint64(limit):
		return 0, p.fail(t, fmt.Sprintf("at most %d", limit), "%s is too large for %s", t.text, what)
	}
	return uint32(v), nil
}

func (p *parser) parseSize() (node, error) {
	n := sized{op: ge}
	switch p.next().text {
	case "less":
		n.op = le
	case "len":
		var err error
		if n.op, err = p.parseRelation("len > 100"); err != nil {
			return nil, err
		}
	}
	var err error
	n.bytes, err = p.parseNumber("a length", 1<<32-1)
	return n, err
}

func (p *parser) parseVLAN() (node, error) {
	t := p.next()
	if p.tagged {
		return nil, p.fail(t, "only the outermost tag is read", "a second vlan is not supported")
	}
	p.tagged = true
	if v := p.peek(); v.kind != word || v.text[0] < '0' || v.text[0] > '9' {
		return vlan{-1}, nil
	}
	id, err := p.parseNumber("a VLAN id", 4095)
	return vlan{int(id)}, err
}

func (p *parser) parseHost(q qualifiers) (node, error) {
	t := p.next()
	if q.proto == "ether" {
		n := mac{side: q.side}
		if !isMAC(t.text) {
			return nil, p.fail(t, "", "%s is not a MAC address", t.text)
		}
		_, err := hex.Decode(n.addr[:], macDigits(t.text))
		return n, err
	}
	addr, err := netip.ParseAddr(t.text)
	if err != nil {
		return nil, p.fail(t, addressHint(t.text), "%s is not an address", t.text)
	}
	if slash, ok := p.accept("/"); ok {
		return nil, p.fail(slash, "write net", "host takes no prefix length")
	}
	return p.inFamily(t, q, netip.PrefixFrom(addr, addr.BitLen()))
}

// addressHint says what text may be if it is no address.
func addressHint(text string) string {
	switch {
	case isMAC(text):
		return "write ether host " + text
	case strings.Trim(text, "0123456789.") == "" && strings.Count(text, ".") < 3:
		return "write net " + text
	case !strings.ContainsAny(text, ".:") && strings.ContainsAny(text, "ghijklmnopqrstuvwxyz_-"):
		return "names are not looked up; if it is a node, write node " + text
	case strings.ContainsAny(text, "ghijklmnopqrstuvwxyz_-"):
		return "names are not looked up"
	}
	return ""
}

// inFamily makes a host or net of prefix if q's protocol has such addresses.
func (p *parser) inFamily(t token, q qualifiers, prefix netip.Prefix) (node, error) {
	if q.proto != "" && prefix.Addr().Is6() != (q.proto == "ip6") {
		version := "IPv4"
		if prefix.Addr().Is6() {
			version = "IPv6"
		}
		return nil, p.fail(t, "", "%s does not apply to %s addresses", q.proto, version)
	}
	return host{family{q.proto, p.tagged}, q.side, q.kind == "net", prefix}, nil
}

func (p *parser) parseNet(q qualifiers) (node, error) {
	t := p.next()
	addr, bits, err := partialAddr(t.text)
	if err != nil {
		return nil, p.fail(t, "write net ADDR/LEN", "%s is not a net", t.text)
	}
	if _, ok := p.accept("/"); ok {
		n, err := p.parseNumber("a prefix length", uint32(addr.BitLen()))
		if err != nil {
			return nil, err
		}
		bits = int(n)
	} else if t.text == "0" {
		return nil, p.fail(t, "write net 0.0.0.0/0", "net 0 has no prefix length")
	}
	prefix := netip.PrefixFrom(addr, bits)
	if whole := prefix.Masked(); whole != prefix {
		return nil, p.fail(t, "write net "+whole.String(), "%s has bits set behind its prefix", prefix)
	}
	return p.inFamily(t, q, prefix)
}

// partialAddr returns an address and how many bits of it are there: IPv4 may
// have fewer than four parts.
func partialAddr(text string) (netip.Addr, int, error) {
	parts := 4
	if !strings.Contains(text, ":") {
		parts = strings.Count(text, ".") + 1
		text += strings.Repeat(".0", max(0, 4-parts))
	}
	addr, err := netip.ParseAddr(text)
	return addr, addr.BitLen() * parts / 4, err
}

func (p *parser) parsePorts(q qualifiers) (node, error) {
	t := p.next()
	n := ports{proto: q.proto, tagged: p.tagged, side: q.side}
	if s, ok := services[strings.TrimPrefix(t.text, `\`)]; ok {
		if n.proto != "" && s.proto != "" && n.proto != s.proto {
			return nil, p.fail(t, "write its number", "%s is a port of %s", t.text, s.proto)
		}
		if n.proto == "" {
			n.proto = s.proto
		}
		n.lo, n.hi = s.port, s.port
		return n, nil
	}
	lo, hi, ranged := t.text, t.text, false
	if q.kind == "portrange" {
		if lo, hi, ranged = strings.Cut(t.text, "-"); !ranged {
			hi = lo
		}
	} else if t.text[0] < '0' || t.text[0] > '9' {
		return nil, p.fail(t, "write its number", "%s is not a port", t.text)
	} else if strings.Contains(t.text, "-") {
		return nil, p.fail(t, "write portrange "+t.text, "%s is not a port", t.text)
	}
	first, err := p.number(t, kindNouns[q.kind], lo, 65535)
	if err != nil {
		return nil, err
	}
	last, err := p.number(t, kindNouns[q.kind], hi, 65535)
	if err != nil {
		return nil, err
	}
	n.lo, n.hi = uint16(first), uint16(last)
	if n.lo > n.hi {
		return nil, p.fail(t, fmt.Sprintf("write %d-%d", n.hi, n.lo), "%s ends before it starts", t.text)
	}
	return n, nil
}

// parseCast reads broadcast or multicast, behind a protocol or alone.
func (p *parser) parseCast(proto string) (node, error) {
	t := p.next()
	if proto == "ether" {
		proto = ""
	}
	switch {
	case t.text == "multicast":
		return group{family{proto, p.tagged}}, nil
	case proto != "":
		return nil, p.fail(t, "it depends on the netmask; write ether broadcast, or dst host ADDR", "%s broadcast is not supported", proto)
	}
	return mac{destination, [6]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}}, nil
}

// parseEtherType reads what follows ether proto: not what libpcap looks for
// behind an LLC header too.
func (p *parser) parseEtherType() (node, error) {
	t := p.peek()
	if v, ok := etherTypes[strings.TrimPrefix(t.text, `\`)]; ok {
		p.next()
		return etherType{p.tagged, v}, nil
	}
	v, err := p.parseNumber("an ether type", 0xffff)
	switch {
	case err != nil:
	case v < 0x600:
		err = p.fail(t, "types begin at 0x600", "%s is a length and no ether type", t.text)
	case v == typeVLAN || v == typeQinQ || v == typeOldQinQ:
		err = p.fail(t, "write vlan", "%s is a tag's type", t.text)
	case v == typeAppleTalk || v == typeAARP:
		err = p.fail(t, "", "%s is not supported", t.text)
	}
	return etherType{p.tagged, uint16(v)}, err
}

func (p *parser) parseProto(q qualifiers) (node, error) {
	if q.proto == "ether" {
		return p.parseEtherType()
	}
	t := p.peek()
	n := proto{family: family{q.proto, p.tagged}}
	if v, ok := protocols[strings.TrimPrefix(t.text, `\`)]; ok {
		p.next()
		n.number = v
		return n, nil
	}
	v, err := p.parseNumber("a protocol", 255)
	n.number = uint8(v)
	return n, err
}

// relations has the words of each op.
var relations = [...]string{eq: "==", ne: "!=", lt: "<", ge: ">=", gt: ">", le: "<="}

// parseOctet reads what follows the bracket behind a protocol.
func (p *parser) parseOctet(proto string, bracket token) (node, error) {
	at := p.next()
	n := octet{tagged: p.tagged, mask: 0xff}
	n.at = slices.IndexFunc(octets[:], func(o octetNames) bool {
		return o.proto == proto && (at.text == o.text || at.text == o.number)
	})
	if n.at < 0 {
		return nil, p.fail(bracket, "only tcp[tcpflags], icmp[icmptype], icmp[icmpcode], icmp6[icmp6type], icmp6[icmp6code], ip[1], ip[8] and ip6[7] are",
			"%s[%s] is not supported", proto, at.text)
	}
	if err := p.expect("]"); err != nil {
		return nil, err
	}
	var err error
	if _, ok := p.accept("&"); ok {
		if n.mask, err = p.parseMask(n.at); err != nil {
			return nil, err
		}
	}
	if n.op, err = p.parseRelation("!= 0"); err != nil {
		return nil, err
	}
	n.value, err = p.parseSum(n.at)
	return n, err
}

// parseRelation reads a comparison, of which there is an example.
func (p *parser) parseRelation(example string) (op, error) {
	relation, ok := p.accept(relations[:]...)
	if !ok {
		return 0, p.fail(p.peek(), "write for example "+example, "expected a comparison, found %s", p.peek().quote())
	}
	return op(slices.Index(relations[:], relation.text)), nil
}

// parseMask reads what is behind &: one constant, or several in parentheses,
// because & and | have one precedence in libpcap.
func (p *parser) parseMask(at int) (uint8, error) {
	if p.peek().text == "(" {
		return p.parseSum(at)
	}
	v, err := p.parseConstant(at)
	if t := p.peek(); err == nil && t.text == "|" {
		err = p.fail(t, "write & (A|B)", "a mask of several needs parentheses")
	}
	return v, err
}

// parseSum reads constants with | between them, in parentheses or not.
func (p *parser) parseSum(at int) (uint8, error) {
	_, inside := p.accept("(")
	sum, err := p.parseConstant(at)
	for err == nil {
		if _, ok := p.accept("|"); !ok {
			break
		}
		var v uint8
		v, err = p.parseConstant(at)
		sum |= v
	}
	if err == nil && inside {
		err = p.expect(")")
	}
	return sum, err
}

// parseConstant reads a number, or a name that belongs to the byte.
func (p *parser) parseConstant(at int) (uint8, error) {
	if v, ok := valueOf(octets[at].names, p.peek().text); ok {
		p.next()
		return v, nil
	}
	v, err := p.parseNumber("a value of "+octets[at].text, 255)
	return uint8(v), err
}

// isMAC reports whether text is six bytes of two digits with : or - between.
func isMAC(text string) bool {
	var addr [6]byte
	if len(text) != 17 {
		return false
	}
	for i := 2; i < len(text); i += 3 {
		if text[i] != text[2] || text[i] != ':' && text[i] != '-' {
			return false
		}
	}
	n, err := hex.Decode(addr[:], macDigits(text))
	return err == nil && n == len(addr)
}

// macDigits returns the digits of text.
func macDigits(text string) []byte {
	return []byte(strings.NewReplacer(":", "", "-", "").Replace(text))
}
