package trace

import (
	"slices"
	"time"

	"github.com/nsbpf/nsbpf/internal/hop"
)

// notify takes the notices that are due by limit.
func (j *Joiner) notify(limit uint64) {
	j.notices.release(limit, func(n *notice) {
		if n.drop != nil {
			j.totals.Drops++
			j.drop(n.drop)
			return
		}
		j.pass(&n.passage)
	})
}

// drop gives d its place: at the step of an open Path behind which it happened, in
// a Path of its own if the packet was never at a hop, or if its Path is complete
// because it was not seen for long.
func (j *Joiner) drop(d *Drop) {
	for j.isEarly(d) && j.giveLastChance(true) {
	}
	o, i := j.dropped(d)
	if o != nil {
		j.dropAt(o, i, d)
		return
	}
	late := j.vanished.take(d)
	if late == 0 && (d.Followed || !d.Matched || j.harmless(d)) {
		j.totals.DropsIgnored++
		return
	}
	j.emitDropped(d, late)
}

// isEarly says whether a sighting of d's skb waits for its place.
func (j *Joiner) isEarly(d *Drop) bool {
	for i := range j.early.all() {
		if s := &j.early.all()[i]; s.Skb == d.Skb && s.TimeNS <= d.TimeNS {
			return true
		}
	}
	return false
}

func (j *Joiner) harmless(d *Drop) bool { return j.config.Harmless != nil && j.config.Harmless(d) }

// dropped returns the open Path of d's packet, and the step.
func (j *Joiner) dropped(d *Drop) (*open, int) {
	if j.config.Identity == Auto {
		if o := j.skbs.find(d.Skb); o != nil {
			if i := o.stepOf(d.Skb, d.TimeNS); i >= 0 && sameFields(&o.Steps[i].Sighting, &d.Sighting) {
				return o, i
			}
		}
	}
	c := j.prints.at(fingerprint(&d.Sighting))
	if c == nil {
		return nil, -1
	}
	for _, l := range [...]list{c.waiting, c.done} {
		o := l.first
		for tries := 0; o != nil && tries < maxTies; tries++ {
			if i := j.droppedIn(o, d); i >= 0 {
				return o, i
			}
			o = o.alike.next
		}
	}
	return nil, -1
}

// droppedIn returns the step of o behind which d can have happened by all but the
// skb, or -1.
func (j *Joiner) droppedIn(o *open, d *Drop) int {
	for i := len(o.marks) - 1; i >= 0; i-- {
		st := &o.Steps[i]
		if o.marks[i].left || o.marks[i].ended || st.TimeNS > d.TimeNS || j.graph.node(st.Hop) != d.Node {
			continue
		}
		if sameFingerprint(&st.Sighting, &d.Sighting) && j.flows.fitOf(&st.Sighting, &d.Sighting, false) != unfit {
			return i
		}
	}
	return -1
}

// stepOf returns the last step of that skb until then, or -1.
func (o *open) stepOf(skb, until uint64) int {
	for i := len(o.marks) - 1; i >= 0; i-- {
		if o.marks[i].skb == skb && o.Steps[i].TimeNS <= until {
			return i
		}
	}
	return -1
}

// dropAt notes that d happened behind step i of o.
func (j *Joiner) dropAt(o *open, i int, d *Drop) {
	st, m := &o.Steps[i], &o.marks[i]
	if st.Verdict == Delivered && j.harmless(d) {
		j.totals.DropsIgnored++
		return
	}
	d.Step = i
	o.Drops = append(o.Drops, *d)
	j.skbs.remove(d.Skb, o)
	if m.left || m.ended {
		return // a copy of what went on
	}
	m.ended = true
	if st.Verdict == LastSeen {
		o.arrived += st.weight()
	}
	st.Verdict = Dropped
	j.seen(o)
}

// emitDropped emits a Path of a packet of which there is nothing but d.
func (j *Joiner) emitDropped(d *Drop, late uint64) {
	o := &j.passing
	o.reset()
	j.begun++
	o.Number, o.Attempt, o.Late = j.begun, 1, late
	o.start(&d.Sighting)
	d.Step = 0
	o.Steps = append(o.Steps, Step{Sighting: d.Sighting, Piece: o.entire(), Prev: -1, Verdict: Dropped})
	o.Steps[0].Hop = uint16(hop.None)
	o.marks = append(o.marks, mark{skb: d.Skb, head: d.Head, hop: uint16(hop.None), ended: true})
	o.Drops = append(o.Drops, *d)
	o.Verdict = Dropped
	j.unplaced.take(o, d.Skb, d.Node, d.TimeNS)
	if j.config.Explain {
		// What rules said may come yet.
		j.belated = append(j.belated, belated{o.Clone(), d.TimeNS})
		return
	}
	j.totals.add(&o.Path)
	j.emit(&o.Path)
}

// belated is a Path that waits for what is told about it.
type belated struct {
	*Path
	since uint64
}

// emitBelated emits the Paths that waited until limit.
func (j *Joiner) emitBelated(limit uint64) {
	n := 0
	for n < len(j.belated) && isDue(j.belated[n].since, limit) {
		p := j.belated[n].Path
		j.rulings.take(p, j.graph)
		j.totals.add(p)
		j.emit(p)
		n++
	}
	j.belated = slices.Delete(j.belated, 0, n)
}

// pass gives p its place: at the step behind which it happened, or before the
// first of a Path that is yet to begin.
func (j *Joiner) pass(p *Passage) {
	if j.config.Identity == Auto && !j.unplaced.begins(p) {
		if o := j.skbs.find(p.Skb); o != nil {
			if i := o.stepOf(p.Skb, p.TimeNS); i >= 0 && !o.marks[i].ended {
				p.Step = i
				o.Passages = append(o.Passages, *p)
				return
			}
		}
	}
	j.unplaced.add(*p)
}

// unplaced are passages of packets that have not been at a hop yet.
type unplaced []Passage

const (
	// unplacedTime is how long a packet may take from a node's netfilter to the
	// node's first hop: a neighbour may have to be asked for.
	unplacedTime = uint64(5 * time.Second)
	mostUnplaced = 1 << 12
)

func (u *unplaced) add(p Passage) {
	if len(*u) >= mostUnplaced {
		*u = slices.Delete(*u, 0, mostUnplaced/2)
	}
	*u = append(*u, p)
}

// begins says whether p is of a packet that begins its way in the node, as what
// passes the output hook does: its skb may have been another's.
func (u unplaced) begins(p *Passage) bool {
	return p.Hook == "output" || slices.ContainsFunc(u, func(q Passage) bool {
		return q.Skb == p.Skb && q.Node == p.Node && q.Hook == "output"
	})
}

// take gives o those of its skb in the node where it begins.
func (u *unplaced) take(o *open, skb uint64, node string, timeNS uint64) {
	if len(*u) == 0 {
		return
	}
	*u = slices.DeleteFunc(*u, func(p Passage) bool {
		switch {
		case p.TimeNS+unplacedTime < timeNS:
			return true
		case p.Skb != skb || p.TimeNS > timeNS:
			return false
		case p.Node == node:
			p.Step = -1
			o.Passages = append(o.Passages, p)
		}
		return true
	})
}

// vanished are packets that were last seen somewhere, of which the kernel may yet
// say what became of them.
type vanished map[uint64]gone

type gone struct {
	number uint64
	last   Drop // as much of it as is compared
}

const (
	vanishedTime = uint64(time.Minute)
	mostVanished = 1 << 12
)

// add remembers a Path that ended LastSeen.
func (v vanished) add(o *open) {
	st := &o.Steps[o.End]
	if len(v) >= mostVanished {
		for skb, g := range v {
			if g.last.TimeNS+vanishedTime < st.TimeNS || len(v) >= mostVanished {
				delete(v, skb)
			}
		}
	}
	v[st.Skb] = gone{o.Number, Drop{Sighting: st.Sighting}}
}

// take returns the number of the Path of d's packet and forgets it, or 0.
func (v vanished) take(d *Drop) uint64 {
	g, ok := v[d.Skb]
	if !ok {
		return 0
	}
	delete(v, d.Skb)
	if g.last.TimeNS > d.TimeNS || g.last.TimeNS+vanishedTime < d.TimeNS || !sameFields(&g.last.Sighting, &d.Sighting) {
		return 0
	}
	return g.number
}
