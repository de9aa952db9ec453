package trace

import (
	"github.com/nsbpf/nsbpf/bpf"
	"github.com/nsbpf/nsbpf/collector"
)

// gso returns a packet of n segments; the last is shorter.
func (s *sim) gso(p collector.Sighting, n int) collector.Sighting {
	const mss = 1448
	s.serial += uint16(n) - 1
	p.Segments, p.GSOSize = uint16(n), mss
	if n == 1 {
		p.GSOSize = 0
	}
	p.Packet.Len = uint32(p.Packet.PayloadOff) + uint32(n-1)*mss + 700
	return p
}

// segments returns the segments from to before to of the GSO packet p, as one
// packet.
func segments(p collector.Sighting, from, to int) collector.Sighting {
	const mss = 1448
	n := int(p.Segments)
	c := p
	c.Segments = uint16(to - from)
	if to-from == 1 {
		c.GSOSize = 0
	}
	length := uint32(to-from) * mss
	if to == n {
		length = payload(&p) - uint32(from)*mss
	}
	c.Packet.Len = uint32(p.Packet.PayloadOff) + length
	if p.Packet.EtherType == collector.EtherIPv4 {
		c.Packet.IPID += uint16(from)
	}
	if p.Packet.Proto == collector.ProtoTCP {
		c.Packet.Seq += uint32(from) * mss
		if to < n {
			c.Packet.TCPFlags &^= flagPSH | flagFIN
		}
		if from > 0 {
			c.Packet.TCPFlags &^= flagCWR
		}
	} else if from > 0 {
		c.PayloadHash += uint32(from) * 7919
	}
	return c
}

// cutAt sends the GSO packet p along hops; before hop number at it is one packet,
// from there its segments are packets.
func (s *sim) cutAt(p collector.Sighting, hops []simHop, at int) []voyage {
	var v voyage
	t := s.now
	p.Skb, p.Head = s.takeSkb(), s.takeSkb()+1<<40
	s.busy = append(s.busy, release{t + 1e6, p.Skb})
	for _, h := range hops[:at] {
		t += 200 + s.rand.Uint64N(5_000)
		s.sight(&v, p, h.name, t)
	}
	n := int(p.Segments)
	v.verdict = Delivered
	var firstLost string
	left := n
	for i := range n {
		c := segments(p, i, i+1)
		c.Skb = s.takeSkb()
		c.Head = c.Skb + 1<<40
		ct, where := t+uint64(i)*2_500, hops[at-1].name
		for _, h := range hops[at:] {
			if s.rand.Float64() < s.loss/float64(n) {
				v.missing += payload(&c)
				left--
				if firstLost == "" {
					firstLost = where
				}
				break
			}
			ct += 200 + s.rand.Uint64N(500)
			s.sight(&v, c, h.name, ct)
			where = h.name
		}
		s.busy = append(s.busy, release{ct, c.Skb})
	}
	v.end = hops[len(hops)-1].name
	if firstLost != "" {
		v.verdict, v.end = PartlyDelivered, firstLost
		if left == 0 {
			v.verdict, v.missing = LastSeen, 0
		}
	}
	s.now += 2_000 + s.rand.Uint64N(8_000)
	return []voyage{v}
}

// mergeAt sends packets, one after the other of one stream, along hops; the last
// hop sees them cut and put together as sizes says, in segments. cut, at the hop
// before, says whether it sees the segments alone.
func (s *sim) mergeAt(ps []collector.Sighting, hops []simHop, cut bool, sizes ...int) []voyage {
	vs := make([]voyage, len(ps))
	var owner []int // by segment
	var firsts []int
	t := s.now
	for i, p := range ps {
		p.Skb = s.takeSkb()
		p.Head = p.Skb + 1<<40
		ps[i] = p
		pt := t + uint64(i)*2_000
		last := len(hops) - 1
		if cut {
			last--
		}
		for _, h := range hops[:last] {
			pt += 200 + s.rand.Uint64N(1_000)
			s.sight(&vs[i], p, h.name, pt)
		}
		for k := range int(p.Segments) {
			owner = append(owner, i)
			firsts = append(firsts, k)
			if cut {
				c := segments(p, k, k+1)
				c.Skb = s.takeSkb()
				c.Head = c.Skb + 1<<40
				s.sight(&vs[i], c, hops[last].name, pt+uint64(k+1)*300)
				s.busy = append(s.busy, release{pt + 1e6, c.Skb})
			}
		}
		s.busy = append(s.busy, release{pt + 1e6, p.Skb})
		vs[i].verdict = Delivered
	}
	s.mergedAs(ps, vs, owner, firsts, sizes, cut, t+60_000, hops[len(hops)-1].name)
	return vs
}

// mergedAs adds to the first voyage of each merged packet that it was seen at the
// last hop. owner and firsts say of each segment whose it is, and which.
func (s *sim) mergedAs(ps []collector.Sighting, vs []voyage, owner, firsts, sizes []int, cut bool, t uint64, hop string) {
	at := 0
	for _, n := range sizes {
		first := owner[at]
		m := segments(ps[first], firsts[at], firsts[at]+1)
		m.Segments, m.GSOSize = uint16(n), 1448
		m.Packet.Len = uint32(m.Packet.PayloadOff)
		for k := at; k < at+n; k++ {
			c := segments(ps[owner[k]], firsts[k], firsts[k]+1)
			m.Packet.Len += payload(&c)
			m.Packet.TCPFlags |= c.Packet.TCPFlags
			if k > at && owner[k] != owner[k-1] {
				vs[owner[k]].verdict = Merged
				vs[first].merged++
			}
		}
		if firsts[at] == 0 && !cut {
			m.Skb, m.Head = ps[first].Skb, ps[first].Head
		} else {
			m.Skb = s.takeSkb()
			m.Head = m.Skb + 1<<40
			s.busy = append(s.busy, release{t + 1e6, m.Skb})
		}
		t += 1_000
		end := vs[first].end
		s.sight(&vs[first], m, hop, t)
		if vs[first].verdict == Merged {
			vs[first].end = end
		}
		at += n
	}
	s.now = t + 5_000
}

// fragments cuts the datagram p, whose payload is behind 20 or 40 bytes of IP
// header, into n fragments of 1480 or 1448 bytes.
func fragments(p collector.Sighting, n int, id uint32) []collector.Sighting {
	var fs []collector.Sighting
	six := p.Packet.EtherType == collector.EtherIPv6
	for i := range n {
		f := p
		size, header := uint32(1480), uint32(34)
		if six {
			size, header = 1448, 62
			f.Packet.FragID = id
			f.Packet.Frag = uint16(uint32(i) * size)
		} else {
			f.Packet.Frag = uint16(uint32(i) * size / 8)
		}
		f.Packet.Len = header + size
		switch {
		case i == n-1:
			f.Packet.Len = header + 333
		case six:
			f.Packet.Frag |= moreFragments6
		default:
			f.Packet.Frag |= moreFragments
		}
		if i > 0 {
			f.Packet.Flags = bpf.PacketFragment
			f.Packet.Sport, f.Packet.Dport, f.Packet.PayloadOff, f.PayloadHash = 0, 0, 0, 0
			f.Packet.ICMPID, f.Packet.ICMPSeq, f.Packet.ICMPType = 0, 0, 0
		}
		fs = append(fs, f)
	}
	return fs
}

// together returns the datagram of n fragments.
func together(p collector.Sighting, n int) collector.Sighting {
	size, header := uint32(1480), uint32(34)
	if p.Packet.EtherType == collector.EtherIPv6 {
		size, header = 1448, 54
	}
	p.Packet.Frag, p.Packet.FragID = 0, 0
	p.Packet.Len = header + uint32(n-1)*size + 333
	return p
}

// fragmented sends p in n fragments along hops: at the hop named whole, if there
// is one, it is one packet, with its addresses translated by nat. Behind it, or
// from the hop named anew, the fragments have other skbs and of IPv6 another id.
func (s *sim) fragmented(p collector.Sighting, n int, hops []simHop, wholeAt, anew string) voyage {
	v := voyage{verdict: Delivered}
	s.serial++
	id := uint32(s.serial)
	ps := fragments(p, n, id)
	t := s.now
	fresh := func() {
		for i := range ps {
			ps[i].Skb = s.takeSkb()
			ps[i].Head = ps[i].Skb + 1<<40
			s.busy = append(s.busy, release{t + 1e6, ps[i].Skb})
		}
	}
	fresh()
	for _, h := range hops {
		t += 30_000
		switch h.name {
		case wholeAt:
			d := together(p, n)
			d.Skb, d.Head = ps[n-1].Skb, ps[0].Head
			s.sight(&v, d, h.name, t)
			continue
		case anew:
			old := ps
			ps = fragments(p, n, id+30_000)
			fresh()
			for i := range ps[:n*s.rand.IntN(2)] { // the kernel may use them again
				ps[i].Skb, ps[i].Head = old[i].Skb, old[i].Head
			}
		}
		for i := range ps {
			if h.mangle != nil {
				h.mangle(&ps[i])
			}
			s.sight(&v, ps[i], h.name, t+uint64(i)*400)
		}
	}
	s.now += s.rand.Uint64N(30_000)
	return v
}

// resent sends a segment that is lost at hop number lost of hops, again as often,
// and then as a whole.
func (s *sim) resent(p collector.Sighting, hops []simHop, lost, times int) []voyage {
	var vs []voyage
	loss := s.loss
	s.loss = 0
	for k := range times + 1 {
		way, end := hops, Delivered
		if k < times {
			way, end = hops[:lost], LastSeen
		}
		v := s.send(p, way, end)
		v.again = k
		vs = append(vs, v)
		s.now += 40_000
		s.serial++
		p.Packet.TSVal += 40
		if p.Packet.EtherType == collector.EtherIPv4 {
			p.Packet.IPID = s.serial
		}
	}
	s.loss = loss
	return vs
}

// cutTraffic returns about n packets of every sort that is cut or put together.
func (s *sim) cutTraffic(n int) []voyage {
	vs := s.learned()
	var seq [8]uint32
	for i := range seq {
		seq[i] = s.rand.Uint32()
	}
	next := func(flow int, p collector.Sighting) collector.Sighting {
		p.Packet.Seq, p.Packet.Ack = seq[flow], 1000+uint32(flow)
		seq[flow] += payload(&p)
		return p
	}
	four, six := [2]string{"172.16.16.10", "172.16.16.20"}, [2]string{"fd16::10", "fd16::20"}
	for i := 0; len(vs) < n; i++ {
		ends, v := four, i/8%2
		if v == 1 {
			ends = six
		}
		stream := func(f, n int) collector.Sighting {
			return next(f, s.gso(s.tcp(uint16(f), ends[0], ends[1], 0), n))
		}
		segs := 1 + s.rand.IntN(20)
		switch i % 8 {
		case 0: // native XDP behind the first wire
			p := with(stream(v, segs+1), func(x *collector.Sighting) { x.Packet.TCPFlags |= flagPSH })
			vs = append(vs, s.cutAt(p, across, 1)...)
		case 1: // at the receiver
			vs = append(vs, s.cutAt(stream(v, segs+1), across, 3)...)
		case 2:
			p := s.gso(s.udp(ends[0], ends[1]), segs+1)
			p.PayloadHash = s.rand.Uint32()
			loss := s.loss
			if v == 1 {
				s.loss = 0 // nothing tells which one is missing
			}
			vs = append(vs, s.cutAt(p, across, 1+s.rand.IntN(3))...)
			s.loss = loss
		case 3: // GRO of single segments
			var ps []collector.Sighting
			for range segs + 1 {
				p := next(2+v, segments(s.gso(s.tcp(uint16(2+v), ends[0], ends[1], 0), 2), 0, 1))
				ps = append(ps, p)
			}
			vs = append(vs, s.mergeAt(ps, across, false, segs, 1)...)
		case 4: // of GSO packets, with other boundaries
			a, b, c := (stream(4+v, 5)), (stream(4+v, 9)), (stream(4+v, 3))
			vs = append(vs, s.mergeAt([]collector.Sighting{a, b, c}, across, i%16 < 8 == (v == 0), 3, 7, 7)...)
		case 5: // fragments, put together and cut again by the bridge
			p := s.echo(ends[0], ends[1], 8, uint16(i))
			p.Packet.PayloadOff = uint16(42 + 28*v)
			vs = append(vs, s.fragmented(p, 2+s.rand.IntN(4), across, "", "host:right-br0-veth out"))
		case 6:
			p := s.udp("172.16.16.10", "8.8.8.8")
			p.Packet.Frag = 0
			vs = append(vs, s.fragmented(p, 2+s.rand.IntN(4), via(outward, "host:eth0 out", masquerade("192.0.2.2")), "host:br0 in", "host:eth0 out"))
		case 7:
			vs = append(vs, s.resent(stream(6+v, 1), across, 1+s.rand.IntN(3), 1+s.rand.IntN(3))...)
		}
	}
	return vs
}
