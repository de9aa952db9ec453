package trace

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"sort"

	"github.com/nsbpf/nsbpf/bpf"
	"github.com/nsbpf/nsbpf/collector"
)

// voyage is one packet of the simulator, which knows the truth: the sightings of
// one packet, told apart by their times, which are unique.
type voyage struct {
	sightings []collector.Sighting
	verdict   Verdict
	end       string // hop of the end
	again     int    // how often it had been sent before
	missing   uint32
	merged    int // how many other packets went into it
}

// sim sends packets through natLab, with SNAT, skbs that are used again at once,
// copied buffers and losses.
type sim struct {
	lab      *lab
	rand     *rand.Rand
	now      uint64
	used     map[uint64]bool // times
	freeSkbs []uint64
	lastSkb  uint64
	serial   uint16
	loss     float64   // chance that a packet is lost on an edge
	skew     [2]uint64 // what the clock of each CPU is ahead, in ns
	busy     []release
}

type release struct {
	at  uint64
	skb uint64
}

// simHop is a hop and what is done to the packet before it.
type simHop struct {
	name   string
	mangle func(*collector.Sighting)
}

func newSim(l *lab, seed uint64) *sim {
	return &sim{lab: l, rand: rand.New(rand.NewPCG(seed, 1)), now: 1e9, used: map[uint64]bool{}}
}

// takeSkb returns an address, the last one freed if there is one, as slab caches do.
func (s *sim) takeSkb() uint64 {
	sort.Slice(s.busy, func(i, k int) bool { return s.busy[i].at < s.busy[k].at })
	for len(s.busy) > 0 && s.busy[0].at < s.now {
		s.freeSkbs = append(s.freeSkbs, s.busy[0].skb)
		s.busy = s.busy[1:]
	}
	if n := len(s.freeSkbs); n > 0 {
		skb := s.freeSkbs[n-1]
		s.freeSkbs = s.freeSkbs[:n-1]
		return skb
	}
	s.lastSkb += 256
	return 0xffff_8880_0000_0000 + s.lastSkb
}

func (s *sim) unique(t uint64) uint64 {
	for s.used[t] {
		t++
	}
	s.used[t] = true
	return t
}

// send makes the voyage of p along hops.
func (s *sim) send(p collector.Sighting, hops []simHop, end Verdict) voyage {
	p.Skb = s.takeSkb()
	p.Head = p.Skb + 1<<40
	var j voyage
	t := s.now
	for i, h := range hops {
		if i > 0 && s.rand.Float64() < s.loss {
			end = LastSeen
			break
		}
		if h.mangle != nil {
			h.mangle(&p)
		}
		t += 200 + s.rand.Uint64N(20_000)
		s.sight(&j, p, h.name, t)
	}
	j.verdict = end
	s.busy = append(s.busy, release{t, p.Skb})
	s.now += s.rand.Uint64N(8_000)
	return j
}

// sight adds p's sighting at a hop, as the clock of some CPU has its time.
func (s *sim) sight(v *voyage, p collector.Sighting, hop string, t uint64) {
	p.TimeNS = s.unique(t + s.skew[s.rand.IntN(len(s.skew))])
	p.Hop = s.lab.id(hop)
	v.sightings = append(v.sightings, p)
	v.end = hop
}

func at(names ...string) []simHop {
	var hops []simHop
	for _, n := range names {
		hops = append(hops, simHop{name: n})
	}
	return hops
}

// via returns hops where mangle is done before the hop of that name.
func via(hops []simHop, name string, mangle func(*collector.Sighting)) []simHop {
	hops = slices.Clone(hops)
	for i := range hops {
		if hops[i].name == name {
			hops[i].mangle = mangle
		}
	}
	return hops
}

var (
	outward = at("left:left-veth out", "host:left-br0-veth in", "host:br0 in", "host:eth0 out", "wan:eth0 in")
	inward  = at("wan:eth0 out", "host:eth0 in", "host:br0 out", "host:left-br0-veth out", "left:left-veth in")
	across  = at("left:left-veth out", "host:left-br0-veth in", "host:right-br0-veth out", "right:right-veth in")
	back    = at("right:right-veth out", "host:right-br0-veth in", "host:left-br0-veth out", "left:left-veth in")
)

func addr(a string) [16]byte { return netip.MustParseAddr(a).As16() }

// packet returns a packet that no other is alike. IPv6 has no id.
func (s *sim) packet(proto uint8, src, dst string) collector.Sighting {
	s.serial++
	p := collector.Sighting{Sighting: bpf.Sighting{Segments: 1, Packet: bpf.Packet{
		EtherType: collector.EtherIPv4, Proto: proto, Src: addr(src), Dst: addr(dst), Len: 98, TTL: 64, IPID: s.serial,
		EthSrc: [6]byte{2, 0, 0, 0, 0, 1}, EthDst: [6]byte{2, 0, 0, 0, 0, 2},
	}}}
	if netip.MustParseAddr(src).Is6() {
		p.Packet.EtherType, p.Packet.IPID = collector.EtherIPv6, 0
	}
	return p
}

func (s *sim) tcp(stream uint16, src, dst string, seq uint32) collector.Sighting {
	p := s.packet(collector.ProtoTCP, src, dst)
	p.Packet.Flags, p.Packet.Sport, p.Packet.Dport = bpf.PacketPorts, 40000+stream, 80
	p.Packet.TCPFlags, p.Packet.Seq, p.Packet.Ack, p.Packet.TSVal = 0x10, seq, 77, 1000+seq/1448
	p.Packet.PayloadOff = 66
	p.Packet.Len, p.Segments = 1514, 1
	return p
}

func (s *sim) udp(src, dst string) collector.Sighting {
	p := s.packet(collector.ProtoUDP, src, dst)
	p.Packet.Flags, p.Packet.Sport, p.Packet.Dport, p.PayloadHash = bpf.PacketPorts, 7, 7, 42
	p.Packet.PayloadOff = 42
	if p.Packet.EtherType == collector.EtherIPv4 {
		p.Packet.Frag = dontFragment
	}
	return p
}

func (s *sim) echo(src, dst string, kind uint8, seq uint16) collector.Sighting {
	p := s.packet(collector.ProtoICMP, src, dst)
	p.Packet.ICMPType, p.Packet.ICMPID, p.Packet.ICMPSeq, p.PayloadHash = kind, 7, seq, 0xabcdef
	if p.Packet.EtherType == collector.EtherIPv6 {
		p.Packet.Proto = collector.ProtoICMPv6
		p.Packet.ICMPType = 128 + (8-kind)/8
	}
	return p
}

func masquerade(src string) func(*collector.Sighting) {
	return func(s *collector.Sighting) {
		s.Orig = origin(flowOf(s))
		s.Packet.Src = addr(src)
		s.Packet.TTL--
	}
}

func unmasquerade(dst, remote string) func(*collector.Sighting) {
	return func(s *collector.Sighting) {
		f := flowOf(s).reply()
		f.src, f.dst = addr(dst), addr(remote)
		s.Orig = origin(f)
		s.Packet.Dst = addr(dst)
		s.Packet.TTL--
	}
}

// origin returns f as conntrack's original tuple.
func origin(f flow) bpf.Tuple {
	return bpf.Tuple{Src: f.src, Dst: f.dst, Sport: f.sport, Dport: f.dport, Status: collector.ConnSNAT}
}

// shuffle returns all sightings of the voyages as they might be read: out of
// order by less than jitter ns.
func (s *sim) shuffle(voyages []voyage, jitter uint64) []collector.Sighting {
	type arrival struct {
		at uint64
		s  collector.Sighting
	}
	var all []arrival
	for _, j := range voyages {
		for _, x := range j.sightings {
			all = append(all, arrival{x.TimeNS + s.rand.Uint64N(jitter+1), x})
		}
	}
	sort.SliceStable(all, func(i, k int) bool { return all[i].at < all[k].at })
	out := make([]collector.Sighting, len(all))
	for i := range all {
		out[i] = all[i].s
	}
	return out
}

// traffic returns n packets of every sort that natLab carries.
func (s *sim) traffic(n int) []voyage {
	js := s.learned()
	for i := range n {
		seq := uint32(i) * 1448
		stream := uint16(s.rand.IntN(4))
		switch i % 8 {
		case 0:
			js = append(js, s.send(s.echo("172.16.16.10", "8.8.8.8", 8, uint16(i)), via(outward, "host:eth0 out", masquerade("192.0.2.2")), Delivered))
		case 1:
			js = append(js, s.send(s.echo("8.8.8.8", "192.0.2.2", 0, uint16(i)), via(inward, "host:br0 out", unmasquerade("172.16.16.10", "8.8.8.8")), Delivered))
		case 2:
			js = append(js, s.send(s.tcp(stream, "172.16.16.10", "8.8.8.8", seq), via(outward, "host:eth0 out", masquerade("192.0.2.2")), Delivered))
		case 3:
			js = append(js, s.send(s.tcp(stream, "fd16::10", "2001:4860:4860::8888", seq), via(outward, "host:eth0 out", masquerade("2001:db8::2")), Delivered))
		case 4:
			js = append(js, s.send(s.tcp(stream, "172.16.16.10", "172.16.16.20", seq), across, Delivered))
		case 5:
			js = append(js, s.send(s.tcp(stream, "172.16.16.20", "172.16.16.10", seq), back, Delivered))
		case 6:
			js = append(js, s.send(s.echo("172.16.16.10", "172.16.16.1", 8, uint16(i)), outward[:3], Delivered))
		case 7:
			js = append(js, s.send(s.echo("fd16::10", "fd16::20", 8, uint16(i)), across, Delivered))
		}
	}
	return js
}

// learned are the first packets of the flows to 8.8.8.8, before all others and
// not lost: from them the Joiner knows what host translates.
func (s *sim) learned() []voyage {
	loss := s.loss
	s.loss = 0
	js := []voyage{s.send(s.echo("172.16.16.10", "8.8.8.8", 8, 60000), via(outward, "host:eth0 out", masquerade("192.0.2.2")), Delivered)}
	s.loss = loss
	s.now += 1e6
	return js
}
