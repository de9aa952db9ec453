package trace

import (
	"slices"
	"time"

	"github.com/nsbpf/nsbpf/collector"
)

// rulings are what nft's rules said of packets whose Paths are not complete. They
// know packets by their headers alone, and come later than the rest.
type rulings []Ruling

const (
	// rulingTime is how long a ruling is kept for its packet.
	rulingTime  = uint64(5 * time.Second)
	mostRulings = 1 << 14
)

func (rs *rulings) add(more []Ruling) {
	if len(more) == 0 {
		return
	}
	if over := len(*rs) + len(more) - mostRulings; over > 0 {
		*rs = slices.Delete(*rs, 0, min(over, len(*rs)))
	}
	*rs = append(*rs, more...)
}

// take gives p, in a lab of graph g, the rulings about its packet, and forgets what
// is too old.
func (rs *rulings) take(p *Path, g *graph) {
	if len(*rs) == 0 {
		return
	}
	newest := (*rs)[len(*rs)-1].TimeNS
	*rs = slices.DeleteFunc(*rs, func(r Ruling) bool {
		if !p.ruled(&r, g) {
			return r.TimeNS+rulingTime < newest
		}
		p.Rulings = append(p.Rulings, r)
		return true
	})
	for i := range p.Drops {
		d := &p.Drops[i]
		for k := range p.Rulings {
			if r := &p.Rulings[k]; d.Rule == nil && r.Node == d.Node && r.Rule.Ends() {
				d.Rule = &r.Rule
			}
		}
	}
}

// ruled says whether r is about p's packet, and sets r's step: the last one in the
// rule's node where the packet had these headers, -1 if there is none.
func (p *Path) ruled(r *Ruling, g *graph) (is bool) {
	if r.TimeNS < p.Steps[0].TimeNS {
		return false
	}
	r.Step = -1
	for i := range p.Steps {
		if st := &p.Steps[i]; sameHeaders(&st.Sighting, &r.Sighting) {
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

// Ends says whether the verdict is the packet's end.
func (r *Rule) Ends() bool {
	return r.Verdict != "accept" && r.Verdict != "continue" && r.Verdict != "return"
}

// sameHeaders says whether the headers of b, which may be all that is known of it,
// are a's.
func sameHeaders(a, b *collector.Sighting) bool {
	p, q := &a.Packet, &b.Packet
	return p.EtherType == q.EtherType && p.Proto == q.Proto && p.IPID == q.IPID && p.Frag == q.Frag &&
		p.Src == q.Src && p.Dst == q.Dst && p.Sport == q.Sport && p.Dport == q.Dport && p.Seq == q.Seq &&
		p.ICMPType == q.ICMPType && p.ICMPID == q.ICMPID && p.ICMPSeq == q.ICMPSeq
}
