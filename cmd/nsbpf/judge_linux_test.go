package main

import (
	"fmt"
	"math/bits"
	"slices"

	"github.com/nsbpf/nsbpf/collector"
	"github.com/nsbpf/nsbpf/internal/hop"
	"github.com/nsbpf/nsbpf/trace"
)

// probe is what is known of one packet beside what the trace says.
type probe struct {
	flow    *flow
	reply   bool
	route   []hop.ID // as far as it is let
	after   hop.ID   // where it would be next, if a filter ends the route
	arrived bool     // a socket received it
	seen    uint64   // bits of route: where the trace saw it
}

// missing returns how many sightings must have been lost: those before one that
// is there, and all others of a probe that arrived.
func (p *probe) missing() int {
	until := bits.Len64(p.seen)
	if p.arrived {
		until = len(p.route)
	}
	return until - bits.OnesCount64(p.seen)
}

// whole says whether no sighting of the probe was lost, unless all behind one.
func (p *probe) whole() bool { return p.seen > 0 && p.missing() == 0 }

func (p *probe) String() string {
	s := p.flow.String()
	if p.reply {
		s = "reply to " + s
	}
	return fmt.Sprintf("%s: seen at %b of %d hops, arrived %t", s, p.seen, len(p.route), p.arrived)
}

// oracle knows the truth of a trial: which probe each sighting is of, by the id
// in its payload, of which the trace knows a hash only.
type oracle struct {
	hops    []hop.Hop
	probes  []probe
	ids     [][]uint64     // by flow
	byHash  map[uint32]int // the index of a probe; of an echo's reply one less
	byID    map[uint64]int // likewise
	stamps  map[stamp]int  // the probe of a sighting
	foreign int            // sightings that cannot be of their run's packet: off its route, or twice at a hop
	twice   int            // probes that came to a socket more than once, or to a wrong one
}

// stamp tells one sighting from all others.
type stamp struct {
	time, skb uint64
	hop       uint16
}

func stampOf(s *collector.Sighting) stamp { return stamp{s.TimeNS, s.Skb, s.Hop} }

// newOracle makes n probes of each flow.
func newOracle(hops []hop.Hop, flows []flow, n int) (*oracle, error) {
	o := &oracle{hops: hops, byHash: map[uint32]int{}, byID: map[uint64]int{}, stamps: map[stamp]int{}}
	unique := ids{hashes: map[uint32]bool{}}
	for i := range flows {
		f := &flows[i]
		there, err := o.probe(f, f.route, false)
		if err != nil {
			return nil, err
		}
		back, err := o.probe(f, wayBack(f.route), true)
		if err != nil {
			return nil, err
		}
		var of []uint64
		for range n {
			id := unique.next()
			of = append(of, id)
			o.byHash[payloadHash(id)], o.byID[id] = len(o.probes), len(o.probes)
			o.probes = append(o.probes, there)
			if f.echo {
				o.probes = append(o.probes, back)
			}
		}
		o.ids = append(o.ids, of)
	}
	return o, nil
}

func (o *oracle) probe(f *flow, route []string, reply bool) (probe, error) {
	p := probe{flow: f, reply: reply}
	var way []hop.Hop
	for _, name := range route {
		if h, err := hop.Find(o.hops, name, hop.XDP); err == nil {
			way = append(way, h) // before tc, where there is a program
		}
		h, err := hop.Find(o.hops, name, hop.TC)
		if err != nil {
			return p, err
		}
		way = append(way, h)
	}
	for i, h := range way {
		if i > 0 && way[i-1].String() == f.ends {
			p.after = h.ID
			break
		}
		p.route = append(p.route, h.ID)
	}
	return p, nil
}

// hop returns the one of that id.
func (o *oracle) hop(id hop.ID) hop.Hop {
	i := slices.IndexFunc(o.hops, func(h hop.Hop) bool { return h.ID == id })
	return o.hops[i]
}

// of returns the probe that a sighting is of, or -1.
func (o *oracle) of(s *collector.Sighting) int {
	echo := s.IsEcho()
	if !echo && s.Packet.Proto != collector.ProtoUDP {
		return -1
	}
	i, ok := o.byHash[s.PayloadHash]
	if !ok || echo != o.probes[i].flow.echo {
		return -1
	}
	if s.Packet.ICMPType == 0 && echo || s.Packet.ICMPType == 129 {
		i++
	}
	return i
}

// see takes note of what the trace saw.
func (o *oracle) see(batch []collector.Run) {
	for i := range batch {
		r := &batch[i]
		n := o.of(&r.Sighting)
		if n < 0 {
			continue
		}
		p := &o.probes[n]
		for k := range r.Len() {
			h, time := r.At(k)
			o.stamps[stamp{time, r.Skb, h}] = n
			if at := slices.Index(p.route, hop.ID(h)); at >= 0 && p.seen&(1<<at) == 0 {
				p.seen |= 1 << at
			} else {
				o.foreign++
			}
		}
	}
}

// receive takes note of what came to a node's sockets.
func (o *oracle) receive(node string, s *sink) {
	take := func(ids []uint64, step int) {
		for _, id := range ids {
			i, ok := o.byID[id]
			if !ok {
				continue // not of this trial
			}
			p := &o.probes[i+step]
			if p.arrived || o.end(p).Node != node {
				o.twice++
			}
			p.arrived = true
		}
	}
	take(s.requests, 0)
	take(s.replies, 1)
}

func (o *oracle) end(p *probe) hop.Hop { return o.hop(p.route[len(p.route)-1]) }

// alike returns the batch with nothing in it that tells probes of one flow and
// length from each other.
func alike(batch []collector.Run) []collector.Run {
	batch = slices.Clone(batch)
	for i := range batch {
		s := &batch[i]
		s.PayloadHash = 0
		if s.Packet.Proto != collector.ProtoTCP {
			s.Packet.IPID, s.Packet.ICMPSeq = 0, 0
		}
	}
	return batch
}

// judge compares the Paths of a Joiner with the truth.
type judge struct {
	*oracle
	known   int // sightings of probes
	mixed   int // of them in a Path that is also of something else
	paths   []uint16
	found   []finding // by probe: the first Path
	example string    // of a Path that is mixed
}

// finding is what a Path says of a probe.
type finding struct {
	verdict  trace.Verdict
	end      hop.ID
	straight bool // its steps are the route's beginning, each after the one before
	next     bool // where the route goes on is among those that it expects
}

func newJudge(o *oracle) *judge {
	return &judge{oracle: o, paths: make([]uint16, len(o.probes)), found: make([]finding, len(o.probes))}
}

// path takes note of a Path.
func (j *judge) path(p *trace.Path) {
	var of []int // the probes of the steps, -1 for anything else
	known := 0
	for i := range p.Steps {
		n, ok := j.stamps[stampOf(&p.Steps[i].Sighting)]
		if !ok {
			n = -1
		} else {
			known++
		}
		of = append(of, n)
	}
	j.known += known
	if known == 0 {
		return
	}
	if slices.Min(of) != slices.Max(of) {
		j.mixed += known
		j.example = fmt.Sprintf("the steps of Path %d are of probes %v", p.Number, of)
	}
	for _, n := range slices.Compact(slices.Sorted(slices.Values(of))) {
		if n < 0 {
			continue
		}
		if j.paths[n]++; j.paths[n] == 1 {
			j.found[n] = j.finding(p, &j.probes[n])
		}
	}
}

func (j *judge) finding(p *trace.Path, of *probe) finding {
	f := finding{verdict: p.Verdict, end: p.Steps[p.End].HopID(), straight: len(p.Steps) <= len(of.route)}
	for i := range p.Steps {
		f.straight = f.straight && p.Steps[i].HopID() == of.route[i] && p.Steps[i].Prev == i-1
	}
	next := of.after
	if n := len(p.Steps); n < len(of.route) {
		next = of.route[n]
	}
	f.next = slices.Contains(p.Next, next)
	return f
}

// score is what a judge found.
type score struct {
	Whole     int            // probes of which no sighting is missing
	Split     int            // of them: in more than one Path
	SplitOne  string         // one of them
	Missing   int            // sightings that must have been lost
	Unseen    int            // probes that were sent and never heard of
	Arrived   int            // came to a socket
	Filtered  int            // ended where their filter stands
	Vanished  map[string]int // by hop: last seen there, before the route's end
	Unclaimed map[string]int // by node: delivered, and no socket received them
	Wrong     []string       // what contradicts the truth
}

func (j *judge) score() score {
	s := score{Vanished: map[string]int{}, Unclaimed: map[string]int{}}
	for i := range j.probes {
		p := &j.probes[i]
		s.Missing += p.missing()
		if p.arrived {
			s.Arrived++
		}
		if p.seen == 0 && !p.arrived && !p.reply {
			s.Unseen++
		}
		if !p.whole() {
			continue
		}
		s.Whole++
		if j.paths[i] != 1 {
			s.Split++
			s.SplitOne = p.String()
			continue
		}
		j.verdict(&s, p, &j.found[i])
	}
	return s
}

// verdict compares that of the one Path of a probe with what became of it.
func (j *judge) verdict(s *score, p *probe, f *finding) {
	wrong := func(what string) { s.Wrong = append(s.Wrong, fmt.Sprintf("%s: %s: %+v", what, p, *f)) }
	last := f.end == p.route[len(p.route)-1]
	switch {
	case !f.straight:
		wrong("the Path leaves the route")
	case f.verdict == trace.Delivered && (!last || p.flow.ends != ""):
		wrong("delivered at a wrong place")
	case f.verdict == trace.Delivered && !p.arrived:
		s.Unclaimed[j.end(p).Node]++
	case f.verdict == trace.Delivered:
	case p.arrived:
		wrong("arrived, but not delivered")
	case !f.next:
		wrong("it does not know where the packet was to go")
	case last && p.flow.ends != "":
		s.Filtered++
	default:
		s.Vanished[j.hop(f.end).String()]++
	}
}

// precision is the share of the sightings whose Path is of one packet only.
func (j *judge) precision() float64 {
	return 1 - float64(j.mixed+j.foreign)/float64(max(j.known, 1))
}

// recall is the share of the whole probes that are one Path.
func (s *score) recall() float64 { return 1 - float64(s.Split)/float64(max(s.Whole, 1)) }
