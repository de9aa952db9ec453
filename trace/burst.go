package trace

import "github.com/nsbpf/nsbpf/collector"

// burstOffset returns where s begins in the packet first, both UDP. The IPv4 ids
// of a GSO packet's segments count up. IPv6 has none: of s, if it was put together
// from packets, the first bytes up to fill are of those before first.
func burstOffset(first, s *collector.Sighting, fill int64) (int64, bool) {
	if first.Packet.EtherType == collector.EtherIPv6 {
		return -fill, first.Segments <= 1 && s.Segments > 1
	}
	size := int64(first.GSOSize)
	if first.Segments <= 1 {
		size = int64(s.GSOSize)
	}
	k := int64(int16(s.Packet.IPID - first.Packet.IPID))
	return k * size, k == 0 || size > 0
}

// turn returns s, which has no id, as a segment of an open GSO packet: one that
// was seen at a hop before as it is, else the next one where it is cut. The first bytes of a packet's first segment are the packet's own, so
// that begins the packet; where all segments have the same bytes they are those
// of the oldest packet, else of the newest that began.
func (j *Joiner) turn(s *collector.Sighting) found {
	var best found
	begins := false // best's packet begins with the bytes of s
	j.beside(s, func(o *open) bool {
		if i, _ := j.before(o, s); i >= 0 && !o.marks[i].left {
			best = found{path: o, prev: i, match: MatchSegments, piece: o.Steps[i].Piece}
			return false
		}
		p, ok := o.next(s)
		if !ok {
			return true
		}
		alike := content(&o.Steps[0].Sighting) == content(s)
		if p.Offset == 0 && !alike || begins {
			return true
		}
		if i := j.source(o, s, span{int64(p.Offset), int64(p.end())}); i >= 0 && o.Steps[i].Segments > 1 {
			best, begins = found{path: o, prev: i, match: MatchSegments, piece: p}, alike
		}
		return true
	})
	return best
}

// next returns the piece that s is of o's packet if it is the next one at its
// hop, or the last.
func (o *open) next(s *collector.Sighting) (Piece, bool) {
	first := &o.Steps[0].Sighting
	n, size := payload(s), uint32(first.GSOSize)
	if o.cut != burst || first.Segments <= 1 || s.Segments > 1 || n == 0 || n > size || n > o.Payload {
		return Piece{}, false
	}
	p := Piece{o.reached(s.Hop), n}
	if n < size {
		p.Offset = o.Payload - n
	}
	return p, p.Offset%size == 0 && p.end() <= uint64(o.Payload)
}
