package loader

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"

	"github.com/nsbpf/nsbpf/bpf"
	"github.com/nsbpf/nsbpf/internal/hop"
)

// standins are a trace at the tc hops where it can stand in the place of the count
// program: a second program on a hop costs a packet more than tracing it adds.
// The trace program counts, and so does the gate that leads to it when the trace
// was killed, until the next trace.
//
// A filter that is added meanwhile comes before the gate, as it does before the
// count program, so the trace does not see at this hop what it drops.
type standins struct {
	loader *Loader
	counts *ebpf.Map // the lab's; nil: there are no hops
	stands []standin
}

type standin struct {
	hop.Hop
	body *ebpf.Program // the count program
}

// open opens the lab's counters, if it has any, and ends what a killed trace left
// at ps. The turn is the caller's: the gates of a trace that lives look the same.
func (s *standins) open(ps *places) (err error) {
	s.counts, err = ebpf.LoadPinnedMap(s.loader.pin(bpf.MapCounts), nil)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("opening the counters of lab %q: %w", s.loader.lab.Name, err)
	}
	return s.revive(ps.of(hop.TC))
}

// revive gives places their count programs back that a killed trace's gates have.
func (s *standins) revive(ps *places) error {
	dead := &places{}
	for _, at := range ps.all {
		gated, err := s.isGated(at.Hop)
		if err != nil {
			return err
		}
		if gated {
			dead.all = append(dead.all, at)
		}
	}
	if len(dead.all) == 0 {
		return nil
	}
	coll, err := loadCount(bpf.ProgCountTC, dead, s.counts)
	if err != nil {
		return err
	}
	defer coll.Close()
	for _, at := range dead.all {
		ln, err := link.LoadPinnedLink(s.loader.pin(countPin(at.ID)), nil)
		if err != nil {
			return err
		}
		err = update(ln, coll.Programs[bpf.CopyName(bpf.ProgCountTC, at.ID)])
		if err := errors.Join(err, ln.Close()); err != nil {
			return fmt.Errorf("give %s its count program back: %w", at.Hop, err)
		}
	}
	return nil
}

func (s *standins) isGated(h hop.Hop) (bool, error) {
	ln, p, err := s.loader.openPinned(countPin(h.ID))
	if errors.Is(err, fs.ErrNotExist) { // counted by clsact
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer ln.Close()
	defer p.Close()
	return isNamed(p, bpf.ProgGateTC)
}

// choose finds the places of ps where the trace can stand in: the lab's count
// program is the first tcx program there is, so that nothing comes before the
// trace.
func (s *standins) choose(ps *places) error {
	if s.counts == nil {
		return nil
	}
	byID := ps.byID()
	return ps.of(hop.TC).each(func(at place) (err error) {
		if byID[at.ID].standin, err = s.loader.isCountFirst(at); err != nil {
			return fmt.Errorf("looking for the programs at %s: %w", at.Hop, err)
		}
		return nil
	})
}

// isCountFirst is for a caller in at's namespace.
func (l *Loader) isCountFirst(at place) (bool, error) {
	ln, err := link.LoadPinnedLink(l.pin(countPin(at.ID)), nil)
	if errors.Is(err, fs.ErrNotExist) { // counted by clsact
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer ln.Close()
	count, err := ln.Info()
	if err != nil {
		return false, err
	}
	found, err := link.QueryPrograms(link.QueryOptions{Target: at.ifindex, Attach: tcxSide(at)})
	if err != nil {
		return false, err
	}
	return len(found.Programs) > 0 && found.Programs[0].ID == count.Program, nil
}

// attach puts the gates of coll in the places of the count programs of ps.
func (s *standins) attach(ctx context.Context, ps *places, coll *ebpf.Collection) error {
	for _, at := range ps.all {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := s.attachAt(at.Hop, coll); err != nil {
			return fmt.Errorf("attach the trace to %s: %w", at.Hop, err)
		}
	}
	return nil
}

// attachAt goes from the inside out, as [gates.attachAt].
func (s *standins) attachAt(h hop.Hop, coll *ebpf.Collection) error {
	ln, body, err := s.loader.openPinned(countPin(h.ID))
	if err != nil {
		return err
	}
	defer ln.Close()
	s.stands = append(s.stands, standin{h, body})
	tap := coll.Programs[bpf.CopyName(bpf.ProgTraceTC, h.ID)]
	if err := coll.Maps[bpf.MapTCTaps].Put(uint32(h.ID), tap); err != nil {
		return err
	}
	return ln.Update(coll.Programs[bpf.CopyName(bpf.ProgGateTC, h.ID)])
}

// detach gives the hops their programs back. The caller has the lab's lock.
func (s *standins) detach(coll *ebpf.Collection) error {
	var errs []error
	for _, st := range s.stands {
		if err := s.detachFrom(st, coll); err != nil {
			errs = append(errs, fmt.Errorf("detach the trace from %s: %w", st.Hop, err))
		}
	}
	return errors.Join(errs...)
}

func (s *standins) detachFrom(st standin, coll *ebpf.Collection) error {
	ln, err := s.loader.openOwn(countPin(st.ID), coll.Programs[bpf.CopyName(bpf.ProgGateTC, st.ID)])
	if err != nil || ln == nil {
		return err
	}
	defer ln.Close()
	return update(ln, st.body)
}

// Close forgets the hops. What is attached stays.
func (s *standins) Close() error {
	var errs []error
	for _, st := range s.stands {
		errs = append(errs, st.body.Close())
	}
	if s.counts != nil {
		errs = append(errs, s.counts.Close())
	}
	s.stands, s.counts = nil, nil
	return errors.Join(errs...)
}
