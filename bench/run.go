package bench

import (
	"context"
	"errors"
	"fmt"

	"github.com/nsbpf/nsbpf/bench/load"
	"github.com/nsbpf/nsbpf/bench/result"
	"github.com/nsbpf/nsbpf/bench/stat"
)

// Case is one load in one state of the lab, measured once in each round.
type Case struct {
	Name      string
	Settings  map[string]string
	Reference bool // see [result.Variant]
	Load      load.Spec
	// Enter brings the state about; nil if there is none. What it changed is undone
	// by whoever made the Case, after the last round.
	Enter   func(ctx context.Context) error
	Measure func(ctx context.Context) (Round, error)
}

// Round is what one measurement of a Case found.
type Round struct {
	Figures []Figure // the same in each round of a Case
	Outcome *load.Outcome
	Seen    []result.HopCount // along the path, where the lab counts
}

// Figure is one sample of a metric.
type Figure struct {
	Name, Unit string
	Better     result.Better
	Gate       bool
	Value      float64
}

// Schedule says how often a [Case] is measured.
type Schedule struct {
	Rounds int // at most, if Until is set
	// Until ends it when the interval of each metric with a gate is within this part
	// of its median; 0: never before Rounds.
	Until float64
	// Progress, if set, is told before each measurement how many are done.
	Progress func(done, of int, what string)
}

// Turns measures each Case once a round, in an order that rotates, so that what the
// machine does meanwhile it does to all. The first round warms up and is not kept.
//
// It returns the rounds by case, as many for each: one that was not ended for all is
// left out, also when ctx ends or a case cannot be measured.
func Turns(ctx context.Context, s Schedule, cases []Case) ([][]Round, error) {
	kept := make([][]Round, len(cases))
	for round := 0; round <= s.Rounds; round++ {
		one := make([]Round, len(cases))
		for k := range cases {
			i := (k + round) % len(cases)
			if s.Progress != nil {
				s.Progress(round*len(cases)+k, (s.Rounds+1)*len(cases), cases[i].Name)
			}
			var err error
			if one[i], err = cases[i].take(ctx); err != nil {
				return kept, err
			}
		}
		if round == 0 {
			continue
		}
		for i := range cases {
			kept[i] = append(kept[i], one[i])
		}
		if s.Until > 0 && len(Wide(cases, kept, s.Until)) == 0 {
			break
		}
	}
	return kept, nil
}

// take measures c once, in its state.
func (c *Case) take(ctx context.Context) (r Round, err error) {
	if err := ctx.Err(); err != nil {
		return r, err
	}
	if c.Enter != nil {
		err = c.Enter(ctx)
	}
	if err == nil {
		r, err = c.Measure(ctx)
	}
	// What was cut short is no measurement.
	if err = errors.Join(err, ctx.Err()); err != nil {
		return r, fmt.Errorf("%s: %w", c.Name, err)
	}
	return r, nil
}

// Wide says of each metric with a gate whose interval is not yet within ±part why
// that is so, in a sentence.
func Wide(cases []Case, rounds [][]Round, part float64) []string {
	var all []string
	for i, c := range cases {
		if c.Reference {
			continue
		}
		for _, m := range metrics(rounds[i]) {
			if !m.Gate {
				continue
			}
			ok, now, need := stat.Enough(m.Samples, part)
			switch {
			case ok:
			case now.Center == 0 || need == 0:
				all = append(all, fmt.Sprintf("%s: %s is not within ±%.3g %% after %d rounds, and how many it takes cannot be told",
					c.Name, m.Name, 100*part, len(m.Samples)))
			default:
				half := max(now.High-now.Center, now.Center-now.Low) / now.Center
				all = append(all, fmt.Sprintf("%s: %s is within ±%.3g %% after %d rounds, not ±%.3g %%: that would take about %d",
					c.Name, m.Name, 100*half, len(m.Samples), 100*part, need))
			}
		}
	}
	return all
}
