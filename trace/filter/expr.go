package filter

import (
	"github.com/nsbpf/nsbpf/bpf"
)

// maxLen bounds the length of an expression in bytes. The shortest way to a big
// program, `host ::1||::2||…`, stays within the reach of a BPF jump.
const maxLen = 4096

// Expr is a parsed expression. The zero value matches every packet. It is not
// changed by its methods and may be used concurrently.
type Expr struct {
	source string
	root   node // nil: every packet
	packet node // what is asked of a packet at one hop; nil: nothing
	path   node // what is asked of its Path; nil: nothing
	cond   cond // what packet makes of a packet
	need   depth
}

// Parse returns the meaning of s. A blank s matches every packet. The error is an
// [*Error].
func Parse(s string) (*Expr, error) {
	if len(s) > maxLen {
		return nil, &Error{
			Expr: s[:32] + "…", Pos: 32,
			Msg:  "the expression is too long",
			Hint: "at most 4096 bytes; nets and port ranges say more in less",
		}
	}
	tokens, err := lex(s)
	if err != nil {
		return nil, err
	}
	p := parser{expr: s, tokens: tokens}
	if p.peek().kind == end {
		return newExpr(s, nil), nil
	}
	root, _, err := p.parseExpr(qualifiers{})
	if err != nil {
		return nil, err
	}
	if t := p.peek(); t.kind != end {
		return nil, p.unexpected(t)
	}
	return newExpr(s, root), nil
}

// newExpr returns the expression of root, which may be nil.
func newExpr(source string, root node) *Expr {
	e := &Expr{source: source, root: root}
	if root != nil {
		e.packet, e.path = split(root)
	}
	if e.packet != nil {
		e.cond = e.packet.truth().yes
		e.need = needed(e.cond)
	}
	return e
}

// Kernel returns the part of e that a program can test on a packet at one hop: e
// itself if it has no own words. What it does not match, e does not want.
func (e *Expr) Kernel() *Expr {
	if e.path == nil {
		return e
	}
	return newExpr(e.source, e.packet)
}

// String returns e in a canonical form which parses to the same meaning: every
// condition with its own qualifiers, names of ports and protocols as numbers,
// and no parentheses but needed ones. It is empty if e matches every packet. The
// form of a [Expr.Kernel] leaves out a word vlan that stood behind `or`.
func (e *Expr) String() string {
	if e.root == nil {
		return ""
	}
	return e.root.String()
}

// Match reports whether e's [Expr.Kernel] holds for p.
func (e *Expr) Match(p *bpf.Packet) bool {
	return e.packet == nil || readable(p, e.need) && e.cond.holds(p)
}
