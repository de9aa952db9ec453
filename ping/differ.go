package ping

import (
	"fmt"
	"slices"

	"github.com/nsbpf/nsbpf/forward"
	"github.com/nsbpf/nsbpf/internal/hop"
	"github.com/nsbpf/nsbpf/trace"
)

// Differ says in a line where p went another way than j predicts, and nothing if
// it did not. Of p's copies the one counts that came to its End. Ports and the ids
// of echoes, which a translation chooses freely, are not compared.
func Differ(j *forward.Journey, p *trace.Path, hops []hop.Hop) string {
	names := make(map[hop.ID]hop.Hop, len(hops))
	for _, h := range hops {
		names[h.ID] = h
	}
	was := trunk(p, names)
	for i, st := range was {
		h := names[st.HopID()]
		if i >= len(j.Steps) {
			return fmt.Sprintf("predicted to be %s, came to %s", ending(j), h)
		}
		want := &j.Steps[i]
		if want.Hop.String() != h.String() {
			return fmt.Sprintf("predicted %s, came to %s", want.Hop, h)
		}
		if src, dst := st.Src(), st.Dst(); want.Packet.Src.IsValid() && (src != want.Packet.Src || dst != want.Packet.Dst) {
			return fmt.Sprintf("predicted %s > %s at %s, was %s > %s", want.Packet.Src, want.Packet.Dst, h, src, dst)
		}
	}
	became := becameOf(p, names)
	switch {
	case became == "": // it is not known
	case len(was) < len(j.Steps):
		return fmt.Sprintf("predicted %s, was %s", j.Steps[len(was)].Hop, became)
	case j.End == forward.Stopped && !p.Lost(), (j.End == forward.Delivered || j.End == forward.LeftLab) && p.Lost():
		return fmt.Sprintf("predicted to be %s, was %s", ending(j), became)
	}
	return ""
}

// trunk returns the steps of p to its End, the first one first. Hops that a
// prediction does not have are left out.
func trunk(p *trace.Path, names map[hop.ID]hop.Hop) []*trace.Step {
	var steps []*trace.Step
	for i := p.End; i >= 0; i = p.Steps[i].Prev {
		st := &p.Steps[i]
		if h, known := names[st.HopID()]; known && h.Layer == hop.TC {
			steps = append(steps, st)
		}
	}
	slices.Reverse(steps)
	return steps
}

// ending says how j ends.
func ending(j *forward.Journey) string {
	switch j.End {
	case forward.Stopped:
		if n := len(j.Obstacles); n > 0 {
			return "stopped in " + j.At + " (" + j.Obstacles[n-1].Sentence + ")"
		}
		return "stopped in " + j.At
	case forward.LeftLab:
		return "gone from the lab by " + j.At
	}
	return "delivered to " + j.At
}

// becameOf says how p ended, and nothing if that is not known.
func becameOf(p *trace.Path, names map[hop.ID]hop.Hop) string {
	at := "before the first hop"
	h, seen := names[p.Steps[p.End].HopID()]
	if seen {
		at = "at " + h.String()
	}
	switch p.Verdict {
	case trace.Delivered:
		return "delivered to " + h.Node
	case trace.LeftLab:
		return "gone from the lab " + at
	case trace.Dropped:
		if n := len(p.Drops); n > 0 {
			return "dropped in " + p.Drops[n-1].Node
		}
		return "dropped " + at
	case trace.LastSeen, trace.PartlyDelivered:
		return "last seen " + at
	}
	return ""
}
