package diff

import (
	"cmp"
	"slices"
)

// correct corrects the P of all claims by Holm (A Simple Sequentially Rejective
// Multiple Test Procedure, 1979). What could not have been found whatever happened
// is no test (Tarone, A Modified Bonferroni Method for Discrete Data, 1990).
func (c *comparing) correct() {
	var tests []int
	for i := range c.claims {
		if c.claims[i].floor <= c.Options.Alpha {
			tests = append(tests, i)
		} else {
			c.claims[i].P = 1
		}
	}
	c.Tests = len(tests)
	slices.SortStableFunc(tests, func(i, j int) int { return cmp.Compare(c.claims[i].P, c.claims[j].P) })
	least := 0.0
	for k, i := range tests {
		least = max(least, min(1, c.claims[i].P*float64(len(tests)-k)))
		c.claims[i].P = least
	}
	for i := range c.claims {
		if t := c.claims[i].Time; t != nil {
			t.P = c.claims[i].P
			c.Times = append(c.Times, *t)
		}
	}
}

// conclude makes Findings of the claims that hold.
func (c *comparing) conclude() {
	var sure, doubtful []Finding
	for i := range c.claims {
		cl := &c.claims[i]
		switch significant := cl.P <= c.Options.Alpha; {
		case !cl.change:
		case significant && cl.Doubt == Certain:
			sure = append(sure, cl.Finding)
		case cl.listed || significant:
			if cl.Doubt == Certain {
				cl.Doubt = Chance
			}
			doubtful = append(doubtful, cl.Finding)
		}
	}
	c.Findings, c.Doubtful = gathered(paired(sure)), gathered(doubtful)
}

// paired makes one Finding of two of a flow: packets that are dropped or translated
// in one way no longer, and in another instead.
func paired(all []Finding) []Finding {
	var out []Finding
	for _, f := range all {
		i := -1
		if f.Time == nil && f.Edge == (Edge{}) {
			i = slices.IndexFunc(out, func(g Finding) bool { return isPair(g, f) })
		}
		if i < 0 {
			out = append(out, f)
			continue
		}
		g := &out[i]
		if g.Is != (Outcome{}) {
			*g, f = f, *g
		}
		g.Is, g.B, g.P = f.Is, f.B, max(f.P, g.P)
		g.Change = DropMoved
		if g.Is.NAT != "" {
			g.Change = NATChanged
		}
	}
	return out
}

// isPair says whether one of f and g became less and the other more, of the same
// flow in the same respect.
func isPair(f, g Finding) bool {
	if f.Edge != (Edge{}) || f.Flows[0] != g.Flows[0] || f.Was.Again || f.Is.Again || g.Was.Again || g.Is.Again {
		return false
	}
	nat := func(f Finding) bool { return f.Was.NAT != "" || f.Is.NAT != "" }
	less := func(f Finding) bool { return f.Is == Outcome{} }
	more := func(f Finding) bool { return f.Was == Outcome{} }
	return nat(f) == nat(g) && (less(f) && more(g) || more(f) && less(g))
}

// gathered makes one Finding of the same of several flows, or of several kinds on an
// edge, and puts the worst first.
func gathered(all []Finding) []Finding {
	type same struct {
		Change  Change
		Doubt   Doubt
		Edge    Edge
		Was, Is Outcome
	}
	at := make(map[same]int)
	var out []Finding
	for _, f := range all {
		k := same{f.Change, f.Doubt, f.Edge, f.Was, f.Is}
		i, ok := at[k]
		if f.Time != nil || !ok {
			at[k] = len(out)
			out = append(out, f)
			continue
		}
		g := &out[i]
		g.Flows, g.Kinds = slices.Concat(g.Flows, f.Flows), slices.Concat(g.Kinds, f.Kinds)
		g.A, g.B = g.A.plus(f.A.N, f.A.Of), g.B.plus(f.B.N, f.B.Of)
		g.P = min(g.P, f.P)
	}
	for i := range out {
		slices.SortFunc(out[i].Flows, compareFlows)
	}
	slices.SortFunc(out, compareFindings)
	return out
}
