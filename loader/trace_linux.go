package loader

import (
	"context"
	"errors"
	"io/fs"
	"slices"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"

	"github.com/nsbpf/nsbpf/bpf"
	"github.com/nsbpf/nsbpf/internal/hop"
)

// DefaultRing is the size of a trace's ring in bytes: some 50 000 runs.
const DefaultRing = 8 << 20

// TraceOptions says what a [Trace] sees.
type TraceOptions struct {
	// Match is a compiled filter expression; see [bpf.SetMatch]. Nil matches all.
	Match asm.Instructions
	// Hook forces TCX or Clsact; HookNone chooses. Clsact runs behind all of
	// tcx, so it does not see what a tcx filter drops.
	Hook Hook
	// Ring is the ring's size in bytes, a power of two of at least a page; 0 is
	// [DefaultRing].
	Ring int
	// Sample chooses one packet of so many, the same at every hop; 0 and 1: all.
	Sample uint32
	// Rate is how many packets are chosen in a second at most; 0: all.
	Rate uint32
	// Snap is how many bytes of a packet are put in the ring before each of its runs,
	// which then have one hop each; 0: none. See [bpf.SetSnap].
	Snap int
	// Explain looks also at both ends of each netfilter hook of each node.
	Explain bool
}

// Trace is a trace program on every tc hop of the lab and on every XDP hop that
// has a program, for as long as the process lives or until Close. Filters that
// are added to such an XDP hop or removed meanwhile change nothing about that; a
// program that comes where none was when the trace began is not seen through.
// Between the hops it sees which packets the kernel drops in the lab's nodes.
type Trace struct {
	Ring    *ebpf.Map     // of bpf.Run, bpf.Drop and bpf.Passage
	Sweep   *ebpf.Program // bpf.ProgSweep
	Ledgers *ebpf.Map     // by hop: bpf.Ledger, per CPU, and behind them bpf.OtherLedgers
	Hops    []hop.Hop     // where it stands
	Bare    []hop.ID      // of Hops, those whose packets have no Ethernet header
	Taken   []hop.Hop     // XDP hops where it does not, because another trace does
	Nodes   []string      // by the numbers that bpf.Drop and bpf.Passage have of them
	Unarmed []string      // what it cannot see of what was asked, and why: a sentence each
	// Traced is bpf.ProgTraced, nil if it was not asked to explain or cannot be.
	Traced *ebpf.Program

	guest
	explainer
	turn     turn
	gates    gates
	standins standins
}

// Trace attaches trace programs before all others, so that they see what a filter
// is going to drop, and where it can in the place of a count program; see
// standins. Programs of traces that were killed are removed.
//
// The error wraps [ErrNoBTF] on a kernel that does not describe its types.
func (l *Loader) Trace(ctx context.Context, opts TraceOptions) (_ *Trace, err error) {
	unlock, err := lock(l.lab.Dir)
	if err != nil {
		return nil, err
	}
	defer unlock()
	t := &Trace{
		guest:    guest{word: "trace", labDir: l.lab.Dir},
		gates:    gates{loader: l},
		standins: standins{loader: l},
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, t.detach())
			t.free()
		}
	}()
	ps, err := t.open(l, opts.Hook)
	if err != nil {
		return nil, err
	}
	defer ps.Close()
	if t.coll, err = t.load(ps, opts); err != nil {
		return nil, err
	}
	t.Ring, t.Ledgers = t.coll.Maps[bpf.MapRing], t.coll.Maps[bpf.MapLedgers]
	t.Sweep = t.coll.Programs[bpf.ProgSweep]
	if err := bpf.SetPaused(t.coll, true); err != nil {
		return nil, err
	}
	if err := t.attach(ctx, l, ps.standing(false), bpf.ProgTraceTC, opts.Hook); err != nil {
		return nil, err
	}
	if err := t.standins.attach(ctx, ps.standing(true), t.coll); err != nil {
		return nil, err
	}
	if err := t.gates.attach(ctx, t.coll); err != nil {
		return nil, err
	}
	if err := t.explain(ctx, l, opts); err != nil {
		return nil, err
	}
	return t, bpf.SetPaused(t.coll, false)
}

// open finds where the trace is to stand and what is there already.
func (t *Trace) open(l *Loader, hook Hook) (_ *places, err error) {
	if t.turn, err = l.takeTurn(); err != nil {
		return nil, err
	}
	if t.Taken, err = t.gates.open(&t.turn); err != nil {
		return nil, err
	}
	t.Hops = l.lab.Topology.Hops(false)
	for _, h := range t.gates.hops {
		t.Hops = append(t.Hops, h.Hop)
	}
	ps, err := l.resolve(t.Hops)
	if err != nil {
		return nil, err
	}
	if t.turn.mine() {
		err = t.standins.open(ps)
	}
	if err == nil && hook == HookNone {
		err = t.standins.choose(ps)
	}
	if err != nil {
		return nil, errors.Join(err, ps.Close())
	}
	ps.connect(l.lab.Topology.Edges(t.Hops))
	for _, p := range ps.all {
		if !p.ethernet {
			t.Bare = append(t.Bare, p.ID)
		}
	}
	return ps, nil
}

// load loads the programs of ps.
func (t *Trace) load(ps *places, opts TraceOptions) (*ebpf.Collection, error) {
	spec, err := traceSpec(opts)
	if err != nil {
		return nil, err
	}
	hops := uint32(ps.all[len(ps.all)-1].ID) + 1
	for _, m := range []string{bpf.MapTCTaps, bpf.MapTaps} {
		spec.Maps[m].MaxEntries = hops
	}
	spec.Maps[bpf.MapLedgers].MaxEntries = hops + bpf.OtherLedgers
	shared := make(map[string]*ebpf.Map)
	for name, m := range map[string]*ebpf.Map{bpf.MapCounts: t.standins.counts, bpf.MapBodies: t.gates.bodies} {
		if m != nil {
			shared[name] = m
			spec.Maps[name].MaxEntries = m.MaxEntries()
		}
	}
	copies, err := bpf.Copies(spec, bpf.ProgTraceTC, ps.of(hop.TC).sites())
	if err != nil {
		return nil, err
	}
	for prog, at := range map[string]*places{
		bpf.ProgGateTC:   ps.standing(true),
		bpf.ProgTraceXDP: ps.of(hop.XDP),
		bpf.ProgGateXDP:  ps.of(hop.XDP),
	} {
		if err := bpf.AddCopies(copies, spec, prog, at.sites()); err != nil {
			return nil, err
		}
	}
	return load(copies, shared)
}

// traceSpec returns the programs as opts want them.
func traceSpec(opts TraceOptions) (*ebpf.CollectionSpec, error) {
	spec, err := bpf.TraceSpec()
	if err != nil {
		return nil, err
	}
	size := opts.Ring
	if size == 0 {
		size = DefaultRing
	}
	spec.Maps[bpf.MapRing].MaxEntries = uint32(size)
	if opts.Snap != 0 {
		if err := bpf.SetSnap(spec, opts.Snap); err != nil {
			return nil, err
		}
	}
	return spec, choose(spec, opts)
}

// choose has the programs of spec choose the packets that opts want.
func choose(spec *ebpf.CollectionSpec, opts TraceOptions) error {
	if opts.Match != nil {
		if err := bpf.SetMatch(spec, opts.Match); err != nil {
			return err
		}
	}
	if opts.Sample > 1 {
		if err := bpf.SetSample(spec, opts.Sample); err != nil {
			return err
		}
	}
	if opts.Rate > 0 {
		if err := bpf.SetRate(spec, opts.Rate); err != nil {
			return err
		}
	}
	return bpf.SetWakeAt(spec, uint64(spec.Maps[bpf.MapRing].MaxEntries)/8)
}

// entry returns the program that the kernel calls at a tc hop, or nil: its time
// and runs are also those of what it goes on to.
func (t *Trace) entry(id hop.ID) *ebpf.Program {
	if t.coll == nil {
		return nil
	}
	if slices.ContainsFunc(t.standins.stands, func(s standin) bool { return s.ID == id }) {
		return t.coll.Programs[bpf.CopyName(bpf.ProgGateTC, id)]
	}
	return t.coll.Programs[bpf.CopyName(bpf.ProgTraceTC, id)]
}

// Detach stops the programs; ring and ledgers can still be read.
func (t *Trace) Detach() error {
	if len(t.gates.hops) == 0 && len(t.standins.stands) == 0 {
		return t.detach()
	}
	unlock, err := lock(t.labDir)
	switch {
	case err == nil:
		defer unlock()
	case errors.Is(err, fs.ErrNotExist): // the lab is gone, and with it the gates
		err = nil
	}
	return errors.Join(err, t.detach())
}

// detach is [Trace.Detach] for a caller that holds the lock.
func (t *Trace) detach() error {
	var errs []error
	if t.coll != nil {
		errs = append(errs, bpf.SetPaused(t.coll, true), t.gates.detach(t.coll), t.standins.detach(t.coll))
	}
	errs = append(errs, t.explainer.detach(), t.gates.Close(), t.standins.Close(), t.turn.Close(), t.guest.Detach())
	return errors.Join(errs...)
}

// Close detaches the programs and frees all.
func (t *Trace) Close() error {
	err := t.Detach()
	t.free()
	return err
}

// free frees what a detached trace has.
func (t *Trace) free() {
	t.guest.free()
	t.explainer.free()
}
