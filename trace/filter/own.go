package filter

import (
	"fmt"
	"strings"
	"time"

	"github.com/nsbpf/nsbpf/internal/hop"
)

// own is a condition in nsbpf's own words, on a packet's whole Path.
type own interface {
	node
	at() token // its word, where an error points
}

// open is the truth of what no single packet tells.
var open = truth{yes: some{}, no: some{}}

// passes is node or hop: the Path has a step there.
type passes struct {
	token
	node   string
	device string // "" for node
	either bool   // of the directions
	dir    hop.Direction
}

// lasts is latency.
type lasts struct {
	token
	op    op
	bound time.Duration
}

// outcome is a word that stands alone; it indexes outcomes.
type outcome struct {
	token
	of int
}

// outcomes are the words that stand alone.
var outcomes = []struct {
	text string
	ask  question
}{
	{"dropped", func(p Path) answer {
		dropped, known := p.Dropped()
		if !known {
			return unknown
		}
		return answerOf(dropped)
	}},
	{"natted", func(p Path) answer { return answerOf(p.Readdressed()) }},
	{"retransmitted", func(p Path) answer { return answerOf(p.Attempts() > 1) }},
}

func (t token) at() token { return t }

// at has the name's place: the word need not be there, as in `node left or right`.
func (n passes) at() token {
	n.token.text = "hop"
	if n.device == "" {
		n.token.text = "node"
	}
	return n.token
}

func (n passes) truth() truth  { return open }
func (n lasts) truth() truth   { return open }
func (n outcome) truth() truth { return open }

func (n passes) String() string {
	switch {
	case n.device == "":
		return "node " + escaped(n.node)
	case n.either:
		return "hop " + n.place()
	}
	return "hop " + n.place() + " " + n.dir.Short()
}

func (n lasts) String() string   { return fmt.Sprintf("latency %s %s", relations[n.op], n.bound) }
func (n outcome) String() string { return outcomes[n.of].text }

// place returns node:device.
func (n passes) place() string { return n.node + ":" + n.device }

// escaped returns a name that is an operator with the backslash that makes it one.
func escaped(name string) string {
	if name == "and" || name == "or" || name == "not" {
		return `\` + name
	}
	return name
}

// firstOwn returns the leftmost condition in own words, or nil.
func firstOwn(n node) own {
	switch n := n.(type) {
	case and:
		return firstOwnOf(n.left, n.right)
	case or:
		return firstOwnOf(n.left, n.right)
	case not:
		return firstOwn(n.of)
	case own:
		return n
	}
	return nil
}

func firstOwnOf(left, right node) own {
	if o := firstOwn(left); o != nil {
		return o
	}
	return firstOwn(right)
}

// split returns what n asks of a packet at one hop and what it asks of the Path
// of such a packet, either of which may be nil. What `and` joins at the outermost
// level can be told apart; all else that has own words is asked of the Path.
func split(n node) (packet, path node) {
	if firstOwn(n) == nil {
		return n, nil
	}
	if n, ok := n.(and); ok {
		leftPacket, leftPath := split(n.left)
		rightPacket, rightPath := split(n.right)
		return joined(leftPacket, rightPacket), joined(leftPath, rightPath)
	}
	return nil, n
}

// joined is and of two of which either may be nil.
func joined(left, right node) node {
	switch {
	case left == nil:
		return right
	case right == nil:
		return left
	}
	return and{left, right}
}

// name takes the next token as a name: a backslash makes one of an operator.
func (p *parser) name() string { return strings.TrimPrefix(p.next().text, `\`) }

func (p *parser) parseNode() (node, error) {
	n := passes{token: p.peek(), either: true}
	if n.node = p.name(); strings.Contains(n.node, ":") {
		return nil, p.fail(n.token, "write hop "+n.node, "%s is not a node", n.node)
	}
	return n, nil
}

// parseHop reads node:device and perhaps the direction; without one both are
// meant.
func (p *parser) parseHop() (node, error) {
	n := passes{token: p.peek(), either: true}
	var ok bool
	if n.node, n.device, ok = strings.Cut(p.name(), ":"); !ok {
		return nil, p.fail(n.token, fmt.Sprintf("write hop %s:DEVICE or node %[1]s", n.node), "hop %s has no device", n.node)
	}
	device, dir, directed := strings.Cut(n.device, ":")
	at := n.token
	if !directed {
		if at, directed = p.accept("in", "out"); !directed {
			return n, n.check(p)
		}
		dir = at.text
	}
	n.device, n.either = device, false
	if err := n.dir.UnmarshalText([]byte(dir)); err != nil {
		return nil, p.fail(at, "", "hop %s: %v", n.place(), err)
	}
	return n, n.check(p)
}

// check returns an error if a part of the hop is empty.
func (n passes) check(p *parser) error {
	if n.node == "" || n.device == "" {
		return p.fail(n.token, "want node:device, and in or out", "hop %s is not whole", n.text)
	}
	return nil
}

// parseLatency reads a comparison with a duration.
func (p *parser) parseLatency() (node, error) {
	const example = "latency > 1ms"
	n := lasts{token: p.next()}
	var err error
	relation := p.peek()
	if n.op, err = p.parseRelation(example); err != nil {
		return nil, err
	}
	if n.op == eq || n.op == ne {
		return nil, p.fail(relation, "write for example "+example, "a latency is never the same twice, %s is not supported", relation.text)
	}
	t := p.next()
	n.bound, err = time.ParseDuration(t.text)
	switch {
	case t.kind != word:
		return nil, p.fail(t, "write for example "+example, "expected a duration, found %s", t.quote())
	case err != nil && strings.Trim(t.text, "0123456789.") == "":
		return nil, p.fail(t, "write "+t.text+"ms, or another of ns, us, ms, s", "%s has no unit", t.text)
	case err != nil || n.bound < 0:
		return nil, p.fail(t, "write for example "+example, "%s is not a duration", t.text)
	}
	return n, nil
}
