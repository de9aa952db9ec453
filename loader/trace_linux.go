package loader

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"strconv"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"

	"github.com/nsbpf/nsbpf/bpf"
	"github.com/nsbpf/nsbpf/internal/hop"
	"github.com/nsbpf/nsbpf/internal/rcu"
)

// DefaultRing is the size of a trace's ring in bytes: some 40 000 sightings.
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
}

// Trace is a trace program on every tc hop of the lab, for as long as the
// process lives or until Close.
type Trace struct {
	Ring    *ebpf.Map // of bpf.Sighting
	Ledgers *ebpf.Map // by hop: bpf.Ledger, per CPU
	Hops    []hop.Hop // where it stands

	labDir string
	coll   *ebpf.Collection
	links  []link.Link
	clsact bool // it stands at clsact filters, too
}

// Trace attaches trace programs before all others, so that they see what a
// filter is going to drop. Programs of traces that were killed are removed.
//
// The error wraps [ErrNoBTF] on a kernel that does not describe its types.
func (l *Loader) Trace(ctx context.Context, opts TraceOptions) (_ *Trace, err error) {
	unlock, err := lock(l.lab.Dir)
	if err != nil {
		return nil, err
	}
	defer unlock()
	t := &Trace{Hops: l.lab.Topology.Hops(false), labDir: l.lab.Dir}
	ps, err := l.resolve(t.Hops)
	if err != nil {
		return nil, err
	}
	defer ps.Close()
	defer func() {
		if err != nil {
			err = errors.Join(err, t.Close())
		}
	}()
	if err := removeFilters(l.lab.Dir, isDeadTrace); err != nil {
		return nil, err
	}
	if t.coll, err = loadTrace(ps, opts); err != nil {
		return nil, err
	}
	t.Ring, t.Ledgers = t.coll.Maps[bpf.MapRing], t.coll.Maps[bpf.MapLedgers]
	if err := bpf.SetPaused(t.coll, true); err != nil {
		return nil, err
	}
	defer rcu.Expedite()()
	err = t.attach(ctx, ps, tcAttacher{loader: l, want: opts.Hook, prio: prioTrace, what: traceWhat(os.Getpid())})
	if err != nil {
		return nil, err
	}
	return t, bpf.SetPaused(t.coll, false)
}

func loadTrace(ps *places, opts TraceOptions) (*ebpf.Collection, error) {
	spec, err := bpf.TraceSpec()
	if err != nil {
		return nil, err
	}
	size := opts.Ring
	if size == 0 {
		size = DefaultRing
	}
	spec.Maps[bpf.MapRing].MaxEntries = uint32(size)
	spec.Maps[bpf.MapLedgers].MaxEntries = uint32(len(ps.all))
	if err := bpf.SetWakeAt(spec, uint64(size)/8); err != nil {
		return nil, err
	}
	if opts.Match != nil {
		if err := bpf.SetMatch(spec, opts.Match); err != nil {
			return nil, err
		}
	}
	return loadCopies(spec, bpf.ProgTraceTC, ps, nil)
}

func (t *Trace) attach(ctx context.Context, ps *places, tc tcAttacher) error {
	defer tc.Close()
	return ps.each(func(at place) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		ln, used, err := tc.attach(t.coll.Programs[bpf.CopyName(bpf.ProgTraceTC, at.ID)], at, link.Head())
		if err != nil {
			return err
		}
		if used == Clsact {
			t.clsact = true
		} else {
			t.links = append(t.links, ln)
		}
		return nil
	})
}

const traceWord = "trace/"

// traceWhat names the clsact filters of a process's trace among those of its lab.
func traceWhat(pid int) string { return traceWord + strconv.Itoa(pid) }

// isDeadTrace reports whether a clsact filter is of a trace whose process died
// without removing it.
func isDeadTrace(what string) bool {
	pid, ok := strings.CutPrefix(what, traceWord)
	if !ok {
		return false
	}
	_, err := os.Stat("/proc/" + pid)
	return errors.Is(err, fs.ErrNotExist)
}

// Detach stops the programs; ring and ledgers can still be read.
func (t *Trace) Detach() error {
	defer rcu.Expedite()()
	var errs []error
	if t.coll != nil {
		errs = append(errs, bpf.SetPaused(t.coll, true))
	}
	for _, ln := range t.links {
		errs = append(errs, ln.Close())
	}
	t.links = nil
	if t.clsact {
		own := traceWhat(os.Getpid())
		errs = append(errs, removeFilters(t.labDir, func(what string) bool { return what == own }))
		t.clsact = false
	}
	return errors.Join(errs...)
}

// Close detaches the programs and frees all.
func (t *Trace) Close() error {
	err := t.Detach()
	if t.coll != nil {
		t.coll.Close()
		t.coll = nil
	}
	return err
}
