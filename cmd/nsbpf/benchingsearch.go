package main

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/nsbpf/nsbpf/bench"
	"github.com/nsbpf/nsbpf/bench/load"
	"github.com/nsbpf/nsbpf/bench/result"
)

// searches is how often the rate without loss is looked for, each from the start.
const searches = 3

// searchFor is how long a rate is tried at least.
const searchFor = 200 * time.Millisecond

// unsteady is the part by which they may differ.
const unsteady = 0.1

// checkSearch refuses a load whose rate means nothing to a search.
func checkSearch(s load.Spec) error {
	switch {
	case s.Mode != load.UDP && s.Mode != load.PPS && s.Mode != load.SKB:
		return fmt.Errorf("--search is for modes udp, pps and skb, whose packets can be lost (not %s)", s.Mode)
	case s.Rate > 0 || s.Bits > 0:
		return fmt.Errorf("--search finds the rate itself (leave --rate out)")
	}
	return nil
}

// search enters into d the highest rate of each variant at which nothing is lost, and
// the curve of what was tried. Flat out each was measured before.
func search(ctx context.Context, d *result.Document, cases []bench.Case, rounds [][]bench.Round) error {
	for i, c := range cases {
		v := d.Variant(c.Name)
		if v == nil || v.Reference {
			continue
		}
		if err := c.Enter(ctx); err != nil {
			return err
		}
		s := bench.Search{Most: fastest(rounds[i]), Try: func(ctx context.Context, rate float64) (load.Outcome, error) {
			spec := c.Load
			spec.Rate, spec.Duration = rate, max(spec.Duration, searchFor)
			return load.Run(ctx, spec)
		}}
		var found []float64
		for range searches {
			best, curve, limited, err := s.Run(ctx)
			if err != nil {
				return err
			}
			found = append(found, best)
			v.Curve = append(v.Curve, curve...)
			if note := v.Name + ": " + limited; limited != "" && !slices.Contains(d.Notes, note) {
				d.Notes = append(d.Notes, note)
			}
		}
		slices.SortStableFunc(v.Curve, func(a, b result.Point) int { return cmp.Compare(a.Offered, b.Offered) })
		m := result.NewMetric("lossless", "pps", result.Higher, false, found)
		if m.High-m.Low > unsteady*m.High {
			d.Notes = append(d.Notes, fmt.Sprintf("%s: the rate without loss was not the same each time (%s): the machine does other things, or --duration is too short",
				v.Name, result.Range(m.Low, m.High, m.Unit)))
		}
		v.Metrics = append(v.Metrics, m)
	}
	return nil
}

// fastest is the highest rate that was sent.
func fastest(rounds []bench.Round) (most float64) {
	for _, r := range rounds {
		if s := r.Outcome.Elapsed.Seconds(); s > 0 {
			most = max(most, float64(r.Outcome.Sent.Packets)/s)
		}
	}
	return most
}
