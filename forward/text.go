package forward

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// writer puts a rule back into words: what stands in which register, and what is
// said so far.
type writer struct {
	table *Table
	regs  map[uint32]operand
	proto uint8    // of the transport header, once the rule asked for it
	said  []string // the statements
	// implied has those of said that nft leaves out before others: by index the
	// first word of these.
	implied map[int]string
}

// operand is what a register holds, in nft's words.
type operand struct {
	name  string
	width int         // in bytes
	kind  operandKind // how a value of it is written
	proto bool        // it says which transport header follows
	mask  Bytes
	value Bytes // of an immediate
}

type operandKind int

const (
	asNumber operandKind = iota // big endian
	asHost                      // in the host's byte order
	asAddr
	asName // of a device
	asProto
	asState
	asFamily
	asEtherType
	asDevice
)

// Text returns the rule as nft prints it. What is not understood stands there by
// the kernel's name in square brackets.
func (l *Line) Text(t *Table) string {
	w := &writer{table: t, regs: map[uint32]operand{}, implied: map[int]string{}}
	for i := range l.Exprs {
		w.write(&l.Exprs[i])
	}
	return strings.Join(slices.DeleteFunc(w.said, func(s string) bool { return s == "" }), " ")
}

// say adds a statement. It takes back what its first word implies.
func (w *writer) say(words ...string) {
	words = slices.DeleteFunc(words, func(s string) bool { return s == "" })
	if len(words) == 0 {
		return
	}
	head, _, _ := strings.Cut(words[0], " ")
	for i, of := range w.implied {
		if of == head {
			w.said[i] = ""
			delete(w.implied, i)
		}
	}
	w.said = append(w.said, strings.Join(words, " "))
}

func (w *writer) write(e *Expr) {
	switch e.Op {
	case "payload":
		w.regs[e.Dst] = w.field(e)
	case "meta", "ct":
		w.selector(e)
	case "fib":
		w.regs[e.Dst] = operand{name: "fib " + e.Key, width: 4, kind: asHost}
	case "bitwise":
		o := w.regs[e.Src]
		o.mask = e.Data
		w.regs[e.Dst] = o
	case "byteorder":
		w.regs[e.Dst] = w.regs[e.Src]
	case "cmp":
		w.compare(e)
	case "range":
		o := w.regs[e.Src]
		w.say(o.name, sign(e.Cmp), o.print(e.Data)+"-"+o.print(e.To))
	case "lookup":
		w.lookup(e)
	case "immediate":
		if e.Verdict != "" {
			w.say(e.Verdict, e.Chain)
			return
		}
		w.regs[e.Dst] = operand{value: e.Data, width: len(e.Data)}
	case "nat", "masq", "redir":
		w.translate(e)
	case "counter", "log", "notrack", "queue":
		w.say(e.Op)
	case "reject":
		w.say(e.Op)
		if e.Key == "tcp reset" {
			w.say("with tcp reset")
		}
	case "limit":
		w.say(fmt.Sprintf("limit rate %d/%s", e.Len, map[uint32]string{1: "second", 60: "minute", 3600: "hour", 86400: "day"}[e.Size]))
	case "match":
		w.match(e)
	case "target":
		w.target(e)
	case "objref":
		w.say(e.Key, "name", strconv.Quote(e.Set))
	default:
		w.say("[" + e.Op + "]")
	}
}

// field names a part of a header. Of an address the first bytes may be enough.
func (w *writer) field(e *Expr) operand {
	o := operand{width: int(e.Len), name: fmt.Sprintf("@%s,%d,%d", map[string]string{"network": "nh", "transport": "th", "link": "ll"}[e.Key], 8*e.Offset, 8*e.Len)}
	for _, f := range fields {
		if f.header != e.Key || f.offset != e.Offset || f.proto != 0 && f.proto != w.proto {
			continue
		}
		if f.width != e.Len && (f.kind != asAddr || e.Len > f.width || e.Len >= 4 && f.width == 4) {
			continue
		}
		o.name, o.kind, o.proto, o.width = f.name, f.kind, f.kind == asProto, int(f.width)
		if f.width != e.Len {
			o.mask = slices.Concat(slices.Repeat(Bytes{0xff}, int(e.Len)), make(Bytes, f.width-e.Len))
		}
		break
	}
	return o
}

// fields are the parts of headers that rules mostly ask for.
var fields = []struct {
	header        string
	offset, width uint32
	proto         uint8
	name          string
	kind          operandKind
}{
	{"network", 12, 4, 0, "ip saddr", asAddr},
	{"network", 16, 4, 0, "ip daddr", asAddr},
	{"network", 9, 1, 0, "ip protocol", asProto},
	{"network", 6, 1, 0, "ip6 nexthdr", asProto},
	{"network", 8, 1, 0, "ip ttl", asNumber},
	{"network", 8, 16, 0, "ip6 saddr", asAddr},
	{"network", 24, 16, 0, "ip6 daddr", asAddr},
	{"network", 2, 2, 0, "ip length", asNumber},
	{"transport", 0, 2, TCP, "tcp sport", asNumber},
	{"transport", 2, 2, TCP, "tcp dport", asNumber},
	{"transport", 13, 1, TCP, "tcp flags", asNumber},
	{"transport", 0, 2, UDP, "udp sport", asNumber},
	{"transport", 2, 2, UDP, "udp dport", asNumber},
	{"transport", 0, 1, ICMP, "icmp type", asNumber},
	{"transport", 0, 1, ICMP6, "icmpv6 type", asNumber},
	{"transport", 0, 2, 0, "th sport", asNumber},
	{"transport", 2, 2, 0, "th dport", asNumber},
}

func (w *writer) selector(e *Expr) {
	name := e.Op + " " + e.Key
	o := operand{name: name, kind: asHost, width: 4}
	switch e.Key {
	case "iifname", "oifname":
		o.name, o.kind = e.Key, asName
	case "iif", "oif":
		o.name, o.kind = e.Key, asDevice
	case "l4proto", "protocol":
		o.kind, o.proto = asProto, true
		if e.Op == "meta" && e.Key == "protocol" {
			o.kind, o.proto = asEtherType, false
		}
	case "nfproto":
		o.kind = asFamily
	case "state":
		o.kind = asState
	case "saddr", "daddr", "ip saddr", "ip daddr", "ip6 saddr", "ip6 daddr":
		o.kind = asAddr
	case "proto-src", "proto-dst":
		o.kind = asNumber
	}
	if !e.Write {
		w.regs[e.Dst] = o
		return
	}
	w.say(name, "set", o.print(w.regs[e.Src].value))
}

func (w *writer) compare(e *Expr) {
	o := w.regs[e.Src]
	value := o.print(e.Data)
	switch {
	case o.mask != nil && o.kind == asAddr:
		value = network(e.Data, o.mask)
	case o.mask != nil && o.kind == asState && e.Cmp == "!=" && !nonZero(e.Data):
		w.say(o.name, o.print(o.mask))
		return
	case o.mask != nil:
		w.say(o.name, "&", o.print(o.mask), e.Cmp, value)
		return
	}
	if last := len(w.said) - 1; e.Cmp == "<=" && last >= 0 {
		if from, ok := strings.CutPrefix(w.said[last], o.name+" >= "); ok {
			w.said[last] = o.name + " " + from + "-" + value
			return
		}
	}
	w.say(o.name, sign(e.Cmp), value)
	if e.Cmp == "==" {
		w.imply(o, e.Data)
	}
}

// imply remembers that the last statement is left out before some others.
func (w *writer) imply(o operand, b Bytes) {
	last := len(w.said) - 1
	switch {
	case o.kind == asFamily && len(b) == 1:
		w.implied[last] = map[byte]string{2: "ip", 10: "ip6"}[b[0]]
	case o.proto && len(b) == 1:
		w.proto = b[0]
		w.implied[last] = map[byte]string{TCP: "tcp", UDP: "udp", ICMP: "icmp", ICMP6: "icmpv6"}[b[0]]
	}
}

func (w *writer) lookup(e *Expr) {
	o := w.regs[e.Src]
	word := o.name
	if e.Not {
		word += " !="
	}
	if e.Key == "vmap" {
		word += " vmap"
	}
	set := w.table.set(e.Set)
	if set == nil || !strings.HasPrefix(e.Set, "__") {
		w.say(word, "@"+e.Set)
		return
	}
	var els []string
	for _, el := range set.Elements {
		s := o.print(el.Key)
		if len(el.Last) > 0 && string(el.Last) != string(el.Key) {
			s += "-" + o.print(el.Last)
		}
		if len(el.Key) == 0 {
			s = "*"
		}
		if el.Verdict != "" {
			s += " : " + strings.TrimSpace(el.Verdict+" "+el.Chain)
		}
		els = append(els, s)
	}
	w.say(word, "{ "+strings.Join(els, ", ")+" }")
}

func (w *writer) translate(e *Expr) {
	word := map[string]string{"masq": "masquerade", "redir": "redirect", "nat": e.Key}[e.Op]
	t := translation{addr: addrOf(w.regs[e.Src].value), lastAddr: addrOf(w.regs[e.Offset].value)}
	if first, last := w.regs[e.Port].value, w.regs[e.Len].value; len(first) >= 2 {
		t.port = binary.BigEndian.Uint16(first)
		if len(last) >= 2 {
			t.lastPort = binary.BigEndian.Uint16(last)
		}
	}
	to := natTo(t)
	if to == "" {
		w.say(word)
		return
	}
	w.say(word, "to", to)
}

func sign(cmp string) string {
	if cmp == "==" {
		return ""
	}
	return cmp
}

func nonZero(b []byte) bool { return strings.Trim(string(b), "\x00") != "" }

func network(b, mask Bytes) string {
	bits := 0
	for _, m := range mask {
		for ; m&0x80 != 0; m <<= 1 {
			bits++
		}
	}
	whole := make(Bytes, len(mask))
	copy(whole, b)
	if a := addrOf(whole); a.IsValid() {
		return netip.PrefixFrom(a, bits).String()
	}
	return fmt.Sprintf("%#x/%d", []byte(b), bits)
}
