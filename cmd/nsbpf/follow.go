package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nsbpf/nsbpf/collector"
	"github.com/nsbpf/nsbpf/loader"
	"github.com/nsbpf/nsbpf/topology"
)

// runTrace prints the paths that tr sees until the context ends, the time is over
// or there were enough, and then the totals. It closes tr.
func runTrace(ctx context.Context, e *env, lab *topology.Lab, tr *loader.Trace, run traceRun) (err error) {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	if run.duration > 0 {
		ctx, stop = context.WithTimeout(ctx, run.duration)
		defer stop()
	}
	p := newPathPrinter(e, run, stop)
	l, err := openLive(e, lab, tr, run, p.print)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	if err := p.open(l.session); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.Close()) }()
	e.say("tracing %s at %s, Ctrl-C ends it", lab.Name, plural(len(tr.Hops), "hop"))
	warnTaken(e, tr.Taken)
	end, err := l.follow(ctx)
	if err != nil {
		return err
	}
	return errors.Join(p.end(&end), l.gone)
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
