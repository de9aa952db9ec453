package bpf

import (
	"fmt"
	"math"
	"slices"
	"time"

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
	ProgTraceXDP  = "trace_xdp"
	ProgGateTC    = "gate_tc"
	ProgGateXDP   = "gate_xdp"
	ProgSweep     = "sweep"

	MapCounts   = "counts"   // per CPU, [hop.ID * ReasonCount + Reason] → Count
	MapOutcomes = "outcomes" // per CPU, [Outcome] → uint64
	MapRing     = "ring"     // Run, Drop, Passage, Snap
	MapLedgers  = "ledgers"  // per CPU, [hop.ID] → Ledger
	MapTCTaps   = "tc_taps"  // [hop.ID] → ProgTraceTC, where ProgGateTC goes
	MapTaps     = "taps"     // [hop.ID] → ProgTraceXDP, where ProgGateXDP goes first
	MapBodies   = "bodies"   // [hop.ID] → an XDP hop's own program, where both go then

	mapPaused   = "paused"
	mapSnapping = "snapping"
	matchFunc   = "match"
)

// CountSpec returns the count programs, tc and XDP.
func CountSpec() (*ebpf.CollectionSpec, error) { return loadCount() }

// FilterSpec returns the filter programs, tc and XDP. See [SetMatch].
func FilterSpec() (*ebpf.CollectionSpec, error) { return loadFilter() }

// TraceSpec returns the trace programs, tc and XDP, the gate through which XDP
// comes to the latter, and the program that sweeps the runs the former make.
// See [SetMatch], [SetSample], [SetRate].
func TraceSpec() (*ebpf.CollectionSpec, error) { return loadTrace() }

// CountIndex returns the index in [MapCounts] of one hop and reason.
func CountIndex(id hop.ID, r Reason) uint32 { return uint32(id)*uint32(ReasonCount) + uint32(r) }

// SetWakeAt sets from how many bytes in the ring the reader is woken at once.
func SetWakeAt(spec *ebpf.CollectionSpec, bytes uint64) error { return set(spec, "wake_at", bytes) }

func set(spec *ebpf.CollectionSpec, name string, v any) error {
	vs, ok := spec.Variables[name]
	if !ok {
		return fmt.Errorf("bpf variable %q does not exist", name)
	}
	return vs.Set(v)
}

// SetPaused says whether the trace programs of c see nothing, from now on and all
// of them at once. When loaded they see all.
func SetPaused(c *ebpf.Collection, yes bool) error {
	var v uint32
	if yes {
		v = 1
	}
	if err := c.Maps[mapPaused].Put(uint32(0), v); err != nil {
		return fmt.Errorf("pausing the trace programs: %w", err)
	}
	return nil
}

// SetSample lets the trace programs choose one of n packets, by what no hop
// changes about it.
func SetSample(spec *ebpf.CollectionSpec, n uint32) error {
	return set(spec, "sample_max", uint32(math.MaxUint32)/max(n, 1))
}

// MostSnap is the most bytes of a packet that [SetSnap] takes.
const MostSnap = 1<<16 - 1

// SetSnap lets the trace programs put the first n bytes of a packet before its run
// in the ring, and begin a run at each hop.
func SetSnap(spec *ebpf.CollectionSpec, n int) error {
	if n < 0 || n > MostSnap {
		return fmt.Errorf("%d bytes of a packet cannot be kept (want at most %d)", n, MostSnap)
	}
	cpus, err := ebpf.PossibleCPU()
	if err != nil {
		return err
	}
	spec.Maps[mapSnapping].MaxEntries = uint32(cpus)
	return set(spec, "snap_len", uint32(n))
}

// SetRate lets the trace programs choose n packets a second at most.
func SetRate(spec *ebpf.CollectionSpec, n uint32) error {
	return set(spec, "rate_ns", uint64(time.Second)/uint64(max(n, 1)))
}

// Site is where one copy of a program stands.
type Site struct {
	Hop      hop.ID
	Ethernet bool // packets of the device start with an Ethernet header
	// Origin says that no packet comes from another hop, Starts that a packet can
	// begin its way here, Terminal that what follows is a node's stack, or nothing.
	Origin, Starts, Terminal bool
	// Before are the hops that a packet can come from.
	Before []hop.ID
	// Counting says that the trace program stands in the place of the count program.
	Counting bool
	// XDPNext says that a traced XDP hop comes next.
	XDPNext bool
}

// rodata is the map that holds a program's constants.
const rodata = ".rodata"

// Copies returns a specification with one copy of program prog for each site,
// under the name [CopyName] gives, and with constants of its own, and the
// programs of spec that stand at no site; all other maps are shared. Loading the
// copies as one collection reads the kernel's types once, which takes ten times
// as long as a program.
func Copies(spec *ebpf.CollectionSpec, prog string, sites []Site) (*ebpf.CollectionSpec, error) {
	out := spec.Copy()
	out.Programs = make(map[string]*ebpf.ProgramSpec, len(sites)+1)
	out.Variables = nil
	if p, ok := spec.Programs[ProgSweep]; ok {
		out.Programs[ProgSweep] = p.Copy()
	} else {
		delete(out.Maps, rodata)
	}
	if err := AddCopies(out, spec, prog, sites); err != nil {
		return nil, err
	}
	return out, nil
}

// AddCopies adds to copies, a result of [Copies] of spec, those of another
// program. Programs that stand at one site share its constants.
func AddCopies(copies, spec *ebpf.CollectionSpec, prog string, sites []Site) error {
	for _, site := range sites {
		one := spec.Copy()
		p, ok := one.Programs[prog]
		if !ok {
			return fmt.Errorf("bpf program %q does not exist", prog)
		}
		err := setSite(one, site)
		if err != nil {
			return err
		}
		constants := fmt.Sprintf("%s.%d", rodata, site.Hop)
		for i := range p.Instructions {
			if p.Instructions[i].Reference() == rodata {
				p.Instructions[i] = p.Instructions[i].WithReference(constants)
			}
		}
		if copies.Maps[constants], err = constantMap(one); err != nil {
			return err
		}
		copies.Programs[CopyName(prog, site.Hop)] = p
	}
	return nil
}

// constantMap returns the map of spec's constants with the values that were set.
// The loader of collections would find them by the map's name, which is to change.
func constantMap(spec *ebpf.CollectionSpec) (*ebpf.MapSpec, error) {
	m := spec.Maps[rodata].Copy()
	if len(m.Contents) != 1 {
		return nil, fmt.Errorf("bpf map %q has %d values, not one", rodata, len(m.Contents))
	}
	data, ok := m.Contents[0].Value.([]byte)
	if !ok {
		return nil, fmt.Errorf("bpf map %q holds a %T, not bytes", rodata, m.Contents[0].Value)
	}
	data = slices.Clone(data)
	for _, v := range spec.Variables {
		if v.SectionName == rodata {
			copy(data[v.Offset:], v.Value)
		}
	}
	m.Contents = []ebpf.MapKV{{Key: m.Contents[0].Key, Value: data}}
	return m, nil
}

func setSite(spec *ebpf.CollectionSpec, s Site) error {
	if err := set(spec, "hop_id", uint16(s.Hop)); err != nil {
		return err
	}
	if _, ok := spec.Variables["before"]; ok {
		if err := set(spec, "before", beforeBits(s.Before)); err != nil {
			return err
		}
	}
	for name, v := range map[string]bool{
		"ethernet": s.Ethernet, "origin": s.Origin, "starts": s.Starts, "terminal": s.Terminal,
		"xdp_next": s.XDPNext, "counting": s.Counting,
	} {
		if _, ok := spec.Variables[name]; !ok {
			continue // the programs do not ask
		}
		if err := set(spec, name, v); err != nil {
			return err
		}
	}
	return nil
}

// beforeBits is the set of ids as the programs have it.
func beforeBits(ids []hop.ID) (set [4]uint64) {
	for _, id := range ids {
		i := int(id) % (64 * len(set))
		set[i/64] |= 1 << (i % 64)
	}
	return set
}

// CopyName is the name of prog's copy for one hop in the result of [Copies].
func CopyName(prog string, id hop.ID) string { return fmt.Sprintf("%s.%d", prog, id) }

// notNil returns 0 for a nil packet: the verifier checks a global function for
// every argument it could be called with.
var notNil = asm.Instructions{
	{OpCode: asm.JNE.Op(asm.ImmSource), Dst: asm.R1, Offset: 2},
	asm.Mov.Imm(asm.R0, 0),
	asm.Return(),
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
		if name == ProgSweep || name == ProgGateTC || name == ProgGateXDP {
			continue // they match nothing
		}
		start := slices.IndexFunc(p.Instructions, func(i asm.Instruction) bool { return i.Symbol() == matchFunc })
		if start < 0 {
			return fmt.Errorf("bpf program %q has no function %q", name, matchFunc)
		}
		end := start + 1
		for end < len(p.Instructions) && p.Instructions[end].Symbol() == "" {
			end++
		}
		body := slices.Concat(notNil, body)
		body[0].Metadata = p.Instructions[start].Metadata
		p.Instructions = slices.Concat(p.Instructions[:start], body, p.Instructions[end:])
	}
	if _, ok := spec.Variables["selective"]; !ok {
		return nil
	}
	return set(spec, "selective", true)
}
