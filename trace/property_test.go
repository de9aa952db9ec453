package trace

import (
	"fmt"
	"slices"
	"sort"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nsbpf/nsbpf/bpf"
	"github.com/nsbpf/nsbpf/collector"
)

// trail is a Path as it is compared with the truth.
type trail struct {
	Times   []uint64
	Verdict Verdict
	End     string
	Attempt int
	Missing uint32
	Merged  int
}

func sorted(ts []trail) []trail {
	sort.Slice(ts, func(i, k int) bool { return ts[i].Times[0] < ts[k].Times[0] })
	return ts
}

func truth(js []voyage) []trail {
	var ts []trail
	for _, j := range js {
		tr := trail{Verdict: j.verdict, End: j.end, Attempt: j.again + 1, Missing: j.missing, Merged: j.merged}
		for _, s := range j.sightings {
			tr.Times = append(tr.Times, s.TimeNS)
		}
		slices.Sort(tr.Times)
		ts = append(ts, tr)
	}
	return sorted(ts)
}

// join gives the sightings to a Joiner in batches of random sizes.
func join(t testing.TB, l *lab, c Config, in []collector.Sighting, size func() int) ([]trail, *Joiner) {
	var got []trail
	j := mustJoiner(t, c, func(p *Path) {
		checkPath(t, c, p)
		tr := trail{Verdict: p.Verdict, End: l.name(p.Steps[p.End].Hop), Attempt: p.Attempt, Missing: p.Missing}
		for _, st := range p.Steps {
			tr.Times = append(tr.Times, st.TimeNS)
			tr.Merged += int(st.With)
		}
		slices.Sort(tr.Times)
		got = append(got, tr)
	})
	for len(in) > 0 {
		n := min(size(), len(in))
		give(j, in[:n])
		in = in[n:]
	}
	j.Flush()
	return sorted(got), j
}

// compare joins the sightings of vs, out of order by up to 0.9 ms, and compares
// the Paths with them.
func (s *sim) compare(t *testing.T, id Identity, vs []voyage) {
	t.Helper()
	in := s.shuffle(vs, 900_000)
	c := s.lab.Config
	c.Identity = id
	got, j := join(t, s.lab, c, in, func() int { return 1 + s.rand.IntN(200) })
	if d := cmp.Diff(truth(vs), got); d != "" {
		t.Error(d)
	}
	if tot := j.Totals(); tot.Sightings != uint64(len(in)) || tot.Paths != uint64(len(vs)) || tot.Strays+tot.GivenUp+tot.Forgotten != 0 {
		t.Errorf("totals %+v of %d packets and %d sightings", tot, len(vs), len(in))
	}
}

// each runs test with many simulators, identities and shares of lost packets, and
// with clocks that agree and that do not.
func each(t *testing.T, loss float64, test func(*testing.T, *sim, Identity)) {
	for seed := range uint64(20) {
		for _, id := range []Identity{Auto, Fingerprint} {
			for k, loss := range []float64{0, loss} {
				skew := 2500 * (seed % 2)
				t.Run(fmt.Sprintf("seed %d identity %d loss %v skew %d", seed, id, loss, skew), func(t *testing.T) {
					s := newSim(natLab(), seed+uint64(k)*100)
					s.loss, s.skew[1] = loss, skew
					test(t, s, id)
				})
			}
		}
	}
}

func TestPathsAreTheTruth(t *testing.T) {
	each(t, 0.1, func(t *testing.T, s *sim, id Identity) { s.compare(t, id, s.traffic(800)) })
}

// Packets that are cut into pieces, put together, and sent again.
func TestPiecesAreTheTruth(t *testing.T) {
	each(t, 0.3, func(t *testing.T, s *sim, id Identity) { s.compare(t, id, s.cutTraffic(400)) })
}

// Two clients that send the same through one masquerade, and broadcasts.
func TestAlikesAreTheTruth(t *testing.T) {
	each(t, 0, func(t *testing.T, s *sim, id Identity) {
		vs := s.alikes(200)
		for range 100 {
			vs = append(vs, s.flooded())
		}
		s.compare(t, id, vs)
	})
}

// Sightings that were lost: what is seen of a packet is still its own.
func TestOverlookedAreTheTruth(t *testing.T) {
	each(t, 0, func(t *testing.T, s *sim, id Identity) {
		all := s.traffic(400)
		vs := slices.Clone(all[:1])
		for _, v := range all[1:] {
			vs = append(vs, s.overlooked(v, 0.1)...)
		}
		s.compare(t, id, vs)
	})
}

// Address reuse must not depend on what the packets look like: alike packets,
// one after the other by the same skb, are told apart by where they are.
func TestAlikePacketsOneSkb(t *testing.T) {
	for _, id := range []Identity{Auto, Fingerprint} {
		l := natLab()
		s := newSim(l, 1)
		var js []voyage
		p := s.echo("fd16::10", "fd16::20", 8, 1)
		for range 500 {
			js = append(js, s.send(p, across, Delivered))
			s.now = js[len(js)-1].sightings[3].TimeNS + 1
		}
		c := l.Config
		c.Identity = id
		got, _ := join(t, l, c, s.shuffle(js, 0), func() int { return 64 })
		if d := cmp.Diff(truth(js), got); d != "" {
			t.Errorf("identity %d: %s", id, d)
		}
	}
}

// FuzzJoiner gives a Joiner anything; every sighting is in exactly one Path.
func FuzzJoiner(f *testing.F) {
	f.Add([]byte{0, 0, 1, 1, 1, 1, 2, 1, 1, 3, 0, 0}, false)
	f.Add([]byte("the quick brown fox jumps over the lazy dog, then back again"), true)
	f.Fuzz(func(t *testing.T, b []byte, byPrint bool) {
		l := natLab()
		c := l.Config
		c.MaxOpen = 5
		if byPrint {
			c.Identity = Fingerprint
		}
		in := sightings(b)
		seen := map[[3]byte]int{}
		total := 0
		j := mustJoiner(t, c, func(p *Path) {
			checkPath(t, c, p)
			for _, st := range p.Steps {
				seen[[3]byte{st.Packet.EthSrc[4], st.Packet.EthSrc[5], st.Packet.TTL}]++
				total++
			}
		})
		for i := range in {
			give(j, in[i:i+1])
			if in[i].Packet.TOS&7 == 7 {
				advance(j, in[i].TimeNS)
			}
		}
		j.Flush()
		tot := j.Totals()
		if uint64(total)+tot.Strays != uint64(len(in)) || tot.Sightings != uint64(len(in)) {
			t.Fatalf("%d sightings in, %d in paths, totals %+v", len(in), total, tot)
		}
		if tot.Paths != tot.Delivered+tot.LeftLab+tot.Merged+tot.PartlyDelivered+tot.LastSeen {
			t.Fatalf("totals do not add up: %+v", tot)
		}
		if j.opened != 0 || j.skbs.used+j.heads.used+j.prints.chains+j.lanes.chains != 0 {
			t.Fatalf("left open: %d, indexed %d %d %d", j.opened, j.skbs.used, j.heads.used, j.prints.chains+j.lanes.chains)
		}
		for serial, n := range seen {
			if n != 1 {
				t.Fatalf("sighting %v is in %d paths", serial, n)
			}
		}
	})
}

// checkPath checks what holds of every Path.
func checkPath(t testing.TB, c Config, p *Path) {
	skew := c.withDefaults().Skew
	type spot struct {
		hop  uint16
		byte uint32
	}
	carried := map[spot]bool{}
	for i, st := range p.Steps {
		if st.Prev >= i || st.Prev < -1 || i == 0 && st.Prev != -1 || st.Delta < -skew || st.Prev < 0 && (st.Delta != 0 || st.Change != 0) {
			t.Fatalf("step %d: prev %d, delta %v, change %v", i, st.Prev, st.Delta, st.Change)
		}
		if (st.Match == MatchNone) != (i == 0) {
			t.Fatalf("step %d: match %v", i, st.Match)
		}
		if st.Offset+st.Length > p.Payload {
			t.Fatalf("step %d: piece %v of %d bytes", i, st.Piece, p.Payload)
		}
		if at := (spot{st.Hop, st.Offset}); carried[at] {
			t.Fatalf("step %d: byte %d is twice at the hop", i, st.Offset)
		} else {
			carried[at] = true
		}
	}
	if p.End < 0 || p.End >= len(p.Steps) || p.Attempt < 1 || p.Number < 1 {
		t.Fatalf("end %d of %d steps, attempt %d, number %d", p.End, len(p.Steps), p.Attempt, p.Number)
	}
	if p.Verdict == Delivered && p.Missing > 0 || p.Verdict == PartlyDelivered && p.Missing == p.Payload || p.Missing > p.Payload {
		t.Fatalf("%v with %d of %d bytes missing", p.Verdict, p.Missing, p.Payload)
	}
}

// sightings makes a sighting of every four bytes. It is numbered in fields that
// are no part of a packet's identity.
func sightings(b []byte) []collector.Sighting {
	var out []collector.Sighting
	for i := 0; i+4 <= len(b); i += 4 {
		var s collector.Sighting
		p := &s.Packet
		s.TimeNS = uint64(b[i]) * 1_000
		if b[i] == 255 {
			s.TimeNS = 1<<64 - 1
		}
		s.Hop = uint16(b[i+1] % 16)
		s.Skb, s.Head = uint64(b[i+2]%4), uint64(b[i+2]>>4)%4
		s.Segments = 1
		p.Proto = []uint8{collector.ProtoTCP, collector.ProtoUDP, collector.ProtoICMP}[b[i+3]%3]
		p.IPID = uint16(b[i+3] >> 6)
		p.EtherType = []uint16{collector.EtherIPv4, collector.EtherIPv6, collector.EtherARP, 0}[b[i+3]>>4%4]
		p.Dst = addr([]string{"8.8.8.8", "172.16.16.10", "224.0.0.1", "172.16.16.1"}[b[i+3]>>2%4])
		p.TOS = b[i+2]
		p.PayloadOff, p.Len = 54, 54
		switch k := b[i+2] >> 2 % 4; p.Proto {
		case collector.ProtoTCP:
			p.Seq = uint32(b[i+1]>>4)*100 - 300
			s.Segments, s.GSOSize = uint16(k), 100
			p.Len += uint32(k) * 100
			p.TCPFlags = b[i] & (flagSYN | flagFIN)
		case collector.ProtoUDP:
			s.Segments, s.GSOSize = uint16(k), 100
			p.Len += uint32(k) * 100
			p.Frag = dontFragment
		default:
			p.Frag = uint16(b[i+1]>>4) | moreFragments*uint16(k&1)
			p.Len = 34 + 8*uint32(k)
			if p.Frag&offsetMask != 0 {
				p.Flags = bpf.PacketFragment
			}
		}
		p.TTL = uint8(i / 4)
		p.EthSrc = [6]byte{2, 0, 0, 0, byte(i >> 18), byte(i >> 10)}
		out = append(out, s)
	}
	return out
}
