package trace

import "github.com/nsbpf/nsbpf/collector"

// Identity says how sightings are known to be of one packet.
type Identity uint8

const (
	// Auto goes by the skb's address, then by its buffer's, then by Fingerprint.
	Auto Identity = iota
	// Fingerprint goes by the fields that neither forwarding nor NAT changes, as
	// in trajectory sampling (Duffield and Grossglauser, 2001; RFC 5475). Packets
	// that are alike in them are taken in the order of arrival.
	Fingerprint
)

// sameFields says whether no field that stays the same along the way tells a
// from b. A fragment has only some of them, and one of a pair may have been put
// together from the others.
func sameFields(a, b *collector.Sighting) bool {
	p, q := &a.Packet, &b.Packet
	if p.EtherType != q.EtherType || p.IPID != q.IPID || p.Proto != q.Proto {
		return false
	}
	if a.IsFragment() || b.IsFragment() {
		return p.Frag == q.Frag && p.FragID == q.FragID || a.IsFragment() != b.IsFragment()
	}
	flags, ok := p.TCPFlags^q.TCPFlags, content(a) == content(b)
	if a.Segments != b.Segments {
		flags, ok = flags&^looseFlags, true
	}
	return ok && flags == 0 && p.Seq == q.Seq && p.Ack == q.Ack && p.TSVal == q.TSVal &&
		p.ICMPType == q.ICMPType && p.ICMPCode == q.ICMPCode && p.ICMPSeq == q.ICMPSeq
}

// sameFingerprint is sameFields and what GSO, GRO and defragmentation change.
func sameFingerprint(a, b *collector.Sighting) bool {
	p, q := &a.Packet, &b.Packet
	return p.Len == q.Len && a.Segments == b.Segments && p.Frag == q.Frag && p.FragID == q.FragID && sameFields(a, b)
}

// fingerprint returns a hash that is equal where sameFingerprint holds.
func fingerprint(s *collector.Sighting) uint64 {
	p := &s.Packet
	h := uint64(p.EtherType)<<48 | uint64(p.Proto)<<40 | uint64(p.IPID)<<16 | uint64(s.Segments)
	h = mix(h, uint64(p.Len)<<16|uint64(p.Frag))
	if p.FragID != 0 {
		h = mix(h, uint64(p.FragID))
	}
	if !s.IsFragment() {
		h = mix(h, uint64(p.Seq)<<32|uint64(p.Ack))
		h = mix(h, uint64(p.TSVal)<<32|uint64(content(s)))
		h = mix(h, uint64(p.TCPFlags)<<32|uint64(p.ICMPType)<<24|uint64(p.ICMPCode)<<16|uint64(p.ICMPSeq))
	}
	return h
}

func mix(h, x uint64) uint64 {
	h = (h ^ x) * 0x9e3779b97f4a7c15
	return h ^ h>>29
}

// content returns the payload's hash, or 0 where NAT changes the payload: an
// ICMP error carries the addresses of the packet that it is about.
func content(s *collector.Sighting) uint32 {
	p := &s.Packet
	switch {
	case p.EtherType == collector.EtherIPv4 && p.Proto == collector.ProtoICMP && !s.IsEcho():
		return 0
	case p.EtherType == collector.EtherIPv6 && p.Proto == collector.ProtoICMPv6 && p.ICMPType < 128:
		return 0
	}
	return s.PayloadHash
}
