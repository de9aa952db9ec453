package forward

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
)

// truth is what is known of a statement.
type truth int8

const (
	no truth = iota
	maybe
	yes
)

func truthOf(b bool) truth {
	if b {
		return yes
	}
	return no
}

func (t truth) not() truth { return yes - t }

// place is where in a node a packet is looked at.
type place struct {
	family  string // of the hook: ip, ip6, bridge, netdev
	hook    string // ingress, prerouting, input, forward, output, postrouting, egress
	in, out string // devices; "" if there is none
}

// machine is nft's: it works off rules for one packet at one place.
type machine struct {
	node  *Node
	at    place
	pkt   *Packet
	track tracked
	// registers as the kernel has them: 4 bytes each from NFT_REG32_00 on, and
	// which bytes are known.
	data  [registers]byte
	known [registers]bool
	why   string // why something is not known
	// unsure says that it is not known whether it came to this rule.
	unsure bool
}

const registers = 64

// register returns the place of a register in data (linux/netfilter/nf_tables.h:
// 1 to 4 are of 16 bytes, 8 and following of 4).
func register(r uint32) int {
	if r >= 8 {
		return int(r-8) * 4 % registers
	}
	return int(max(r, 1)-1) * 16 % registers
}

func (m *machine) load(r uint32, b []byte, known []bool) {
	at := register(r)
	size := min((len(b)+3)/4*4, registers-at) // the rest of the last word becomes 0
	for i := range size {
		m.data[at+i], m.known[at+i] = 0, true
		if i < len(b) {
			m.data[at+i], m.known[at+i] = b[i], known == nil || known[i]
		}
	}
}

// obscure makes size bytes of a register unknown.
func (m *machine) obscure(r uint32, size int, why string) {
	m.load(r, make([]byte, size), make([]bool, size))
	m.why = why
}

func (m *machine) read(r uint32, size int) (b []byte, known []bool) {
	at := register(r)
	end := min(at+size, registers)
	return m.data[at:end], m.known[at:end]
}

// doubt returns maybe, for a reason that [machine.why] then has.
func (m *machine) doubt(why string) truth {
	if m.why == "" {
		m.why = why
	}
	return maybe
}

// step works off one expression that is no verdict, and says whether the rule
// goes on.
func (m *machine) step(t *Table, e *Expr) truth {
	switch e.Op {
	case "counter", "log", "last", "notrack", "flow_offload", "secmark", "cthelper", "cttimeout", "ctexpect":
		if e.Op == "notrack" {
			m.track.state = stateUntracked
		}
		return yes
	case "immediate":
		m.load(e.Dst, e.Data, nil)
		return yes
	case "payload":
		return m.payload(e)
	case "meta":
		return m.meta(e)
	case "ct":
		return m.ct(e)
	case "fib":
		return m.fib(e)
	case "cmp":
		return m.compare(e)
	case "range":
		return m.within(e)
	case "bitwise":
		return m.bitwise(e)
	case "byteorder":
		return m.byteorder(e)
	case "lookup":
		return m.lookup(t, e)
	case "match":
		return m.match(e)
	case "exthdr":
		if e.Write {
			return yes // the size of segments and the like
		}
		m.obscure(e.Dst, int(e.Len), "a header option")
		return maybe
	case "numgen", "hash", "socket", "rt", "osf", "xfrm", "tunnel", "inner":
		m.obscure(e.Dst, max(int(e.Len), 4), e.Op)
		return yes
	case "objref":
		if e.Key == "counter" || e.Key == "ct helper" || e.Key == "secmark" || e.Key == "ct timeout" {
			return yes
		}
		return m.doubt("the " + e.Key + " it refers to")
	case "dynset":
		return m.doubt("what set " + e.Set + " holds by then")
	}
	return m.doubt(e.Op) // limit, quota, connlimit and what is not understood
}

func (m *machine) payload(e *Expr) truth {
	if e.Write {
		return m.doubt("a rule that rewrites headers")
	}
	var part image
	switch e.Key {
	case "network":
		part = m.pkt.network()
	case "transport":
		part = m.pkt.transport(m.track.reply)
	}
	size := int(e.Len)
	b, known := make([]byte, size), make([]bool, size)
	for i := range size {
		if at := int(e.Offset) + i; at < len(part.bytes) {
			b[i], known[i] = part.bytes[at], part.known[at]
		}
	}
	m.load(e.Dst, b, known)
	if slices.Contains(known, false) {
		m.why = "bytes of the " + e.Key + " header"
	}
	return yes
}

// compare is also told of bytes that are not known: it may not matter.
func (m *machine) compare(e *Expr) truth {
	b, known := m.read(e.Src, len(e.Data))
	if len(b) < len(e.Data) {
		return m.doubt("a register that does not exist")
	}
	if slices.Contains(known, false) {
		differs := false
		for i := range b {
			differs = differs || known[i] && b[i] != e.Data[i]
		}
		if differs && e.Cmp == "==" {
			return no
		}
		if differs && e.Cmp == "!=" {
			return yes
		}
		return m.doubt("what it compares")
	}
	return truthOf(holds(bytes.Compare(b, e.Data), e.Cmp))
}

func holds(order int, cmp string) bool {
	switch cmp {
	case "==":
		return order == 0
	case "!=":
		return order != 0
	case "<":
		return order < 0
	case "<=":
		return order <= 0
	case ">":
		return order > 0
	}
	return order >= 0
}

func (m *machine) within(e *Expr) truth {
	b, known := m.read(e.Src, len(e.Data))
	if slices.Contains(known, false) || len(b) != len(e.To) {
		return m.doubt("what it compares")
	}
	in := bytes.Compare(b, e.Data) >= 0 && bytes.Compare(b, e.To) <= 0
	return truthOf(in == (e.Cmp == "=="))
}

func (m *machine) bitwise(e *Expr) truth {
	b, known := m.read(e.Src, int(e.Len))
	if e.Key != "" || len(b) != len(e.Data) || len(b) != len(e.To) {
		m.obscure(e.Dst, int(e.Len), "arithmetic of bits")
		return yes
	}
	out, sure := make([]byte, len(b)), make([]bool, len(b))
	for i := range b {
		out[i], sure[i] = b[i]&e.Data[i]^e.To[i], known[i] || e.Data[i] == 0
	}
	m.load(e.Dst, out, sure)
	return yes
}

func (m *machine) byteorder(e *Expr) truth {
	b, known := m.read(e.Src, int(e.Len))
	out, sure := slices.Clone(b), slices.Clone(known)
	if size := int(e.Size); size > 1 && binary.NativeEndian.Uint16([]byte{1, 0}) == 1 {
		for i := 0; i+size <= len(out); i += size {
			slices.Reverse(out[i : i+size])
			slices.Reverse(sure[i : i+size])
		}
	}
	m.load(e.Dst, out, sure)
	return yes
}

// lookup asks a set. Into a map's value it also goes; a map of verdicts is asked
// by [ruling.rule].
func (m *machine) lookup(t *Table, e *Expr) truth {
	set := t.set(e.Set)
	if set == nil {
		if e.Dst != 0 {
			m.obscure(e.Dst, 16, "set "+e.Set)
		}
		return m.doubt("set " + e.Set)
	}
	el, found := m.find(set, e)
	if found == yes && e.Dst != 0 {
		m.load(e.Dst, el.Value, nil)
	}
	if found == maybe && e.Dst != 0 {
		m.obscure(e.Dst, 16, "set "+e.Set)
	}
	if e.Not {
		return found.not()
	}
	return found
}

// find returns the element that a register is the key of.
func (m *machine) find(s *Set, e *Expr) (*Element, truth) {
	size := s.width()
	b, known := m.read(e.Src, size)
	if len(s.Elements) == 0 {
		return nil, no
	}
	if slices.Contains(known, false) || len(b) < size {
		return nil, m.doubt("what it looks up in set " + s.Name)
	}
	var rest *Element
	for i := range s.Elements {
		el := &s.Elements[i]
		switch {
		case len(el.Key) == 0:
			rest = el
		case s.holds(el, b):
			return el, yes
		}
	}
	return rest, truthOf(rest != nil)
}

// width is the length of a key.
func (s *Set) width() int {
	if len(s.Fields) == 1 {
		return s.Fields[0]
	}
	size := 0
	for _, f := range s.Fields {
		size += (f + 3) / 4 * 4
	}
	return size
}

func (s *Set) holds(el *Element, key []byte) bool {
	last := el.Last
	if len(last) == 0 {
		last = el.Key
	}
	at := 0
	for _, f := range s.Fields {
		if at+f > len(el.Key) || at+f > len(last) || at+f > len(key) {
			return false
		}
		k := key[at : at+f]
		if bytes.Compare(k, el.Key[at:at+f]) < 0 || bytes.Compare(k, last[at:at+f]) > 0 {
			return false
		}
		at += (f + 3) / 4 * 4
	}
	return true
}

// addr returns size bytes of a register, if they are known.
func (m *machine) addr(r uint32, size int) ([]byte, error) {
	b, known := m.read(r, size)
	if slices.Contains(known, false) {
		return nil, fmt.Errorf("%s", m.why)
	}
	return slices.Clone(b), nil
}
