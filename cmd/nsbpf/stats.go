package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/spf13/cobra"

	"github.com/nsbpf/nsbpf/collector"
	"github.com/nsbpf/nsbpf/internal/hop"
	"github.com/nsbpf/nsbpf/loader"
	"github.com/nsbpf/nsbpf/report"
	"github.com/nsbpf/nsbpf/topology"
)

// statsFlags is the command line of stats.
type statsFlags struct {
	watch    bool
	json     bool
	interval time.Duration
	latency  bool
	timing   timingFlags
}

func newStatsCmd(e *env) *cobra.Command {
	var f statsFlags
	c := &cobra.Command{
		Use:   "stats [LAB]",
		Short: "Show what passed each hop, and what was lost on each wire",
		Long: `Show for each hop the packets, segments and bytes that came to it and the drops
by reason, and for each veth pair whether what left one end arrived at the other.

Packets and bytes are those of "ip -s link"; segments are what GSO stands for,
and are what is compared over a wire.

With --latency: attach programs that time packets from hop to hop, for as long as
the command runs, and show for each edge that packets came over how many, the
percentiles of the time they took, and the longest. No packet is reported to user
space, so that it costs little at any rate; --sample makes it less.`,
		Example: `  nsbpf stats
  nsbpf stats nat --watch
  nsbpf stats --latency --for 30s
  nsbpf stats nat --latency --watch --sample 1/16
  nsbpf stats --json | jq '.edges[] | select(.missing != 0)'
  nsbpf stats --latency --json | jq '.edges[] | select(.p99_ns > 1000000)'`,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: completeLab,
		RunE: func(c *cobra.Command, args []string) error {
			if f.interval < 50*time.Millisecond {
				return usagef("--interval %s is too short (want at least 50ms)", f.interval)
			}
			if f.latency {
				return runLatency(c, e, first(args), &f)
			}
			if err := f.timing.unset(c.Flags()); err != nil {
				return err
			}
			lab, err := workOn("read the counters of", first(args))
			if err != nil {
				return err
			}
			return runStats(c.Context(), e, lab, f)
		},
	}
	c.Flags().BoolVarP(&f.watch, "watch", "w", false, "show it again each interval, with rates, until Ctrl-C")
	c.Flags().DurationVar(&f.interval, "interval", time.Second, "how often --watch shows it")
	c.Flags().BoolVar(&f.json, "json", false, "print JSON; with --watch one object a line")
	c.Flags().BoolVar(&f.latency, "latency", false, "time packets from hop to hop, and show how long they took")
	f.timing.add(c)
	return c
}

func first(args []string) string {
	if len(args) == 0 {
		return ""
	}
	return args[0]
}

func runStats(ctx context.Context, e *env, lab *topology.Lab, f statsFlags) error {
	s, err := readStats(lab)
	if err != nil {
		return err
	}
	if err := showStats(e, s, f.json); err != nil || !f.watch {
		return err
	}
	tick := time.NewTicker(f.interval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		before := s.Snapshot
		if s, err = readStats(lab); err != nil {
			return err
		}
		s.Recent = s.Snapshot.Sub(before)
		if e.tty && !f.json {
			fmt.Fprint(e.stdout, "\x1b[H\x1b[2J") // home, clear
		}
		if err := showStats(e, s, f.json); err != nil {
			return err
		}
	}
}

func showStats(e *env, s *report.Stats, asJSON bool) error {
	if asJSON {
		return report.StatsJSON(e.stdout, s)
	}
	return report.StatsTable(e.stdout, s, e.style())
}

// readStats reads the lab's counters, which are pinned: whoever attached them
// may be gone.
func readStats(lab *topology.Lab) (*report.Stats, error) {
	l := loader.Open(lab)
	as, err := l.Attachments()
	if err != nil {
		return nil, err
	}
	counts, err := l.Counts()
	if errors.Is(err, fs.ErrNotExist) {
		if _, gone := openLab(lab.Name); gone != nil {
			return nil, gone
		}
		return nil, fmt.Errorf("nothing is counted in lab %q (it was brought up with --no-count, or its up was killed)", lab.Name)
	}
	if err != nil {
		return nil, err
	}
	defer counts.Close()
	hops := make([]hop.Hop, len(as))
	for i, a := range as {
		hops[i] = a.Hop
	}
	snapshot, err := collector.ReadSnapshot(counts, hops)
	if err != nil {
		return nil, err
	}
	return &report.Stats{Lab: lab.Name, Hops: countHops(as), Snapshot: snapshot, Edges: lab.Topology.Edges(hops)}, nil
}
