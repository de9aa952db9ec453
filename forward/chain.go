package forward

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
)

// RuleAt names an nft rule, or a chain's policy.
type RuleAt struct {
	Family string `json:"family"`
	Table  string `json:"table"`
	Chain  string `json:"chain"`
	Handle uint64 `json:"handle,omitempty"` // 0: the policy
	Text   string `json:"text"`             // as nft prints it, as far as it is understood
}

// String returns "`udp dport 9 drop` (table ip fw, chain fwd, handle 4)".
func (r RuleAt) String() string {
	s := fmt.Sprintf("`%s` (table %s %s, chain %s", r.Text, r.Family, r.Table, r.Chain)
	if r.Handle != 0 {
		s += fmt.Sprintf(", handle %d", r.Handle)
	}
	return s + ")"
}

// outcome is how a chain may end with a packet.
type outcome struct {
	verdict string // accept, drop, reject, queue, nat; changes: it goes on, but not as it was
	rule    RuleAt
	nat     translation
	// sure says that it ends so unless one of the outcomes before is true.
	sure bool
	why  string // why it is not
}

// translation is what a rule wants of an address.
type translation struct {
	kind           string     // snat or dnat
	addr, lastAddr netip.Addr // of these the kernel chooses; zero: none, or just one
	port, lastPort uint16     // likewise; 0: none, or just one
	basePort       uint16     // the port that becomes the first one, if flags say so
	masq           bool       // addr is that of the device it leaves by, or came in by
	flags          uint32     // NF_NAT_RANGE_*
}

// Bits of translation.flags (linux/netfilter/nf_nat.h).
const (
	natRandom = 1<<2 | 1<<4
	natOffset = 1 << 5
)

// maxJumps is the kernel's bound (NFT_JUMP_STACK_SIZE).
const maxJumps = 16

// base returns how a base chain may end, in order; the last is sure.
func (m *machine) base(t *Table, c *Chain) []outcome {
	var out []outcome
	m.run(t, c, arrival{sure: true}, 0, &out)
	return append(out, outcome{
		verdict: c.Policy,
		rule:    RuleAt{Family: t.Family, Table: t.Name, Chain: c.Name, Text: "policy " + c.Policy},
		sure:    true,
	})
}

// arrival says whether a packet came to a rule, and if that is not sure, what it
// depends on.
type arrival struct {
	sure    bool
	because string
}

// run works off a chain that a packet came to, and reports whether it may come to
// its end.
func (m *machine) run(t *Table, c *Chain, at arrival, depth int, out *[]outcome) bool {
	if depth > maxJumps {
		return true
	}
	left := false // it may have left the chain before
	for i := range c.Rules {
		line := &c.Rules[i]
		m.unsure = !at.sure
		holds, end := m.line(t, line)
		if holds == no {
			continue
		}
		certain := holds == yes && len(end) == 1
		here := at
		if !certain {
			here = arrival{because: cmp.Or(m.why, at.because)}
		}
		for _, e := range end {
			switch e.verdict {
			case "", "continue", "break":
			case "return":
				if certain {
					return true
				}
				at, left = here, true
			case "jump", "goto":
				next := t.chain(e.chain)
				falls := next == nil || m.run(t, next, here, depth+1, out)
				if certain && !falls {
					return left
				}
				if e.verdict == "goto" {
					if certain {
						return true
					}
					at, left = here, true
				}
			default:
				*out = append(*out, outcome{
					verdict: e.verdict, nat: e.nat, sure: here.sure, why: here.because,
					rule: RuleAt{t.Family, t.Name, c.Name, line.Handle, line.Text(t)},
				})
				if certain && e.verdict != "changes" {
					return left
				}
			}
		}
	}
	return true
}

// ending is what a rule says at its end.
type ending struct {
	verdict, chain string
	nat            translation
}

// line works off one rule, and returns whether it holds and what it may say: one
// thing, unless a map of verdicts is asked for something unknown.
func (m *machine) line(t *Table, line *Line) (truth, []ending) {
	m.data, m.known, m.why = [registers]byte{}, [registers]bool{}, ""
	holds, changes := yes, false
	for i := range line.Exprs {
		e := &line.Exprs[i]
		if (m.unsure || holds == maybe) && e.changes() {
			changes = true // perhaps, so it is not done
			continue
		}
		if end, ok := m.ending(e); ok {
			return holds, []ending{end}
		}
		if e.Op == "lookup" && e.Key == "vmap" {
			found, ends := m.choose(t, e)
			return min(holds, found), ends
		}
		if holds = min(holds, m.step(t, e)); holds == no {
			return no, nil
		}
	}
	if changes {
		return holds, []ending{{verdict: "changes"}}
	}
	return holds, []ending{{}}
}

// changes says whether an expression does something to the packet that later rules
// or routes may ask for.
func (e *Expr) changes() bool {
	return e.Op == "meta" && e.Write && e.Key == "mark" || e.Op == "notrack" ||
		e.Op == "target" && (e.Key == "MARK" || e.Key == "CT")
}

// choose asks a map of verdicts.
func (m *machine) choose(t *Table, e *Expr) (truth, []ending) {
	set := t.set(e.Set)
	if set == nil {
		return m.doubt("map " + e.Set), nil
	}
	el, found := m.find(set, e)
	if found == yes {
		return yes, []ending{{verdict: el.Verdict, chain: el.Chain}}
	}
	var ends []ending
	if found == maybe {
		for _, el := range set.Elements {
			end := ending{verdict: el.Verdict, chain: el.Chain}
			if !slices.Contains(ends, end) {
				ends = append(ends, end)
			}
		}
	}
	return found, ends
}

// ending returns what an expression says that ends a rule.
func (m *machine) ending(e *Expr) (ending, bool) {
	switch e.Op {
	case "immediate":
		return ending{verdict: e.Verdict, chain: e.Chain}, e.Verdict != ""
	case "reject", "queue":
		return ending{verdict: e.Op}, true
	case "masq":
		return m.translation(e, translation{kind: "snat", masq: true}), true
	case "redir":
		return m.translation(e, translation{kind: "dnat", masq: true}), true
	case "nat":
		return m.translation(e, translation{kind: e.Key}), true
	case "target":
		return m.target(e), true
	case "fwd", "dup", "tproxy", "synproxy":
		return ending{verdict: "queue"}, true
	}
	return ending{}, false
}

// translation adds to t what a NAT expression has in registers.
func (m *machine) translation(e *Expr, t translation) ending {
	size := 16
	if m.pkt.Dst.Is4() {
		size = 4
	}
	t.flags = e.Size
	addrs, known := m.both(e.Src, e.Offset, size)
	ports, known2 := m.both(e.Port, e.Len, 2)
	if !known || !known2 {
		return ending{verdict: "queue"}
	}
	t.addr, t.lastAddr = addrOf(addrs[0]), addrOf(addrs[1])
	if e.Port != 0 {
		t.port, t.lastPort = binary.BigEndian.Uint16(ports[0]), binary.BigEndian.Uint16(ports[1])
	}
	return ending{verdict: "nat", nat: t}
}

// both returns what two registers have, 0 being none and the last then the first.
// It reports false if that is not known.
func (m *machine) both(first, last uint32, size int) (out [2][]byte, known bool) {
	if first == 0 {
		return out, true
	}
	for i, r := range [2]uint32{first, cmp.Or(last, first)} {
		b, err := m.addr(r, size)
		if err != nil {
			return out, false
		}
		out[i] = b
	}
	return out, true
}

// RuleAt returns the rule of that handle, or with handle 0 the chain's policy, with
// its words. It reports false if there is none.
func (n *Node) RuleAt(family, table, chain string, handle uint64) (RuleAt, bool) {
	for i := range n.Tables {
		t := &n.Tables[i]
		c := t.chain(chain)
		if t.Family != family || t.Name != table || c == nil {
			continue
		}
		at := RuleAt{Family: family, Table: table, Chain: chain, Handle: handle, Text: "policy " + c.Policy}
		if handle == 0 {
			return at, c.Policy != ""
		}
		for j := range c.Rules {
			if l := &c.Rules[j]; l.Handle == handle {
				at.Text = l.Text(t)
				return at, true
			}
		}
	}
	return RuleAt{}, false
}
