package diff

import (
	"cmp"
	"maps"
	"slices"
	"time"
)

// Options say what is worth being found.
type Options struct {
	// MinEffect is by what part of the shorter one the medians of times must differ
	// at least; 0: 0.05.
	MinEffect float64
	// Alpha is in what part of comparisons of the same traffic something may be found;
	// 0: 0.05.
	Alpha float64
}

func (o Options) withDefaults() Options {
	o.MinEffect = cmp.Or(o.MinEffect, 0.05)
	o.Alpha = cmp.Or(o.Alpha, 0.05)
	return o
}

// FewestTimes is how many times of each recording are compared at least.
const FewestTimes = 20

// Presence is how many packets of a flow one of the recordings has, and the other
// none.
type Presence struct {
	Flow  Flow
	Paths uint64
}

// Side is one of the recordings.
type Side struct {
	Source
	Paths uint64
	Span  time.Duration // from the first sighting to the last
}

// Difference is what is different in b, against a.
type Difference struct {
	A, B    Side
	Options Options // with the defaults
	// Findings are what is different for certain, the worst first.
	Findings []Finding
	// Doubtful are edges, drops and translations that only one of the recordings has,
	// but that is no proof.
	Doubtful []Finding
	// OnlyA and OnlyB are flows of one recording, most packets first. Of them nothing
	// is compared but the times.
	OnlyA, OnlyB []Presence
	// Times are all that were compared, in the order of the names; Thin is how many were
	// not, because a recording has fewer than 20 packets.
	Times []Time
	Thin  int
	// Edges and Flows are how many there were to compare, and Tests how many tests could
	// have found something: P is corrected for these.
	Edges, Flows, Tests int
}

// comparing is a comparison that goes on.
type comparing struct {
	*Difference
	a, b   *Profile
	claims []claim
}

// claim is a Finding that is to be tested. Its P is not corrected until judge.
type claim struct {
	Finding
	floor  float64 // the least P that there could have been
	change bool    // something is different; else it only was tested
	listed bool    // it is worth to be mentioned even in doubt
}

// Compare returns what is different in b, against a. Neither is changed by it.
func Compare(a, b *Profile, o Options) *Difference {
	c := comparing{Difference: &Difference{A: a.side(), B: b.side(), Options: o.withDefaults()}, a: a, b: b}
	c.traffic()
	c.compareEdges()
	for _, f := range sharedFlows(a, b) {
		fa, fb := a.flows[f], b.flows[f]
		c.outcomes(f, &fa.fates, &fb.fates)
		c.outcomes(f, &fa.nats, &fb.nats)
		c.outcomes(f, &fa.again, &fb.again)
	}
	c.compareTimes()
	c.correct()
	c.conclude()
	return c.Difference
}

// traffic lists the flows that only one recording has.
func (c *comparing) traffic() {
	only := func(p, q *Profile) (all []Presence) {
		for f, t := range p.flows {
			if q.flows[f] == nil {
				all = append(all, Presence{f, t.paths})
			}
		}
		slices.SortFunc(all, func(x, y Presence) int {
			return cmp.Or(cmp.Compare(y.Paths, x.Paths), compareFlows(x.Flow, y.Flow))
		})
		return all
	}
	c.OnlyA, c.OnlyB = only(c.a, c.b), only(c.b, c.a)
	c.Flows = len(c.a.flows) + len(c.OnlyB)
}

func sharedFlows(a, b *Profile) []Flow {
	var all []Flow
	for f := range a.flows {
		if b.flows[f] != nil {
			all = append(all, f)
		}
	}
	slices.SortFunc(all, compareFlows)
	return all
}

// use is packets of a kind that go over an edge.
type use struct {
	Edge
	Kind
}

// compareEdges claims edges that only one recording's packets of a kind went over.
func (c *comparing) compareEdges() {
	uses, edges := make(map[use]bool), make(map[Edge]bool)
	for _, p := range [...]*Profile{c.a, c.b} {
		for f, t := range p.flows {
			for e := range t.crossed {
				uses[use{e, f.Kind}], edges[e] = true, true
			}
		}
	}
	c.Edges = len(edges)
	order := func(x, y use) int { return cmp.Or(compareEdges(x.Edge, y.Edge), compareKinds(x.Kind, y.Kind)) }
	for _, u := range slices.SortedFunc(maps.Keys(uses), order) {
		c.claims = append(c.claims, c.edge(u))
	}
}

func (c *comparing) edge(u use) claim {
	var s strata
	e := u.Edge
	cl := claim{Finding: Finding{Edge: e, Kinds: []Kind{u.Kind}}}
	flows := make(map[Flow]bool)
	for _, p := range [...]*Profile{c.a, c.b} {
		for f, t := range p.flows {
			if f.Kind == u.Kind && t.crossed[e] > 0 {
				flows[f] = true
			}
		}
	}
	shared := false
	for _, f := range slices.SortedFunc(maps.Keys(flows), compareFlows) {
		t := table{}
		if fa := c.a.flows[f]; fa != nil {
			t.a, t.aN = fa.crossed[e], fa.paths
		}
		if fb := c.b.flows[f]; fb != nil {
			t.b, t.bN = fb.crossed[e], fb.paths
		}
		s = append(s, t)
		cl.Flows = append(cl.Flows, f)
		cl.A, cl.B = cl.A.plus(t.a, t.aN), cl.B.plus(t.b, t.bN)
		shared = shared || t.aN > 0 && t.bN > 0
	}
	cl.P, cl.floor = s.onlyOne(), s.floor()
	other := c.b
	switch {
	case cl.B.N == 0:
		cl.Change, cl.change = EdgeGone, true
	case cl.A.N == 0:
		cl.Change, cl.change = EdgeNew, true
		other = c.a
	}
	cl.listed = cl.change
	cl.NotInLab = cl.change && !other.edges[e]
	switch {
	case cl.change && !shared:
		cl.Doubt = Absent
	case cl.change && !other.Source.complete():
		cl.Doubt = Incomplete
	}
	return cl
}

func (s Share) plus(n, of uint64) Share { return Share{s.N + n, s.Of + of} }

// outcomes claims what became of the packets of f in one respect.
func (c *comparing) outcomes(f Flow, a, b *tally) {
	all := make(map[Outcome]bool)
	for _, t := range [...]*tally{a, b} {
		for o := range t.by {
			all[o] = o != Outcome{}
		}
	}
	delete(all, Outcome{})
	if a.of == 0 || b.of == 0 {
		return
	}
	for _, o := range slices.SortedFunc(maps.Keys(all), compareOutcomes) {
		c.claims = append(c.claims, c.outcome(f, o, a, b))
	}
}

func (c *comparing) outcome(f Flow, o Outcome, a, b *tally) claim {
	ca, cb := a.by[o], b.by[o]
	t := table{ca.n, a.of, cb.n, b.of}
	cl := claim{Finding: Finding{Flows: []Flow{f}, A: Share{t.a, t.aN}, B: Share{t.b, t.bN}}, change: true}
	more := float64(t.b)*float64(t.aN) > float64(t.a)*float64(t.bN)
	if more {
		cl.Is = o
	} else {
		cl.Was = o
	}
	cl.Change = change(o, more, t)
	cl.listed = (t.a == 0 || t.b == 0) && !o.Again
	if t.a > 0 && t.b > 0 {
		t = t.deflated(ca.runs, cb.runs)
	}
	cl.P, cl.floor = t.p(), t.floor()
	// Where events are lost, packets look as if they were last seen there, and what is
	// missing may have been among them.
	lossyA, lossyB := !c.a.Source.complete(), !c.b.Source.complete()
	lacks := lossyA && ca.n == 0 || lossyB && cb.n == 0
	lastSeen := o.Hop != "" && o.Reason == "" && (more && lossyB || !more && lossyA)
	if lacks || lastSeen {
		cl.Doubt = Incomplete
	}
	return cl
}

// change says what it is that o became more or less frequent.
func change(o Outcome, more bool, t table) Change {
	pick := func(yes, no Change) Change {
		if more {
			return yes
		}
		return no
	}
	switch {
	case o.Again:
		return pick(ResentMore, ResentFewer)
	case o.NAT != "":
		return pick(NATNew, NATGone)
	case t.a == 0:
		return DropNew
	case t.b == 0:
		return DropGone
	}
	return pick(DropMore, DropFewer)
}

// compareTimes claims what takes longer or less long.
func (c *comparing) compareTimes() {
	courses := make(map[course]bool)
	for _, p := range [...]*Profile{c.a, c.b} {
		for w := range p.times {
			courses[w] = true
		}
	}
	order := func(x, y course) int {
		whole := func(w course) int {
			if w.Whole {
				return 1
			}
			return 0
		}
		return cmp.Or(cmp.Compare(whole(x), whole(y)), compareEdges(x.Edge, y.Edge), compareKinds(x.Kind, y.Kind))
	}
	for _, w := range slices.SortedFunc(maps.Keys(courses), order) {
		ra, rb := c.a.times[w], c.b.times[w]
		switch {
		case ra == nil || rb == nil:
			continue
		case len(ra.kept) < FewestTimes || len(rb.kept) < FewestTimes:
			c.Thin++
			continue
		}
		c.claims = append(c.claims, c.time(w, ra, rb))
	}
}

func (c *comparing) time(w course, ra, rb *reservoir) claim {
	r := compareTimes(ra.nanoseconds(), rb.nanoseconds())
	t := &Time{
		Edge: w.Edge, Kind: w.Kind, Whole: w.Whole, Count: [2]uint64{ra.seen, rb.seen},
		Median: r.Median, Ratio: r.Ratio, Low: r.Low, High: r.High,
	}
	cl := claim{Finding: Finding{Change: Slower, Edge: w.Edge, Time: t, P: r.P}}
	effect := t.Ratio
	if t.Ratio < 1 {
		cl.Change, effect = Faster, 1/t.Ratio
	}
	cl.change = effect >= 1+c.Options.MinEffect && (t.Low > 1 || t.High < 1)
	return cl
}
