package trace

import (
	"net/netip"
	"time"

	"github.com/nsbpf/nsbpf/collector"
	"github.com/nsbpf/nsbpf/internal/hop"
)

// Config says what a [Joiner] knows of the lab, and how patient it is. All its
// times are of the sightings' clock.
type Config struct {
	Hops  []hop.Hop
	Edges []hop.Edge
	// Owners are the addresses of each node: a packet for one of them is
	// delivered when it comes into the node.
	Owners map[string][]netip.Addr

	Identity Identity
	// Linger is how long a packet may take from one step to the next, and how
	// long a group packet is waited for where it has not come; 0: 200 ms.
	Linger time.Duration
	// HoldBack is by how much sightings may come out of order; 0: 1 ms.
	HoldBack time.Duration
	// Settle is how long a packet that came to its receiver is still waited for:
	// it may be one that the receiver translates and sends on, or have branches;
	// 0: 5 ms.
	Settle time.Duration
	// MaxOpen bounds the packets that are on their way at once; 0: 65536.
	MaxOpen int
}

func (c Config) withDefaults() Config {
	set := func(d *time.Duration, v time.Duration) {
		if *d <= 0 {
			*d = v
		}
	}
	set(&c.Linger, 200*time.Millisecond)
	set(&c.HoldBack, time.Millisecond)
	set(&c.Settle, 5*time.Millisecond)
	if c.MaxOpen <= 0 {
		c.MaxOpen = 1 << 16
	}
	return c
}

// Joiner makes Paths of sightings.
//
// A sighting joins an open Path if its hop follows one of the Path's hops, the
// Path has not been at its hop, and they are of the same packet by
// [Config.Identity]; else it begins a Path. So every sighting is in one Path, a
// packet that is sent again begins its own, and an address that the kernel uses
// again does not mislead. A Path is complete when its packet was delivered or
// left the lab, of a group packet when it has come everywhere, or when it was
// not seen for the Linger time.
type Joiner struct {
	config Config
	graph  *graph
	emit   func(*Path)

	backlog backlog
	now     uint64 // latest event time that was reached
	totals  Totals

	opened  int
	waiting list // not done, by time of the last step
	settled list // done, likewise
	skbs    map[uint64]*open
	heads   map[uint64]*open
	prints  prints
	flows   flows
	spare   []*open
}

// mostSpare bounds the steps for which the memory of a Path is kept.
const mostSpare = 256

// NewJoiner returns a Joiner that hands each completed Path to emit. The Path is
// the Joiner's again when emit returns; [Path.Clone] keeps it.
//
// The error says that hops and edges do not fit together.
func NewJoiner(c Config, emit func(*Path)) (*Joiner, error) {
	g, err := newGraph(c.Hops, c.Edges, c.Owners)
	if err != nil {
		return nil, err
	}
	return &Joiner{
		config: c.withDefaults(), graph: g, emit: emit,
		skbs: make(map[uint64]*open), heads: make(map[uint64]*open), prints: make(prints),
		flows: make(flows),
	}, nil
}

// Add takes sightings, about in the order of their times, and completes the
// Paths that they complete. The batch is the caller's again afterwards.
func (j *Joiner) Add(batch []collector.Sighting) {
	for i := range batch {
		j.backlog.push(&batch[i])
	}
	if j.backlog.empty() {
		return
	}
	newest, hold := j.backlog.newest(), uint64(j.config.HoldBack)
	for !j.backlog.empty() && newest-j.backlog.first().TimeNS >= hold {
		j.see(j.backlog.first())
		j.backlog.drop()
	}
}

// Advance says that all sightings up to now were given, and completes the Paths
// that waited long enough. now is on the sightings' clock.
func (j *Joiner) Advance(now uint64) {
	for ; !j.backlog.empty(); j.backlog.drop() {
		j.see(j.backlog.first())
	}
	j.reach(now)
}

// Flush completes all Paths: nothing more will come.
func (j *Joiner) Flush() {
	j.Advance(j.now)
	for j.opened > 0 {
		j.complete(j.oldest())
	}
}

// Totals returns what was done so far.
func (j *Joiner) Totals() Totals { return j.totals }

// see gives s a place in a Path.
func (j *Joiner) see(s *collector.Sighting) {
	j.totals.Sightings++
	j.reach(s.TimeNS)
	at := j.graph.at(s.HopID())
	if at == nil {
		j.totals.Strays++
		return
	}
	o, prev, match := j.find(at, s)
	if o == nil {
		o = j.begin(at, s)
	} else {
		j.byTime(o).remove(o, byTime)
	}
	o.step(s, prev, match, j.verdict(at, s))
	if n := len(o.Steps) - 1; o.Steps[n].Change.Readdressed() {
		j.flows.learn(&o.Steps[prev].Sighting, s)
	}
	if o.awaited += at.copies(); prev >= 0 {
		o.awaited--
	}
	j.keep(o, s)
}

// verdict says whether s has come to an end at place at, for all that is known:
// a packet that the node translates and sends on looks like one for the node.
func (j *Joiner) verdict(at *place, s *collector.Sighting) Verdict {
	v := at.verdict(s)
	if v == Delivered && len(at.next) > 0 && j.flows.translates(s) {
		return LastSeen
	}
	return v
}

// reach moves the time on and completes what has waited long enough. Time does
// not go back for a sighting that comes too late.
func (j *Joiner) reach(t uint64) {
	j.now = max(j.now, t)
	for o := j.settled.first; o != nil && j.now-o.last >= uint64(j.config.Settle); o = j.settled.first {
		j.complete(o)
	}
	for o := j.waiting.first; o != nil && j.now-o.last >= uint64(j.config.Linger); o = j.waiting.first {
		j.complete(o)
	}
}

// begin returns a new Path for s, without its step.
func (j *Joiner) begin(at *place, s *collector.Sighting) *open {
	if j.opened >= j.config.MaxOpen {
		o := j.oldest()
		o.GivenUp = !o.done
		j.complete(o)
	}
	o := j.unused()
	o.Partial = !at.begins(s)
	o.group = s.IsGroup()
	o.print = fingerprint(s)
	j.prints.add(o)
	j.opened++
	return o
}

// keep files o by the addresses of its newest step s, and by its time.
func (j *Joiner) keep(o *open, s *collector.Sighting) {
	if j.config.Identity == Auto && s.Skb != 0 {
		j.skbs[s.Skb] = o
		if s.Head != 0 {
			j.heads[s.Head] = o
		}
	}
	o.last = j.now
	done := o.ended()
	if o.group {
		done = o.awaited == 0
	}
	if done != o.done {
		j.prints.remove(o)
		o.done = done
		j.prints.add(o)
	}
	j.byTime(o).push(o, byTime)
}

// byTime returns the list that o waits in.
func (j *Joiner) byTime(o *open) *list {
	if o.done {
		return &j.settled
	}
	return &j.waiting
}

// oldest returns the open Path that was not seen for the longest time, of those
// that are done if there are any.
func (j *Joiner) oldest() *open {
	if j.settled.first != nil {
		return j.settled.first
	}
	return j.waiting.first
}

// complete forgets o and hands it on.
func (j *Joiner) complete(o *open) {
	j.byTime(o).remove(o, byTime)
	j.forget(o)
	j.opened--

	o.conclude()
	if o.Verdict == LastSeen {
		o.Next = j.graph.at(o.Steps[o.End].HopID()).onward
	}
	j.totals.add(&o.Path)
	o.Number = j.totals.Paths
	j.emit(&o.Path)
	if cap(o.Steps) <= mostSpare {
		j.spare = append(j.spare, o)
	}
}

func (j *Joiner) forget(o *open) {
	j.prints.remove(o)
	var skb, head uint64
	for i := range o.Steps {
		st := &o.Steps[i]
		if st.Skb != skb && j.skbs[st.Skb] == o {
			delete(j.skbs, st.Skb)
		}
		if st.Head != head && j.heads[st.Head] == o {
			delete(j.heads, st.Head)
		}
		skb, head = st.Skb, st.Head
	}
}

// unused returns an open without steps, one of those that were completed if
// there is one.
func (j *Joiner) unused() *open {
	n := len(j.spare) - 1
	if n < 0 {
		return &open{Path: Path{Steps: make([]Step, 0, 8)}, left: make([]bool, 0, 8)}
	}
	o := j.spare[n]
	j.spare = j.spare[:n]
	*o = open{Path: Path{Steps: o.Steps[:0]}, left: o.left[:0]}
	return o
}
