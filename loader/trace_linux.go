package loader

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/florianl/go-tc/core"

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
	// Hook forces TCX or Clsact; HookNone chooses.
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

	coll     *ebpf.Collection
	links    []link.Link
	places   *places
	attacher tcAttacher
	clsact   []place // filters to remove
}

// Trace attaches trace programs before all others, so that they see what a
// filter is going to drop.
//
// The error wraps [ErrNoBTF] on a kernel that does not describe its types.
func (l *Loader) Trace(ctx context.Context, opts TraceOptions) (_ *Trace, err error) {
	hops := l.lab.Topology.Hops(false)
	ps, err := l.resolve(hops)
	if err != nil {
		return nil, err
	}
	t := &Trace{Hops: hops, places: ps, attacher: tcAttacher{
		loader: l, want: opts.Hook, prio: prioTrace, handle: uint32(os.Getpid()),
	}}
	defer func() {
		if err != nil {
			err = errors.Join(err, t.Close())
		}
	}()
	if t.coll, err = loadTrace(ps, opts); err != nil {
		return nil, err
	}
	t.Ring, t.Ledgers = t.coll.Maps[bpf.MapRing], t.coll.Maps[bpf.MapLedgers]

	defer rcu.Expedite()()
	err = ps.each(func(at place) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		return t.attach(at)
	})
	if err != nil {
		return nil, err
	}
	return t, nil
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

func (t *Trace) attach(at place) error {
	ln, used, err := t.attacher.attach(t.coll.Programs[bpf.CopyName(bpf.ProgTraceTC, at.ID)], at, link.Head())
	if err != nil {
		return err
	}
	if used == TCX {
		t.links = append(t.links, ln)
		return nil
	}
	t.clsact = append(t.clsact, at)
	c, err := t.attacher.conn(at)
	if err != nil {
		return err
	}
	return c.sweepTraces(at)
}

// sweepTraces removes trace filters whose process died without doing so. A
// filter's handle is the process's pid.
func (c *clsact) sweepTraces(at place) error {
	mine, _, err := c.ours(at.ifindex, at.Direction)
	if err != nil {
		return err
	}
	for _, f := range mine {
		if prio, _ := core.SplitHandle(f.Info); prio != prioTrace || f.Handle == 0 {
			continue
		}
		if _, err := os.Stat(fmt.Sprintf("/proc/%d", f.Handle)); err == nil {
			continue
		}
		if err := c.deleteFilter(at.ifindex, at.Direction, prioTrace, f.Handle); err != nil {
			return err
		}
	}
	return nil
}

// Detach stops the programs; ring and ledgers can still be read.
func (t *Trace) Detach() error {
	defer rcu.Expedite()()
	var errs []error
	for _, ln := range t.links {
		errs = append(errs, ln.Close())
	}
	for _, at := range slices.Backward(t.clsact) {
		errs = append(errs, t.attacher.detach(at))
	}
	t.links, t.clsact = nil, nil
	return errors.Join(errs...)
}

// Close detaches the programs and frees all.
func (t *Trace) Close() error {
	err := errors.Join(t.Detach(), t.attacher.Close(), t.places.Close())
	if t.coll != nil {
		t.coll.Close()
	}
	t.attacher.conns, t.places = nil, &places{}
	return err
}
