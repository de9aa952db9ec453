package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nsbpf/nsbpf/collector"
	"github.com/nsbpf/nsbpf/internal/hop"
	"github.com/nsbpf/nsbpf/loader"
	"github.com/nsbpf/nsbpf/topology"
	"github.com/nsbpf/nsbpf/trace"
	"github.com/nsbpf/nsbpf/trace/filter"
)

// runTrace prints the paths that tr sees until the context ends, the time is over
// or there were enough, and then the totals. It closes tr.
func runTrace(ctx context.Context, e *env, lab *topology.Lab, tr *loader.Trace, run traceRun) error {
	defer tr.Close()
	ring, err := collector.OpenRing(tr.Ring, tr.Sweep)
	if err != nil {
		return err
	}
	defer ring.Close()
	config, err := joinerConfig(lab, tr.Hops, run.identity)
	if err != nil {
		return err
	}

	ctx, stop := context.WithCancel(ctx)
	defer stop()
	if run.duration > 0 {
		ctx, stop = context.WithTimeout(ctx, run.duration)
		defer stop()
	}
	p := newPathPrinter(e, lab, tr.Hops, run, stop)
	joiner, err := trace.NewJoiner(config, p.print)
	if err != nil {
		return err
	}
	drops := dropWatch{loader: loader.Open(lab), joiner: joiner}
	if err := drops.look(); err != nil {
		return err
	}
	e.say("tracing %s at %s, Ctrl-C ends it", lab.Name, plural(len(tr.Hops), "hop"))
	warnTaken(e, tr.Taken)
	cost := watchCost(ctx, tr)
	take := func(batch *collector.Batch, until uint64) error {
		if until != 0 {
			if err := drops.look(); err != nil {
				return err
			}
		}
		joiner.Add(trace.Input{Runs: batch.Runs, Until: until})
		return p.flush()
	}
	err = ring.Read(ctx, take)
	stop()
	spent, costErr := cost()
	if err := errors.Join(err, costErr); err != nil {
		return err
	}
	// The programs went on until they were detached.
	if err := errors.Join(tr.Detach(), ring.Drain(take)); err != nil {
		return err
	}
	joiner.End()
	return p.end(tr, joiner.Totals(), spent)
}

// warnTaken says at which hops another trace stands.
func warnTaken(e *env, hops []hop.Hop) {
	if len(hops) == 0 {
		return
	}
	names := make([]string, len(hops))
	for i, h := range hops {
		names[i] = h.String()
	}
	e.warn("not traced: %s (another trace has the XDP hops of the lab; end that first)", strings.Join(names, ", "))
}

// dropWatch tells a joiner of the lab's filters.
type dropWatch struct {
	loader *loader.Loader
	joiner *trace.Joiner
	known  []loader.Filter
	looked time.Time
}

// look looks for filters that came or went, four times a second at most.
func (w *dropWatch) look() error {
	if time.Since(w.looked) < 250*time.Millisecond {
		return nil
	}
	w.looked = time.Now()
	now, err := w.loader.Filters()
	if err != nil || slices.Equal(now, w.known) {
		return err
	}
	w.known = now
	var filters []trace.Filter
	for _, f := range now {
		x, err := filter.Parse(f.Expr)
		if err != nil {
			return err
		}
		filters = append(filters, trace.Filter{ID: f.ID, Hop: f.Hop.ID, Drops: x.Match})
	}
	w.joiner.SetFilters(filters)
	return nil
}

// watchCost measures what a trace takes until ctx is done; then the returned
// function returns it.
func watchCost(ctx context.Context, tr *loader.Trace) func() (collector.Cost, error) {
	start, cpu := time.Now(), cpuTime()
	type metered struct {
		loader.RunTime
		err error
	}
	done := make(chan metered, 1)
	go func() {
		r, err := tr.Meter(ctx)
		done <- metered{r, err}
	}()
	return func() (collector.Cost, error) {
		m := <-done
		return collector.Cost{
			Runs: m.Runs, RunTime: m.Time, Reader: cpuTime() - cpu, Elapsed: time.Since(start),
		}, m.err
	}
}

// cpuTime returns what this process has used.
func cpuTime() time.Duration {
	var u unix.Rusage
	// It fails only for a bad address.
	_ = unix.Getrusage(unix.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// joinerConfig tells the joiner what is known of the lab.
func joinerConfig(lab *topology.Lab, hops []hop.Hop, id trace.Identity) (trace.Config, error) {
	owners, err := addressOwners(lab)
	return trace.Config{
		Hops:     hops,
		Edges:    lab.Topology.Edges(hops),
		Owners:   owners,
		Identity: id,
	}, err
}

// addressOwners returns the addresses of each node; of the real host also those
// that are not of the lab.
func addressOwners(lab *topology.Lab) (map[string][]netip.Addr, error) {
	owners := make(map[string][]netip.Addr)
	for _, n := range lab.Topology.Nodes {
		owners[n.Name] = lab.Topology.LocalAddrs(n.Name)
		if n.Netns != "" {
			continue
		}
		own, err := net.InterfaceAddrs()
		if err != nil {
			return nil, fmt.Errorf("reading the host's addresses: %w", err)
		}
		for _, a := range own {
			if p, err := netip.ParsePrefix(a.String()); err == nil {
				owners[n.Name] = append(owners[n.Name], p.Addr())
			}
		}
	}
	return owners, nil
}
