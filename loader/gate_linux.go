package loader

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/nsbpf/nsbpf/bpf"
	"github.com/nsbpf/nsbpf/internal/hop"
)

// bodiesPin is the pin of [bpf.MapBodies]. Pins are removed by name, so it comes
// after the links': a gate without bodies would let everything pass.
const bodiesPin = "xdp-bodies"

// gates are a trace at the XDP hops of a lab. XDP has room for one program, so a
// gate stands in the place of a hop's own. That is then in the bodies, where a
// filter is added and removed as long as there is a gate; see bpf/tap.h.
//
// Of a trace that is killed the gates are left, which then go straight to the
// bodies: two tail calls a packet, until the next trace takes them over.
type gates struct {
	loader *Loader
	hops   []gatedHop
	turn   *os.File  // locked by the one trace that may have gates
	mine   bool      // that is this one
	bodies *ebpf.Map // nil if there are no hops
}

// gatedHop is an XDP hop that has a program.
type gatedHop struct {
	hop.Hop
	pin string // of its link
}

// openGates returns what is needed to trace the XDP hops that have programs. If
// another trace has them, they are returned as taken.
func (l *Loader) openGates() (g *gates, taken []hop.Hop, err error) {
	g = &gates{loader: l}
	if _, err := os.Stat(l.dir); errors.Is(err, fs.ErrNotExist) {
		return g, nil, nil
	}
	hops, err := l.xdpHops()
	if err != nil {
		return nil, nil, err
	}
	g.mine, err = g.takeTurn()
	if err == nil && g.mine && len(hops) > 0 {
		g.hops = hops
		g.bodies, err = l.makeBodies()
	}
	if err != nil {
		return nil, nil, errors.Join(err, g.Close())
	}
	for _, h := range hops {
		if !g.mine {
			taken = append(taken, h.Hop)
		}
	}
	return g, taken, nil
}

// takeTurn locks the bpffs itself, which needs no file, and lasts no longer than
// the process.
func (g *gates) takeTurn() (mine bool, err error) {
	if g.turn, err = os.Open(g.loader.dir); err != nil {
		return false, err
	}
	err = unix.Flock(int(g.turn.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("lock %s: %w", g.loader.dir, err)
	}
	return true, nil
}

// xdpHops returns the hops where the lab has an XDP program, by ID.
func (l *Loader) xdpHops() ([]gatedHop, error) {
	as, err := l.Attachments()
	if err != nil {
		return nil, err
	}
	filters, err := l.Filters()
	if err != nil {
		return nil, err
	}
	counted, err := l.countAttachments()
	if err != nil {
		return nil, err
	}
	pins := make(map[hop.ID]string)
	for _, f := range filters {
		pins[f.Hop.ID] = filterPin(f.ID)
	}
	for _, a := range counted {
		pins[a.Hop.ID] = countPin(a.Hop.ID)
	}
	var hops []gatedHop
	for _, a := range as {
		h := gatedHop{a.Hop, pins[a.Hop.ID]}
		if h.Layer != hop.XDP {
			continue
		}
		_, err := os.Stat(l.pin(h.pin))
		if err == nil {
			hops = append(hops, h)
		} else if !errors.Is(err, fs.ErrNotExist) { // else adding the filter was killed
			return nil, err
		}
	}
	return hops, nil
}

// makeBodies opens the lab's bodies, and makes them if there are none.
func (l *Loader) makeBodies() (*ebpf.Map, error) {
	m, err := ebpf.LoadPinnedMap(l.pin(bodiesPin), nil)
	if !errors.Is(err, fs.ErrNotExist) {
		return m, err
	}
	spec, err := bpf.TraceSpec()
	if err != nil {
		return nil, err
	}
	ms := spec.Maps[bpf.MapBodies]
	ms.MaxEntries = uint32(len(l.lab.Topology.Hops(true)))
	if m, err = ebpf.NewMap(ms); err != nil {
		return nil, fmt.Errorf("making %s: %w", bodiesPin, err)
	}
	if err := m.Pin(l.pin(bodiesPin)); err != nil {
		return nil, errors.Join(fmt.Errorf("pinning %s: %w", bodiesPin, err), m.Close())
	}
	return m, nil
}

// attach puts the gates and taps of coll in the places of the hops' programs.
func (g *gates) attach(ctx context.Context, coll *ebpf.Collection) error {
	for _, h := range g.hops {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := g.attachAt(h, coll); err != nil {
			return fmt.Errorf("attach the trace to %s: %w", h.Hop, err)
		}
	}
	return nil
}

// attachAt goes from the inside out, so that a packet always finds the body.
func (g *gates) attachAt(h gatedHop, coll *ebpf.Collection) error {
	ln, p, err := g.loader.openXDP(h)
	if err != nil {
		return err
	}
	defer ln.Close()
	defer p.Close()
	gated, err := isGate(p)
	if err == nil && !gated {
		err = g.bodies.Put(uint32(h.ID), p)
	}
	if err != nil {
		return err
	}
	tap := coll.Programs[bpf.CopyName(bpf.ProgTraceXDP, h.ID)]
	if err := coll.Maps[bpf.MapTaps].Put(uint32(h.ID), tap); err != nil {
		return err
	}
	return ln.Update(coll.Programs[bpf.CopyName(bpf.ProgGateXDP, h.ID)])
}

// openXDP returns the link at a hop and the program that is attached by it.
func (l *Loader) openXDP(h gatedHop) (link.Link, *ebpf.Program, error) {
	ln, err := link.LoadPinnedLink(l.pin(h.pin), nil)
	if err != nil {
		return nil, nil, err
	}
	p, err := programOf(ln)
	if err != nil {
		return nil, nil, errors.Join(err, ln.Close())
	}
	return ln, p, nil
}

func programOf(ln link.Link) (*ebpf.Program, error) {
	info, err := ln.Info()
	if err != nil {
		return nil, err
	}
	return ebpf.NewProgramFromID(info.Program)
}

func isGate(p *ebpf.Program) (bool, error) {
	info, err := p.Info()
	if err != nil {
		return false, err
	}
	return info.Name == bpf.ProgGateXDP, nil
}

// replaceXDP makes p the program of an XDP hop, behind the gate if there is one.
func (l *Loader) replaceXDP(ln link.Link, id hop.ID, p *ebpf.Program) error {
	old, err := programOf(ln)
	if err != nil {
		return err
	}
	defer old.Close()
	gated, err := isGate(old)
	if err != nil {
		return err
	}
	if !gated {
		return ln.Update(p)
	}
	bodies, err := ebpf.LoadPinnedMap(l.pin(bodiesPin), nil)
	if err != nil {
		return err
	}
	defer bodies.Close()
	return bodies.Put(uint32(id), p)
}

// detach gives the hops their programs back. The caller has the lab's lock.
func (g *gates) detach(coll *ebpf.Collection) error {
	var errs []error
	for _, h := range g.hops {
		if err := g.detachFrom(h, coll); err != nil {
			errs = append(errs, fmt.Errorf("detach the trace from %s: %w", h.Hop, err))
		}
	}
	g.hops = nil
	return errors.Join(errs...)
}

// detachFrom leaves alone what is not there any more, and what is not the trace's:
// the lab's programs may have been removed and made anew.
func (g *gates) detachFrom(h gatedHop, coll *ebpf.Collection) error {
	ln, p, err := g.loader.openXDP(h)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer ln.Close()
	defer p.Close()
	own, err := isSame(p, coll.Programs[bpf.CopyName(bpf.ProgGateXDP, h.ID)])
	if err != nil || !own {
		return err
	}
	var id ebpf.ProgramID
	if err := g.bodies.Lookup(uint32(h.ID), &id); err != nil {
		return err
	}
	body, err := ebpf.NewProgramFromID(id)
	if err != nil {
		return err
	}
	defer body.Close()
	if err := ln.Update(body); !errors.Is(err, unix.ENOLINK) { // the device is gone
		return err
	}
	return nil
}

func isSame(a, b *ebpf.Program) (bool, error) {
	infoA, errA := a.Info()
	infoB, errB := b.Info()
	if err := errors.Join(errA, errB); err != nil {
		return false, err
	}
	idA, okA := infoA.ID()
	idB, okB := infoB.ID()
	return okA && okB && idA == idB, nil
}

// Close gives the turn to the next trace. What is attached stays.
func (g *gates) Close() error {
	var errs []error
	if g.bodies != nil {
		errs = append(errs, g.bodies.Close())
	}
	if g.turn != nil {
		errs = append(errs, g.turn.Close())
	}
	g.bodies, g.turn = nil, nil
	return errors.Join(errs...)
}
