package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/nsbpf/nsbpf/report"
	"github.com/nsbpf/nsbpf/trace"
	"github.com/nsbpf/nsbpf/trace/diff"
	"github.com/nsbpf/nsbpf/trace/recording"
)

// exitDiffers says that recordings differ, if that was asked for.
const exitDiffers = 3

// effect is --min-effect: a part of 1, given in percent.
type effect float64

func (f *effect) String() string { return strconv.FormatFloat(100*float64(*f), 'g', -1, 64) + "%" }
func (f *effect) Type() string   { return "PERCENT" }

func (f *effect) Set(s string) error {
	number, ok := strings.CutSuffix(s, "%")
	v, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
	if !ok || err != nil || !(v > 0 && v <= 1000) {
		return fmt.Errorf("%q is no effect (want a percentage above 0%%, as in 5%%)", s)
	}
	*f = effect(v / 100)
	return nil
}

func newDiffCmd(e *env) *cobra.Command {
	minEffect := effect(0.05)
	var asJSON, exitCode bool
	c := &cobra.Command{
		Use:   "diff A B",
		Short: "Compare two recordings",
		Long: `Compare what two recordings of traces saw, the worst first: edges that packets go
over now or no longer, packets that are dropped otherwise, NAT that changed, TCP
segments that are sent again more often, and edges that take longer.

Hops go by their names, so the labs need not be the same. Packets are compared with
those of the same traffic: from the same hop to the same service. What is found is
more than chance: of comparisons of the same traffic at most 5 % find something. What
else the machine was at is no chance: it is found in the latencies.`,
		Example: `  nsbpf trace nat --for 10s -q -w before.ndjson
  nsbpf trace nat --for 10s -q -w after.ndjson
  nsbpf diff before.ndjson after.ndjson
  nsbpf diff --exit-code --min-effect 20% good.pcapng now.pcapng`,
		Args: cobra.ExactArgs(2),
		RunE: func(c *cobra.Command, args []string) error {
			a, errA := loadProfile(c.Context(), args[0])
			b, errB := loadProfile(c.Context(), args[1])
			if err := errors.Join(errA, errB); err != nil {
				return err
			}
			d := diff.Compare(a, b, diff.Options{MinEffect: float64(minEffect)})
			write := func() error { return report.DiffText(e.stdout, d, e.style()) }
			if asJSON {
				write = func() error { return report.DiffJSON(e.stdout, d) }
			}
			if err := write(); err != nil {
				return err
			}
			if n := len(d.Findings); exitCode && n > 0 {
				return &exitError{exitDiffers, fmt.Errorf("%s and %s differ: %s", args[0], args[1], plural(n, "difference"))}
			}
			return nil
		},
	}
	c.Flags().Var(&minEffect, "min-effect", "say of a latency only that its median differs by at least `PERCENT`")
	c.Flags().BoolVar(&exitCode, "exit-code", false, "exit with 3 if something is different")
	c.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	return c
}

// loadProfile returns what is compared of the recording in a file. One that was cut
// off is taken as far as it goes.
func loadProfile(ctx context.Context, file string) (p *diff.Profile, err error) {
	r, err := recording.OpenFile(file)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	start := r.Start()
	identity := trace.Auto
	if start.Identity == "fingerprint" {
		identity = trace.Fingerprint
	}
	p = diff.NewProfile(start.Hops, start.Edges)
	s, err := newSession(start, identity, func(path *trace.Path) error {
		p.Add(path)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("comparing %s: %w", file, err)
	}
	end, err := s.replay(ctx, r, 0)
	if errors.Is(err, recording.ErrCut) {
		s.joiner.End()
		err = s.err
	}
	p.Source = diff.Source{Name: file, Lab: start.Lab, Expr: start.Expr, Sample: start.Sample, Rate: start.Rate, Cut: end == nil}
	if end != nil {
		p.Source.Lost = end.Ledgers.Total.Lost
	}
	return p, err
}
