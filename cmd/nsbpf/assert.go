package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/nsbpf/nsbpf/assert"
	"github.com/nsbpf/nsbpf/ping"
	"github.com/nsbpf/nsbpf/report"
)

// exitUnheld is the exit code if something that was asserted does not hold.
const exitUnheld = 3

// assertFlags are the flags of `assert`.
type assertFlags struct {
	lab     string
	format  string
	junit   string // a file
	json    bool
	timeout time.Duration
	explain bool
	given   bool // explain was
}

// assertFormats print what was asserted.
var assertFormats = []string{"text", "tap", "junit", "json"}

func newAssertCmd(e *env) *cobra.Command {
	var f assertFlags
	c := &cobra.Command{
		Use:   "assert [FILE]",
		Short: "Check what is asserted of a running lab",
		Long: `Send packets through a running lab, follow them, and check what FILE asserts of
them: that they get through or do not, which way, from which source, in which time,
and where and why they are dropped. Without FILE it is the section expect of the
topology file that the lab was built from.

  - left -> right icmp
  - left -> 8.8.8.8 udp/53
  - left -x-> wan tcp/5432
  - packet: left -> wan tcp/80
    via: [host:br0, host:eth0 out snat]
    source: 192.0.2.2
    within: 5s

Of what does not hold the packet's path is printed, and why it ended. The exit code
is 0 if all holds, 3 if something does not, and 1 if it could not be asked.
docs/ci.md describes the language, and how to use it in CI.`,
		Example: `  nsbpf assert checks.yaml
  nsbpf assert --lab nat --junit nsbpf.xml
  nsbpf assert checks.yaml --explain`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if err := f.check(); err != nil {
				return err
			}
			f.given = c.Flags().Changed("explain")
			return runAssert(c.Context(), e, args, &f)
		},
	}
	fl := c.Flags()
	fl.StringVar(&f.lab, "lab", "", "of this `LAB` (default the one that is up)")
	fl.StringVar(&f.format, "format", "text", "print `FORMAT`: text, tap, junit or json")
	fl.BoolVar(&f.json, "json", false, "print JSON, as --format json")
	fl.StringVar(&f.junit, "junit", "", "write JUnit to `FILE` besides")
	fl.DurationVar(&f.timeout, "timeout", ping.Options{}.WithDefaults().Timeout, "wait for an answer for `DURATION`")
	fl.BoolVar(&f.explain, "explain", true, "watch netfilter's hooks and nft's rules too, so that a rule is named; not by itself where times are asserted, which it makes longer")
	completeWords(c, "format", assertFormats...)
	completeFlag(c, "lab", func(c *cobra.Command, _ []string, word string) ([]string, cobra.ShellCompDirective) {
		return completeLabs(c, nil, word)
	})
	return c
}

// writer returns what prints the format.
func (f *assertFlags) writer() func(*report.Asserted, *env) error {
	return map[string]func(*report.Asserted, *env) error{
		"text":  func(a *report.Asserted, e *env) error { return report.AssertText(e.stdout, a, e.style()) },
		"tap":   func(a *report.Asserted, e *env) error { return report.AssertTAP(e.stdout, a) },
		"junit": func(a *report.Asserted, e *env) error { return report.AssertJUnit(e.stdout, a) },
		"json":  func(a *report.Asserted, e *env) error { return report.AssertJSON(e.stdout, a) },
	}[f.format]
}

func (f *assertFlags) check() error {
	if f.json {
		if f.format != "text" && f.format != "json" {
			return usagef("--json and --format %s exclude each other", f.format)
		}
		f.format = "json"
	}
	if f.writer() == nil {
		return usagef("--format %q is unknown (want text, tap, junit or json)", f.format)
	}
	if f.timeout < ping.MinInterval || f.timeout > ping.MaxWait {
		return usagef("--timeout %s is out of range (want %s to %s)", f.timeout, ping.MinInterval, ping.MaxWait)
	}
	return nil
}

// explains says whether rules are watched while s is asked.
func (f *assertFlags) explains(s *assert.Suite) bool {
	if f.given {
		return f.explain
	}
	return s.AsksForRules() || !s.Measures()
}

func runAssert(ctx context.Context, e *env, args []string, f *assertFlags) (err error) {
	var s *assert.Suite
	if len(args) > 0 { // its mistakes are told without a lab
		if s, err = readSuite(args[0]); err != nil {
			return err
		}
	}
	lab, err := workOn("send packets through", f.lab)
	if err != nil {
		return err
	}
	if s == nil {
		if s, err = assert.FromTopology(lab.Topology); err != nil {
			return err
		} else if s == nil {
			return usagef("the topology of lab %q has no section expect (give a file: nsbpf assert FILE)", lab.Name)
		}
	}
	address := func(from, to string, six bool) (netip.Addr, error) { return addressOf(lab.Topology, from, to, six) }
	if err := s.Fit(lab.Topology, address); err != nil {
		return err
	}
	start := time.Now()
	k, err := openAsker(ctx, e, lab, s, f.timeout, f.explains(s))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, k.live.Close()) }()
	results, err := k.run(ctx, s)
	if err != nil {
		return err
	}
	a := &report.Asserted{
		Lab: lab.Name, File: s.File, Time: start, Took: time.Since(start),
		Hops: k.live.start.Hops, EpochNS: k.live.start.EpochNS, Results: results,
	}
	if err := errors.Join(f.writer()(a, e), f.writeJUnit(a)); err != nil {
		return err
	}
	if n := a.Failed(); n > 0 {
		return &exitError{exitUnheld, fmt.Errorf("%d of %s of %s %s not hold", n, plural(len(results), "assertion"), s.File, does(n))}
	}
	return nil
}

// writeJUnit writes the file of --junit, if there is to be one.
func (f *assertFlags) writeJUnit(a *report.Asserted) (err error) {
	if f.junit == "" {
		return nil
	}
	file, err := os.Create(f.junit)
	if err != nil {
		return fmt.Errorf("writing JUnit: %w", err)
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	return report.AssertJUnit(file, a)
}

func does(n int) string {
	if n == 1 {
		return "does"
	}
	return "do"
}

// readSuite reads a file of assertions.
func readSuite(file string) (*assert.Suite, error) {
	src, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("reading assertions: %w", err)
	}
	return assert.Parse(file, src)
}
