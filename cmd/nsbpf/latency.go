package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/nsbpf/nsbpf/collector"
	"github.com/nsbpf/nsbpf/loader"
	"github.com/nsbpf/nsbpf/report"
	"github.com/nsbpf/nsbpf/topology"
)

// timingFlags are the flags of `stats` that need its --latency.
type timingFlags struct {
	duration time.Duration
	sample   share
	hook     string
	unused   bool
}

func (f *timingFlags) add(c *cobra.Command) {
	fl := c.Flags()
	fl.DurationVar(&f.duration, "for", 5*time.Second, "with --latency: measure for `DURATION`; with --watch until Ctrl-C")
	fl.Var(&f.sample, "sample", "with --latency: time one of N packets on each edge, chosen at random (default all)")
	fl.StringVar(&f.hook, "hook", "", "with --latency: attach by `HOOK`: tcx or clsact")
	fl.BoolVar(&f.unused, "unused", false, "with --latency: show also edges that no packet came over")
	completeWords(c, "sample", "1/1", "1/4", "1/16", "1/64")
	completeWords(c, "hook", "tcx", "clsact")
}

// unset complains about those that are given.
func (f *timingFlags) unset(fl *pflag.FlagSet) error {
	for _, flag := range []string{"for", "sample", "hook", "unused"} {
		if fl.Changed(flag) {
			return usagef("--%s needs --latency", flag)
		}
	}
	return nil
}

// timingRun is a measurement of latencies that goes on.
type timingRun struct {
	*statsFlags
	env      *env
	lab      *topology.Lab
	latency  *loader.Latency
	duration time.Duration // 0: until Ctrl-C
	start    time.Time
	span     time.Duration // 0: it goes on
}

func runLatency(c *cobra.Command, e *env, name string, f *statsFlags) (err error) {
	hooks, err := loader.ParseHooks(f.timing.hook)
	switch {
	case err != nil:
		return usage(err)
	case hooks.XDP != loader.HookNone:
		return usagef("--hook %s cannot time packets (want tcx or clsact)", f.timing.hook)
	case f.timing.duration <= 0:
		return usagef("--for %s is no time to measure for", f.timing.duration)
	}
	r := timingRun{statsFlags: f, env: e, duration: f.timing.duration}
	if f.watch && !c.Flags().Changed("for") {
		r.duration = 0
	}
	if r.lab, err = workOn("time the packets of", name); err != nil {
		return err
	}
	r.latency, err = loader.Open(r.lab).Latency(c.Context(), loader.LatencyOptions{Sample: uint32(f.timing.sample), Hook: hooks.TC})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.latency.Close()) }()
	r.start = time.Now()
	if err := r.wait(c.Context()); err != nil {
		return err
	}
	if err := r.latency.Detach(); err != nil {
		return err
	}
	r.span = time.Since(r.start)
	return r.show()
}

// wait returns when it was measured for long enough, or the context ends.
func (r *timingRun) wait(ctx context.Context) error {
	if r.duration > 0 {
		var stop context.CancelFunc
		ctx, stop = context.WithTimeout(ctx, r.duration)
		defer stop()
		r.env.say("timing packets of %s at %s for %s, Ctrl-C ends it", r.lab.Name, plural(len(r.latency.Hops), "hop"), r.duration)
	} else {
		r.env.say("timing packets of %s at %s, Ctrl-C ends it", r.lab.Name, plural(len(r.latency.Hops), "hop"))
	}
	tick := time.NewTicker(r.interval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			r.progress("")
			return nil
		case <-tick.C:
		}
		if !r.watch {
			r.progress(fmt.Sprintf("%s of %s", time.Since(r.start).Round(time.Second), r.duration))
		} else if err := r.show(); err != nil {
			return err
		}
	}
}

// progress rewrites one line of talk.
func (r *timingRun) progress(s string) {
	if r.env.progress {
		fmt.Fprintf(r.env.stderr, "\r\033[K%s", s)
	}
}

// show shows what was measured since the start.
func (r *timingRun) show() error {
	m := r.latency
	l, err := collector.ReadLatency(m.Histograms, m.Timings, m.Hops, m.Edges)
	if err != nil {
		return err
	}
	out := &report.Latency{
		Lab: r.lab.Name, Time: time.Now(), Span: r.span, Sample: uint32(r.timing.sample),
		Hops: m.Hops, Edges: l.Edges, Unused: r.timing.unused, Packets: &l.Total,
	}
	if out.Span == 0 {
		out.Span = time.Since(r.start)
	}
	if r.json {
		return report.LatencyJSON(r.env.stdout, out)
	}
	if r.watch && r.env.tty {
		fmt.Fprint(r.env.stdout, "\x1b[H\x1b[2J") // home, clear
	}
	if l.Total.Timed == 0 && r.span > 0 {
		r.env.say("no packet came over an edge meanwhile (such as nsbpf exec NODE -- ping ADDRESS makes some)")
	}
	return report.LatencyTable(r.env.stdout, out, r.env.style())
}
