// Package bench generates load across a lab, measures it, and compares what it
// measured, with the noise of the machine in view.
//
// Statistics are pure; generators (*_linux.go) open their sockets inside the
// lab's namespaces.
package bench

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"
)

// Sample is one measurement.
type Sample struct {
	Rate float64 `json:"rate"` // in the [Load]'s unit
	// CPU is the time all of the machine's CPUs were busy while one unit passed,
	// in ns: of a packet, or of a kilobyte.
	CPU float64 `json:"cpu_ns_per_unit"`
}

// Load is one way to load the path from one namespace to another.
type Load struct {
	Name string
	Unit string // of a rate, such as Gbit/s
	// Run loads the path for about d and returns what arrived.
	Run func(ctx context.Context, d time.Duration) (Sample, error)
}

// Variant is a state of the lab that is compared with others.
type Variant struct {
	Name string
	// Enter brings the state about and returns how to leave it.
	Enter func(ctx context.Context) (leave func() error, err error)
}

// Series is the samples of one load under one variant, in the order taken.
type Series struct {
	Load    string   `json:"load"`
	Unit    string   `json:"unit"`
	Variant string   `json:"variant"`
	Samples []Sample `json:"samples"`
}

// Plan says how often and how long is measured.
type Plan struct {
	Rounds   int
	Duration time.Duration // of one sample
	// Progress, if set, is told before each sample how many are done.
	Progress func(done, of int, what string)
}

// Interleave measures each load under each variant once a round, so that a
// machine that becomes slower is slower for all of them. The first round warms
// up and is not kept. On cancellation it returns what it has, with the error.
func Interleave(ctx context.Context, p Plan, loads []Load, variants []Variant) ([]Series, error) {
	all := make([]Series, 0, len(loads)*len(variants))
	for _, l := range loads {
		for _, v := range variants {
			all = append(all, Series{Load: l.Name, Unit: l.Unit, Variant: v.Name})
		}
	}
	of := (p.Rounds + 1) * len(all)
	for round := 0; round <= p.Rounds; round++ {
		for i, l := range loads {
			// Each round starts with another variant, so that none always
			// follows the same one.
			for k := range variants {
				j := (k + round) % len(variants)
				at := i*len(variants) + j
				if p.Progress != nil {
					p.Progress(round*len(all)+i*len(variants)+k, of, l.Name+" "+variants[j].Name)
				}
				s, err := measure(ctx, p.Duration, l, variants[j])
				if err != nil {
					return all, err
				}
				if round > 0 {
					all[at].Samples = append(all[at].Samples, s)
				}
			}
		}
	}
	return all, nil
}

func measure(ctx context.Context, d time.Duration, l Load, v Variant) (s Sample, err error) {
	leave, err := v.Enter(ctx)
	if err != nil {
		return s, fmt.Errorf("bench %s %s: %w", l.Name, v.Name, err)
	}
	s, err = l.Run(ctx, d)
	if lerr := leave(); err == nil {
		err = lerr
	}
	if err != nil {
		err = fmt.Errorf("bench %s %s: %w", l.Name, v.Name, err)
	}
	return s, err
}

// Summary compares one series with the first of its load.
type Summary struct {
	Load    string `json:"load"`
	Unit    string `json:"unit"`
	Variant string `json:"variant"`
	Samples int    `json:"samples"`
	// Rate and CPU are medians.
	Rate float64 `json:"rate"`
	CPU  float64 `json:"cpu_ns_per_unit"`
	// RateRatio and CPURatio are medians of the ratios round by round, which
	// cancel what the machine did between rounds. Spread is the range of the
	// middle half of the rates' ratios.
	RateRatio float64    `json:"rate_ratio"`
	CPURatio  float64    `json:"cpu_ratio"`
	Spread    [2]float64 `json:"rate_ratio_quartiles"`
}

// Summarise returns a Summary of each series that has samples. The first
// variant of a load is the base of that load's ratios.
func Summarise(all []Series) []Summary {
	base := make(map[string]Series)
	var out []Summary
	for _, s := range all {
		b, ok := base[s.Load]
		if !ok {
			base[s.Load], b = s, s
		}
		n := min(len(s.Samples), len(b.Samples))
		if n == 0 {
			continue
		}
		rates, cpus := make([]float64, n), make([]float64, n)
		for i := range n {
			rates[i] = s.Samples[i].Rate / b.Samples[i].Rate
			cpus[i] = s.Samples[i].CPU / b.Samples[i].CPU
		}
		out = append(out, Summary{
			Load: s.Load, Unit: s.Unit, Variant: s.Variant, Samples: n,
			Rate:      median(s.Samples, func(s Sample) float64 { return s.Rate }),
			CPU:       median(s.Samples, func(s Sample) float64 { return s.CPU }),
			RateRatio: Quantile(rates, 0.5),
			CPURatio:  Quantile(cpus, 0.5),
			Spread:    [2]float64{Quantile(rates, 0.25), Quantile(rates, 0.75)},
		})
	}
	return out
}

func median(samples []Sample, of func(Sample) float64) float64 {
	xs := make([]float64, len(samples))
	for i, s := range samples {
		xs[i] = of(s)
	}
	return Quantile(xs, 0.5)
}

// Quantile returns the q-quantile of xs (q in 0…1) by linear interpolation
// between the two nearest (Hyndman and Fan's type 7, the default of R). It is 0
// for no values and leaves xs as it is.
func Quantile(xs []float64, q float64) float64 {
	if len(xs) == 0 {
		return 0
	}
	xs = slices.SortedFunc(slices.Values(xs), cmp.Compare[float64])
	at := q * float64(len(xs)-1)
	i := int(at)
	if i+1 >= len(xs) {
		return xs[len(xs)-1]
	}
	return xs[i] + (at-float64(i))*(xs[i+1]-xs[i])
}
