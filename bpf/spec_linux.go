package bpf

import (
	"fmt"
	"slices"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"

	"github.com/nsbpf/nsbpf/internal/hop"
)

// Names of the programs and maps in the objects.
const (
	ProgCountTC   = "count_tc"
	ProgCountXDP  = "count_xdp"
	ProgFilterTC  = "filter_tc"
	ProgFilterXDP = "filter_xdp"
	ProgTraceTC   = "trace_tc"

	MapCounts   = "counts"   // per CPU, [hop.ID * ReasonCount + Reason] → Count
	MapOutcomes = "outcomes" // per CPU, [Outcome] → uint64
	MapRing     = "ring"     // Sighting
	MapLedgers  = "ledgers"  // per CPU, [hop.ID] → Ledger

	matchFunc = "match"
)

// CountSpec returns the count programs, tc and XDP.
func CountSpec() (*ebpf.CollectionSpec, error) { return loadCount() }

// FilterSpec returns the filter programs, tc and XDP. See [SetMatch].
func FilterSpec() (*ebpf.CollectionSpec, error) { return loadFilter() }

// TraceSpec returns the trace program. See [SetMatch].
func TraceSpec() (*ebpf.CollectionSpec, error) { return loadTrace() }

// CountIndex returns the index in [MapCounts] of one hop and reason.
func CountIndex(id hop.ID, r Reason) uint32 { return uint32(id)*uint32(ReasonCount) + uint32(r) }

// SetHop says which hop the programs of spec will stand at.
func SetHop(spec *ebpf.CollectionSpec, id hop.ID) error { return set(spec, "hop_id", uint16(id)) }

// SetEthernet says whether packets of the device start with an Ethernet header.
func SetEthernet(spec *ebpf.CollectionSpec, yes bool) error { return set(spec, "ethernet", yes) }

// SetWakeAt sets from how many bytes in the ring the reader is woken at once.
func SetWakeAt(spec *ebpf.CollectionSpec, bytes uint64) error { return set(spec, "wake_at", bytes) }

func set(spec *ebpf.CollectionSpec, name string, v any) error {
	vs, ok := spec.Variables[name]
	if !ok {
		return fmt.Errorf("bpf variable %q does not exist", name)
	}
	return vs.Set(v)
}

// SetMatch puts body in the place of the programs' match function, which is
// called with the address of a [Packet] in R1 and returns 0 in R0 for no match.
// body may use R0 to R5 and must end in a return. Without SetMatch a program
// matches every packet.
func SetMatch(spec *ebpf.CollectionSpec, body asm.Instructions) error {
	if len(body) == 0 {
		return fmt.Errorf("replacing bpf function %q: empty body", matchFunc)
	}
	for name, p := range spec.Programs {
		start := slices.IndexFunc(p.Instructions, func(i asm.Instruction) bool { return i.Symbol() == matchFunc })
		if start < 0 {
			return fmt.Errorf("bpf program %q has no function %q", name, matchFunc)
		}
		end := start + 1
		for end < len(p.Instructions) && p.Instructions[end].Symbol() == "" {
			end++
		}
		body := slices.Clone(body)
		body[0].Metadata = p.Instructions[start].Metadata
		p.Instructions = slices.Concat(p.Instructions[:start], body, p.Instructions[end:])
	}
	return nil
}
