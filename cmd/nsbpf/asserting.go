package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/nsbpf/nsbpf/assert"
	"github.com/nsbpf/nsbpf/forward"
	"github.com/nsbpf/nsbpf/loader"
	"github.com/nsbpf/nsbpf/ping"
	"github.com/nsbpf/nsbpf/report"
	"github.com/nsbpf/nsbpf/topology"
	"github.com/nsbpf/nsbpf/trace"
	"github.com/nsbpf/nsbpf/trace/why"
)

// asker asks what is asserted of a lab: it sends packets while one trace sees those
// of all assertions.
type asker struct {
	env     *env
	lab     *topology.Lab
	timeout time.Duration // of answers
	live    *live

	mutex sync.Mutex
	tries []*try // at present
	done  int    // assertions
}

// try is one time that an assertion is asked.
type try struct {
	*asker
	prober *ping.Prober
	within bool // what is sent stays in its node
	paths  probePaths
	probes []report.Probe
	news   chan struct{} // gets a word when a path came
}

const (
	// atOnce is how many assertions are asked at a time.
	atOnce = 16
	// pause is the time from one try of an assertion to the next.
	pause = 100 * time.Millisecond
	// shortest is how long an answer is waited for at least.
	shortest = 50 * time.Millisecond
)

// openAsker begins the trace.
func openAsker(ctx context.Context, e *env, lab *topology.Lab, s *assert.Suite, timeout time.Duration, explain bool) (*asker, error) {
	k := &asker{env: e, lab: lab, timeout: timeout}
	run, err := tracedProbes(suiteExpr(s), explain, false)
	if err != nil {
		return nil, err
	}
	tr, err := loader.Open(lab).Trace(ctx, run.attach)
	if err != nil {
		return nil, err
	}
	if k.live, err = openLive(e, lab, tr, run, k.see); err != nil {
		return nil, err
	}
	warnTaken(e, tr.Taken)
	return k, nil
}

// suiteExpr returns the expression of all packets of s and their answers.
func suiteExpr(s *assert.Suite) string {
	var all []string
	for i := range s.Assertions {
		x := probeExpr(s.Assertions[i].Options(0))
		if !slices.Contains(all, x) {
			all = append(all, x)
		}
	}
	return strings.Join(all, " or ")
}

// run returns the results in the order of s.
func (k *asker) run(ctx context.Context, s *assert.Suite) ([]assert.Result, error) {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	seen, enough := context.WithCancel(context.WithoutCancel(ctx))
	defer enough()
	results := make([]assert.Result, len(s.Assertions))
	var g errgroup.Group
	g.Go(func() error {
		defer enough()
		return k.askAll(ctx, s, results)
	})
	end, err := k.live.follow(seen)
	gone := err == nil && seen.Err() == nil // nobody ended it
	stop()
	err = errors.Join(err, g.Wait())
	switch {
	case gone:
		return nil, fmt.Errorf("asking what is asserted of lab %q: it was taken down meanwhile", k.lab.Name)
	case err != nil:
		return nil, err
	}
	if n := end.Ledgers.Total.Lost; n > 0 {
		k.env.warn("%s were lost: the paths of some packets may not be known", plural(int(n), "event"))
	}
	return results, nil
}

// askAll asks those that measure one by one, behind the others.
func (k *asker) askAll(ctx context.Context, s *assert.Suite, results []assert.Result) error {
	for _, measures := range []bool{false, true} {
		g, ctx := errgroup.WithContext(ctx)
		g.SetLimit(atOnce)
		if measures {
			g.SetLimit(1)
		}
		for i := range s.Assertions {
			if a := &s.Assertions[i]; a.Measures() == measures {
				g.Go(func() (err error) {
					results[i], err = k.ask(ctx, a)
					k.progress(len(results))
					return err
				})
			}
		}
		if err := g.Wait(); err != nil {
			return err
		}
	}
	return nil
}

// progress says how many assertions were asked.
func (k *asker) progress(of int) {
	k.mutex.Lock()
	defer k.mutex.Unlock()
	k.done++
	if k.env.progress {
		fmt.Fprintf(k.env.stderr, "\r\033[K%d of %d", k.done, of)
		if k.done == of {
			fmt.Fprint(k.env.stderr, "\r\033[K")
		}
	}
}

// ask asks a until it holds, or its time is over.
func (k *asker) ask(ctx context.Context, a *assert.Assertion) (assert.Result, error) {
	start := time.Now()
	for tries := 1; ; tries++ {
		timeout := k.timeout
		if left := a.Within - time.Since(start); a.Within > 0 {
			timeout = min(timeout, max(left, shortest))
		}
		o, err := k.try(ctx, a, timeout)
		if err != nil {
			return assert.Result{}, fmt.Errorf("%s: %w", a.Name, err)
		}
		r := assert.Judge(a, o, k.live.start.Hops)
		r.Tries, r.Took = tries, time.Since(start)
		if r.Holds() || r.Took+pause >= a.Within {
			return r, nil
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return r, ctx.Err()
		}
	}
}

// try sends a's packets once.
func (k *asker) try(ctx context.Context, a *assert.Assertion, timeout time.Duration) (o assert.Outcome, err error) {
	ns, err := k.lab.Netns(a.From)
	if err != nil {
		return o, err
	}
	defer func() { err = errors.Join(err, ns.Close()) }()
	options := a.Options(timeout)
	prober, err := ping.Open(ns, options)
	if noWay(err) {
		return assert.Outcome{Unsent: k.obstacle(a, options, err)}, nil
	} else if err != nil {
		return o, err
	}
	defer func() { err = errors.Join(err, prober.Close()) }()
	t := &try{
		asker: k, prober: prober, paths: newProbePaths(a.From, k.live.start.Hops), news: make(chan struct{}, 1),
		within: slices.Contains(k.lab.Topology.LocalAddrs(a.From), a.Dst),
	}
	k.mutex.Lock()
	k.tries = append(k.tries, t)
	k.mutex.Unlock()
	defer t.end()
	if _, err := prober.Run(ctx, t.concluded); err != nil {
		return o, err
	}
	return t.outcome(ctx, a)
}

// noWay says whether err is the kernel's word that there is no way to the
// destination.
func noWay(err error) bool {
	for _, no := range []unix.Errno{unix.ENETUNREACH, unix.EHOSTUNREACH, unix.EACCES, unix.EPERM, unix.EINVAL, unix.EADDRNOTAVAIL} {
		if errors.Is(err, no) {
			return true
		}
	}
	return false
}

// obstacle says why nothing can be sent.
func (k *asker) obstacle(a *assert.Assertion, o ping.Options, err error) string {
	net, readErr := forward.ReadNet(k.lab)
	if readErr != nil {
		return err.Error()
	}
	return err.Error() + firstObstacle(forward.Walk(net, a.From, packetOf(o)))
}

func (t *try) concluded(p ping.Probe) {
	t.mutex.Lock()
	defer t.mutex.Unlock()
	t.probes = append(t.probes, report.Probe{Probe: p})
}

func (t *try) end() {
	t.mutex.Lock()
	defer t.mutex.Unlock()
	t.tries = slices.DeleteFunc(t.tries, func(other *try) bool { return other == t })
}

// outcome waits for the paths that it takes to judge a, and returns what became of
// its packets.
func (t *try) outcome(ctx context.Context, a *assert.Assertion) (assert.Outcome, error) {
	late := time.After(afterwards)
	for {
		o, whole := t.found()
		if whole {
			return o, nil
		}
		if !a.Follows() {
			if r := assert.Judge(a, o, t.live.start.Hops); r.Holds() {
				return o, nil
			}
		}
		select {
		case <-t.news:
		case <-late:
			return o, nil
		case <-ctx.Done():
			return o, ctx.Err()
		}
	}
}

// found returns what is known of the packets, and whether nothing is missing.
func (t *try) found() (o assert.Outcome, whole bool) {
	t.mutex.Lock()
	defer t.mutex.Unlock()
	whole = true
	for i := range t.probes {
		p := &t.probes[i]
		whole = t.paths.find(p, t.within) && whole
		said := ""
		if p.Answer != nil {
			said = report.AnswerName(p.Key.Dst, p.Answer)
		}
		o.Probes = append(o.Probes, assert.Probe{
			Probe: p.Probe, Forward: p.Forward, Back: p.Back, ForwardWhy: p.ForwardWhy, BackWhy: p.BackWhy, Said: said,
		})
	}
	return o, whole
}

// see takes a path that the trace saw.
func (k *asker) see(path *trace.Path) error {
	k.mutex.Lock()
	defer k.mutex.Unlock()
	explain := sync.OnceValues(func() (*why.Conclusion, error) { return k.live.why(path) })
	for _, t := range k.tries {
		its, err := t.paths.add(path, func(*trace.Path) (*why.Conclusion, error) { return explain() })
		if err != nil {
			return err
		}
		if !its {
			continue
		}
		if key, ok := ping.KeyOf(path); ok && path.Lost() {
			t.prober.GiveUp(key)
		}
		select {
		case t.news <- struct{}{}:
		default:
		}
	}
	return nil
}
