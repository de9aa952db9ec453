package main

import (
	"cmp"
	"slices"
	"testing"

	"github.com/nsbpf/nsbpf/collector"
	"github.com/nsbpf/nsbpf/internal/hop"
)

// learn tells of each run which packet it is of: probes by the id in their
// payload, fragments by that of the datagram, TCP by its sequence numbers and by
// when it was sent. Of all else it is not known.
func (r *tape) learn(t *testing.T, o *oracle) {
	t.Helper()
	l := learner{oracle: o, truth: &r.truth, probes: map[int]int{}, datagrams: map[datagram]int{}, streams: map[stream]*sendings{}}
	var order []*entry
	for i := range r.entries {
		if e := &r.entries[i]; e.Run != nil {
			order = append(order, e)
			if n := o.of(&e.Run.Sighting); n >= 0 {
				l.datagrams[datagramOf(&e.Run.Sighting)] = n
			}
		}
	}
	slices.SortStableFunc(order, func(a, b *entry) int { return cmp.Compare(a.Run.TimeNS, b.Run.TimeNS) })
	unknown := 0
	for _, e := range order {
		s := &e.Run.Sighting
		switch n, ok := l.probe(s); {
		case ok:
			e.Packet = n
		case s.Packet.Proto == collector.ProtoTCP:
			e.Packet = l.segment(e.Run)
		default:
			unknown++
		}
	}
	r.conclude(&l)
	t.Logf("%d runs of %d packets, and %d others", len(order)-unknown, len(r.truth), unknown)
}

// learner is at work on a recording.
type learner struct {
	*oracle
	truth     *[]recorded
	probes    map[int]int // numbers in truth
	datagrams map[datagram]int
	streams   map[stream]*sendings
}

// add returns the number of one packet more.
func (l *learner) add(p recorded) int {
	*l.truth = append(*l.truth, p)
	return len(*l.truth)
}

// datagram is what the fragments of one have in common at a hop.
type datagram struct {
	ethertype uint16
	id        uint32
}

// datagramOf returns that of s. It is the zero one if s is no fragment.
func datagramOf(s *collector.Sighting) datagram {
	p := &s.Packet
	switch {
	case p.EtherType == collector.EtherIPv4 && p.Frag&0x3fff != 0:
		return datagram{p.EtherType, uint32(p.IPID)}
	case p.EtherType == collector.EtherIPv6 && p.FragID != 0:
		return datagram{p.EtherType, p.FragID}
	}
	return datagram{}
}

// probe returns the number of the probe that s is of.
func (l *learner) probe(s *collector.Sighting) (number int, ok bool) {
	n := l.of(s)
	if n < 0 {
		d := datagramOf(s)
		if n, ok = l.datagrams[d]; !ok || d == (datagram{}) {
			return 0, false
		}
	}
	if l.probes[n] == 0 {
		l.probes[n] = l.add(recorded{Probe: true, Arrived: l.oracle.probes[n].arrived, Attempt: 1})
	}
	return l.probes[n], true
}

// stream is one direction of a connection.
type stream struct {
	src, dst     [16]byte
	sport, dport uint16
}

// sendings are what was sent by a stream, in that order.
type sendings struct {
	segments []sending
	acks     map[ack][]int          // those without payload: their numbers
	passed   map[hop.ID]map[ack]int // how many of them were seen at a hop
}

// sending is a segment that was sent: sequence numbers from start to before end.
type sending struct {
	start, end uint32
	number     int
	arrived    uint32 // so much of it
}

func (s *sending) overlap(start, end uint32) uint32 {
	from, to := max(int32(start-s.start), 0), min(int32(end-s.start), int32(s.end-s.start))
	return uint32(max(to-from, 0))
}

// ack tells packets without payload apart, if not by their order.
type ack struct {
	seq, ack, time uint32
	flags          uint8
}

// segment returns the number of the packet that r is of, whose first byte it has.
func (l *learner) segment(r *collector.Run) int {
	p := &r.Packet
	k := stream{p.Src, p.Dst, p.Sport, p.Dport}
	if l.streams[k] == nil {
		l.streams[k] = &sendings{acks: map[ack][]int{}, passed: map[hop.ID]map[ack]int{}}
	}
	of := l.streams[k]
	first := l.hop(r.HopID())
	sends := first.Kind == hop.End && first.Direction == hop.Egress
	start, end := p.Seq, p.Seq+p.Len-uint32(p.PayloadOff)
	if p.TCPFlags&3 != 0 { // SYN and FIN have a number
		end++
	}
	if start == end {
		return l.acknowledgement(of, r, sends)
	}
	if sends {
		was := 0
		for i := range of.segments {
			if g := &of.segments[i]; g.overlap(start, end) > 0 {
				was = max(was, (*l.truth)[g.number-1].Attempt)
			}
		}
		of.segments = append(of.segments, sending{start: start, end: end, number: l.add(recorded{Attempt: was + 1})})
	}
	number, until := 0, end
	receives := l.receives(r)
	for i := len(of.segments) - 1; i >= 0 && until != start; i-- {
		g := &of.segments[i]
		n := g.overlap(start, until)
		if n == 0 {
			continue
		}
		if receives {
			g.arrived += n
		}
		number = g.number
		until -= n // the newest first, as they are sent in order
	}
	return number
}

// acknowledgement is segment of one without payload.
func (l *learner) acknowledgement(of *sendings, r *collector.Run, sends bool) int {
	p := &r.Packet
	a := ack{p.Seq, p.Ack, p.TSVal, p.TCPFlags}
	if sends {
		of.acks[a] = append(of.acks[a], l.add(recorded{Attempt: 1}))
	}
	number := 0
	for i := range r.Len() {
		id, _ := r.At(i)
		at := of.passed[hop.ID(id)]
		if at == nil {
			at = map[ack]int{}
			of.passed[hop.ID(id)] = at
		}
		if n := at[a]; i == 0 && n < len(of.acks[a]) {
			number = of.acks[a][n]
		}
		at[a]++
	}
	if number > 0 && l.receives(r) {
		(*l.truth)[number-1].Arrived = true
	}
	return number
}

// receives says whether r's last hop is that of a receiver.
func (l *learner) receives(r *collector.Run) bool {
	id, _ := r.At(r.Len() - 1)
	h := l.hop(hop.ID(id))
	return h.Kind == hop.End && h.Direction == hop.Ingress && h.Layer == hop.TC
}

// conclude notes which segments arrived.
func (r *tape) conclude(l *learner) {
	for _, of := range l.streams {
		for i := range of.segments {
			if g := &of.segments[i]; g.arrived >= g.end-g.start {
				r.truth[g.number-1].Arrived = true
			}
		}
	}
}
