package bench

import (
	"context"
	"fmt"

	"github.com/nsbpf/nsbpf/bench/load"
	"github.com/nsbpf/nsbpf/bench/result"
)

// Search looks for the highest rate at which a path loses nothing, as RFC 2544,
// section 26.1, defines throughput.
type Search struct {
	// Most is the rate to begin at: what the path carried flat out, in packets a second.
	Most float64
	// Resolution ends it when the highest rate that passed and the lowest that did not
	// are no further apart than this part of Most (0.01).
	Resolution float64
	// Trials are how often a rate must pass to count (3). One that fails once has failed.
	Trials int
	// Try puts the rate on the path once.
	Try func(ctx context.Context, rate float64) (load.Outcome, error)
}

// reached is the part of a rate that must have been sent for a trial to be one of it.
const reached = 0.95

// Run returns the rate, 0 if even the lowest that can be told from nothing lost
// packets, and what became of each rate that was tried, in their order. Rates that the
// generator did not reach have failed: limited then says so.
func (s Search) Run(ctx context.Context) (best float64, curve []result.Point, limited string, err error) {
	if s.Resolution == 0 {
		s.Resolution = 0.01
	}
	if s.Trials == 0 {
		s.Trials = 3
	}
	low, high, rate := 0.0, s.Most, s.Most
	for high-low > s.Resolution*s.Most && rate > 0 {
		p, passed, short, err := s.at(ctx, rate)
		if err != nil {
			return low, curve, limited, fmt.Errorf("search at %.0f pps: %w", rate, err)
		}
		curve = append(curve, p)
		if passed {
			low = rate
		} else {
			high = rate
		}
		if short {
			limited = fmt.Sprintf("the generator did not reach %s, so more may pass", result.Figure(rate, "pps"))
		} else if !passed {
			limited = "" // the path failed below
		}
		rate = (low + high) / 2
		if low == s.Most {
			break // it passed all that was ever sent
		}
	}
	return low, curve, limited, nil
}

// at tries a rate until it fails or has passed often enough. A trial that the generator
// was too slow for, with nothing lost, is made again, as often as there are trials.
func (s Search) at(ctx context.Context, rate float64) (p result.Point, passed, short bool, err error) {
	var sent, received, seconds float64
	for passes, shorts := 0, 0; passes < s.Trials && shorts <= s.Trials; {
		o, err := s.Try(ctx, rate)
		if err != nil {
			return p, false, false, err
		}
		sent += float64(o.Sent.Packets)
		received += float64(o.Received.Packets)
		seconds += o.Elapsed.Seconds()
		short = float64(o.Sent.Packets) < reached*rate*o.Elapsed.Seconds()
		if o.Sent.Packets == 0 || o.Received.Packets != o.Sent.Packets {
			short = false
			break
		}
		if short {
			shorts++
		} else {
			passes++
		}
		passed = passes == s.Trials
	}
	p.Offered = rate
	if seconds > 0 {
		p.Received = received / seconds
	}
	if sent > 0 {
		p.Loss = max(0, 1-received/sent)
	}
	return p, passed, short, nil
}
