package trace

import "github.com/nsbpf/nsbpf/collector"

// Drop is the kernel's word that it ended a packet (the tracepoint kfree_skb).
type Drop struct {
	// Sighting is the packet as it was when it was dropped, and TimeNS when. Its
	// hop means nothing.
	collector.Sighting
	Node   string // where, as the topology names it
	Device string // of Node; "" if the packet had none
	// Reason is the kernel's enum skb_drop_reason without its prefix, such as
	// "NETFILTER_DROP". It is "NOT_SPECIFIED" where the kernel does not say, which
	// older ones often do not.
	Reason   string
	Function string   // of the kernel, that dropped it; "" if it has no name
	Callers  []string // that called Function, innermost first
	// Matched says that the expression holds for the packet as it was then.
	Matched bool
	// Followed says that the packet was seen at a hop before.
	Followed bool
	Rule     *Rule // that said so, if it was watched; see [Ruling]
	// Step is the step of the Path behind which it happened.
	Step int
}

// Rule is an nft rule, or a chain's policy, and what it said of a packet.
type Rule struct {
	Family  string `json:"family"` // as nft names it: ip, ip6, inet, bridge, …
	Table   string `json:"table"`
	Chain   string `json:"chain"`
	Handle  uint64 `json:"handle,omitempty"` // 0: it is the chain's policy
	Text    string `json:"text,omitempty"`   // the rule as nft prints it; "" if that is not known
	Verdict string `json:"verdict"`          // as nft names it: drop, accept, …
}

// Ruling is what an nft rule said of a packet, as nft's trace tells it.
type Ruling struct {
	// Sighting is the packet as far as the trace has its headers. Neither its
	// addresses in memory nor its hop are known. TimeNS is when that was read.
	collector.Sighting
	Node string
	Hook string // of netfilter: prerouting, input, forward, output, postrouting
	Rule Rule
	// Step is the step of the Path behind which it happened; -1: before the first.
	Step int
}

// Passage is a packet at one end of a netfilter hook of a node.
type Passage struct {
	TimeNS uint64
	Skb    uint64
	Node   string
	Family string // ip or ip6
	Hook   string // prerouting, input, forward, output, postrouting
	// Last says that it came through all that stands there; else it is in front.
	Last bool
	// Step is the step of the Path behind which it happened; -1: before the first.
	Step int
}

// Input is what a [Joiner] is told.
type Input struct {
	Runs     []collector.Run
	Drops    []Drop
	Passages []Passage
	Rulings  []Ruling
	// Until says, if it is not 0, that all Runs, Drops and Passages before that
	// time were given.
	Until uint64
}
