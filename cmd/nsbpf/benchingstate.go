package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/cilium/ebpf"

	"github.com/nsbpf/nsbpf/bench"
	"github.com/nsbpf/nsbpf/bench/load"
	"github.com/nsbpf/nsbpf/collector"
	"github.com/nsbpf/nsbpf/internal/hop"
	"github.com/nsbpf/nsbpf/internal/rcu"
	"github.com/nsbpf/nsbpf/loader"
	"github.com/nsbpf/nsbpf/topology"
)

// Words of --vary hook, besides those of --hook.
const (
	hookNothing = "none"
	hookCount   = "count"
	hookTrace   = "trace"
)

// parseHookState returns how hops are counted in a state that is not none.
func parseHookState(word string) (loader.Hooks, error) {
	if slices.Contains([]string{hookNothing, hookCount, hookTrace}, word) {
		return loader.Hooks{}, nil
	}
	h, err := loader.ParseHooks(word)
	if err != nil || word == "" {
		return h, fmt.Errorf("hook %q is none that can be varied (want none, count, trace, tcx, clsact, xdp, xdp-generic)", word)
	}
	return h, nil
}

// hookState switches what is attached to the hops of a lab, and puts it back.
type hookState struct {
	lab     *topology.Lab
	was     string // as Settings have it
	hooks   loader.Hooks
	hops    []hop.Hop // that are counted now
	counter *ebpf.Map // nil while nothing counts
	now     string
	untrace func() error
}

// openHookState looks at what a lab has.
func openHookState(lab *topology.Lab) (*hookState, error) {
	s := &hookState{lab: lab, was: hookNothing}
	as, err := loader.Open(lab).Attachments()
	if err != nil {
		return nil, err
	}
	for _, a := range as {
		s.was = hookCount
		switch a.Hop.Layer {
		case hop.XDP:
			s.hooks.XDP = a.Hook
		default:
			s.hooks.TC = a.Hook
		}
	}
	s.now = s.was
	return s, s.openCounts()
}

// openCounts opens the counters of what is attached.
func (s *hookState) openCounts() error {
	s.hops = nil
	if s.counter != nil {
		s.counter.Close()
		s.counter = nil
	}
	if s.now == hookNothing {
		return nil
	}
	as, err := loader.Open(s.lab).Attachments()
	if err != nil {
		return err
	}
	for _, a := range as {
		s.hops = append(s.hops, a.Hop)
	}
	s.counter, err = loader.Open(s.lab).Counts()
	return err
}

// counts returns the segments that came to each hop so far, nil if none is counted.
func (s *hookState) counts() map[string]uint64 {
	if s.counter == nil {
		return nil
	}
	snapshot, err := collector.ReadSnapshot(s.counter, s.hops)
	if err != nil {
		return nil
	}
	all := make(map[string]uint64)
	for i := range snapshot.Hops {
		all[snapshot.Hops[i].Hop.String()] = snapshot.Hops[i].Arrived().Segments
	}
	return all
}

// mayChange refuses a lab whose programs are not only counters.
func (s *hookState) mayChange() error {
	filters, err := loader.Open(s.lab).Filters()
	if err == nil && len(filters) > 0 {
		err = fmt.Errorf("lab %q has filters, which --vary hook would remove (remove them by nsbpf filter rm, or vary something else)", s.lab.Name)
	}
	return err
}

// enter brings about a state; "" is the one that the lab was in.
func (s *hookState) enter(ctx context.Context, want string) error {
	if want == "" {
		want = s.was
	}
	if want == s.now {
		return nil
	}
	defer rcu.Expedite()()
	if err := s.leave(); err != nil || want == hookNothing {
		return err
	}
	hooks, err := parseHookState(want)
	if err != nil {
		return err
	}
	if want == hookCount || want == hookTrace {
		hooks = s.hooks
	}
	if _, err := loader.Open(s.lab).AttachCount(ctx, hooks); err != nil {
		return err
	}
	s.now = want
	if want == hookTrace {
		if s.untrace, err = runTracer([]string{"trace", s.lab.Name, "--quiet"}); err != nil {
			return err
		}
	}
	return s.openCounts()
}

// leave detaches all.
func (s *hookState) leave() error {
	var err error
	if s.untrace != nil {
		err = s.untrace()
		s.untrace = nil
	}
	if s.now != hookNothing {
		err = errors.Join(err, loader.Clean(s.lab.Dir))
	}
	s.now = hookNothing
	return errors.Join(err, s.openCounts())
}

// restore brings back what the lab had.
func (s *hookState) restore() error {
	err := s.enter(context.Background(), s.was)
	if s.counter != nil {
		err = errors.Join(err, s.counter.Close())
		s.counter = nil
	}
	return err
}

// leastMTU is what IPv6 needs: below it the kernel takes its addresses away.
const (
	leastMTU = 1280
	mostMTU  = 65535
)

func parseMTU(word string) (int, error) {
	mtu, err := strconv.Atoi(word)
	if err != nil || mtu < leastMTU || mtu > mostMTU {
		return 0, fmt.Errorf("%q is no MTU that can be varied (want %d to %d)", word, leastMTU, mostMTU)
	}
	return mtu, nil
}

// mtuState sets the MTU of veth ends, and puts it back.
type mtuState struct {
	places []load.Place
	was    map[int]int // of places that were changed, by their index
}

// enter sets the MTU of all; "" leaves it.
func (s *mtuState) enter(want string) error {
	if want == "" {
		return nil
	}
	mtu, err := parseMTU(want)
	if err != nil {
		return err
	}
	if s.was == nil {
		s.was = make(map[int]int)
	}
	for i, p := range s.places {
		was, err := bench.SetMTU(p, mtu)
		if err != nil {
			return err
		}
		if _, changed := s.was[i]; !changed {
			s.was[i] = was
		}
	}
	return nil
}

// restore sets what they had.
func (s *mtuState) restore() error {
	var errs []error
	for i, was := range s.was {
		_, err := bench.SetMTU(s.places[i], was)
		errs = append(errs, err)
	}
	s.was = nil
	return errors.Join(errs...)
}
