package forward

import (
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
	verdict string // accept, drop, reject, queue, nat
	rule    RuleAt
	nat     translation
	// sure says that it ends so unless one of the outcomes before is true.
	sure bool
	why  string // why it is not
}

// translation is what a rule wants of an address.
type translation struct {
	kind string // snat or dnat
	addr netip.Addr
	port uint16
	masq bool // addr is that of the device it leaves by, or came in by
}

// maxJumps is the kernel's bound (NFT_JUMP_STACK_SIZE).
const maxJumps = 16

// base returns how a base chain may end, in order; the last is sure.
func (m *machine) base(t *Table, c *Chain) []outcome {
	var out []outcome
	m.run(t, c, true, 0, &out)
	return append(out, outcome{
		verdict: c.Policy,
		rule:    RuleAt{Family: t.Family, Table: t.Name, Chain: c.Name, Text: "policy " + c.Policy},
		sure:    true,
	})
}

// run works off a chain, and reports whether it may come to its end. Where sure
// is false it is not known whether it came there.
func (m *machine) run(t *Table, c *Chain, sure bool, depth int, out *[]outcome) bool {
	if depth > maxJumps {
		return true
	}
	for i := range c.Rules {
		line := &c.Rules[i]
		holds, end := m.line(t, line)
		if holds == no {
			continue
		}
		for _, e := range end {
			s := sure && holds == yes && len(end) == 1
			switch e.verdict {
			case "", "continue", "break":
			case "return":
				if s || !sure && holds == yes && len(end) == 1 {
					return true
				}
				sure = false // it may have returned
			case "jump", "goto":
				next := t.chain(e.chain)
				falls := next == nil || m.run(t, next, s, depth+1, out)
				certain := holds == yes && len(end) == 1
				if certain && !falls {
					return false
				}
				if e.verdict == "goto" && certain {
					return true
				}
				sure = sure && (e.verdict == "jump" || certain)
			default:
				*out = append(*out, outcome{
					verdict: e.verdict, nat: e.nat, sure: s, why: m.why,
					rule: RuleAt{t.Family, t.Name, c.Name, line.Handle, line.Text(t)},
				})
				if holds == yes && len(end) == 1 {
					return false
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
	holds := yes
	for i := range line.Exprs {
		e := &line.Exprs[i]
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
	return holds, []ending{{}}
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
		return ending{verdict: "nat", nat: translation{kind: "snat", masq: true, port: m.port(e)}}, true
	case "redir":
		return ending{verdict: "nat", nat: translation{kind: "dnat", masq: true, port: m.port(e)}}, true
	case "nat":
		t := translation{kind: e.Key, port: m.port(e)}
		if e.Src != 0 {
			size := 16
			if m.pkt.Dst.Is4() {
				size = 4
			}
			if b, err := m.addr(e.Src, size); err == nil {
				t.addr, _ = netip.AddrFromSlice(b)
			} else {
				return ending{verdict: "queue"}, true
			}
		}
		return ending{verdict: "nat", nat: t}, true
	case "target":
		return m.target(e)
	case "fwd", "dup", "tproxy", "synproxy":
		return ending{verdict: "queue"}, true
	}
	return ending{}, false
}

// port returns the port that a NAT expression has in a register; 0 if none.
func (m *machine) port(e *Expr) uint16 {
	if e.Port == 0 {
		return 0
	}
	b, err := m.addr(e.Port, 2)
	if err != nil {
		return 0
	}
	return binary.BigEndian.Uint16(b)
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
