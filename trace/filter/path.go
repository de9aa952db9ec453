package filter

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nsbpf/nsbpf/bpf"
	"github.com/nsbpf/nsbpf/internal/hop"
	"github.com/nsbpf/nsbpf/internal/nearest"
)

// Path is what an expression asks of a packet's way through a lab.
type Path interface {
	Len() int                    // how many steps it has
	Hop(step int) hop.ID         // where a step was
	Packet(step int) *bpf.Packet // what was seen there; not kept
	// Dropped says whether the packet was not delivered and did not leave the lab,
	// and whether that is known.
	Dropped() (dropped, known bool)
	Latency() time.Duration // from the first step to the end
	Readdressed() bool      // some step changed an address, a port or an echo's id
	Attempts() int          // how often the segment had been sent, this time included
}

// answer is a truth value of Kleene's strong logic, in which and is the lesser,
// or the greater and not the negative.
type answer int8

const (
	no answer = iota - 1
	unknown
	yes
)

func answerOf(b bool) answer {
	if b {
		return yes
	}
	return no
}

// question is what a node asks of a Path.
type question func(Path) answer

// OnPaths returns what e asks of the Paths of the packets that its [Expr.Kernel]
// selects, as a function that allocates nothing and may be used concurrently. It
// is nil if e has no own words.
//
// hops are those that Paths can have. The error is an [*Error] at a node or hop
// that is not among them.
func (e *Expr) OnPaths(hops []hop.Hop) (func(Path) bool, error) {
	if e.path == nil {
		return nil, nil
	}
	ask, err := binder{e.source, hops}.bind(e.path)
	if err != nil {
		return nil, err
	}
	return func(p Path) bool { return ask(p) == yes }, nil
}

// binder makes questions of nodes in the lab that has the hops.
type binder struct {
	source string
	hops   []hop.Hop
}

func (b binder) bind(n node) (question, error) {
	switch n := n.(type) {
	case and:
		return b.both(n.left, n.right, no, func(l, r answer) answer { return min(l, r) })
	case or:
		return b.both(n.left, n.right, yes, func(l, r answer) answer { return max(l, r) })
	case not:
		ask, err := b.bind(n.of)
		return func(p Path) answer { return -ask(p) }, err
	case passes:
		return b.bindPlace(n)
	case lasts:
		return func(p Path) answer { return answerOf(n.op.of(int64(p.Latency()), int64(n.bound))) }, nil
	case outcome:
		return outcomes[n.of].ask, nil
	}
	return anywhere(n.truth()), nil
}

// both combines the answers of two nodes; the second is not asked if the first
// decides.
func (b binder) both(left, right node, decides answer, combine func(l, r answer) answer) (question, error) {
	l, err := b.bind(left)
	if err != nil {
		return nil, err
	}
	r, err := b.bind(right)
	return func(p Path) answer {
		a := l(p)
		if a == decides {
			return a
		}
		return combine(a, r(p))
	}, err
}

// anywhere asks whether t holds at one of a Path's steps.
func anywhere(t truth) question {
	need := max(needed(t.yes), needed(t.no))
	return func(p Path) answer {
		a := no
		for i := 0; i < p.Len() && a != yes; i++ {
			a = max(a, t.of(p.Packet(i), need))
		}
		return a
	}
}

// of returns the answer for p, of which need is asked.
func (t truth) of(p *bpf.Packet, need depth) answer {
	switch {
	case !readable(p, need):
		return unknown
	case t.yes.holds(p):
		return yes
	case t.no.holds(p):
		return no
	}
	return unknown
}

// bindPlace asks whether one of a Path's steps is at the place.
func (b binder) bindPlace(n passes) (question, error) {
	var at []bool // by hop.ID
	for _, h := range b.hops {
		if n.is(h) {
			at = slices.Grow(at, int(h.ID)+1)[:max(len(at), int(h.ID)+1)]
			at[h.ID] = true
		}
	}
	if at == nil {
		return nil, b.nowhere(n)
	}
	return func(p Path) answer {
		for i := range p.Len() {
			if id := int(p.Hop(i)); id < len(at) && at[id] {
				return yes
			}
		}
		return no
	}, nil
}

// is reports whether n means h.
func (n passes) is(h hop.Hop) bool {
	return h.Node == n.node && (n.device == "" || h.Device == n.device && (n.either || h.Direction == n.dir))
}

// nowhere returns the error that n is not in the lab, with what is.
func (b binder) nowhere(n passes) error {
	var nodes, places, directions []string
	for _, h := range b.hops {
		nodes = append(nodes, h.Node)
		places = append(places, h.Place())
		if h.Place() == n.place() {
			directions = append(directions, h.Direction.Short())
		}
	}
	name, msg, known := n.node, fmt.Sprintf("node %q does not exist", n.node), nodes
	if n.device != "" {
		name, msg, known = n.place(), fmt.Sprintf("hop %q does not exist", n.place()), places
	}
	hint := cmp.Or(nearest.Hint(name, known), "there are "+listed(known))
	if directions != nil {
		msg = fmt.Sprintf("%s is not traced %s", n.place(), n.dir.Short())
		hint = "only " + listed(directions)
	}
	return &Error{Expr: b.source, Pos: n.pos, Msg: msg, Hint: hint}
}

// listed returns the names, each once and in order, as a phrase.
func listed(names []string) string {
	names = slices.Clone(names)
	slices.Sort(names)
	names = slices.Compact(names)
	switch last := len(names) - 1; last {
	case -1:
		return "none"
	case 0:
		return names[0]
	default:
		return strings.Join(names[:last], ", ") + " and " + names[last]
	}
}
