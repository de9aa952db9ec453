package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/nsbpf/nsbpf/collector"
	"github.com/nsbpf/nsbpf/internal/hop"
	"github.com/nsbpf/nsbpf/loader"
	"github.com/nsbpf/nsbpf/topology"
	"github.com/nsbpf/nsbpf/trace"
	"github.com/nsbpf/nsbpf/trace/filter"
)

// everyPacket is the expression of a bare --trace.
const everyPacket = "all"

// traceFlag is --trace[=EXPR].
type traceFlag struct {
	set  bool
	expr string
}

func (f *traceFlag) String() string { return f.expr }
func (f *traceFlag) Type() string   { return "EXPR" }

func (f *traceFlag) Set(s string) error {
	f.set, f.expr = true, s
	return nil
}

// traceFlags are the flags of `trace`, and of `up` for its --trace.
type traceFlags struct {
	count    uint64
	duration time.Duration
	identity string
	strict   bool
	quiet    bool
	ring     int
}

func (f *traceFlags) add(fl *pflag.FlagSet) {
	fl.Uint64VarP(&f.count, "count", "c", 0, "end the trace after `N` paths")
	fl.DurationVar(&f.duration, "for", 0, "end the trace after `DURATION`")
	fl.StringVar(&f.identity, "identity", "auto", "follow packets by `HOW`: auto, or fingerprint")
	fl.BoolVar(&f.strict, "strict", false, "exit with 1 if an event was lost")
	fl.BoolVarP(&f.quiet, "quiet", "q", false, "print the totals only")
	fl.IntVar(&f.ring, "ring", loader.DefaultRing>>10, "size of the event ring in `KIB`, a power of two")
}

// traceRun is what a trace does, checked.
type traceRun struct {
	traceFlags
	attach   loader.TraceOptions
	identity trace.Identity
	json     bool
}

// options checks the flags, so that a mistake changes nothing.
func (f *traceFlags) options(expr string, json bool, hook loader.Hook) (traceRun, error) {
	r := traceRun{traceFlags: *f, json: json}
	if expr == everyPacket {
		expr = ""
	}
	if expr != "" {
		x, err := filter.Parse(expr)
		if err != nil {
			return r, usage(err)
		}
		if r.attach.Match, err = x.Compile(); err != nil {
			return r, usage(err)
		}
	}
	switch f.identity {
	case "auto":
		r.identity = trace.Auto
	case "fingerprint":
		r.identity = trace.Fingerprint
	default:
		return r, usagef("--identity %q is unknown (want auto or fingerprint)", f.identity)
	}
	if f.ring < 4 || f.ring&(f.ring-1) != 0 || f.ring > 1<<20 {
		return r, usagef("--ring %d is no ring size (want a power of two from 4 to %d, in KiB)", f.ring, 1<<20)
	}
	if f.duration < 0 {
		return r, usagef("--for %s is negative", f.duration)
	}
	r.attach.Ring = f.ring << 10
	r.attach.Hook = hook
	return r, nil
}

func newTraceCmd(e *env) *cobra.Command {
	var f traceFlags
	var asJSON bool
	var hook string
	c := &cobra.Command{
		Use:   "trace [LAB] [EXPR]",
		Short: "Print each packet's path through a running lab",
		Long: `Print each packet's path: its hops in order, the time each edge took, the
addresses where they changed, and whether it was delivered or where it was last
seen. EXPR is a subset of the language of tcpdump; see docs/trace.md.

Ctrl-C ends the trace. The last line accounts for every packet that was seen; an
event that was lost is counted there.`,
		Example: `  nsbpf trace
  nsbpf trace nat 'icmp and host 8.8.8.8' -c 4
  nsbpf trace 'tcp port 443' --for 10s --json`,
		Args:              cobra.MaximumNArgs(2),
		ValidArgsFunction: completeLab,
		RunE: func(c *cobra.Command, args []string) error {
			name, expr, err := labAndExpr(args)
			if err != nil {
				return err
			}
			hooks, err := loader.ParseHooks(hook)
			if err != nil {
				return usage(err)
			}
			if hooks.XDP != loader.HookNone {
				return usagef("--hook %s cannot trace (want tcx or clsact)", hook)
			}
			run, err := f.options(expr, asJSON, hooks.TC)
			if err != nil {
				return err
			}
			lab, err := workOn("trace", name)
			if err != nil {
				return err
			}
			tr, err := loader.Open(lab).Trace(c.Context(), run.attach)
			if err != nil {
				return err
			}
			return runTrace(c.Context(), e, lab, tr, run)
		},
	}
	f.add(c.Flags())
	c.Flags().BoolVar(&asJSON, "json", false, "print one JSON object a path, and the ledger at the end")
	c.Flags().StringVar(&hook, "hook", "", "attach by `HOOK`: tcx or clsact")
	completeWords(c, "identity", "auto", "fingerprint")
	completeWords(c, "hook", "tcx", "clsact")
	return c
}

// labAndExpr tells a lab's name from an expression.
func labAndExpr(args []string) (name, expr string, err error) {
	switch len(args) {
	case 0:
		return "", "", nil
	case 2:
		return args[0], args[1], nil
	}
	if _, err := topology.Open(args[0]); err == nil {
		return args[0], "", nil
	} else if !errors.Is(err, topology.ErrNotUp) {
		return "", "", err
	}
	if _, err := filter.Parse(args[0]); err != nil {
		return "", "", usagef("%q is neither a lab that is up nor an expression: %w", args[0], err)
	}
	return "", args[0], nil
}

// runTrace prints the paths that tr sees until the context ends, the time is over
// or there were enough, and then the totals. It closes tr.
func runTrace(ctx context.Context, e *env, lab *topology.Lab, tr *loader.Trace, run traceRun) error {
	defer tr.Close()
	ring, err := collector.OpenRing(tr.Ring)
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
	e.say("tracing %s at %s, Ctrl-C ends it", lab.Name, plural(len(tr.Hops), "hop"))
	take := func(batch []collector.Sighting) error {
		join(joiner, batch)
		return p.flush()
	}
	if err := ring.Read(ctx, take); err != nil {
		return err
	}
	// The programs went on until they were detached.
	if err := errors.Join(tr.Detach(), ring.Drain(take)); err != nil {
		return err
	}
	joiner.Flush()
	return p.end(tr, joiner.Totals())
}

// join hands on what was read; an empty batch says that nothing more came up to
// now.
func join(j *trace.Joiner, batch []collector.Sighting) {
	if len(batch) == 0 {
		j.Advance(collector.Now())
		return
	}
	j.Add(batch)
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
