package filter

import (
	"encoding/binary"

	"github.com/nsbpf/nsbpf/bpf"
)

// cond is what must hold of a packet: a [compare], [all] or [some] of others.
// [Expr.Match] evaluates it and [Expr.Compile] compiles it.
type cond interface {
	holds(p *bpf.Packet) bool
	// not returns the opposite.
	not() cond
}

// all holds if each of its conditions does; empty it is true.
type all []cond

// some holds if one of its conditions does; empty it is false.
type some []cond

// compare holds if op is true of field & mask and value, as unsigned numbers.
type compare struct {
	field field
	mask  uint32
	op    op
	value uint32
}

// op is a comparison. An op and its opposite differ in the lowest bit.
type op uint8

const (
	eq op = iota
	ne
	lt
	ge
	gt
	le
)

// allOf is all with what is constant folded away.
func allOf(conds ...cond) cond {
	var out all
	for _, c := range conds {
		switch c := c.(type) {
		case all:
			out = append(out, c...)
		case some:
			if len(c) == 0 {
				return c
			}
			out = append(out, c)
		default:
			out = append(out, c)
		}
	}
	if len(out) == 1 {
		return out[0]
	}
	return out
}

// someOf is some with what is constant folded away.
func someOf(conds ...cond) cond {
	var out some
	for _, c := range conds {
		switch c := c.(type) {
		case some:
			out = append(out, c...)
		case all:
			if len(c) == 0 {
				return c
			}
			out = append(out, c)
		default:
			out = append(out, c)
		}
	}
	if len(out) == 1 {
		return out[0]
	}
	return out
}

// is holds if f has one of the values.
func is(f field, values ...uint32) cond {
	var out []cond
	for _, v := range values {
		out = append(out, compare{f, ^uint32(0), eq, v})
	}
	return someOf(out...)
}

// flagged holds if the packet has the flag.
func flagged(flag bpf.PacketFlag) cond { return compare{flags, uint32(flag), ne, 0} }

// within holds if f is from lo to hi, both included.
func within(f field, lo, hi uint32) cond {
	if lo == hi {
		return is(f, lo)
	}
	return allOf(compare{f, ^uint32(0), ge, lo}, compare{f, ^uint32(0), le, hi})
}

func (a all) not() cond {
	var out []cond
	for _, c := range a {
		out = append(out, c.not())
	}
	return someOf(out...)
}

func (s some) not() cond {
	var out []cond
	for _, c := range s {
		out = append(out, c.not())
	}
	return allOf(out...)
}

func (c compare) not() cond {
	c.op ^= 1
	return c
}

func (a all) holds(p *bpf.Packet) bool {
	for _, c := range a {
		if !c.holds(p) {
			return false
		}
	}
	return true
}

func (s some) holds(p *bpf.Packet) bool {
	for _, c := range s {
		if c.holds(p) {
			return true
		}
	}
	return false
}

func (c compare) holds(p *bpf.Packet) bool {
	return c.op.of(int64(c.field.read(p)&c.mask), int64(c.value))
}

// of reports whether o is true of a and b.
func (o op) of(a, b int64) bool {
	switch o {
	case eq:
		return a == b
	case ne:
		return a != b
	case lt:
		return a < b
	case ge:
		return a >= b
	case gt:
		return a > b
	default:
		return a <= b
	}
}

// readable reports whether p's headers down to need could be read. A network
// header that could not leaves no destination, and an IPv6 fragment header that
// could not no protocol behind it.
func readable(p *bpf.Packet, need depth) bool {
	if need == length || p.Flags&bpf.PacketShort == 0 {
		return true
	}
	if need == link {
		return p.EtherType != 0
	}
	return p.Dst != [16]byte{} && (p.NextHdr != protoFragment || p.Proto != 0)
}

// needed returns how deep into the packet c looks.
func needed(c cond) depth {
	need := length
	visit(c, func(f field) { need = max(need, fields[f].depth) })
	return need
}

// visit calls yield for the field of every comparison in c.
func visit(c cond, yield func(field)) {
	switch c := c.(type) {
	case compare:
		yield(c.field)
	case all:
		for _, c := range c {
			visit(c, yield)
		}
	case some:
		for _, c := range c {
			visit(c, yield)
		}
	}
}

// memory32 returns the first bytes of b as the number that a load would give.
func memory32(b []byte) uint32 { return binary.NativeEndian.Uint32(b) }

func memory16(b []byte) uint32 { return uint32(binary.NativeEndian.Uint16(b)) }
