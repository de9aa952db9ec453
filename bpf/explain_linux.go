package bpf

import "github.com/cilium/ebpf"

// Names of the programs and maps of [ExplainSpec].
const (
	ProgDrop         = "drop"
	ProgPassageFirst = "passage_first"
	ProgPassageLast  = "passage_last"
	ProgTraced       = "traced"

	MapNodes = "nodes" // inode of a network namespace → number of the node, uint16
)

// Ledgers that stand in [MapLedgers] behind those of the hops.
const (
	LedgerDrops    = iota // of [ProgDrop]: the packets that the kernel dropped in the lab's nodes
	LedgerPassages        // of [ProgPassageFirst] and [ProgPassageLast]
	OtherLedgers          // how many there are
)

// ExplainSpec returns the programs that see what the kernel does with packets
// between the hops: the raw tracepoint kfree_skb, both ends of a netfilter hook,
// and a socket filter that says whether a packet is traced. They go by what the
// trace programs selected, so they share all maps that they have in common with
// those of [TraceSpec], and are to be given the same [SetMatch], [SetSample] and
// [SetRate].
func ExplainSpec() (*ebpf.CollectionSpec, error) { return loadExplain() }

// SetLedgers tells the programs of [ExplainSpec] that their ledgers follow on those
// of n hops.
func SetLedgers(spec *ebpf.CollectionSpec, n uint32) error { return set(spec, "first_ledger", n) }
