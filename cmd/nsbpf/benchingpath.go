package main

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/nsbpf/nsbpf/bench/load"
	"github.com/nsbpf/nsbpf/bench/result"
	"github.com/nsbpf/nsbpf/forward"
	"github.com/nsbpf/nsbpf/internal/hop"
	"github.com/nsbpf/nsbpf/topology"
)

// nowhere stands for addresses that are not known yet.
var nowhere = netip.MustParseAddr("192.0.2.1")

// route is the path of a load by the configuration, with its namespaces open.
type route struct {
	places  []load.Place // each device of the path once, in order
	steps   []hop.Hop
	first   int // of places: where packets leave the node from
	from    netip.Addr
	dst     netip.Addr
	to      string // the node
	notes   []string
	journey *forward.Journey
}

// openRoute follows packets of the load through the lab, and refuses a path that
// stops them or leaves the lab.
func openRoute(w way, s load.Spec) (r *route, err error) {
	net, err := forward.ReadNet(w.lab)
	if err != nil {
		return nil, err
	}
	packet := forward.Packet{Dst: w.dst, Proto: forward.UDP, Dport: s.Port}
	if s.Mode == load.TCP || s.Mode == load.CRR || s.Mode == load.RR && !s.OverUDP {
		packet.Proto = forward.TCP
	}
	if s.Mode == load.PPS || s.Mode == load.SKB {
		packet.Dport = max(s.Port, 9)
	}
	j, err := forward.Walk(net, w.from, packet)
	if err != nil {
		return nil, err
	}
	switch {
	case j.End == forward.LeftLab:
		return nil, usagef("%s is outside lab %q, where nothing of ours receives (load a node of the lab)", w.dst, w.lab.Name)
	case j.At == w.from && len(j.Obstacles) == 0, w.to == w.from:
		return nil, usagef("%s and %s are the same node (load the path to another)", w.from, w.to)
	case !arrives(j) && j.End == forward.Stopped && len(j.Obstacles) > 0:
		return nil, fmt.Errorf("no load goes from %s to %s: %s", w.from, w.to, j.Obstacles[len(j.Obstacles)-1].Sentence)
	case !arrives(j) && w.lab.Topology.Node(w.to) == nil:
		return nil, fmt.Errorf("which node %s is on cannot be told (name the node)", w.dst)
	}
	r = &route{from: j.Packet.Src, dst: w.dst, to: j.At, journey: j}
	if w.lab.Topology.Node(w.to) != nil {
		r.to = w.to
	}
	if !j.Sure() {
		r.notes = append(r.notes, "which way packets take is not certain by the configuration (see nsbpf path)")
	}
	return r, r.open(w.lab)
}

// arrives says whether packets come to the node, where the load brings its own sink.
func arrives(j *forward.Journey) bool {
	return j.End == forward.Delivered ||
		j.End == forward.Stopped && len(j.Obstacles) > 0 && j.Obstacles[len(j.Obstacles)-1].Code == forward.NobodyListens
}

// open opens the namespaces of the devices along the path.
func (r *route) open(lab *topology.Lab) error {
	for _, s := range r.journey.Steps {
		r.steps = append(r.steps, s.Hop)
		at := load.Place{Node: s.Hop.Node, Device: s.Hop.Device}
		if slices.ContainsFunc(r.places, func(p load.Place) bool { return p.String() == at.String() }) {
			continue
		}
		ns, err := lab.Netns(at.Node)
		if err != nil {
			return errors.Join(err, r.close())
		}
		at.Netns = ns
		r.places = append(r.places, at)
	}
	if len(r.places) < 2 {
		return errors.Join(errors.New("the path has no device that a load could go over"), r.close())
	}
	// A bridge of the sender's own stands before the port that packets leave it by.
	for r.first+2 < len(r.places) && r.places[r.first+1].Node == r.places[0].Node {
		r.first++
	}
	return nil
}

func (r *route) close() error {
	var errs []error
	for _, p := range r.places {
		errs = append(errs, p.Netns.Close())
	}
	r.places = nil
	return errors.Join(errs...)
}

// enter puts the load s on the path. Loads of sockets choose their devices themselves.
func (r *route) enter(s *load.Spec) {
	s.From, s.To = r.places[r.first], r.places[len(r.places)-1]
	s.Via = r.places[r.first+1 : len(r.places)-1]
	s.To.Addr = r.dst
	if s.Mode == load.PPS || s.Mode == load.SKB {
		s.From.Addr = r.from
	}
}

// ends returns the places that are ends of the lab's own links; a path passes both of
// each.
func (r *route) ends(t *topology.Topology) []load.Place {
	var all []load.Place
	for _, l := range t.Links {
		for _, end := range []topology.End{l.A, l.B} {
			for _, p := range r.places {
				if p.Node == end.Node && p.Device == end.Device {
					all = append(all, p)
				}
			}
		}
	}
	return all
}

// hops are the path as the document has it.
func (r *route) hops() []string {
	var all []string
	for _, h := range r.steps {
		all = append(all, h.String())
	}
	return all
}

// seen returns what came to the hops of the path between two readings of the lab's
// counters; nothing of those that are not counted, or that packets did not come to as
// skbs.
func (r *route) seen(before, after map[string]uint64) []result.HopCount {
	var all []result.HopCount
	for _, h := range r.steps {
		if n := after[h.String()] - before[h.String()]; n > 0 && before != nil && after != nil {
			all = append(all, result.HopCount{Hop: h.String(), Count: n})
		}
	}
	return all
}
