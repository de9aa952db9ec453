package report

import (
	"bytes"
	"io"
	"net/netip"
	"testing"

	"github.com/nsbpf/nsbpf/bpf"
	"github.com/nsbpf/nsbpf/collector"
	"github.com/nsbpf/nsbpf/internal/hop"
	"github.com/nsbpf/nsbpf/topology"
	"github.com/nsbpf/nsbpf/trace"
)

// recording joins sightings of a lab.
type recording struct {
	t      testing.TB
	hops   []hop.Hop
	ids    map[string]uint16
	joiner *trace.Joiner
	paths  []*trace.Path
	now    uint64
	skb    uint64
}

func record(t testing.TB, topo *topology.Topology) *recording {
	r := &recording{t: t, hops: topo.Hops(false), ids: map[string]uint16{}, now: 1e12}
	c := trace.Config{Hops: r.hops, Edges: topo.Edges(r.hops), Owners: map[string][]netip.Addr{}}
	for _, n := range topo.Nodes {
		c.Owners[n.Name] = topo.LocalAddrs(n.Name)
	}
	for _, h := range r.hops {
		r.ids[h.String()] = uint16(h.ID)
	}
	j, err := trace.NewJoiner(c, func(p *trace.Path) { r.paths = append(r.paths, p.Clone()) })
	if err != nil {
		t.Fatal(err)
	}
	r.joiner = j
	return r
}

// at is a sighting at a hop, so many ns after the one before it.
type at struct {
	hop    string
	after  uint64
	mangle func(*collector.Sighting)
}

// send adds the sightings of one packet.
func (r *recording) send(s collector.Sighting, way ...at) {
	r.skb += 256
	s.Skb, s.Head = r.skb, r.skb+1
	for _, a := range way {
		id, ok := r.ids[a.hop]
		if !ok {
			r.t.Fatalf("no hop %q", a.hop)
		}
		if a.mangle != nil {
			a.mangle(&s)
		}
		r.now += a.after
		s.TimeNS, s.Hop = r.now, id
		r.joiner.Add(trace.Input{Runs: []collector.Run{{Sighting: s}}})
	}
	r.now += 1e6
}

func (r *recording) end() []*trace.Path {
	r.joiner.Flush()
	return r.paths
}

func packet(ethertype uint16, proto uint8, src, dst string, length uint32) collector.Sighting {
	var s collector.Sighting
	s.Segments = 1
	p := &s.Packet
	p.EtherType, p.Proto, p.Len, p.TTL, p.IPID = ethertype, proto, length, 64, 4711
	p.EthSrc, p.EthDst = [6]byte{2, 0, 0, 0, 0, 1}, [6]byte{2, 0, 0, 0, 0, 2}
	if src != "" {
		p.Src, p.Dst = netip.MustParseAddr(src).As16(), netip.MustParseAddr(dst).As16()
	}
	return s
}

func icmp4(kind, code uint8, src, dst string) collector.Sighting {
	s := packet(collector.EtherIPv4, collector.ProtoICMP, src, dst, 98)
	s.Packet.ICMPType, s.Packet.ICMPCode = kind, code
	if s.IsEcho() {
		s.Packet.ICMPID, s.Packet.ICMPSeq = 7, 1
	}
	return s
}

func icmp6(kind, code uint8, src, dst string) collector.Sighting {
	s := packet(collector.EtherIPv6, collector.ProtoICMPv6, src, dst, 86)
	s.Packet.ICMPType, s.Packet.ICMPCode, s.Packet.IPID = kind, code, 0
	if s.IsEcho() {
		s.Packet.ICMPID, s.Packet.ICMPSeq = 7, 1
	}
	return s
}

func ported(s collector.Sighting, sport, dport uint16) collector.Sighting {
	s.Packet.Flags |= bpf.PacketPorts
	s.Packet.Sport, s.Packet.Dport = sport, dport
	return s
}

func tcp4(flags uint8, src, dst string) collector.Sighting {
	s := ported(packet(collector.EtherIPv4, collector.ProtoTCP, src, dst, 74), 40000, 80)
	s.Packet.TCPFlags, s.Packet.Seq, s.Packet.Ack = flags, 1000, 2000
	return s
}

func arp(op uint8, src, dst string) collector.Sighting {
	s := packet(collector.EtherARP, 0, src, dst, 42)
	s.Packet.ICMPType, s.Packet.IPID = op, 0
	if op == 1 {
		s.Packet.EthDst = [6]byte{255, 255, 255, 255, 255, 255}
	}
	return s
}

func flagged(s collector.Sighting, f bpf.PacketFlag) collector.Sighting {
	s.Packet.Flags |= f
	return s
}

func snat(src string, port uint16) func(*collector.Sighting) {
	return func(s *collector.Sighting) {
		p := &s.Packet
		s.Orig = bpf.Tuple{Src: p.Src, Dst: p.Dst, Sport: p.Sport + p.ICMPID, Dport: p.Dport, Status: collector.ConnSNAT}
		s.Packet.Src = netip.MustParseAddr(src).As16()
		s.Packet.TTL--
		if s.HasPorts() {
			s.Packet.Sport = port
		}
	}
}

func back(remote, dst string) func(*collector.Sighting) {
	return func(s *collector.Sighting) {
		s.Orig = bpf.Tuple{
			Src: netip.MustParseAddr(dst).As16(), Dst: netip.MustParseAddr(remote).As16(),
			Sport: s.Packet.ICMPID, Status: collector.ConnSNAT,
		}
		s.Packet.Dst = s.Orig.Src
		s.Packet.TTL--
	}
}

// sample returns Paths of all kinds, through the preset nat with a wan.
func sample(t testing.TB) (*recording, []*trace.Path) {
	r := record(t, natWAN(t))
	r.send(icmp4(8, 0, "172.16.16.10", "8.8.8.8"), at{"left:left-veth out", 0, nil}, at{"host:left-br0-veth in", 11_800, nil},
		at{"host:br0 in", 3_000, nil}, at{"host:eth0 out", 6_400, snat("192.0.2.2", 0)}, at{"wan:eth0 in", 2_100, nil})
	r.send(icmp4(0, 0, "8.8.8.8", "192.0.2.2"), at{"wan:eth0 out", 0, nil}, at{"host:eth0 in", 1_049, nil},
		at{"host:br0 out", 90, back("8.8.8.8", "172.16.16.10")}, at{"host:left-br0-veth out", 1_234_567, nil}, at{"left:left-veth in", 123_456, nil})
	r.send(ported(packet(collector.EtherIPv4, collector.ProtoUDP, "172.16.16.10", "8.8.8.8", 60), 40112, 9999),
		at{"left:left-veth out", 0, nil}, at{"host:left-br0-veth in", 12_100, nil}, at{"host:br0 in", 2_900, nil})
	gso := tcp4(0x18, "172.16.16.10", "172.16.16.20")
	gso.Segments, gso.GSOSize, gso.Packet.Len = 30, 1448, 43506
	r.send(gso, at{"left:left-veth out", 0, nil}, at{"host:left-br0-veth in", 5_000, nil},
		at{"host:right-br0-veth out", 1_000, nil}, at{"right:right-veth in", 2_000, nil})

	whohas := arp(1, "172.16.16.10", "172.16.16.20")
	r.send(whohas, at{"left:left-veth out", 0, nil}, at{"host:left-br0-veth in", 5_000, nil},
		at{"host:right-br0-veth out", 1_000, nil}, at{"host:br0 in", 500, nil}, at{"right:right-veth in", 2_000, nil})
	r.send(arp(1, "172.16.16.10", "172.16.16.99"), at{"left:left-veth out", 0, nil}, at{"host:left-br0-veth in", 5_000, nil},
		at{"host:right-br0-veth out", 1_000, nil}, at{"host:br0 in", 500, nil}, at{"right:right-veth in", 2_000, nil})
	r.send(ported(packet(collector.EtherIPv6, collector.ProtoUDP, "fd16::20", "2001:4860:4860::8888", 80), 5353, 53),
		at{"right:right-veth out", 0, nil}, at{"host:right-br0-veth in", 5_000, nil}, at{"host:br0 in", 1_000, nil},
		at{"host:eth0 out", 4_000, func(s *collector.Sighting) { s.Skb, s.Head = 1, 2; snat("2001:db8::2", 1024)(s) }}, at{"wan:eth0 in", 2_500_000_000, nil})
	r.send(icmp4(8, 0, "172.16.16.10", "172.16.16.99"), at{"host:right-br0-veth out", 0, nil}, at{"right:right-veth in", 5_000, nil})
	return r, r.end()
}

func TestPathText(t *testing.T) {
	r, paths := sample(t)
	write := func(style Style) func(io.Writer) error {
		return func(w io.Writer) error {
			text := NewPathText(w, r.hops, style)
			for _, p := range paths {
				if err := text.Path(p, nil); err != nil {
					return err
				}
			}
			return ClosingText(w, r.closing(), style)
		}
	}
	golden(t, "paths.txt", write(Style{}))
	golden(t, "paths-colour.txt", write(Colour))
}

func TestPathJSON(t *testing.T) {
	r, paths := sample(t)
	goldenJSON(t, "paths.json", "nsbpf.path/1", func(w io.Writer) error {
		j := NewPathJSON(w, "nat", r.hops, 1_700_000_000_000_000_000)
		for _, p := range paths {
			if err := j.Path(p, nil); err != nil {
				return err
			}
		}
		return nil
	})
	goldenJSON(t, "ledger.json", "nsbpf.ledger/1", func(w io.Writer) error {
		return ClosingJSON(w, r.closing())
	})
}

func TestUplinkText(t *testing.T) {
	topo := preset(t, "nat").WithUplinks([]string{"eth0"})
	r := record(t, topo)
	r.send(icmp4(8, 0, "172.16.16.10", "8.8.8.8"), at{"left:left-veth out", 0, nil}, at{"host:left-br0-veth in", 11_800, nil},
		at{"host:br0 in", 3_000, nil}, at{"host:eth0 out", 6_400, snat("10.1.2.3", 0)})
	golden(t, "uplink.txt", func(w io.Writer) error { return NewPathText(w, r.hops, Style{}).Path(r.end()[0], nil) })
}

func TestHeadline(t *testing.T) {
	long := collector.Sighting{}
	for want, s := range map[string]collector.Sighting{
		"ICMP echo request 10.0.0.1 > 10.0.0.2 id 7 seq 1  98 B":         icmp4(8, 0, "10.0.0.1", "10.0.0.2"),
		"ICMP port unreachable 10.0.0.1 > 10.0.0.2  98 B":                icmp4(3, 3, "10.0.0.1", "10.0.0.2"),
		"ICMP unreachable 10.0.0.1 > 10.0.0.2  98 B":                     icmp4(3, 99, "10.0.0.1", "10.0.0.2"),
		"ICMP time exceeded 10.0.0.1 > 10.0.0.2  98 B":                   icmp4(11, 1, "10.0.0.1", "10.0.0.2"),
		"ICMP type 42 code 9 10.0.0.1 > 10.0.0.2  98 B":                  icmp4(42, 9, "10.0.0.1", "10.0.0.2"),
		"ICMPv6 echo reply fd16::10 > fd16::20 id 7 seq 1  86 B":         icmp6(129, 0, "fd16::10", "fd16::20"),
		"ICMPv6 neighbour solicitation fd16::10 > ff02::1:ff00:20  86 B": icmp6(135, 0, "fd16::10", "ff02::1:ff00:20"),
		"ICMPv6 router solicitation fe80::1 > ff02::2  86 B":             icmp6(133, 0, "fe80::1", "ff02::2"),
		"ICMPv6 listener report :: > ff02::16  86 B":                     icmp6(143, 0, "::", "ff02::16"),
		"TCP 10.0.0.1:40000 > 10.0.0.2:80 [S] seq 1000  74 B":            tcp4(0x02, "10.0.0.1", "10.0.0.2"),
		"TCP 10.0.0.1:40000 > 10.0.0.2:80 [S.] seq 1000 ack 2000  74 B":  tcp4(0x12, "10.0.0.1", "10.0.0.2"),
		"TCP 10.0.0.1:40000 > 10.0.0.2:80 [FP.] seq 1000 ack 2000  74 B": tcp4(0x19, "10.0.0.1", "10.0.0.2"),
		"TCP 10.0.0.1:40000 > 10.0.0.2:80 [none] seq 1000  74 B":         tcp4(0, "10.0.0.1", "10.0.0.2"),
		"UDP [fd16::10]:1 > [fd16::20]:2  60 B":                          ported(packet(collector.EtherIPv6, 17, "fd16::10", "fd16::20", 60), 1, 2),
		"UDP 10.0.0.1 > 10.0.0.2 (cut short)  30 B":                      flagged(packet(collector.EtherIPv4, 17, "10.0.0.1", "10.0.0.2", 30), bpf.PacketShort),
		"UDP fragment 10.0.0.1 > 10.0.0.2 id 4711 offset 1480  60 B":     flagged(fragment(packet(collector.EtherIPv4, 17, "10.0.0.1", "10.0.0.2", 60), 185), bpf.PacketFragment),
		"GRE 10.0.0.1 > 10.0.0.2  60 B":                                  packet(collector.EtherIPv4, 47, "10.0.0.1", "10.0.0.2", 60),
		"IPv6 protocol 99 fd16::1 > fd16::2  60 B":                       packet(collector.EtherIPv6, 99, "fd16::1", "fd16::2", 60),
		"ARP who-has 10.0.0.2 tell 10.0.0.1  42 B":                       arp(1, "10.0.0.1", "10.0.0.2"),
		"ARP 10.0.0.1 is-at 02:00:00:00:00:01  42 B":                     arp(2, "10.0.0.1", "10.0.0.2"),
		"Ethernet 0x88cc 02:00:00:00:00:01 > 02:00:00:00:00:02  60 B":    packet(0x88cc, 0, "", "", 60),
		"Ethernet 0x0 00:00:00:00:00:00 > 00:00:00:00:00:00  0 B":        long,
		"IPv6 (cut short)  20 B":                                         flagged(packet(collector.EtherIPv6, 0, "", "", 20), bpf.PacketShort),
	} {
		if got := Headline(&s); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
}

func fragment(s collector.Sighting, off uint16) collector.Sighting {
	s.Packet.Frag = off
	return s
}

func BenchmarkPathText(b *testing.B) {
	r, paths := sample(b)
	var out bytes.Buffer
	text := NewPathText(&out, r.hops, Style{})
	b.ReportAllocs()
	for b.Loop() {
		out.Reset()
		if err := text.Path(paths[0], nil); err != nil {
			b.Fatal(err)
		}
	}
}
