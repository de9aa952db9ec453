package trace

import (
	"time"

	"github.com/nsbpf/nsbpf/collector"
)

// maxPayload is more than any packet carries.
const maxPayload = 1 << 24

// sameSize says whether neither was cut nor put together on the way.
func sameSize(a, b *collector.Sighting) bool {
	return a.Packet.Len == b.Packet.Len && a.Packet.Frag == b.Packet.Frag
}

// pieceAt returns what s carries of o's packet if it comes from step i, some of
// which it has to carry.
func (o *open) pieceAt(i int, s *collector.Sighting) (Piece, bool) {
	st := &o.Steps[i]
	if sameSize(&st.Sighting, s) {
		return st.Piece, true
	}
	if o.cut == whole {
		return st.Piece, !isPiece(s)
	}
	sp, ok := o.span(s, 0)
	p := sp.piece()
	return p, ok && p.overlaps(st.Piece)
}

// part returns s as a piece of an open Path's packet, or as a packet that was put
// together from pieces. Of several packets that is the Path of the first byte.
func (j *Joiner) part(s *collector.Sighting) found {
	if p := &s.Packet; p.Proto == collector.ProtoUDP && p.EtherType == collector.EtherIPv6 && !isPiece(s) {
		if f := j.turn(s); f.path != nil {
			return f
		}
	}
	var best found
	lacks := int64(-maxPayload) // how much of s is before the packet: 0 or less
	j.beside(s, func(o *open) bool {
		sp, _ := o.span(s, 0)
		if min(sp.from, 0) <= lacks {
			return true
		}
		if f := j.partOf(o, s); f.path != nil {
			best, lacks = f, min(sp.from, 0)
		}
		return lacks < 0
	})
	return best
}

// partOf returns s as a piece of o's packet, or as one that it has pieces of.
func (j *Joiner) partOf(o *open, s *collector.Sighting) found {
	sp, ok := o.span(s, 0)
	if !ok {
		return found{}
	}
	i := j.source(o, s, sp)
	if i < 0 {
		return found{}
	}
	return found{path: o, prev: i, match: MatchSegments, piece: sp.piece()}
}

// source returns the step of o that s, which lies there in o's packet, comes
// from: the last one with its first byte, else the last with one of its bytes. It
// is -1 if there is none, or that part of the packet was at the hop already.
func (j *Joiner) source(o *open, s *collector.Sighting, sp span) int {
	p, ok := sp.within(o.Payload)
	if !ok || o.passed(s.Hop, p) || o.cut == datagram && o.isOther(s) {
		return -1
	}
	some := -1
	for i := len(o.marks) - 1; i >= 0; i-- {
		m := &o.marks[i]
		if !m.overlaps(p) {
			continue
		}
		st := &o.Steps[i]
		wire, ok := j.graph.edge(m.hop, s.Hop)
		how := j.flows.fitOf(&st.Sighting, s, wire)
		if !ok || !j.inOrder(st, s) || how == unfit || how == translated && s.Orig.Status == 0 && isPiece(s) && !sameID(st, s) ||
			!idFits(st, sp.from-int64(m.Offset), s) || !oneDatagram(st, s, wire) {
			continue
		}
		if m.overlaps(Piece{p.Offset, 1}) {
			return i
		}
		if some < 0 {
			some = i
		}
	}
	return some
}

// isOther says whether s, which would be a piece of o's datagram or all of it,
// cannot be: all fragments at a hop have one id, all end where the last one does,
// what was put together has every byte, and the first byte is behind the same header.
func (o *open) isOther(s *collector.Sighting) bool {
	end := uint32(fragment(s).end())
	if isLastPiece(s) && (end < o.Payload || o.sized && end > o.Payload) || o.sized && !isLastPiece(s) && end >= o.Payload {
		return true
	}
	for i := range o.marks {
		st := &o.Steps[i]
		if st.Offset == 0 && !s.IsFragment() && !st.IsFragment() && !sameHeader(&st.Sighting, s) {
			return true
		}
		if isPiece(s) && st.Hop == s.Hop && isPiece(&st.Sighting) && !sameID(st, s) {
			return true
		}
	}
	return false
}

// sameHeader says whether what no hop changes of two transport headers, and what is
// hashed behind them, is the same.
func sameHeader(a, b *collector.Sighting) bool {
	p, q := &a.Packet, &b.Packet
	return p.ICMPType == q.ICMPType && p.ICMPCode == q.ICMPCode && p.ICMPSeq == q.ICMPSeq && content(a) == content(b)
}

// sibling returns s, a fragment, as one more piece of a datagram of which others
// were at the same hop.
func (j *Joiner) sibling(s *collector.Sighting) found {
	var f found
	p := fragment(s)
	j.beside(s, func(o *open) bool {
		if o.cut != datagram || o.passed(s.Hop, p) {
			return true
		}
		for i := range o.marks {
			st := &o.Steps[i]
			if st.Hop == s.Hop && isPiece(&st.Sighting) && sameID(st, s) && j.flows.fitOf(&st.Sighting, s, true) == same {
				f = found{path: o, prev: -1, match: MatchSegments, piece: p}
				return false
			}
		}
		return true
	})
	return f
}

func sameID(st *Step, s *collector.Sighting) bool {
	return st.Packet.IPID == s.Packet.IPID && st.Packet.FragID == s.Packet.FragID && st.Packet.Proto == s.Packet.Proto
}

// beside calls visit for the open Paths that wait and that s can be a piece of or
// have pieces of, until it returns false. Of UDP packets the oldest comes first,
// as they are told apart by order if by nothing else; else it is the newest, as
// what is sent again is sent because the first was lost.
func (j *Joiner) beside(s *collector.Sighting, visit func(*open) bool) {
	if !s.IsIP() || s.IsShort() {
		return
	}
	p := &s.Packet
	switch {
	case isPiece(s):
	case p.Proto == collector.ProtoTCP:
		if payload(s) > 0 && !j.lanes.newestFirst(laneOf(stream, s, 0), visit) {
			return
		}
	case p.Proto == collector.ProtoUDP && p.EtherType == collector.EtherIPv6:
		if !j.lanes.oldestFirst(laneOf(burst, s, 0), visit) {
			return
		}
	case p.Proto == collector.ProtoUDP:
		const most = 128 // segments of a packet
		for d := -most; d <= int(s.Segments); d += 1 << laneBits {
			if !j.lanes.oldestFirst(laneOf(burst, s, p.IPID+uint16(d)), visit) {
				return
			}
		}
	}
	j.lanes.newestFirst(laneOf(datagram, s, p.IPID), visit)
}

// together says of all steps of o whose pieces went into step n that they went on.
func (j *Joiner) together(o *open, n int) {
	to := o.marks[n]
	for i := range o.marks[:n] {
		m := &o.marks[i]
		if m.left || !m.overlaps(to.Piece) {
			continue
		}
		if _, ok := j.graph.edge(m.hop, to.hop); ok {
			o.goesOn(i)
		}
	}
}

// absorb ends the Paths of the packets that are in o's newest step with o's own,
// of which it has so many bytes.
func (j *Joiner) absorb(o *open, own uint32) {
	n := len(o.Steps) - 1
	s := &o.Steps[n].Sighting
	fill := int64(own)
	j.beside(s, func(q *open) bool {
		if q == o {
			return true
		}
		sp, ok := q.span(s, fill)
		if !ok {
			return true
		}
		i := j.source(q, s, sp)
		if i < 0 {
			return true
		}
		p, _ := sp.within(q.Payload)
		q.Merges = append(q.Merges, Merge{
			Piece: p, Step: i, Hop: s.HopID(), Path: o.Number, AtStep: n,
			Delta: time.Duration(s.TimeNS - q.Steps[i].TimeNS),
		})
		for k := range q.marks {
			if m := &q.marks[k]; !m.left && m.overlaps(p) {
				if _, ok := j.graph.edge(m.hop, s.Hop); ok {
					q.goesOn(k)
				}
			}
		}
		q.arrived += p.weight()
		fill += int64(p.Length)
		o.Steps[n].With++
		j.seen(q)
		return true
	})
}
