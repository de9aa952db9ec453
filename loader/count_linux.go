package loader

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"

	"github.com/nsbpf/nsbpf/bpf"
	"github.com/nsbpf/nsbpf/internal/hop"
	"github.com/nsbpf/nsbpf/internal/rcu"
)

// AttachCount puts a count program on every tc hop of the lab and, if asked, on
// every XDP hop, and pins programs and counters so that they outlive the
// process. It returns what hook each hop got, in order of hop ID.
//
// On error everything is detached again. The error wraps [ebpf.ErrNotSupported]
// if a hook that was asked for is not to be had.
func (l *Loader) AttachCount(ctx context.Context, hooks Hooks) (_ []Attachment, err error) {
	all := l.lab.Topology.Hops(true)
	var tcHops, xdpHops []hop.Hop
	for _, h := range all {
		if h.Layer == hop.XDP {
			xdpHops = append(xdpHops, h)
		} else {
			tcHops = append(tcHops, h)
		}
	}
	defer rcu.Expedite()()
	if err := mountBPFFS(l.dir); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, Clean(l.lab.Dir))
		}
	}()
	counts, err := l.makeCounts(len(all))
	if err != nil {
		return nil, err
	}
	defer counts.Close()

	as, err := l.countTC(ctx, tcHops, hooks.TC, counts)
	if err != nil {
		return nil, err
	}
	if hooks.XDP != HookNone {
		more, err := l.countXDP(ctx, xdpHops, hooks.XDP, counts)
		if err != nil {
			return nil, err
		}
		as = append(as, more...)
	}
	slices.SortFunc(as, func(a, b Attachment) int { return cmp.Compare(a.Hop.ID, b.Hop.ID) })
	return as, l.writeFile(attachmentsFile, as)
}

// makeCounts makes and pins the counters of n hops.
func (l *Loader) makeCounts(n int) (*ebpf.Map, error) {
	spec, err := bpf.CountSpec()
	if err != nil {
		return nil, err
	}
	ms := spec.Maps[bpf.MapCounts]
	ms.MaxEntries = uint32(n) * uint32(bpf.ReasonCount)
	m, err := ebpf.NewMap(ms)
	if err != nil {
		return nil, fmt.Errorf("making counters: %w", err)
	}
	if err := m.Pin(l.pin(bpf.MapCounts)); err != nil {
		return nil, errors.Join(fmt.Errorf("pinning counters: %w", err), m.Close())
	}
	return m, nil
}

// loadCopies loads one copy of prog for each place.
func loadCopies(spec *ebpf.CollectionSpec, prog string, ps *places, shared map[string]*ebpf.Map) (*ebpf.Collection, error) {
	copies, err := bpf.Copies(spec, prog, ps.sites())
	if err != nil {
		return nil, err
	}
	for name, m := range shared {
		copies.Maps[name].MaxEntries = m.MaxEntries()
	}
	return load(copies, shared)
}

func (l *Loader) countTC(ctx context.Context, hops []hop.Hop, want Hook, counts *ebpf.Map) ([]Attachment, error) {
	ps, err := l.resolve(hops)
	if err != nil {
		return nil, err
	}
	defer ps.Close()
	spec, err := bpf.CountSpec()
	if err != nil {
		return nil, err
	}
	coll, err := loadCopies(spec, bpf.ProgCountTC, ps, map[string]*ebpf.Map{bpf.MapCounts: counts})
	if err != nil {
		return nil, err
	}
	defer coll.Close()

	t := tcAttacher{loader: l, want: want, prio: prioCount, handle: 1}
	defer t.Close()
	var as []Attachment
	err = ps.each(func(at place) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		ln, used, err := t.attach(coll.Programs[bpf.CopyName(bpf.ProgCountTC, at.ID)], at, link.Head())
		if err != nil {
			return err
		}
		as = append(as, Attachment{Hop: at.Hop, Hook: used})
		return l.pinLink(ln, countPin(at.ID))
	})
	return as, err
}

func (l *Loader) countXDP(ctx context.Context, hops []hop.Hop, want Hook, counts *ebpf.Map) ([]Attachment, error) {
	ps, err := l.resolve(hops)
	if err != nil {
		return nil, err
	}
	defer ps.Close()
	spec, err := bpf.CountSpec()
	if err != nil {
		return nil, err
	}
	coll, err := loadCopies(spec, bpf.ProgCountXDP, ps, map[string]*ebpf.Map{bpf.MapCounts: counts})
	if err != nil {
		return nil, err
	}
	defer coll.Close()

	var as []Attachment
	err = ps.each(func(at place) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		ln, err := attachXDP(coll.Programs[bpf.CopyName(bpf.ProgCountXDP, at.ID)], at, want)
		if err != nil {
			return err
		}
		as = append(as, Attachment{Hop: at.Hop, Hook: want})
		return l.pinLink(ln, countPin(at.ID))
	})
	return as, err
}

func countPin(id hop.ID) string { return fmt.Sprintf("count-%d", id) }

// pinLink pins a link and lets go of the descriptor. A nil link is a clsact
// filter, which the qdisc holds.
func (l *Loader) pinLink(ln link.Link, name string) error {
	if ln == nil {
		return nil
	}
	if err := ln.Pin(l.pin(name)); err != nil {
		return errors.Join(fmt.Errorf("pinning %s: %w", name, err), ln.Close())
	}
	return ln.Close()
}

// tcAttacher attaches to tc hops by tcx, and by clsact once the kernel said that
// it has no tcx.
type tcAttacher struct {
	loader *Loader
	want   Hook // HookNone: choose
	prio   uint16
	handle uint32
	conns  map[*os.File]*clsact
}

// attach returns the link, nil for clsact, and the hook that was used.
func (t *tcAttacher) attach(p *ebpf.Program, at place, anchor link.Anchor) (link.Link, Hook, error) {
	if t.want != Clsact {
		ln, err := attachTCX(p, at, anchor)
		if err == nil {
			return ln, TCX, nil
		}
		if t.want == TCX || !errors.Is(err, ebpf.ErrNotSupported) {
			return nil, HookNone, err
		}
		t.want = Clsact
	}
	c, err := t.conn(at)
	if err != nil {
		return nil, HookNone, err
	}
	if err := t.loader.ensureQdisc(c, at); err != nil {
		return nil, HookNone, err
	}
	if err := c.addFilter(p, at.ifindex, at.Direction, t.prio, t.handle); err != nil {
		return nil, HookNone, fmt.Errorf("attach clsact filter to %s: %w", at.Hop, err)
	}
	return nil, Clsact, nil
}

// detach removes what attach put on at by clsact.
func (t *tcAttacher) detach(at place) error {
	c, err := t.conn(at)
	if err != nil {
		return err
	}
	return c.deleteFilter(at.ifindex, at.Direction, t.prio, t.handle)
}

func (t *tcAttacher) conn(at place) (*clsact, error) {
	if c, ok := t.conns[at.ns]; ok {
		return c, nil
	}
	c, err := openClsact(at.ns)
	if err != nil {
		return nil, err
	}
	if t.conns == nil {
		t.conns = make(map[*os.File]*clsact)
	}
	t.conns[at.ns] = c
	return c, nil
}

// Close closes the connections; attachments stay.
func (t *tcAttacher) Close() error {
	var errs []error
	for _, c := range t.conns {
		errs = append(errs, c.Close())
	}
	return errors.Join(errs...)
}
