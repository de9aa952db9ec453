package report

import (
	"io"
	"testing"

	"github.com/nsbpf/nsbpf/bpf"
	"github.com/nsbpf/nsbpf/collector"
	"github.com/nsbpf/nsbpf/trace"
)

// stream is TCP segments of 1000 bytes, one after the other.
type stream struct{ seq uint32 }

func (f *stream) next(segments uint16) collector.Sighting {
	s := tcp4(0x10, "172.16.16.10", "172.16.16.20")
	s.Packet.Seq, s.Packet.PayloadOff, s.Packet.TSVal = f.seq, 66, 5
	s.Packet.IPID = uint16(f.seq / 1000)
	s.Segments = segments
	if segments > 1 {
		s.GSOSize = 1000
	}
	s.Packet.Len = 66 + 1000*uint32(segments)
	f.seq += 1000 * uint32(segments)
	return s
}

// parts returns n equal parts of s.
func parts(s collector.Sighting, n uint16) []collector.Sighting {
	var all []collector.Sighting
	for i := range n {
		p := s
		p.Segments = s.Segments / n
		p.Packet.Seq += uint32(i*p.Segments) * 1000
		p.Packet.IPID += i * p.Segments
		p.Packet.Len = 66 + 1000*uint32(p.Segments)
		all = append(all, p)
	}
	return all
}

// see adds sightings of packets at a hop, each so many ns after the one before
// it, by skb addresses from that on.
func (r *recording) see(hop string, after, skb uint64, all ...collector.Sighting) {
	for i, s := range all {
		r.now += after
		s.TimeNS, s.Hop, s.Skb, s.Head = r.now, r.ids[hop], skb+uint64(i), 1000+skb+uint64(i)
		r.joiner.Add(trace.Input{Runs: []collector.Run{{Sighting: s}}})
	}
}

// samplePieces returns Paths of packets that are cut, put together or sent again.
func samplePieces(t testing.TB) (*recording, []*trace.Path) {
	r := record(t, natWAN(t))
	var f stream

	gso := f.next(12)
	cut := parts(gso, 12)
	r.see("left:left-veth out", 1000, 1, gso)
	r.see("host:left-br0-veth in", 5000, 10, cut...)
	r.see("host:right-br0-veth out", 1000, 10, cut...)
	r.see("right:right-veth in", 900, 10, cut...)

	gso = f.next(4)
	cut = parts(gso, 4)
	r.see("left:left-veth out", 1000, 1, gso)
	r.see("host:left-br0-veth in", 5000, 10, cut...)
	r.see("host:right-br0-veth out", 1000, 10, cut[0], cut[2])
	r.see("right:right-veth in", 900, 10, cut[0])

	a, b, c := f.next(1), f.next(1), f.next(2)
	r.see("left:left-veth out", 1000, 100, a, b, c)
	r.see("host:left-br0-veth in", 1000, 100, a, b, c)
	r.see("host:right-br0-veth out", 1000, 100, a, b, c)
	merged := a
	merged.Segments, merged.GSOSize, merged.Packet.Len = 4, 1000, 4066
	r.see("right:right-veth in", 3000, 100, merged)

	lost := f.next(1)
	r.see("left:left-veth out", 1000, 200, lost)
	r.see("host:left-br0-veth in", 1000, 200, lost)
	lost.Packet.IPID, lost.Packet.TSVal = 9000, 45
	for i, h := range []string{"left:left-veth out", "host:left-br0-veth in", "host:right-br0-veth out", "right:right-veth in"} {
		r.see(h, 1000+40_000_000*uint64((4-i)/4), 201, lost)
	}

	ping := icmp4(8, 0, "172.16.16.10", "8.8.8.8")
	ping.Packet.Len, ping.Packet.Frag, ping.Packet.PayloadOff = 1514, 0x2000, 42
	rest := flagged(fragment(ping, 185), bpf.PacketFragment)
	rest.Packet.Len, rest.Packet.ICMPID, rest.Packet.ICMPSeq, rest.Packet.ICMPType, rest.Packet.PayloadOff = 600, 0, 0, 0, 0
	together := ping
	together.Packet.Frag, together.Packet.Len = 0, 2080
	r.see("left:left-veth out", 2000, 300, ping, rest)
	r.see("host:left-br0-veth in", 1000, 300, ping, rest)
	r.see("host:br0 in", 4000, 301, together)
	for _, s := range []*collector.Sighting{&ping, &rest} {
		snat("192.0.2.2", 0)(s)
	}
	r.see("host:eth0 out", 3000, 310, ping, rest)
	r.see("wan:eth0 in", 1000, 310, ping, rest)
	return r, r.end()
}

func TestPiecesText(t *testing.T) {
	r, paths := samplePieces(t)
	golden(t, "pieces.txt", func(w io.Writer) error {
		text := NewPathText(w, r.hops, Style{})
		for _, p := range paths {
			if err := text.Path(p, nil); err != nil {
				return err
			}
		}
		return nil
	})
}

func TestPiecesJSON(t *testing.T) {
	r, paths := samplePieces(t)
	goldenJSON(t, "pieces.json", "nsbpf.path/1", func(w io.Writer) error {
		j := NewPathJSON(w, "nat", r.hops, 0)
		for _, p := range paths {
			if err := j.Path(p, nil); err != nil {
				return err
			}
		}
		return nil
	})
}
