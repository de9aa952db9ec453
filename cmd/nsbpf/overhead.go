package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/cilium/ebpf"
	"github.com/spf13/cobra"

	"github.com/nsbpf/nsbpf/bench"
	"github.com/nsbpf/nsbpf/loader"
	"github.com/nsbpf/nsbpf/topology"
)

func newOverheadCmd(e *env) *cobra.Command {
	plan := bench.Plan{}
	var asJSON bool
	c := &cobra.Command{
		Use:   "overhead",
		Short: "Measure what nsbpf itself costs on this machine",
		Long: `Measure what nsbpf itself costs: the throughput from left to right of a bridge,
with nothing attached, with an empty program at each veth end (the floor that the
kernel sets), with every hop counted, and besides with every packet traced at
every hop, with one of 64, and with none because no packet matches; and with
tcpdump on the same four veth ends where it is installed.

UDP rates are those at which 64-byte frames come to the receiver's device.

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
	variants = append(variants, counted(lab),
		traced("trace", lab),
		traced("1/64", lab, "--sample", "1/64"),
		traced("no match", lab, "tcp port 9 and host 192.0.2.99"))
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

// traced counts, and traces by a process of its own as a user does, with args.
func traced(name string, lab *topology.Lab, args ...string) bench.Variant {
	return bench.Variant{Name: name, Enter: func(ctx context.Context) (func() error, error) {
		uncount, err := counted(lab).Enter(ctx)
		if err != nil {
			return nil, err
		}
		untrace, err := runTracer(append([]string{"trace", lab.Name, "--quiet"}, args...))
		if err != nil {
			return nil, errors.Join(err, uncount())
		}
		return func() error { return errors.Join(untrace(), uncount()) }, nil
	}}
}

// runTracer runs this program with args, and returns when it traces.
func runTracer(args []string) (stop func() error, err error) {
	c := exec.Command(os.Args[0], args...)
	stderr, err := c.StderrPipe()
	if err != nil {
		return nil, err
	}
	if err := c.Start(); err != nil {
		return nil, err
	}
	said := bufio.NewReader(stderr)
	for {
		line, err := said.ReadString('\n')
		if strings.HasPrefix(line, "tracing ") {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("nsbpf %s: %w: %s", strings.Join(args, " "), errors.Join(err, c.Wait()), line)
		}
	}
	return func() error {
		err := c.Process.Signal(os.Interrupt)
		_, copied := io.Copy(io.Discard, said) // it says more when it ends
		return errors.Join(err, copied, c.Wait())
	}, nil
}

func printOverhead(e *env, all []bench.Summary) {
	fmt.Fprintf(e.stdout, "%-7s %-9s %10s %-7s %7s  %-13s %s\n", "LOAD", "VARIANT", "MEDIAN", "", "RATIO", "QUARTILES", "CPU")
	for _, s := range all {
		fmt.Fprintf(e.stdout, "%-7s %-9s %10.3f %-7s %7.3f  %.3f … %.3f  × %.2f\n",
			s.Load, s.Variant, s.Rate, s.Unit, s.RateRatio, s.Spread[0], s.Spread[1], s.CPURatio)
	}
}
