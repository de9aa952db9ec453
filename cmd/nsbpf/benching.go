package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/nsbpf/nsbpf/bench"
	"github.com/nsbpf/nsbpf/bench/load"
	"github.com/nsbpf/nsbpf/bench/result"
)

// benching is a lab whose path is measured.
type benching struct {
	way   way
	route *route
	hooks *hookState
	mtus  *mtuState
	spec  load.Spec // of the first variant
}

// openBenching finds the paths of the variants, and what they change in the lab.
func openBenching(w way, variants []variant) (b *benching, err error) {
	b = &benching{way: w}
	if b.route, err = openRoute(w, variants[0].spec); err != nil {
		return nil, err
	}
	if b.hooks, err = openHookState(w.lab); err != nil {
		return nil, errors.Join(err, b.route.close())
	}
	b.mtus = &mtuState{places: b.route.ends(w.lab.Topology)}
	for i := range variants {
		v := &variants[i]
		b.route.enter(&v.spec)
		v.spec, err = v.spec.Check()
		if err == nil && v.values["hook"] != "" {
			err = b.hooks.mayChange()
		}
		if err != nil {
			return nil, errors.Join(usage(err), b.close())
		}
	}
	b.spec = variants[0].spec
	return b, nil
}

// close puts the lab back as it was.
func (b *benching) close() error {
	return errors.Join(b.mtus.restore(), b.hooks.restore(), b.route.close())
}

// again is the name of the case that measures the first variant a second time.
const again = "again"

// cases returns what is measured in turn: the variants, the first of them again, and
// the floor of the machine where a variant has one.
func (b *benching) cases(variants []variant) ([]bench.Case, error) {
	var all []bench.Case
	for _, v := range variants {
		all = append(all, b.caseOf(v))
	}
	a := b.caseOf(variants[0])
	a.Name = again
	all = append(all, a)
	for _, v := range variants {
		if v.spec.Mode == load.PPS && len(v.spec.Via) == 0 {
			return append(all, floorOf(v.spec)), nil
		}
	}
	return all, nil
}

func (b *benching) caseOf(v variant) bench.Case {
	c := bench.Case{Name: v.name, Settings: bench.SettingsOf(v.spec), Load: v.spec}
	c.Settings["hook"] = b.hooks.was
	for key, value := range v.values {
		c.Settings[key] = value
	}
	c.Enter = func(ctx context.Context) error {
		if err := b.mtus.enter(v.values["mtu"]); err != nil {
			return err
		}
		return b.hooks.enter(ctx, v.values["hook"])
	}
	c.Measure = func(ctx context.Context) (r bench.Round, err error) {
		before := b.hooks.counts()
		o, err := load.Run(ctx, v.spec)
		if err != nil {
			return r, err
		}
		r.Outcome, r.Seen = &o, b.route.seen(before, b.hooks.counts())
		r.Figures, err = bench.FiguresOf(v.spec, o)
		return r, err
	}
	return c
}

// floorOf measures what the kernel takes for a frame with which nothing is done.
func floorOf(s load.Spec) bench.Case {
	return bench.Case{
		Name: "floor", Reference: true, Settings: map[string]string{"mode": "floor"},
		Measure: func(ctx context.Context) (r bench.Round, err error) {
			per, err := load.Floor(ctx, s)
			r.Figures = []bench.Figure{{Name: "cpu", Unit: "ns/packet", Better: result.Lower, Value: float64(per)}}
			return r, err
		},
	}
}

// measure runs the cases in turn and returns the document of them; nil if not even one
// round was ended. An error comes with what was measured before it.
func (b *benching) measure(ctx context.Context, e *env, f *benchFlags, cases []bench.Case) (*result.Document, error) {
	version, _ := buildVersion()
	watch, err := bench.Observe(version, b.route.places)
	if err != nil {
		return nil, err
	}
	began := time.Now()
	s := bench.Schedule{Rounds: f.rounds, Until: float64(f.until)}
	if e.progress {
		s.Progress = func(done, of int, what string) {
			fmt.Fprintf(e.stderr, "\r\033[K%d of %d: %s", done+1, of, what)
		}
		defer fmt.Fprint(e.stderr, "\r\033[K")
	}
	rounds, err := bench.Turns(ctx, s, cases)
	if len(rounds[0]) == 0 {
		return nil, err
	}
	d := &result.Document{
		Schema: result.Schema, Version: version, TimeNS: began.UnixNano(), Args: os.Args[1:],
		Lab: b.way.lab.Name, From: b.way.from, To: b.way.to, Path: b.route.hops(),
		Environment: watch.Environment(rounds[0][0].Outcome),
		Rounds:      len(rounds[0]), Duration: f.duration, Interrupted: err != nil,
		Notes: b.route.notes,
	}
	if f.until > 0 && err == nil {
		d.Notes = append(d.Notes, bench.Wide(cases, rounds, float64(f.until))...)
	}
	bench.Fill(d, cases, rounds, again)
	if f.search && err == nil {
		err = search(ctx, d, cases, rounds)
		d.Interrupted = err != nil
	}
	return d, err
}
