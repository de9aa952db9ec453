package ping

import (
	"slices"

	"github.com/nsbpf/nsbpf/collector"
	"github.com/nsbpf/nsbpf/internal/hop"
	"github.com/nsbpf/nsbpf/trace"
)

// Tracks finds the Paths of probes, and of what answered them, among those of a
// trace.
//
// A probe is known by its [Key]. An answer is known where it reaches the sender,
// or where it begins: there it is the reverse of the probe as that arrived, so one
// whose addresses were translated is found also if it never came back. An ICMP
// error does not show to the trace what it quotes: it is one to the address that
// the probe had where it was last seen, and the first that comes later.
type Tracks struct {
	from    string
	hops    map[hop.ID]hop.Hop
	forward map[Key]*trace.Path
	others  []*trace.Path // that may be answers, by when they began
}

// mostOthers bounds the Paths that are kept because they may be answers, the oldest
// of which are forgotten, and beside [MaxCount] those of what others send.
const mostOthers = 1 << 14

// NewTracks returns Tracks of probes that are sent in the node from.
func NewTracks(from string, hops []hop.Hop) *Tracks {
	t := &Tracks{from: from, hops: make(map[hop.ID]hop.Hop), forward: make(map[Key]*trace.Path)}
	for _, h := range hops {
		t.hops[h.ID] = h
	}
	return t
}

// Add takes note of p if it may be the Path of a probe or of an answer, and returns
// the copy that it keeps; else nil.
func (t *Tracks) Add(p *trace.Path) *trace.Path {
	first := &p.Steps[0]
	if k, ok := asked(&first.Sighting); ok {
		if t.here(first) && t.forward[k] == nil && len(t.forward) < MaxCount+mostOthers {
			t.forward[k] = p.Clone()
			return t.forward[k]
		}
		// A UDP packet may as well be what answers another.
		if k.Proto != UDP || t.here(first) {
			return nil
		}
	} else if !mayAnswer(&first.Sighting) {
		return nil
	}
	began := func(p *trace.Path) uint64 { return p.Steps[0].TimeNS }
	at, _ := slices.BinarySearchFunc(t.others, p, func(a, b *trace.Path) int {
		if began(a) < began(b) {
			return -1
		}
		return 1
	})
	if len(t.others) == mostOthers && at > 0 {
		t.others = slices.Delete(t.others, 0, 1)
		at--
	}
	kept := p.Clone()
	t.others = slices.Insert(t.others, at, kept)
	return kept
}

// KeyOf returns the key of the probe that p may be the Path of.
func KeyOf(p *trace.Path) (Key, bool) { return asked(&p.Steps[0].Sighting) }

// here says whether st is in the node that sends, or was at no hop because the
// packet never came to one.
func (t *Tracks) here(st *trace.Step) bool {
	h, known := t.hops[st.HopID()]
	return !known || h.Node == t.from && h.Direction == hop.Egress
}

// Forward returns the Path of p, or nil as long as it is not known.
func (t *Tracks) Forward(p *Probe) *trace.Path { return t.forward[p.Key] }

// Back returns the Path of what answered p, or nil as long as it is not known. It
// is found once. An answer that was heard was delivered, though the kernel, which
// has no use for what a raw socket heard, may have dropped it then.
func (t *Tracks) Back(p *Probe) *trace.Path {
	for i, b := range t.others {
		if !t.answers(p, b) {
			continue
		}
		t.others = slices.Delete(t.others, i, i+1)
		at, seen := t.hops[b.Steps[b.End].HopID()]
		switch heard := p.Answer != nil && b.Verdict == trace.Dropped; {
		case heard && !seen: // it passed no hop
			return nil
		case heard && at.Node == t.from:
			b.Verdict, b.Steps[b.End].Verdict, b.Drops = trace.Delivered, trace.Delivered, nil
		}
		return b
	}
	return nil
}

func (t *Tracks) answers(p *Probe, b *trace.Path) bool {
	for i := range b.Steps {
		if answered(p.Key, &b.Steps[i].Sighting) {
			return true
		}
	}
	f := t.forward[p.Key]
	if f == nil {
		return false
	}
	for i := range f.Steps { // of fragments one has the ports
		k, ok := asked(&f.Steps[i].Sighting)
		if ok && f.Steps[i].Hop == f.Steps[f.End].Hop && answered(k, &b.Steps[0].Sighting) {
			return true
		}
	}
	refused := p.Answer == nil || p.Answer.Kind == ICMPError
	return refused && t.refuses(p, f, b)
}

// refuses says whether b is an ICMP error about f.
func (t *Tracks) refuses(p *Probe, f, b *trace.Path) bool {
	e, last := &b.Steps[0].Sighting, &f.Steps[f.End].Sighting
	if !isError(e) || e.TimeNS < f.Steps[0].TimeNS || e.Dst() != last.Src() {
		return false
	}
	if p.Answer == nil {
		// It was lost on its way, or is about another packet: it is p's if it was sent
		// where p was last seen.
		return t.hops[e.HopID()].Node == t.hops[last.HopID()].Node
	}
	return e.Packet.ICMPType == p.Answer.Type && e.Packet.ICMPCode == p.Answer.Code
}

// asked returns the key that s shows, if it is what a probe can be.
func asked(s *collector.Sighting) (Key, bool) {
	p := &s.Packet
	k := Key{Src: s.Src(), Dst: s.Dst()}
	switch {
	case s.IsFragment() || !s.IsIP():
		return k, false
	case s.IsEcho() && (p.ICMPType == icmpEcho || p.ICMPType == icmp6Echo):
		k.ID, k.Seq = p.ICMPID, uint32(p.ICMPSeq)
		return k, true
	case p.Proto == collector.ProtoUDP && s.HasPorts():
		k.Proto, k.Sport, k.Dport = UDP, p.Sport, p.Dport
		return k, true
	case p.Proto == collector.ProtoTCP && s.HasPorts() && p.TCPFlags&(tcpSYN|tcpACK|tcpRST) == tcpSYN:
		k.Proto, k.Sport, k.Dport, k.Seq = TCP, p.Sport, p.Dport, p.Seq
		return k, true
	}
	return k, false
}

// mayAnswer says whether s is of a kind that answers probes, but for UDP.
func mayAnswer(s *collector.Sighting) bool {
	p := &s.Packet
	return s.IsEcho() || isError(s) ||
		p.Proto == collector.ProtoTCP && p.TCPFlags&tcpACK != 0 && p.TCPFlags&(tcpSYN|tcpRST) != 0
}

// answered says whether s answers the probe that showed k.
func answered(k Key, s *collector.Sighting) bool {
	p := &s.Packet
	if s.IsFragment() || s.Src() != k.Dst || s.Dst() != k.Src {
		return false
	}
	ported := s.HasPorts() && p.Sport == k.Dport && p.Dport == k.Sport
	switch k.Proto {
	case ICMP:
		reply := p.ICMPType == icmpEchoReply || p.ICMPType == icmp6Reply
		return s.IsEcho() && reply && p.ICMPID == k.ID && uint32(p.ICMPSeq) == k.Seq
	case UDP:
		return p.Proto == collector.ProtoUDP && ported
	default:
		return p.Proto == collector.ProtoTCP && ported && mayAnswer(s) && p.Ack == k.Seq+1
	}
}

func isError(s *collector.Sighting) bool {
	p := &s.Packet
	switch {
	case s.IsFragment():
		return false
	case p.Proto == collector.ProtoICMP:
		return slices.Contains([]uint8{icmpUnreachable, icmpExceeded, icmpParameter}, p.ICMPType)
	}
	return p.Proto == collector.ProtoICMPv6 && p.ICMPType >= icmp6Unreachable && p.ICMPType <= icmp6Parameter
}
