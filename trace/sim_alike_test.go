package trace

import "github.com/nsbpf/nsbpf/collector"

// alikes are n packets that differ in nothing but the client: two of them send the
// same through one masquerade, which has to give the second another port, and
// are answered.
func (s *sim) alikes(n int) []voyage {
	var vs []voyage
	clients := [...]struct {
		out, in []simHop
		addr    string
		port    uint16 // behind the masquerade
	}{
		{outward, inward, "172.16.16.10", 5000},
		{at("right:right-veth out", "host:right-br0-veth in", "host:br0 in", "host:eth0 out", "wan:eth0 in"),
			at("wan:eth0 out", "host:eth0 in", "host:br0 out", "host:right-br0-veth out", "right:right-veth in"), "172.16.16.20", 1024},
	}
	for i := range n {
		c := clients[i%2]
		request := s.udp(c.addr, "8.8.8.8")
		request.Packet.IPID, request.Packet.Sport, request.Packet.Dport = 0, 5000, 53
		orig := origin(flowOf(&request))
		out := via(c.out, "host:eth0 out", func(x *collector.Sighting) {
			x.Orig, x.Packet.Src, x.Packet.Sport = orig, addr("192.0.2.2"), c.port
		})
		back := via(c.in, "host:br0 out", func(x *collector.Sighting) {
			x.Orig, x.Packet.Dst, x.Packet.Dport = orig, addr(c.addr), 5000
		})
		reply := s.udp("8.8.8.8", "192.0.2.2")
		reply.Packet.IPID, reply.Packet.Sport, reply.Packet.Dport = 0, 53, c.port
		vs = append(vs, s.send(request, out, Delivered))
		if i > 1 {
			vs = append(vs, s.send(reply, back, Delivered))
		} else {
			s.now += 200_000 // the translation is learned from the first
		}
		s.now += 100_000 * uint64(i%2) // both are on their way at once
	}
	return vs
}

// flooded sends a broadcast of left's: the bridge copies it to right and to the
// host.
func (s *sim) flooded() voyage {
	v := voyage{verdict: Delivered}
	p := with(arp(1, "172.16.16.10", "172.16.16.20"), broadcast)
	p.Skb = s.takeSkb()
	p.Head = p.Skb + 1<<40
	c := p
	c.Skb = s.takeSkb()
	for i, h := range across {
		x := p
		if i >= 2 {
			x = c
		}
		s.sight(&v, x, h.name, s.now+uint64(i)*4_000)
		if i == 2 {
			s.sight(&v, p, "host:br0 in", s.now+9_000)
		}
	}
	v.end = across[3].name
	s.busy = append(s.busy, release{s.now + 12_000, p.Skb}, release{s.now + 20_000, c.Skb})
	s.now += 30_000
	return v
}

// overlooked takes sightings of v away, as a full ring does: what is left of v on
// both sides of one are different packets to who has seen nothing else.
func (s *sim) overlooked(v voyage, chance float64) []voyage {
	vs := []voyage{{}}
	for i, x := range v.sightings {
		part := &vs[len(vs)-1]
		switch {
		case s.rand.Float64() >= chance:
			part.sightings = append(part.sightings, x)
			part.end = s.lab.name(x.Hop)
			if i == len(v.sightings)-1 {
				part.verdict = v.verdict
			}
		case len(part.sightings) > 0:
			vs = append(vs, voyage{})
		}
	}
	if len(vs[len(vs)-1].sightings) == 0 {
		vs = vs[:len(vs)-1]
	}
	return vs
}
