package forward

import (
	"bytes"
	"slices"
)

// edge is an element as the kernel lists it: a key, or the first key of an
// interval, or with end the first one behind an interval.
type edge struct {
	Element
	end bool
}

// intervals puts the edges of intervals together. A set without intervals stays
// as it is.
func intervals(edges []edge) []Element {
	isEnd := func(e edge) bool { return e.end }
	if !slices.ContainsFunc(edges, isEnd) {
		els := make([]Element, len(edges))
		for i, e := range edges {
			els[i] = e.Element
		}
		return els
	}
	slices.SortStableFunc(edges, func(a, b edge) int {
		if c := bytes.Compare(a.Key, b.Key); c != 0 || a.end == b.end {
			return c
		}
		if a.end {
			return -1 // one interval ends where the next begins
		}
		return 1
	})
	var els []Element
	for i, e := range edges {
		if e.end {
			continue
		}
		if len(e.Key) > 0 && len(e.Last) == 0 {
			e.Last = slices.Repeat(Bytes{0xff}, len(e.Key))
			if i+1 < len(edges) {
				e.Last = before(edges[i+1].Key)
			}
		}
		els = append(els, e.Element)
	}
	return els
}

// before returns the number that is one less.
func before(b Bytes) Bytes {
	b = bytes.Clone(b)
	for i := len(b) - 1; i >= 0; i-- {
		b[i]--
		if b[i] != 0xff {
			break
		}
	}
	return b
}
