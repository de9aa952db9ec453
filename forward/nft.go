package forward

import "encoding/hex"

// Table is an nft table with all its chains and those of its sets that rules
// look into.
type Table struct {
	Family  string  `json:"family"` // ip, ip6, inet, bridge, netdev, arp
	Name    string  `json:"name"`
	Dormant bool    `json:"dormant,omitempty"` // its chains are not asked
	Chains  []Chain `json:"chains"`
	Sets    []Set   `json:"sets,omitempty"`
}

// Chain is an nft chain.
type Chain struct {
	Name     string `json:"name"`
	Hook     string `json:"hook,omitempty"` // "" if it is none of the kernel's
	Device   string `json:"device,omitempty"`
	Kind     string `json:"kind,omitempty"` // filter, nat or route
	Priority int    `json:"priority,omitempty"`
	Policy   string `json:"policy,omitempty"` // accept or drop
	Rules    []Line `json:"rules,omitempty"`
}

// Line is a rule of a chain: expressions that are worked off until one does not
// hold.
type Line struct {
	Handle uint64 `json:"handle"`
	Exprs  []Expr `json:"exprs"`
}

// Expr is an instruction to nft's register machine (linux/netfilter/nf_tables.h).
// Op is the kernel's name of it. Which of the other fields mean something
// depends on Op; one that is not among those of [machine.step] is unknown.
type Expr struct {
	Op string `json:"op"`
	// Key is what is loaded or set, as nft names it (of payload: link, network,
	// transport); of nat snat or dnat; of xt matches and targets the name.
	Key    string `json:"key,omitempty"`
	Src    uint32 `json:"src,omitempty"` // register that is read; of nat the address
	Dst    uint32 `json:"dst,omitempty"` // register that is written
	Port   uint32 `json:"port,omitempty"`
	Offset uint32 `json:"offset,omitempty"` // of nat the register of the last address
	Len    uint32 `json:"len,omitempty"`    // of nat the register of the last port
	Size   uint32 `json:"size,omitempty"`   // of nat flags
	Cmp    string `json:"cmp,omitempty"`    // ==, !=, <, <=, >, >=
	Data   Bytes  `json:"data,omitempty"`
	To     Bytes  `json:"to,omitempty"` // the last of a range; of bitwise what is xored
	Set    string `json:"set,omitempty"`
	Not    bool   `json:"not,omitempty"`
	Write  bool   `json:"write,omitempty"` // it changes the packet or what is known of it
	// Verdict is accept, drop, jump, goto, return, continue or queue; of a reject
	// what is answered.
	Verdict string `json:"verdict,omitempty"`
	Chain   string `json:"chain,omitempty"` // of jump and goto
}

// Set is a set or a map of an nft table.
type Set struct {
	Name string `json:"name"`
	// Fields are the lengths in bytes of what a key is made of, each filled to a
	// multiple of four if there are several.
	Fields   []int     `json:"fields"`
	Map      bool      `json:"map,omitempty"`
	Elements []Element `json:"elements,omitempty"`
}

// Element is an element of a [Set].
type Element struct {
	Key Bytes `json:"key,omitempty"` // none: it stands for all others
	// Last is the last key of an interval, field by field; none: it is one key.
	Last    Bytes  `json:"last,omitempty"`
	Value   Bytes  `json:"value,omitempty"`
	Verdict string `json:"verdict,omitempty"`
	Chain   string `json:"chain,omitempty"`
}

// Bytes are written as hexadecimal digits in JSON.
type Bytes []byte

// MarshalText implements [encoding.TextMarshaler].
func (b Bytes) MarshalText() ([]byte, error) { return []byte(hex.EncodeToString(b)), nil }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (b *Bytes) UnmarshalText(text []byte) (err error) {
	*b, err = hex.DecodeString(string(text))
	return err
}

func (t *Table) chain(name string) *Chain {
	for i := range t.Chains {
		if t.Chains[i].Name == name {
			return &t.Chains[i]
		}
	}
	return nil
}

func (t *Table) set(name string) *Set {
	for i := range t.Sets {
		if t.Sets[i].Name == name {
			return &t.Sets[i]
		}
	}
	return nil
}
