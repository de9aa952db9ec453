package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/nsbpf/nsbpf/internal/hop"
	"github.com/nsbpf/nsbpf/loader"
	"github.com/nsbpf/nsbpf/topology"
	"github.com/nsbpf/nsbpf/trace"
	"github.com/nsbpf/nsbpf/trace/filter"
	"github.com/nsbpf/nsbpf/trace/recording"
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

// share is --sample 1/N.
type share uint32

func (s *share) String() string { return "1/" + strconv.FormatUint(uint64(max(*s, 1)), 10) }
func (s *share) Type() string   { return "1/N" }

func (s *share) Set(v string) error {
	of, ok := strings.CutPrefix(strings.ReplaceAll(v, " ", ""), "1/")
	n, err := strconv.ParseUint(of, 10, 32)
	if !ok || err != nil || n == 0 {
		return fmt.Errorf("%q is no share (want 1/N, as in 1/64)", v)
	}
	*s = share(n)
	return nil
}

// traceFlags are the flags of `trace`, and of `up` for its --trace.
type traceFlags struct {
	count    uint64
	duration time.Duration
	identity string
	sample   share
	rate     uint32
	strict   bool
	quiet    bool
	summary  bool
	ring     int
	explain  bool
	recordingFlags
}

// add adds all flags, and addShown those that say what is made of what was seen.
func (f *traceFlags) add(fl *pflag.FlagSet) {
	f.addShown(fl)
	fl.Var(&f.sample, "sample", "trace one packet of N, the same at every hop")
	fl.Uint32Var(&f.rate, "rate", 0, "trace at most `N` packets a second")
	fl.BoolVar(&f.explain, "explain", false, "watch netfilter's hooks and nft's rules too, so that a rule is named")
	fl.IntVar(&f.ring, "ring", loader.DefaultRing>>10, "size of the event ring in `KIB`, a power of two")
	fl.IntVar(&f.snap, "snap", -1, "record so many `BYTES` of each packet (default 256 in a pcapng, 0 in an ndjson)")
}

func (f *traceFlags) addShown(fl *pflag.FlagSet) {
	fl.Uint64VarP(&f.count, "count", "c", 0, "end the trace after `N` paths")
	fl.DurationVar(&f.duration, "for", 0, "end the trace after `DURATION`")
	fl.StringVar(&f.identity, "identity", "auto", "follow packets by `HOW`: auto, or fingerprint")
	fl.BoolVar(&f.strict, "strict", false, "exit with 1 if an event was lost or a path given up")
	fl.BoolVarP(&f.quiet, "quiet", "q", false, "print the totals only")
	fl.BoolVar(&f.summary, "summary", false, "print the latency of each edge and the totals only")
	f.recordingFlags.add(fl)
}

// traceRun is what a trace does, checked.
type traceRun struct {
	traceFlags
	attach    loader.TraceOptions
	expr      *filter.Expr // nil: every packet
	source    string       // of expr
	args      []string     // the command line
	replayed  bool         // expr is yet to choose the packets
	identity  trace.Identity
	json      bool
	recording recording.Options
}

// in checks that what the expression names is there in a lab.
func (r *traceRun) in(t *topology.Topology) error {
	_, err := r.selection(t.Hops(false))
	return err
}

// selection returns which paths of a lab with the hops are wanted; nil: all that
// come.
func (r *traceRun) selection(hops []hop.Hop) (func(*trace.Path) bool, error) {
	if r.expr == nil {
		return nil, nil
	}
	want, err := trace.Select(r.expr, hops)
	if err != nil || !r.replayed || r.expr.Kernel().String() == "" {
		return want, usage(err)
	}
	return func(p *trace.Path) bool {
		matches := func(st trace.Step) bool { return r.expr.Match(&st.Packet) }
		return slices.ContainsFunc(p.Steps, matches) && (want == nil || want(p))
	}, nil
}

// options checks the flags, so that a mistake changes nothing.
func (f *traceFlags) options(expr string, json bool, hook loader.Hook) (traceRun, error) {
	r := traceRun{traceFlags: *f, json: json}
	if expr == everyPacket {
		expr = ""
	}
	r.source, r.args = expr, os.Args[1:]
	if expr != "" {
		var err error
		if r.expr, err = filter.Parse(expr); err != nil {
			return r, usage(err)
		}
		if inKernel := r.expr.Kernel(); inKernel.String() != "" {
			if r.attach.Match, err = inKernel.Compile(); err != nil {
				return r, usage(err)
			}
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
	if f.rate > uint32(time.Second/time.Microsecond) {
		return r, usagef("--rate %d is beyond what can be chosen (want at most %d; 0 is no limit)", f.rate, time.Second/time.Microsecond)
	}
	if f.quiet && f.summary {
		return r, usagef("--quiet and --summary exclude each other")
	}
	r.attach.Ring, r.attach.Sample, r.attach.Rate = f.ring<<10, uint32(f.sample), f.rate
	r.attach.Hook, r.attach.Explain = hook, f.explain
	var err error
	r.attach.Snap, r.recording, err = f.recordingFlags.options()
	return r, err
}

func newTraceCmd(e *env) *cobra.Command {
	var f traceFlags
	var asJSON bool
	var hook string
	c := &cobra.Command{
		Use:   "trace [LAB] [EXPR]",
		Short: "Print each packet's path through a running lab",
		Long: `Print each packet's path: its hops in order, the time each edge took, the
addresses where they changed, and whether it was delivered or else where it died,
why, and what to do about it. --explain asks nft too, so that a rule is named. -w
records what is seen, for replay, diff and Wireshark.

Ctrl-C ends the trace. The last line accounts for every packet that was seen; an
event that was lost is counted there. Below it stand the kernel's counters of
losses that grew meanwhile. What the trace cost is said at the end.

EXPR chooses packets. It is a subset of the language of tcpdump, and has words of
its own about the whole path of a packet:

` + ownWords() + `
docs/trace.md describes all of them.`,
		Example: `  nsbpf trace
  nsbpf trace nat 'icmp and host 8.8.8.8' -c 4
  nsbpf trace 'udp port 53 and dropped' --explain
  nsbpf trace 'tcp port 443' --for 10s -w https.pcapng
  nsbpf trace 'tcp port 443' --for 10s --json
  nsbpf trace 'tcp and node right and (dropped or latency > 1ms)'
  nsbpf trace --sample 1/64 --summary --for 10s`,
		Args:              labAndExprArgs,
		ValidArgsFunction: completeTrace,
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
			if err := run.in(lab.Topology); err != nil {
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
	completeWords(c, "sample", "1/8", "1/64", "1/1024")
	completeWords(c, "hook", "tcx", "clsact")
	return c
}

// ownWords lists the words that ask something of a packet's whole path.
func ownWords() string {
	var b strings.Builder
	for _, w := range filter.Words() {
		if w.Own {
			fmt.Fprintf(&b, "  %-26s %s\n", w.Form, w.Help)
		}
	}
	return b.String()
}

// labAndExprArgs wants no more than a lab and an expression: the shell makes several
// words of one that is not quoted.
func labAndExprArgs(_ *cobra.Command, args []string) error {
	if len(args) > 2 {
		return fmt.Errorf("a lab and an expression are wanted, not %d words (quote the expression, as in '%s')", len(args), strings.Join(args, " "))
	}
	return nil
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
