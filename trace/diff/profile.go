package diff

import (
	"slices"
	"time"

	"github.com/nsbpf/nsbpf/internal/hop"
	"github.com/nsbpf/nsbpf/trace"
)

// Source says how a recording came about, as far as it matters to who compares it.
type Source struct {
	Name   string // the file
	Lab    string
	Expr   string // that packets were chosen by; "": all
	Lost   uint64 // sightings that are not in it because the ring was full
	Sample uint32 // one of so many packets is in it; 0 and 1: all
	Rate   uint32 // packets a second at most; 0: no limit
	Cut    bool   // it has no end: what was lost is not known
}

// complete says whether what is not in the recording was not there.
func (s Source) complete() bool { return s.Lost == 0 && !s.Cut }

// Edge is two hops, by name, that packets were at one after the other.
type Edge struct{ From, To string }

// course is a way that times are compared of: an edge, or from end to end.
type course struct {
	Edge
	Kind  Kind
	Whole bool // from where packets begin to where they end, over several edges
}

// traffic is what became of the packets of one flow.
type traffic struct {
	paths   uint64
	crossed map[Edge]uint64
	fates   tally
	nats    tally
	again   tally
}

// tally counts packets by outcome.
type tally struct {
	of   uint64
	by   map[Outcome]count
	last Outcome
}

// count is how many packets had an outcome, and in how many runs of packets one
// after another.
type count struct{ n, runs uint64 }

func (t *tally) add(o Outcome) {
	if t.by == nil {
		t.by = make(map[Outcome]count)
	}
	c := t.by[o]
	c.n++
	if t.of == 0 || o != t.last {
		c.runs++
	}
	t.by[o] = c
	t.of++
	t.last = o
}

// move makes one of the packets that were added as one of another outcome.
func (t *tally) move(from, to Outcome) {
	a, b := t.by[from], t.by[to]
	t.by[from] = count{a.n - 1, min(a.runs, a.n-1)}
	t.by[to] = count{b.n + 1, b.runs + 1}
	if a.n == 1 {
		delete(t.by, from)
	}
}

// vanished is a packet of which only is known where it was seen last.
type vanished struct {
	*traffic
	fate Outcome
}

// Profile is what is compared of a recording. Its memory is bounded by the lab and
// by the kinds of traffic, not by how many packets there are.
type Profile struct {
	Source Source

	names map[hop.ID]string
	edges map[Edge]bool // of the lab
	flows map[Flow]*traffic
	times map[course]*reservoir

	vanished    map[uint64]vanished // by the Path's number
	paths       uint64
	first, last uint64 // of the sightings' clock
	crossed     []Edge // by the Path that is being added
	nat         []byte // likewise
	natNames    map[string]string
}

// mostVanished bounds the packets whose end may be told late.
const mostVanished = 1 << 14

// mostFlows bounds the flows of a profile. Of more only the kind is told apart.
const mostFlows = 4096

// NewProfile returns a Profile of a recording without Paths, of a lab with these
// hops and edges.
func NewProfile(hops []hop.Hop, edges []hop.Edge) *Profile {
	p := &Profile{
		names: make(map[hop.ID]string), edges: make(map[Edge]bool),
		flows: make(map[Flow]*traffic), times: make(map[course]*reservoir), natNames: make(map[string]string),
		vanished: make(map[uint64]vanished),
	}
	for _, h := range hops {
		p.names[h.ID] = h.String()
	}
	for _, e := range edges {
		p.edges[Edge{p.names[e.From], p.names[e.To]}] = true
	}
	return p
}

func (p *Profile) side() Side {
	return Side{p.Source, p.paths, time.Duration(p.last - p.first)}
}

func (p *Profile) name(id hop.ID) string { return p.names[id] }

// Add takes a Path, in the order in which they complete. It does not keep it.
func (p *Profile) Add(path *trace.Path) {
	if path.Late != 0 {
		p.late(path)
		return
	}
	p.span(path)
	t := p.flow(path)
	t.paths++
	p.steps(path, t)
	if fate, known := fateOf(path, p.name); known {
		t.fates.add(fate)
		if path.Verdict == trace.LastSeen && len(p.vanished) < mostVanished {
			p.vanished[path.Number] = vanished{t, fate}
		}
		// Whether a packet that was dropped would have been translated is not known.
		if nat := p.natNamed(); nat != "" || fate == (Outcome{}) {
			t.nats.add(Outcome{NAT: nat})
		}
	}
	if !path.Partial {
		t.again.add(Outcome{Again: path.Attempt > 1})
	}
	p.whole(path)
}

// late corrects what became of a packet that was counted where it was seen last, now
// that the kernel says how it ended: one that waits for a neighbour waits for seconds.
func (p *Profile) late(path *trace.Path) {
	v, ok := p.vanished[path.Late]
	if !ok {
		return
	}
	delete(p.vanished, path.Late)
	if fate, known := fateOf(path, p.name); known {
		v.fates.move(v.fate, fate)
	}
}

func (p *Profile) span(path *trace.Path) {
	if p.paths == 0 {
		p.first = path.Steps[0].TimeNS
	}
	p.paths++
	p.first = min(p.first, path.Steps[0].TimeNS)
	for i := range path.Steps {
		p.last = max(p.last, path.Steps[i].TimeNS)
	}
}

// flow returns that of path.
func (p *Profile) flow(path *trace.Path) *traffic {
	st := &path.Steps[0]
	origin := p.name(st.HopID())
	if origin == "" && len(path.Drops) > 0 {
		origin = path.Drops[0].Node
	}
	f := flowOf(origin, &st.Sighting)
	t := p.flows[f]
	if t == nil && len(p.flows) >= mostFlows {
		f = f.coarse()
		t = p.flows[f]
	}
	if t == nil {
		t = &traffic{crossed: make(map[Edge]uint64)}
		p.flows[f] = t
	}
	return t
}

// steps takes the edges that path went over. Of several pieces the first counts.
func (p *Profile) steps(path *trace.Path, t *traffic) {
	kind := kindOf(path)
	p.crossed, p.nat = p.crossed[:0], p.nat[:0]
	for i := range path.Steps {
		st := &path.Steps[i]
		if st.Prev < 0 {
			continue
		}
		e := Edge{p.name(path.Steps[st.Prev].HopID()), p.name(st.HopID())}
		if slices.Contains(p.crossed, e) {
			continue
		}
		p.crossed = append(p.crossed, e)
		t.crossed[e]++
		p.time(course{Edge: e, Kind: kind}, st.Delta)
		if st.Change.Readdressed() {
			p.nat = appendNAT(p.nat, e, st)
		}
	}
}

// natNamed returns what was translated of the Path that is being added.
func (p *Profile) natNamed() string {
	s, ok := p.natNames[string(p.nat)]
	if !ok {
		s = string(p.nat)
		p.natNames[s] = s
	}
	return s
}

// whole takes the time from end to end of a packet that arrived over several edges.
func (p *Profile) whole(path *trace.Path) {
	arrived := path.Verdict == trace.Delivered || path.Verdict == trace.LeftLab
	if !arrived || path.Partial || path.Steps[path.End].Prev <= 0 {
		return
	}
	e := Edge{p.name(path.Steps[0].HopID()), p.name(path.Steps[path.End].HopID())}
	p.time(course{Edge: e, Kind: kindOf(path), Whole: true}, path.Duration())
}

func (p *Profile) time(c course, d time.Duration) {
	r := p.times[c]
	if r == nil {
		r = newReservoir()
		p.times[c] = r
	}
	r.add(d)
}

func kindOf(path *trace.Path) Kind { return flowOf("", &path.Steps[0].Sighting).Kind }
