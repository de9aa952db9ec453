package collector

import (
	"github.com/nsbpf/nsbpf/bpf"
	"github.com/nsbpf/nsbpf/internal/hop"
)

// Ledger says what became of every packet that the trace programs saw. Its
// fields are those of [bpf.Ledger].
type Ledger bpf.Ledger

// Balanced says whether every packet seen is accounted for. Read while the
// programs run, a ledger may be a packet per CPU short; after they are detached
// it is exact.
func (l Ledger) Balanced() bool { return l.Seen == l.Traced+l.Filtered+l.SampledOut+l.Lost }

// Add returns the sum of l and m.
func (l Ledger) Add(m Ledger) Ledger {
	l.Seen += m.Seen
	l.Traced += m.Traced
	l.Filtered += m.Filtered
	l.SampledOut += m.SampledOut
	l.Lost += m.Lost
	l.Unsnapped += m.Unsnapped
	return l
}

// HopLedger is the ledger of one hop.
type HopLedger struct {
	Hop hop.Hop
	Ledger
}

// Ledgers are those of all hops, and their sum.
type Ledgers struct {
	Total Ledger
	Hops  []HopLedger
	// Drops is of the packets that the kernel dropped in the lab's nodes, which no
	// hop may have seen: Traced are those in the ring, Filtered those that the
	// expression does not match, SampledOut those that were chosen at no hop while
	// not all are. Passages is of what came to the ends of netfilter hooks. They are
	// no part of Total.
	Drops, Passages Ledger
}
