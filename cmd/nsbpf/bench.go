package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"time"

	"github.com/cilium/ebpf"
	"github.com/spf13/cobra"

	"github.com/nsbpf/nsbpf/bench"
	"github.com/nsbpf/nsbpf/collector"
	"github.com/nsbpf/nsbpf/loader"
	"github.com/nsbpf/nsbpf/topology"
	"github.com/nsbpf/nsbpf/trace"
)

func newBenchCmd(e *env) *cobra.Command {
	c := &cobra.Command{
		Use:     "bench",
		Short:   "Measure what a path carries",
		Example: "  nsbpf bench overhead",
	}
	c.AddCommand(newOverheadCmd(e))
	return c
}

func newOverheadCmd(e *env) *cobra.Command {
	plan := bench.Plan{}
	var asJSON bool
	c := &cobra.Command{
		Use:   "overhead",
		Short: "Measure what nsbpf itself costs on this machine",
		Long: `Measure what nsbpf itself costs: the throughput from left to right of a bridge,
with nothing attached, with an empty program at each veth end (the floor that the
kernel sets), with every hop counted, with every packet traced at every hop, and
with tcpdump on the same four veth ends where it is installed.

All are measured in turn, round by round, in a lab of its own that touches
nothing of the host. Trust the ratios; absolute rates are those of this machine
at this minute.`,
		Example: `  nsbpf bench overhead
  nsbpf bench overhead --rounds 21 --duration 1s --json`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if plan.Rounds < 1 || plan.Duration < 10*time.Millisecond {
				return usagef("bench needs at least 1 round of 10ms (got --rounds %d --duration %s)", plan.Rounds, plan.Duration)
			}
			return runOverhead(c.Context(), e, plan, asJSON)
		},
	}
	c.Flags().IntVar(&plan.Rounds, "rounds", 9, "measure each case `N` times, after one round that warms up")
	c.Flags().DurationVar(&plan.Duration, "duration", 500*time.Millisecond, "measure for `DURATION` each time")
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON, with every sample")
	return c
}

func runOverhead(ctx context.Context, e *env, plan bench.Plan, asJSON bool) (err error) {
	lab, err := benchLab(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, takeDown(context.WithoutCancel(ctx), lab.Name)) }()
	left, err := lab.Netns("left")
	if err != nil {
		return err
	}
	defer left.Close()
	right, err := lab.Netns("right")
	if err != nil {
		return err
	}
	defer right.Close()

	devices, done, err := vethEnds(lab)
	if err != nil {
		return err
	}
	defer done()
	variants, err := overheadVariants(ctx, e, lab, devices)
	if err != nil {
		return err
	}
	if e.progress {
		plan.Progress = func(done, of int, what string) {
			fmt.Fprintf(e.stderr, "\r\033[K%d of %d: %s", done+1, of, what)
			if done+1 == of {
				fmt.Fprint(e.stderr, "\r\033[K")
			}
		}
	}
	to := netip.MustParseAddr("172.16.16.20")
	loads := []bench.Load{bench.TCP(left, right, to), bench.UDP(left, right, to)}
	series, err := bench.Interleave(ctx, plan, loads, variants)
	if err != nil {
		return err
	}
	if asJSON {
		return writeJSON(e.stdout, struct {
			Schema    string          `json:"schema"`
			Kernel    string          `json:"kernel"`
			Summaries []bench.Summary `json:"summaries"`
			Series    []bench.Series  `json:"series"`
		}{"nsbpf.overhead/1", loader.Release(), bench.Summarise(series), series})
	}
	printOverhead(e, bench.Summarise(series))
	return nil
}

// overheadVariants leaves out what cannot be had here, and says so.
func overheadVariants(ctx context.Context, e *env, lab *topology.Lab, devices []bench.Device) ([]bench.Variant, error) {
	variants := []bench.Variant{nothing()}
	floor := bench.Floor(devices)
	leave, err := floor.Enter(ctx)
	switch {
	case err == nil:
		if err := leave(); err != nil {
			return nil, err
		}
		variants = append(variants, floor)
	case errors.Is(err, ebpf.ErrNotSupported):
		e.warn("this kernel has no tcx, so an empty program is not compared with")
	default:
		return nil, err
	}
	variants = append(variants, counted(lab), traced(lab))
	if _, err := exec.LookPath("tcpdump"); err != nil {
		e.warn("tcpdump is not installed, so it is not compared with")
		return variants, nil
	}
	return append(variants, bench.Tcpdump(devices)), nil
}

// benchLab brings up a bridge that touches nothing of the host, uncounted.
func benchLab(ctx context.Context) (*topology.Lab, error) {
	t, err := topology.Load("bridge")
	if err != nil {
		return nil, err
	}
	if t, err = t.Isolated().Named(fmt.Sprintf("bench-%d", os.Getpid())); err != nil {
		return nil, err
	}
	return topology.Up(ctx, t, topology.UpOptions{})
}

// vethEnds opens the namespaces of the lab's veth ends.
func vethEnds(lab *topology.Lab) (devices []bench.Device, done func(), err error) {
	done = func() {
		for _, d := range devices {
			d.Netns.Close()
		}
	}
	for _, l := range lab.Topology.Links {
		for _, end := range []topology.End{l.A, l.B} {
			ns, err := lab.Netns(end.Node)
			if err != nil {
				done()
				return nil, nil, err
			}
			devices = append(devices, bench.Device{Netns: ns, Name: end.Device})
		}
	}
	return devices, done, nil
}

func nothing() bench.Variant {
	return bench.Variant{Name: "nothing", Enter: func(context.Context) (func() error, error) {
		return func() error { return nil }, nil
	}}
}

func counted(lab *topology.Lab) bench.Variant {
	return bench.Variant{Name: "count", Enter: func(ctx context.Context) (func() error, error) {
		if _, err := loader.Open(lab).AttachCount(ctx, loader.Hooks{}); err != nil {
			return nil, err
		}
		return func() error { return loader.Clean(lab.Dir) }, nil
	}}
}

// traced counts and follows every packet, up to what would be printed.
func traced(lab *topology.Lab) bench.Variant {
	return bench.Variant{Name: "trace", Enter: func(ctx context.Context) (func() error, error) {
		uncount, err := counted(lab).Enter(ctx)
		if err != nil {
			return nil, err
		}
		untrace, err := followAll(ctx, lab)
		if err != nil {
			return nil, errors.Join(err, uncount())
		}
		return func() error { return errors.Join(untrace(), uncount()) }, nil
	}}
}

// followAll joins every packet's path and throws it away.
func followAll(ctx context.Context, lab *topology.Lab) (stop func() error, err error) {
	tr, err := loader.Open(lab).Trace(ctx, loader.TraceOptions{})
	if err != nil {
		return nil, err
	}
	ring, err := collector.OpenRing(tr.Ring, tr.Sweep)
	if err != nil {
		return nil, errors.Join(err, tr.Close())
	}
	config, err := joinerConfig(lab, tr.Hops, trace.Auto)
	if err != nil {
		return nil, errors.Join(err, ring.Close(), tr.Close())
	}
	joiner, err := trace.NewJoiner(config, func(*trace.Path) {})
	if err != nil {
		return nil, errors.Join(err, ring.Close(), tr.Close())
	}
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() {
		ended <- ring.Read(ctx, func(batch []collector.Run, until uint64) error {
			joiner.AddRuns(batch, until)
			return nil
		})
	}()
	return func() error {
		cancel()
		return errors.Join(<-ended, ring.Close(), tr.Close())
	}, nil
}

func printOverhead(e *env, all []bench.Summary) {
	fmt.Fprintf(e.stdout, "%-7s %-9s %10s %-7s %7s  %-13s %s\n", "LOAD", "VARIANT", "MEDIAN", "", "RATIO", "QUARTILES", "CPU")
	for _, s := range all {
		fmt.Fprintf(e.stdout, "%-7s %-9s %10.3f %-7s %7.3f  %.3f … %.3f  × %.2f\n",
			s.Load, s.Variant, s.Rate, s.Unit, s.RateRatio, s.Spread[0], s.Spread[1], s.CPURatio)
	}
}
