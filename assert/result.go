package assert

import (
	"time"

	"github.com/nsbpf/nsbpf/internal/hop"
	"github.com/nsbpf/nsbpf/ping"
	"github.com/nsbpf/nsbpf/trace"
	"github.com/nsbpf/nsbpf/trace/why"
)

// Probe is a packet that was sent, the Paths of it and of its answer, nil where they
// are not known, and why these were lost.
type Probe struct {
	ping.Probe
	Forward, Back       *trace.Path
	ForwardWhy, BackWhy *why.Conclusion
	Said                string // what the answer is, in words; "" if there is none
}

// Outcome is what became of an assertion's packets.
type Outcome struct {
	Probes []Probe
	// Unsent says why none could be sent; "" if they were.
	Unsent string
	Rules  bool // rules of nft were watched
}

// Result is the judgement of an assertion.
type Result struct {
	*Assertion
	Failures []Failure // what does not hold, the most telling first; none: it holds
	Summary  string    // what was measured, or what became of the packets
	Outcome
	Hops  []hop.Hop     // of the lab
	Tries int           // how often it was asked
	Took  time.Duration // from the first
}

// Holds says whether all that is asserted is so.
func (r *Result) Holds() bool { return len(r.Failures) == 0 }

// Failure is one thing that does not hold.
type Failure struct {
	What  string // the field of the assertion; "packet": it got through, or did not
	Text  string // what is the case instead
	Probe int    // the index of the packet that shows it; -1: none does
}

// Shown returns the packet that shows a failure best, or nil.
func (r *Result) Shown() *Probe {
	for _, f := range r.Failures {
		if f.Probe >= 0 {
			return &r.Probes[f.Probe]
		}
	}
	return nil
}

// Lost returns which Path of p was lost, and why: that of the answer only if the
// packet itself arrived.
func (p *Probe) Lost() (*trace.Path, *why.Conclusion) {
	switch {
	case p.Forward != nil && p.Forward.Lost():
		return p.Forward, p.ForwardWhy
	case p.Back != nil && p.Back.Lost():
		return p.Back, p.BackWhy
	}
	return p.Forward, p.ForwardWhy
}
