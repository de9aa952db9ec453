package loader

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/nsbpf/nsbpf/bpf"
	"github.com/nsbpf/nsbpf/internal/hop"
)

// standins are a trace at the tc hops where it can stand in the place of the count
// program: a second program on a hop costs a packet more than tracing it adds.
// The trace program counts, and so does the gate that leads to it when the trace
// was killed, until the next trace.
type standins struct {
	loader *Loader
	counts *ebpf.Map // the lab's
	stands []standin
}

type standin struct {
	hop.Hop
	body *ebpf.Program // the count program
}

// openStandins returns what is needed to stand in the places of count programs. If
// the turn is another trace's, or a hook is asked for, there are none.
func (l *Loader) openStandins(turn *gates, want Hook) (s *standins, err error) {
	s = &standins{loader: l}
	if !turn.mine || want != HookNone {
		return s, nil
	}
	s.counts, err = ebpf.LoadPinnedMap(l.pin(bpf.MapCounts), nil)
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	return s, err
}

// attach puts the gate of coll in the place of at's count program.
func (s *standins) attach(at place, coll *ebpf.Collection) error {
	ln, p, err := s.loader.openCount(at.ID)
	if err != nil {
		return err
	}
	defer ln.Close()
	if p, err = s.body(at, p); err != nil {
		return err
	}
	s.stands = append(s.stands, standin{at.Hop, p})
	if err := coll.Maps[bpf.MapTCTaps].Put(uint32(at.ID), coll.Programs[bpf.CopyName(bpf.ProgTraceTC, at.ID)]); err != nil {
		return err
	}
	return ln.Update(coll.Programs[bpf.CopyName(bpf.ProgGateTC, at.ID)])
}

// body returns the program that counts at a hop: p, unless that is the gate of a
// trace that was killed. It is the caller's, and p is not any more.
func (s *standins) body(at place, p *ebpf.Program) (*ebpf.Program, error) {
	info, err := p.Info()
	if err != nil || info.Name != bpf.ProgGateTC {
		return p, err
	}
	defer p.Close()
	coll, err := loadCount(bpf.ProgCountTC, &places{all: []place{at}}, s.counts)
	if err != nil {
		return nil, err
	}
	defer coll.Close()
	return coll.Programs[bpf.CopyName(bpf.ProgCountTC, at.ID)].Clone()
}

// openCount returns the link of a hop's count program and what is attached by it.
func (l *Loader) openCount(id hop.ID) (link.Link, *ebpf.Program, error) {
	ln, err := link.LoadPinnedLink(l.pin(countPin(id)), nil)
	if err != nil {
		return nil, nil, err
	}
	p, err := programOf(ln)
	if err != nil {
		return nil, nil, errors.Join(err, ln.Close())
	}
	return ln, p, nil
}

// detach gives the hops their programs back. The caller has the lab's lock.
func (s *standins) detach(coll *ebpf.Collection) error {
	var errs []error
	for _, st := range s.stands {
		if err := s.detachFrom(st, coll); err != nil {
			errs = append(errs, fmt.Errorf("detach the trace from %s: %w", st.Hop, err))
		}
		errs = append(errs, st.body.Close())
	}
	s.stands = nil
	return errors.Join(errs...)
}

// detachFrom leaves alone what is not there any more, and what is not the trace's:
// the lab's programs may have been removed and made anew.
func (s *standins) detachFrom(st standin, coll *ebpf.Collection) error {
	ln, p, err := s.loader.openCount(st.ID)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer ln.Close()
	defer p.Close()
	own, err := isSame(p, coll.Programs[bpf.CopyName(bpf.ProgGateTC, st.ID)])
	if err != nil || !own {
		return err
	}
	if err := ln.Update(st.body); !errors.Is(err, unix.ENOLINK) { // the device is gone
		return err
	}
	return nil
}

// Close frees the counters' descriptor. What is attached stays.
func (s *standins) Close() error {
	var err error
	if s.counts != nil {
		err = s.counts.Close()
	}
	s.counts = nil
	return err
}
