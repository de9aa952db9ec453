package trace

import (
	"cmp"
	"slices"
)

// conclude sets End and Verdict from the ends of the branches; of a packet in
// pieces every byte counts.
func (o *open) conclude() {
	best := -1
	for i := range o.Steps {
		if o.marks[i].left {
			continue
		}
		st := &o.Steps[i]
		if best < 0 || st.Verdict > o.Steps[best].Verdict ||
			st.Verdict == o.Steps[best].Verdict && st.TimeNS >= o.Steps[best].TimeNS {
			best = i
		}
	}
	if best >= 0 {
		o.End, o.Verdict = best, o.Steps[best].Verdict
	}
	if o.parts || len(o.Merges) > 0 {
		o.weigh()
	}
}

// weigh is conclude for a packet in pieces.
func (o *open) weigh() {
	merged := len(o.Merges) > 0
	missing, first := o.uncovered(LeftLab, true)
	switch {
	case missing == 0 && o.sized && merged:
		o.Verdict, o.End = Merged, o.Merges[len(o.Merges)-1].Step
	case missing == 0 && o.sized:
		if m, _ := o.uncovered(Delivered, false); m > 0 {
			o.Verdict, o.End = LeftLab, o.latest(LeftLab)
		}
	case missing == o.Payload:
		o.End = o.latestOf(first)
		o.Verdict = min(o.Steps[o.End].Verdict, Dropped)
	default:
		o.Verdict, o.End, o.Missing = PartlyDelivered, o.latestOf(first), missing
	}
}

// uncovered returns how many bytes no step brought to that verdict or a better
// one, nor if merges are counted another Path took, and the first of them.
func (o *open) uncovered(v Verdict, merges bool) (n, first uint32) {
	ends := o.ends[:0]
	for i := range o.Steps {
		if o.Steps[i].Verdict >= v {
			ends = append(ends, o.Steps[i].Piece)
		}
	}
	if merges {
		for i := range o.Merges {
			ends = append(ends, o.Merges[i].Piece)
		}
	}
	slices.SortFunc(ends, func(a, b Piece) int { return cmp.Compare(a.Offset, b.Offset) })
	o.ends = ends
	at := uint32(0)
	gap := func(to uint32) {
		if to > at {
			if n == 0 {
				first = at
			}
			n += to - at
		}
	}
	for _, p := range ends {
		gap(p.Offset)
		at = max(at, p.Offset+p.Length)
	}
	gap(o.Payload)
	return n, first
}

// latest returns the last step of that verdict.
func (o *open) latest(v Verdict) int {
	last := -1
	for i := range o.Steps {
		if o.Steps[i].Verdict == v && (last < 0 || o.Steps[i].TimeNS >= o.Steps[last].TimeNS) {
			last = i
		}
	}
	return last
}

// latestOf returns where the byte was last seen.
func (o *open) latestOf(at uint32) int {
	for i := len(o.Steps) - 1; i >= 0; i-- {
		if o.Steps[i].overlaps(Piece{at, 1}) {
			return i
		}
	}
	return max(o.latest(LastSeen), 0)
}
