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
	// Settle is how long a packet that came to its receiver is still waited for:
	// it may be one that the receiver translates and sends on, or have branches;
	// 0: 5 ms.
	Settle time.Duration
	// Skew is by how much the clocks of two CPUs may disagree: so much earlier a
	// sighting may be than the one that it comes from; 0: 5 µs.
	Skew time.Duration
	// MaxOpen bounds the packets that are on their way at once, and likewise the
	// TCP senders and the translations that are remembered; 0: 65536.
	MaxOpen int
	// Explain says that Rulings and Passages are told, of packets also before they
	// come to their first hop. Rulings come late, so Paths are kept for longer, and
	// Settle is by default 100 ms.
	Explain bool
	// Harmless says of a drop of a packet that came to its receiver whether it had
	// done its work by then, as when a socket is closed that has it; nil: no drop is
	// that.
	Harmless func(*Drop) bool
}

func (c Config) withDefaults() Config {
	set := func(d *time.Duration, v time.Duration) {
		if *d <= 0 {
			*d = v
		}
	}
	set(&c.Linger, 200*time.Millisecond)
	if c.Explain {
		set(&c.Settle, 100*time.Millisecond)
	}
	set(&c.Settle, 5*time.Millisecond)
	set(&c.Skew, 5*time.Microsecond)
	if c.MaxOpen <= 0 {
		c.MaxOpen = 1 << 16
	}
	return c
}

// Joiner makes Paths of sightings.
//
// A sighting joins an open Path if its hop follows one of the Path's hops, what it
// carries of the packet has not been at its hop, and they are of the same packet
// by [Config.Identity]; else it begins a Path. So every sighting is in one Path, a
// packet that is sent again begins its own, and an address that the kernel uses
// again does not mislead. What was put together from several packets is in the
// Path of the first, and the others' end there. A Path is complete when its packet
// was delivered or left the lab, of a group packet when it has come everywhere, of
// one in pieces when all have come to an end, or when it was not seen for the
// Linger time.
type Joiner struct {
	config Config
	graph  *graph
	emit   func(*Path)

	pending  pending
	notices  notices
	ahead    ahead
	passing  open    // room of passes'
	early    backlog // those that may come before the one that they come from
	now      uint64  // latest event time that was reached
	unplaced unplaced
	vanished vanished
	rulings  rulings
	belated  []belated
	totals   Totals

	ended   bool // the trace, with packets on their way
	begun   uint64
	opened  int
	waiting queue // not done
	settled queue // done
	skbs    addresses
	heads   addresses
	prints  index
	lanes   index
	flows   flows
	senders senders
	spare   []*open
}

const (
	// mostSpare bounds the steps for which the memory of a Path is kept.
	mostSpare = 256
	// mostSteps bounds those of an open Path.
	mostSteps = 1 << 12
)

// NewJoiner returns a Joiner that hands each completed Path to emit. The Path is
// the Joiner's again when emit returns; [Path.Clone] keeps it.
//
// The error says that hops and edges do not fit together.
func NewJoiner(c Config, emit func(*Path)) (*Joiner, error) {
	g, err := newGraph(c.Hops, c.Edges, c.Owners)
	if err != nil {
		return nil, err
	}
	c = c.withDefaults()
	j := &Joiner{
		config: c, graph: g, emit: emit, ahead: make(ahead),
		notices: newNotices(), vanished: make(vanished),
		skbs: newAddresses(), heads: newAddresses(),
		prints: newIndex(byPrint), lanes: newIndex(byLane),
	}
	j.flows = flows{known: make(map[flow]flow), most: c.MaxOpen, forgot: &j.totals.Forgotten}
	j.senders = senders{recent: make(map[sender]*sent), most: c.MaxOpen, forgot: &j.totals.Forgotten}
	return j, nil
}

// End is Flush for a trace that was ended while packets were on their way: a
// packet that was not seen again and was not waited for long enough is
// [Unfinished].
func (j *Joiner) End() {
	j.ended = true
	j.Flush()
}

// Flush completes all Paths: nothing more will come.
func (j *Joiner) Flush() {
	j.pending.release(everything, j.run)
	for !j.early.empty() {
		j.giveLastChance(true)
	}
	j.notify(everything)
	for j.opened > 0 {
		j.complete(j.oldest())
	}
	j.emitBelated(everything)
}

// Totals returns what was done so far.
func (j *Joiner) Totals() Totals { return j.totals }

// reach moves the time on and completes what has waited long enough. Time does
// not go back for a sighting that comes too late.
func (j *Joiner) reach(t uint64) {
	j.now = max(j.now, t)
	for !j.early.empty() && j.giveLastChance(false) {
	}
	for o := j.settled.due(j.now, j.config.Settle); o != nil; o = j.settled.due(j.now, j.config.Settle) {
		j.complete(o)
	}
	for o := j.waiting.due(j.now, j.config.Linger); o != nil; o = j.waiting.due(j.now, j.config.Linger) {
		j.complete(o)
	}
	if len(j.belated) > 0 {
		j.emitBelated(j.now - min(j.now, uint64(j.config.Settle)))
	}
}

// join makes s a step of the Path f.path.
func (j *Joiner) join(at *place, s *collector.Sighting, f found) {
	o, own := f.path, f.path.Payload
	grown := o.step(s, f.prev, f.match, f.piece, j.verdict(at, o, s))
	n := len(o.Steps) - 1
	if f.prev >= 0 {
		o.awaited--
		if o.Steps[n].Change.Readdressed() {
			j.flows.learn(&o.Steps[f.prev].Sighting, s)
		}
	}
	o.awaited += at.copies()
	if o.parts {
		j.together(o, n)
	}
	j.address(o, n)
	j.seen(o)
	if grown && o.cut != datagram && n > 0 {
		j.absorb(o, own)
	}
	if n+1 >= mostSteps {
		o.GivenUp = true
		j.complete(o)
	}
}

// verdict says whether s, which is of o, has come to an end at place at, for all
// that is known: a packet that the node translates and sends on looks like one
// for the node. Of a later fragment the first at the hop tells.
func (j *Joiner) verdict(at *place, o *open, s *collector.Sighting) Verdict {
	v := at.verdict(s)
	if v != Delivered || len(at.next) == 0 || len(j.flows.known) == 0 {
		return v
	}
	for i := 0; !ported(s) && i < len(o.Steps); i++ {
		if st := &o.Steps[i]; st.Hop == s.Hop {
			s = &st.Sighting
		}
	}
	if j.flows.translates(s) {
		return LastSeen
	}
	return v
}

// begin returns the place of s as the first step of a new Path.
func (j *Joiner) begin(at *place, s *collector.Sighting) found {
	if j.opened >= j.config.MaxOpen {
		o := j.oldest()
		o.GivenUp = !o.done
		j.complete(o)
	}
	o := j.unused()
	j.opened++
	j.begun++
	o.Number, o.Attempt = j.begun, 1
	o.Partial = !at.begins(s)
	if o.Partial {
		j.goRound(o, s)
	}
	o.group = s.IsGroup()
	o.start(s)
	if !o.Partial {
		o.Attempt, o.Again = j.senders.attempt(s, o.Number)
	}
	o.last = j.now
	j.unplaced.take(o, s.Skb, j.graph.node(s.Hop), s.TimeNS)
	j.waiting.push(o)
	o.print = j.prints.add(o, fingerprint(s))
	p := o.entire()
	switch o.cut {
	case whole:
	case datagram:
		p = fragment(s)
		fallthrough
	default:
		o.lane = j.lanes.add(o, laneOf(o.cut, s, s.Packet.IPID))
	}
	return found{path: o, prev: -1, piece: p}
}

// address files o by the addresses of its newest step n, where they are not those
// of the step before.
func (j *Joiner) address(o *open, n int) {
	if j.config.Identity != Auto {
		return
	}
	st := &o.Steps[n]
	if st.Match != MatchSkb && st.Skb != 0 {
		j.skbs.set(st.Skb, o)
	}
	if st.Head != 0 && (st.Prev < 0 || o.Steps[st.Prev].Head != st.Head) {
		j.heads.set(st.Head, o)
	}
}

// seen notes that o was seen now, and whether something is expected of it yet.
func (j *Joiner) seen(o *open) {
	o.last = j.now
	done := o.over()
	if done == o.done {
		return
	}
	j.queueOf(o).remove(o)
	j.prints.leave(o, o.print)
	j.lanes.leave(o, o.lane)
	o.done = done
	j.prints.enter(o, o.print)
	j.lanes.enter(o, o.lane)
	j.queueOf(o).push(o)
}

// queueOf returns the queue that o waits in.
func (j *Joiner) queueOf(o *open) *queue {
	if o.done {
		return &j.settled
	}
	return &j.waiting
}

// oldest returns the open Path that was not seen for the longest time, of those
// that are done if there are any.
func (j *Joiner) oldest() *open {
	if o := j.settled.oldest(); o != nil {
		return o
	}
	return j.waiting.oldest()
}

// complete forgets o and hands it on.
func (j *Joiner) complete(o *open) {
	j.queueOf(o).remove(o)
	j.forget(o)
	j.opened--

	o.conclude()
	j.rulings.take(&o.Path, j.graph)
	j.lose(o)
	j.totals.add(&o.Path)
	j.emit(&o.Path)
	if cap(o.Steps) <= mostSpare {
		j.spare = append(j.spare, o)
	}
}

// lose adds to a Path that did not come to its end what is known of why.
func (j *Joiner) lose(o *open) {
	at := j.graph.at(o.Steps[o.End].HopID())
	if o.Lost() {
		j.blame(o, at)
	}
	if o.DroppedBy != 0 && o.Verdict != PartlyDelivered {
		o.Verdict = Dropped
		return
	}
	switch o.Verdict {
	case LastSeen, PartlyDelivered:
		if j.ended && j.now-o.last < uint64(j.config.Linger) {
			o.Verdict = Unfinished
		} else if o.Verdict == LastSeen {
			j.vanished.add(o)
		}
		fallthrough
	case Dropped:
		// What its receiver dropped has no way to go on.
		if o.Verdict != Dropped || at.verdict(&o.Steps[o.End].Sighting) != Delivered {
			o.Next = at.onward
		}
	}
}

// blame finds the filter of the user's that dropped o, which was seen last at place
// at. One that came while the trace ran stands before it: then the packet is not
// seen at that hop, and the kernel says that some program there dropped it.
func (j *Joiner) blame(o *open, at *place) {
	s := &o.Steps[o.End].Sighting
	if o.DroppedBy, o.DroppedAt = at.droppedBy(s), at.ID; o.DroppedBy != 0 {
		return
	}
	for i := range o.Drops {
		if d := &o.Drops[i]; d.Step != o.End || d.Reason != "TC_INGRESS" && d.Reason != "TC_EGRESS" {
			continue
		}
		for _, id := range at.onward {
			next := j.graph.at(id)
			if by := next.droppedBy(s); by != 0 {
				o.DroppedBy, o.DroppedAt = by, id
			}
		}
	}
}

func (j *Joiner) forget(o *open) {
	j.prints.remove(o, o.print)
	j.lanes.remove(o, o.lane)
	var skb, head uint64
	for i := range o.marks {
		m := &o.marks[i]
		if m.skb != skb {
			j.skbs.remove(m.skb, o)
		}
		if m.head != head {
			j.heads.remove(m.head, o)
		}
		skb, head = m.skb, m.head
	}
}

// unused returns an open without steps, one of those that were completed if
// there is one.
func (j *Joiner) unused() *open {
	n := len(j.spare) - 1
	if n < 0 {
		return newOpen()
	}
	o := j.spare[n]
	j.spare = j.spare[:n]
	o.reset()
	return o
}
