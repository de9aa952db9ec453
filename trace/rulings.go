package trace

import (
	"cmp"
	"slices"
	"time"

	"github.com/nsbpf/nsbpf/collector"
)

// rulings are what nft's rules said of packets whose Paths are not complete, by
// the packets' headers: they know packets by nothing else, and come later than the
// rest.
type rulings struct {
	of     map[headers][]Ruling
	order  []headers // one for each that came, oldest first; those taken are left in it
	newest uint64
	number int // of rulings in of
}

const (
	// rulingTime is how long a ruling is kept for its packet.
	rulingTime  = uint64(5 * time.Second)
	mostRulings = 1 << 16
)

func (rs *rulings) add(more []Ruling) {
	if len(more) > 0 && rs.of == nil {
		rs.of = make(map[headers][]Ruling)
	}
	for i := range more {
		h := headersOf(&more[i].Sighting)
		rs.of[h] = append(rs.of[h], more[i])
		rs.order = append(rs.order, h)
		rs.newest = max(rs.newest, more[i].TimeNS)
		rs.number++
	}
	rs.forget()
}

// forget drops the oldest rulings of which there are too many, or which are too old.
func (rs *rulings) forget() {
	n := 0
	for ; n < len(rs.order); n++ {
		h := rs.order[n]
		of := rs.of[h]
		if len(of) > 0 {
			if rs.number <= mostRulings && of[0].TimeNS+rulingTime >= rs.newest {
				break
			}
			rs.put(h, of[1:])
		}
	}
	if rs.order = rs.order[n:]; len(rs.of) == 0 {
		rs.order = nil
	}
}

// put makes of all that there is of h.
func (rs *rulings) put(h headers, of []Ruling) {
	rs.number += len(of) - len(rs.of[h])
	if len(of) == 0 {
		delete(rs.of, h)
		return
	}
	rs.of[h] = of
}

// take gives p, in a lab of graph g, the rulings about its packet.
func (rs *rulings) take(p *Path, g *graph) {
	if len(rs.of) == 0 {
		return
	}
	var asked headers
	look := func(s *collector.Sighting) {
		if h := headersOf(s); h != asked {
			rs.takeOf(h, p, g)
			asked = h
		}
	}
	for i := range p.Steps {
		if s, ok := p.halfway(i); ok {
			look(&s)
		}
		look(&p.Steps[i].Sighting)
	}
	for i := range p.Drops {
		look(&p.Drops[i].Sighting)
	}
	slices.SortStableFunc(p.Rulings, func(a, b Ruling) int { return cmp.Compare(a.TimeNS, b.TimeNS) })
	for i := range p.Drops {
		d := &p.Drops[i]
		for k := range p.Rulings {
			if r := &p.Rulings[k]; d.Rule == nil && r.Node == d.Node && r.Rule.Ends() {
				rule := r.Rule
				d.Rule = &rule
			}
		}
	}
}

// takeOf gives p the rulings about a packet with the headers h, if that is its own.
func (rs *rulings) takeOf(h headers, p *Path, g *graph) {
	of, ok := rs.of[h]
	if !ok {
		return
	}
	rs.put(h, slices.DeleteFunc(of, func(r Ruling) bool {
		if !p.ruled(&r, g) {
			return false
		}
		p.Rulings = append(p.Rulings, r)
		return true
	}))
}

// ruled says whether r is about p's packet, and sets r's step: the last one in the
// rule's node where the packet had these headers, -1 if there is none.
func (p *Path) ruled(r *Ruling, g *graph) (is bool) {
	if r.TimeNS < p.Steps[0].TimeNS {
		return false
	}
	r.Step = -1
	for i := range p.Steps {
		st := &p.Steps[i]
		if s, ok := p.halfway(i); ok && g.node(st.Hop) == r.Node && sameHeaders(&s, &r.Sighting) {
			r.Step, is = st.Prev, true
		}
		if sameHeaders(&st.Sighting, &r.Sighting) {
			is = true
			if g.node(st.Hop) == r.Node {
				r.Step = i
			}
		}
	}
	for i := range p.Drops {
		if d := &p.Drops[i]; d.Node == r.Node && sameHeaders(&d.Sighting, &r.Sighting) {
			r.Step, is = d.Step, true
		}
	}
	return is
}

// halfway returns the packet as it was between step i and the one before, with its new
// destination and its old source; ok is false unless both changed there.
func (p *Path) halfway(i int) (s collector.Sighting, ok bool) {
	const both = SNAT | DNAT
	st := &p.Steps[i]
	if st.Prev < 0 || st.Change&both != both {
		return s, false
	}
	s = st.Sighting
	was := &p.Steps[st.Prev].Packet
	s.Packet.Src, s.Packet.Sport, s.Packet.ICMPID = was.Src, was.Sport, was.ICMPID
	return s, true
}

// Ends says whether the verdict is the packet's end.
func (r *Rule) Ends() bool {
	return r.Verdict != "accept" && r.Verdict != "continue" && r.Verdict != "return"
}

// headers are what rulings know a packet by.
type headers struct {
	etherType, ipID, frag, sport, dport uint16
	proto, icmpType                     uint8
	icmpID, icmpSeq                     uint16
	seq                                 uint32
	src, dst                            [16]byte
}

func headersOf(s *collector.Sighting) headers {
	p := &s.Packet
	return headers{
		etherType: p.EtherType, proto: p.Proto, ipID: p.IPID, frag: p.Frag, src: p.Src, dst: p.Dst,
		sport: p.Sport, dport: p.Dport, seq: p.Seq, icmpType: p.ICMPType, icmpID: p.ICMPID, icmpSeq: p.ICMPSeq,
	}
}

// sameHeaders says whether the headers of b, which may be all that is known of it,
// are a's.
func sameHeaders(a, b *collector.Sighting) bool { return headersOf(a) == headersOf(b) }
