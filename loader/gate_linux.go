package loader

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"

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
	bodies *ebpf.Map // nil if there are no hops
}

// gatedHop is an XDP hop that has a program.
type gatedHop struct {
	hop.Hop
	pin string // of its link
}

// open finds the XDP hops that have programs. If the turn is not the caller's,
// they are returned as taken.
func (g *gates) open(turn *turn) (taken []hop.Hop, err error) {
	if !turn.exists() {
		return nil, nil
	}
	hops, err := g.loader.xdpHops()
	if err != nil || len(hops) == 0 {
		return nil, err
	}
	if !turn.mine() {
		for _, h := range hops {
			taken = append(taken, h.Hop)
		}
		return taken, nil
	}
	g.hops = hops
	g.bodies, err = g.loader.makeBodies()
	return nil, err
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
	ln, p, err := g.loader.openPinned(h.pin)
	if err != nil {
		return err
	}
	defer ln.Close()
	defer p.Close()
	gated, err := isNamed(p, bpf.ProgGateXDP)
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

// replaceXDP makes p the program of an XDP hop, behind the gate if there is one.
func (l *Loader) replaceXDP(ln link.Link, id hop.ID, p *ebpf.Program) error {
	old, err := programOf(ln)
	if err != nil {
		return err
	}
	defer old.Close()
	gated, err := isNamed(old, bpf.ProgGateXDP)
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
	return errors.Join(errs...)
}

func (g *gates) detachFrom(h gatedHop, coll *ebpf.Collection) error {
	ln, err := g.loader.openOwn(h.pin, coll.Programs[bpf.CopyName(bpf.ProgGateXDP, h.ID)])
	if err != nil || ln == nil {
		return err
	}
	defer ln.Close()
	var id ebpf.ProgramID
	if err := g.bodies.Lookup(uint32(h.ID), &id); err != nil {
		return err
	}
	body, err := ebpf.NewProgramFromID(id)
	if err != nil {
		return err
	}
	defer body.Close()
	return update(ln, body)
}

// Close forgets the hops. What is attached stays.
func (g *gates) Close() error {
	g.hops = nil
	if g.bodies == nil {
		return nil
	}
	err := g.bodies.Close()
	g.bodies = nil
	return err
}
