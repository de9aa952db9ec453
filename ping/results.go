package ping

import (
	"slices"
	"time"
)

// Results sums up probes.
type Results struct {
	Sent     int // that left the sender's socket
	Unsent   int // that the kernel refused to send
	Answered int // by the destination
	Refused  int // by an ICMP error from elsewhere
	// Duplicates are answers to what had been answered, and Late those that came
	// behind the timeout. Neither is in the other counts.
	Duplicates, Late int

	rtts []time.Duration
}

// Add counts p.
func (r *Results) Add(p *Probe) {
	if p.Err != nil {
		r.Unsent++
		return
	}
	r.Sent++
	switch {
	case p.Answer == nil:
	case p.Answer.Reached(p.Key.Dst):
		r.Answered++
		r.rtts = append(r.rtts, p.Answer.RTT)
	default:
		r.Refused++
	}
}

// Silent returns how many probes nothing came back for.
func (r *Results) Silent() int { return r.Sent - r.Answered - r.Refused }

// RTT returns the round trips of what was answered.
func (r *Results) RTT() Spread { return SpreadOf(r.rtts) }

// Spread is the least, the middle and the largest of times. It is zero of none.
type Spread struct{ Min, Median, Max time.Duration }

// SpreadOf returns that of ds. The median of an even number is the lower one of
// the two in the middle.
func SpreadOf(ds []time.Duration) Spread {
	if len(ds) == 0 {
		return Spread{}
	}
	ds = slices.Sorted(slices.Values(ds))
	return Spread{ds[0], ds[(len(ds)-1)/2], ds[len(ds)-1]}
}
