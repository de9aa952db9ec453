package trace

import (
	"time"

	"github.com/nsbpf/nsbpf/bpf"
	"github.com/nsbpf/nsbpf/internal/hop"
	"github.com/nsbpf/nsbpf/trace/filter"
)

// Select returns whether a Path is one that x wants, for Paths of packets that
// x's [filter.Expr.Kernel] selected in a lab with the hops. The function neither
// allocates nor keeps the Path; it is nil if x wants all of them.
//
// The error is a [*filter.Error] at a node or hop that the lab does not have.
func Select(x *filter.Expr, hops []hop.Hop) (func(*Path) bool, error) {
	wants, err := x.OnPaths(hops)
	if wants == nil {
		return nil, err
	}
	return func(p *Path) bool { return wants((*asked)(p)) }, nil
}

// asked is a Path as expressions see it.
type asked Path

func (p *asked) Len() int                    { return len(p.Steps) }
func (p *asked) Hop(step int) hop.ID         { return p.Steps[step].HopID() }
func (p *asked) Packet(step int) *bpf.Packet { return &p.Steps[step].Packet }
func (p *asked) Latency() time.Duration      { return (*Path)(p).Duration() }
func (p *asked) Attempts() int               { return p.Attempt }

// Dropped implements [filter.Path]. What became of a packet that was given up on,
// that went on in others, or that was on its way at the end, is not known.
func (p *asked) Dropped() (dropped, known bool) {
	switch p.Verdict {
	case Dropped:
		return true, true
	case LastSeen, PartlyDelivered:
		return true, !p.GivenUp
	case Merged, Unfinished:
		return false, false
	}
	return false, true
}

// Readdressed implements [filter.Path].
func (p *asked) Readdressed() bool {
	for i := range p.Steps {
		if p.Steps[i].Change.Readdressed() {
			return true
		}
	}
	return false
}
