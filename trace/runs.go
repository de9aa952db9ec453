package trace

import (
	"time"

	"github.com/nsbpf/nsbpf/collector"
	"github.com/nsbpf/nsbpf/internal/hop"
)

// copyWindow is by how much later than a packet the copies that a bridge makes of
// it are first seen.
const copyWindow = 1_000_000

// Add takes what is told, and completes the Paths that it completes. The slices of
// in are the caller's again afterwards, but not what their elements point to.
func (j *Joiner) Add(in Input) {
	for i := range in.Drops {
		d := j.notices.room()
		*d = in.Drops[i]
		j.notices.push(notice{timeNS: d.TimeNS, drop: d})
	}
	for _, p := range in.Passages {
		j.notices.push(notice{timeNS: p.TimeNS, passage: p})
	}
	j.rulings.add(in.Rulings)
	for i := range in.Runs {
		r := &in.Runs[i]
		if j.config.Identity == Fingerprint {
			j.pushEach(r)
			continue
		}
		if at := j.graph.at(r.HopID()); at != nil && at.fed {
			j.ahead.add(r)
		}
		j.pending.push(r)
	}
	if in.Until > copyWindow {
		until := in.Until - copyWindow
		j.pending.release(until, j.run)
		j.notify(until)
		j.reach(until)
	}
	if most := 4 * j.config.MaxOpen; j.pending.len() > most {
		j.pending.release(j.pending.newest()-copyWindow, j.run)
	}
}

// pushEach gives the sightings of r a place of their own: an identity that does
// not go by skb needs all of them in their order.
func (j *Joiner) pushEach(r *collector.Run) {
	one := *r
	one.Steps = 0
	for i := range r.Len() {
		one.Hop, one.TimeNS = r.At(i)
		j.pending.push(&one)
	}
}

// run takes r, the next in the order of time.
func (j *Joiner) run(r *collector.Run) {
	j.notify(r.TimeNS)
	if at := j.graph.at(r.HopID()); at != nil && j.config.Identity == Auto {
		if at.fed {
			j.ahead.remove(r)
		}
		if j.passes(at, r) {
			return
		}
	}
	// Time goes by the first of it: what another run begins with may be earlier than
	// the rest.
	j.totals.Sightings += uint64(r.Len())
	j.reach(r.TimeNS)
	s := r.Sighting
	for i := range r.Len() {
		s.Hop, s.TimeNS = r.At(i)
		j.admit(&s, false)
	}
}

// passes completes at once the Path of a packet that went from where it begins to
// where nothing follows, as one skb and in one piece, and returns true. Nearly
// all packets between two nodes are so.
func (j *Joiner) passes(at *place, r *collector.Run) bool {
	if j.config.Explain {
		return false
	}
	if at.fed || r.IsGroup() || isPiece(&r.Sighting) || !j.early.empty() || j.ahead.has(r) {
		return false
	}
	for i := 1; i < r.Len(); i++ {
		from, _ := r.At(i - 1)
		to, _ := r.At(i)
		if _, ok := j.graph.edge(from, to); !ok {
			return false
		}
	}
	last, _ := r.At(r.Len() - 1)
	end := j.graph.at(hop.ID(last))
	v := end.verdict(&r.Sighting)
	if v == LastSeen || len(end.next) > 0 {
		return false
	}
	d, ok := j.dropOf(r)
	if !ok {
		return false
	}
	j.totals.Sightings += uint64(r.Len())
	j.reach(r.TimeNS)
	j.emitWhole(r, v, d)
	return true
}

// atOnce is how long after it came to its receiver a packet may be dropped there
// and be known by its skb without a look at what else had that meanwhile.
const atOnce = 50_000

// dropOf returns the drop of r's packet behind its last hop, nil if it was not
// dropped. ok is false if that cannot be told yet.
func (j *Joiner) dropOf(r *collector.Run) (_ *Drop, ok bool) {
	if !j.notices.drop(r.Skb) {
		return nil, true
	}
	_, last := r.At(r.Len() - 1)
	n := j.notices.peek(r.Skb, last+atOnce)
	if n == nil || n.timeNS < last || !sameFields(&r.Sighting, &n.drop.Sighting) {
		return nil, false
	}
	j.totals.Drops++
	d := j.notices.take(n)
	if j.harmless(d) {
		j.notices.free(d)
		j.totals.DropsIgnored++
		return nil, true
	}
	return d, true
}

// emitWhole hands the Path of r on, whose last hop is its end, and which was dropped
// there if d is not nil.
func (j *Joiner) emitWhole(r *collector.Run, v Verdict, d *Drop) {
	o := &j.passing
	o.reset()
	j.begun++
	o.Number = j.begun
	o.Attempt, o.Again = j.senders.attempt(&r.Sighting, o.Number)
	o.start(&r.Sighting)
	for i := range r.Len() {
		o.Steps = append(o.Steps, Step{Sighting: r.Sighting, Piece: o.entire(), Prev: i - 1})
		st := &o.Steps[i]
		st.Hop, st.TimeNS = r.At(i)
		if i > 0 {
			st.Delta = time.Duration(st.TimeNS - o.Steps[i-1].TimeNS)
			st.Match = MatchSkb
		}
	}
	o.End = len(o.Steps) - 1
	if d != nil {
		v = Dropped
		d.Step = o.End
		o.Drops = append(o.Drops, *d)
		j.notices.free(d)
	}
	o.Steps[o.End].Verdict = v
	o.Verdict = v
	j.totals.add(&o.Path)
	j.emit(&o.Path)
}

// ahead counts the runs to come that begin behind another hop, by skb and by
// buffer: the packet of such a run was seen before.
type ahead map[uint64]int

func (a ahead) add(r *collector.Run) { a.count(r, 1) }

func (a ahead) remove(r *collector.Run) { a.count(r, -1) }

func (a ahead) count(r *collector.Run, n int) {
	for _, address := range [...]uint64{r.Skb, r.Head} {
		if a[address] += n; a[address] == 0 {
			delete(a, address)
		}
	}
}

func (a ahead) has(r *collector.Run) bool {
	if len(a) == 0 {
		return false
	}
	return a[r.Skb] > 0 || a[r.Head] > 0
}
