package trace

import "github.com/nsbpf/nsbpf/collector"

// fit says how well the addresses of two sightings allow that they are of one
// packet.
type fit uint8

const (
	unfit      fit = iota
	translated     // NAT can have made the one of the other
	same           // they have the same
)

// fitOf returns whether to can be from's packet by its addresses and ports. On a
// wire nothing is translated. Where conntrack remembers the connection, it has to
// be the one that from shows.
func (fs *flows) fitOf(from, to *collector.Sighting, wire bool) fit {
	p, q := &from.Packet, &to.Packet
	bare := !ported(from) || !ported(to)
	if p.Src == q.Src && p.Dst == q.Dst &&
		(bare || p.Sport == q.Sport && p.Dport == q.Dport && p.ICMPID == q.ICMPID) {
		return same
	}
	if wire {
		return unfit
	}
	f, t := flowOf(from), flowOf(to)
	if bare {
		f, t = f.bare(), t.bare()
	}
	if to.Orig.Status == 0 || isError(to) {
		if untracked(f, t, bare || to.IsEcho()) {
			return translated
		}
		return unfit
	}
	if from.Orig.Status != 0 && originOf(from, bare) != originOf(to, bare) {
		return unfit // a namespace knows it by one connection
	}
	if fs.tracked(f, t, originOf(to, bare), to.Orig.Status, to.IsEcho()) {
		return translated
	}
	return unfit
}

// ported says whether s shows what tells connections between two addresses
// apart. A fragment does not.
func ported(s *collector.Sighting) bool { return s.HasPorts() || s.IsEcho() }

// isError says whether s is an ICMP error: it comes with the connection that it
// is about, and with other addresses than that.
func isError(s *collector.Sighting) bool {
	p := &s.Packet
	if s.IsFragment() {
		return false // its type is not known
	}
	return p.Proto == collector.ProtoICMP && !s.IsEcho() || p.Proto == collector.ProtoICMPv6 && p.ICMPType < 128
}

// originOf returns conntrack's original direction as the first packet showed it.
func originOf(s *collector.Sighting, bare bool) flow {
	o := &s.Orig
	f := flow{src: o.Src, dst: o.Dst, sport: o.Sport, dport: o.Dport, proto: s.Packet.Proto}
	switch {
	case bare:
		return f.bare()
	case s.IsEcho():
		f.dport = o.Sport
	}
	return f
}

// tracked says whether from, translated, is to, of the connection that began as
// orig: of its direction the source is translated only by SNAT and the
// destination only by DNAT, of replies the other way round. What a reply is
// translated to is known from the packets of the original direction, if they
// were seen. The id of an echo is both its ports, so by these neither end stays the
// same where one is translated.
func (fs *flows) tracked(from, to, orig flow, status uint32, echo bool) bool {
	src, dst := from.sameSrc(to), from.sameDst(to)
	if echo {
		src, dst = from.src == to.src, from.dst == to.dst
	}
	snat, dnat := status&collector.ConnSNAT != 0, status&collector.ConnDNAT != 0
	if from.sameSrc(orig) && (from.sameDst(orig) || dst) && (src || snat) && (dst || dnat) {
		return true
	}
	if becomes, known := fs.known[from]; known && becomes != to {
		return false
	}
	back := orig.reply()
	return to.sameDst(back) && (to.sameSrc(back) || src) && (src || dnat) && (dst || snat)
}

// untracked says whether one end of from and to is the same.
func untracked(from, to flow, byAddress bool) bool {
	if byAddress {
		return from.src == to.src || from.dst == to.dst
	}
	return from.sameSrc(to) || from.sameDst(to)
}

// answers says whether to goes back to where from came from, as a reply does
// that was put into the same skb. A packet that a node sends back to its sender
// by translating both addresses is not one.
func (fs *flows) answers(from, to *collector.Sighting) bool {
	p, q := &from.Packet, &to.Packet
	return p.Src == q.Dst && p.Dst == q.Src && fs.fitOf(from, to, false) == unfit
}
