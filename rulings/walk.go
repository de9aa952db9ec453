// Package rulings tells which nft rule decided about a traced packet.
//
// In each node's namespace it puts an nft table of its own in front of all others,
// which turns nft's trace on for the packets that a BPF program selects, and reads
// what the kernel then says of them. Nothing else is changed, and no packet's way.
// The table is the socket's: the kernel removes it with the process, however that
// ends. Only the files named *_linux.go touch the kernel.
package rulings

import (
	"strings"

	"github.com/nsbpf/nsbpf/bpf"
	"github.com/nsbpf/nsbpf/internal/hop"
	"github.com/nsbpf/nsbpf/trace"
)

// tablePrefix begins the names of our tables, those of other traces as well.
const tablePrefix = "nsbpf-trace-"

// place is a chain.
type place struct {
	family       uint8 // enum nfproto
	table, chain string
}

// familyNames are nft's, by enum nfproto.
var familyNames = map[uint8]string{1: "inet", 2: "ip", 3: "arp", 5: "netdev", 7: "bridge", 10: "ip6"}

// kind says what a message of nft's trace is about: enum nft_trace_types.
type kind uint8

const (
	kindPolicy kind = 1 + iota // a base chain's policy, as no rule decided
	kindReturn                 // a rule that returns to the chain before
	kindRule
)

// verdict is what netfilter's enum and nft's own, below zero, are to nft's trace.
type verdict int32

const (
	drop verdict = iota
	accept
	stolen
	queue
)

// String returns the verdict as nft names it.
func (v verdict) String() string {
	names := []string{"drop", "accept", "stolen", "queue", "repeat", "stop"}
	if v < 0 {
		v, names = -1-v, []string{"continue", "break", "jump", "goto", "return"}
	}
	if int(v) < len(names) {
		return names[v]
	}
	return "unknown"
}

// final says that the packet goes through no more of the base chain.
func (v verdict) final() bool { return v >= 0 }

// message is one message of nft's trace.
type message struct {
	place
	id      uint32 // the packet's
	kind    kind
	handle  uint64
	verdict verdict
	headers headers // of a base chain's first message; empty in the others
}

// act is what a rule does to a packet beyond its verdict.
type act uint8

const (
	actNone act = iota
	actReject
	actTranslate
)

// ruleset answers what is configured; the zero values where that is not known.
type ruleset interface {
	// hook returns the hook of a base chain, as nft names it.
	hook(place) string
	act(place, uint64) act
	text(place, uint64) string
}

// walker puts the messages about a packet together.
type walker struct {
	all   bool // tell of every message
	rules ruleset
	open  map[walkID]walk
}

type walkID struct {
	family uint8
	packet uint32
}

// walk is a packet on its way through a base chain.
type walk struct {
	packet bpf.Packet
	base   place
}

// mostWalks bounds the memory for packets of which the last message was lost.
const mostWalks = 4096

// add takes a message that was read at a time, and returns what it rules, if that
// is to be told.
func (w *walker) add(m *message, timeNS uint64) (trace.Ruling, bool) {
	if strings.HasPrefix(m.table, tablePrefix) {
		return trace.Ruling{}, false
	}
	id := walkID{m.family, m.id}
	if len(m.headers.network) > 0 || len(m.headers.link) > 0 {
		if len(w.open) >= mostWalks {
			clear(w.open)
		}
		w.open[id] = walk{m.headers.packet(), m.place}
	}
	at, known := w.open[id]
	if m.kind == kindPolicy || m.kind == kindRule && m.verdict.final() {
		delete(w.open, id)
	}
	if !known || !w.tells(m) {
		return trace.Ruling{}, false
	}
	r := trace.Ruling{Hook: w.rules.hook(at.base), Rule: w.rule(m)}
	r.TimeNS, r.Packet, r.Segments, r.Hop = timeNS, at.packet, 1, uint16(hop.None)
	return r, true
}

// tells says whether m decides: it ends the packet or rewrites it.
func (w *walker) tells(m *message) bool {
	switch {
	case m.kind != kindPolicy && m.handle == 0: // a chain came to its end
		return false
	case w.all:
		return true
	case m.kind == kindPolicy:
		return m.verdict == drop
	case m.kind == kindRule && m.verdict == accept:
		return w.rules.act(m.place, m.handle) == actTranslate
	}
	return m.kind == kindRule && m.verdict.final()
}

func (w *walker) rule(m *message) trace.Rule {
	r := trace.Rule{
		Family:  familyNames[m.family],
		Table:   m.table,
		Chain:   m.chain,
		Verdict: m.verdict.String(),
	}
	if m.kind == kindPolicy {
		r.Text = "policy " + r.Verdict
		return r
	}
	r.Handle = m.handle
	r.Text = w.rules.text(m.place, m.handle)
	if m.verdict == drop && w.rules.act(m.place, m.handle) == actReject {
		r.Verdict = "reject"
	}
	return r
}
