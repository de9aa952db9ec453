package filter

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/nsbpf/nsbpf/internal/nearest"
)

// parser reads an expression by recursive descent, the way libpcap's grammar
// does. Its methods take the token that starts what they read from the front.
type parser struct {
	expr   string
	tokens []token
	tagged bool // the word vlan was read
}

// qualifiers are the words before a value. A value without any has those of the
// value before it.
type qualifiers struct {
	proto string
	side  side
	kind  string // host, net, port, portrange, proto; "" none; hidden
}

// hidden is the kind behind a parenthesis: libpcap takes no qualifiers out of it,
// and a reader may think that it does.
const hidden = "("

// applies has the protocols that may stand before each kind.
var applies = map[string][]string{
	"host": {"", "ip", "ip6", "arp", "ether"}, "net": {"", "ip", "ip6", "arp"},
	"port": {"", "tcp", "udp"}, "portrange": {"", "tcp", "udp"}, "proto": {"", "ip", "ip6", "ether"},
}

// casters are the protocols that may stand before broadcast and multicast.
var casters = []string{"ether", "ip", "ip6"}

func (p *parser) peek() token { return p.tokens[0] }

func (p *parser) next() token {
	t := p.tokens[0]
	if t.kind != end {
		p.tokens = p.tokens[1:]
	}
	return t
}

// accept takes the next token if it is one of the texts.
func (p *parser) accept(texts ...string) (token, bool) {
	if t := p.peek(); t.kind != end && slices.Contains(texts, t.text) {
		return p.next(), true
	}
	return token{}, false
}

// expect takes the next token, which must be text.
func (p *parser) expect(text string) error {
	if _, ok := p.accept(text); !ok {
		return p.fail(p.peek(), "", "expected %q, found %s", text, p.peek().quote())
	}
	return nil
}

// fail returns an error at t.
func (p *parser) fail(t token, hint, format string, args ...any) error {
	return &Error{Expr: p.expr, Pos: t.pos, Msg: fmt.Sprintf(format, args...), Hint: hint}
}

// unexpected explains t, which follows a whole expression.
func (p *parser) unexpected(t token) error {
	if hint, ok := unsupported[t.text]; ok {
		return p.fail(t, hint, "%s is not supported", t.text)
	}
	hint := ""
	if t.kind == word || t.text == "not" || t.text == "(" {
		hint = `write "and" or "or" before it`
	}
	return p.fail(t, hint, "unexpected %q", t.text)
}

// starts says whether t may be the first of a condition or of its value.
func (t token) starts() bool { return t.kind == word || t.text == "(" || t.text == "not" }

func (t token) quote() string {
	if t.kind == end {
		return "the end"
	}
	return fmt.Sprintf("%q", t.text)
}

// parseExpr reads conditions between and and or. Like what it calls it takes the
// qualifiers in force and returns those after it.
func (p *parser) parseExpr(q qualifiers) (node, qualifiers, error) {
	left, q, err := p.parseTerm(q)
	for err == nil {
		op, ok := p.accept("and", "or")
		if !ok {
			break
		}
		var right node
		if right, q, err = p.parseTerm(q); op.text == "and" {
			left = and{left, right}
		} else {
			left = or{left, right}
		}
	}
	return left, q, err
}

func (p *parser) parseTerm(q qualifiers) (node, qualifiers, error) {
	if _, ok := p.accept("not"); ok {
		n, q, err := p.parseTerm(q)
		return not{n}, q, err
	}
	if _, ok := p.accept("("); ok {
		n, _, err := p.parseExpr(q)
		if err == nil {
			err = p.expect(")")
		}
		if q.kind == "" {
			q.kind = hidden
		}
		return n, q, err
	}
	t := p.peek()
	if t.kind != word {
		return nil, q, p.fail(t, "", "expected a condition, found %s", t.quote())
	}
	if n, ok, err := p.parseWord(t); ok {
		return n, qualifiers{}, err
	}
	if q.kind == "node" && t.text == "host" && !p.tokens[1].starts() {
		n, err := p.parseNode()
		return n, q, err
	}
	switch t.text {
	case "node", "hop":
		q = qualifiers{kind: p.next().text}
		n, err := p.parseID(q)
		return n, q, err
	case "src", "dst", "host", "net", "port", "portrange", "proto", "ether", "ip", "ip6", "arp":
		return p.parseQualified()
	}
	if protoWords[t.text].number != 0 {
		return p.parseQualified()
	}
	if hint, ok := unsupported[t.text]; ok {
		return nil, q, p.fail(t, hint, "%s is not supported", t.text)
	}
	n, err := p.parseValue(q)
	if q.kind == "" {
		q.kind = "host"
	}
	return n, q, err
}

// parseWord reads a condition that has a word of its own, which is t; ok says
// whether there was one.
func (p *parser) parseWord(t token) (n node, ok bool, err error) {
	switch t.text {
	case "greater", "less", "len":
		n, err = p.parseSize()
		return n, true, err
	case "vlan":
		n, err = p.parseVLAN()
		return n, true, err
	case "broadcast", "multicast":
		n, err = p.parseCast("")
		return n, true, err
	case "latency":
		n, err = p.parseLatency()
		return n, true, err
	}
	if n, ok = p.nameAlone(t.text); !ok {
		for i, o := range outcomes {
			if o.text == t.text {
				n, ok = outcome{t, i}, true
			}
		}
	}
	if ok {
		p.next()
	}
	return n, ok, nil
}

// nameAlone returns the condition that the name of a TCP flag or an ICMP type is
// when it stands alone.
func (p *parser) nameAlone(text string) (node, bool) {
	if v, ok := valueOf(flagNames, text); ok {
		return tcpFlag{name{text, v}, p.tagged}, true
	}
	for i, o := range octets {
		if v, ok := valueOf(o.names, text); ok {
			return octet{at: i, tagged: p.tagged, mask: 0xff, op: eq, value: v}, true
		}
	}
	return nil, false
}

// parseQualified reads a protocol alone, a comparison of a protocol's byte, or
// qualifiers and a value.
func (p *parser) parseQualified() (node, qualifiers, error) {
	var q qualifiers
	first := p.peek()
	if first.text == "ether" || slices.Contains(familyWords, first.text) || protoWords[first.text].number != 0 {
		q.proto = p.next().text
	}
	side, sided, err := p.parseSide()
	if err != nil {
		return nil, q, err
	}
	if cast := p.peek().text; !sided && (cast == "broadcast" || cast == "multicast") && slices.Contains(casters, q.proto) {
		n, err := p.parseCast(q.proto)
		return n, qualifiers{}, err
	}
	q.side, q.kind = side, "host"
	kind, ok := p.accept("host", "net", "port", "portrange", "proto")
	switch {
	case ok && kind.text == "proto" && sided:
		return nil, q, p.fail(kind, "", "src and dst do not apply to proto")
	case ok:
		q.kind = kind.text
	case !sided:
		n, err := p.parseProtoAlone(first)
		return n, qualifiers{}, err
	default:
		kind = first
	}
	if !slices.Contains(applies[q.kind], q.proto) {
		return nil, q, p.misapplied(kind, q)
	}
	n, err := p.parseID(q)
	return n, q, err
}

// misapplied explains why q's protocol cannot stand before its kind, at t.
func (p *parser) misapplied(t token, q qualifiers) error {
	hint := ""
	switch {
	case q.proto == "ether":
		hint = "ether takes host, src, dst and proto"
	case q.kind == "port" || q.kind == "portrange":
		hint = "only the ports of tcp and udp are read"
	case q.kind == "proto":
		hint = "write ip proto or ip6 proto"
	default:
		hint = fmt.Sprintf("write %s and %s", q.proto, q.kind)
	}
	return p.fail(t, hint, "%s does not apply to %s", q.proto, q.kind)
}

// parseSide reads src, dst or both with the word between; and whether it did.
func (p *parser) parseSide() (side, bool, error) {
	first, ok := p.accept("src", "dst")
	if !ok {
		return either, false, nil
	}
	s := source
	other := "dst"
	if first.text == "dst" {
		s, other = destination, "src"
	}
	op, ok := p.accept("and", "or")
	if !ok {
		return s, true, nil
	}
	if err := p.expect(other); err != nil {
		return s, true, err
	}
	if op.text == "and" {
		return both, true, nil
	}
	return either, true, nil
}

// parseProtoAlone reads what follows a protocol without qualifiers: nothing, or
// a byte of its header in brackets.
func (p *parser) parseProtoAlone(t token) (node, error) {
	if bracket, ok := p.accept("["); ok {
		return p.parseOctet(t.text, bracket)
	}
	if t.text == "ether" {
		return nil, p.fail(p.peek(), "ether takes host, src, dst, proto, broadcast and multicast", "expected host, found %s", p.peek().quote())
	}
	if slices.Contains(familyWords, t.text) {
		return family{t.text, p.tagged}, nil
	}
	n := protoWords[t.text]
	n.word = t.text
	n.family.tagged = p.tagged
	return n, nil
}

// parseID reads what stands behind qualifiers: a value, or several in
// parentheses with and, or and not.
func (p *parser) parseID(q qualifiers) (node, error) {
	if _, ok := p.accept("not"); ok {
		n, err := p.parseID(q)
		return not{n}, err
	}
	if _, ok := p.accept("("); !ok {
		return p.parseValue(q)
	}
	left, err := p.parseID(q)
	for err == nil {
		op, ok := p.accept("and", "or")
		if !ok {
			return left, p.expect(")")
		}
		var right node
		if right, err = p.parseID(q); op.text == "and" {
			left = and{left, right}
		} else {
			left = or{left, right}
		}
	}
	return left, err
}

// parseValue reads one value as q says.
func (p *parser) parseValue(q qualifiers) (node, error) {
	t := p.peek()
	if t.kind != word {
		return nil, p.fail(t, "", "expected %s, found %s", kindNouns[q.kind], t.quote())
	}
	switch q.kind {
	case "host":
		return p.parseHost(q)
	case "net":
		return p.parseNet(q)
	case "port", "portrange":
		return p.parsePorts(q)
	case "proto":
		return p.parseProto(q)
	case "node":
		return p.parseNode()
	case "hop":
		return p.parseHop()
	}
	return p.parseBare(q)
}

var kindNouns = map[string]string{
	"host": "an address", "net": "a net", "port": "a port", "portrange": "a range of ports",
	"proto": "a protocol", "node": "a node", "hop": "a hop", "": "a condition", hidden: "a condition",
}

// parseBare reads a value that no qualifier is in force for: an address, unless
// it follows a parenthesis.
func (p *parser) parseBare(q qualifiers) (node, error) {
	t := p.peek()
	_, err := netip.ParseAddr(t.text)
	switch {
	case err == nil && q.kind == hidden:
		return nil, p.fail(t, "write host "+t.text, "no qualifier reaches %s out of the parentheses", t.text)
	case err == nil:
		q.kind = "host"
		return p.parseHost(q)
	case strings.Trim(t.text, "0123456789") == "":
		return nil, p.fail(t, "write port "+t.text, "%s has no qualifier", t.text)
	case strings.Trim(t.text, "0123456789.") == "":
		return nil, p.fail(t, "write net "+t.text, "%s is not a whole address", t.text)
	case isMAC(t.text):
		return nil, p.fail(t, "write ether host "+t.text, "%s has no qualifier", t.text)
	case strings.Contains(t.text, "."):
		return nil, p.fail(t, "names are not looked up, write an address", "%s is not an address", t.text)
	}
	if _, ok := services[t.text]; ok {
		return nil, p.fail(t, "write port "+t.text, "%s has no qualifier", t.text)
	}
	return nil, p.fail(t, suggest(t.text), "%s is not a word of the filter language", t.text)
}

// suggest returns a hint for an unknown word, or none.
func suggest(text string) string {
	var known []string
	for _, w := range Words() {
		known = append(known, w.Text)
	}
	lower := strings.ToLower(text)
	if slices.Contains(known, lower) {
		return "write " + lower
	}
	return nearest.Hint(lower, known)
}
