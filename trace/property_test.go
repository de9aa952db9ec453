package trace

import (
	"fmt"
	"sort"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nsbpf/nsbpf/collector"
)

// trail is a Path as it is compared with the truth.
type trail struct {
	Times   []uint64
	Verdict Verdict
	End     string
}

func sorted(ts []trail) []trail {
	sort.Slice(ts, func(i, k int) bool { return ts[i].Times[0] < ts[k].Times[0] })
	return ts
}

func truth(js []journey) []trail {
	var ts []trail
	for _, j := range js {
		tr := trail{Verdict: j.verdict, End: j.end}
		for _, s := range j.sightings {
			tr.Times = append(tr.Times, s.TimeNS)
		}
		ts = append(ts, tr)
	}
	return sorted(ts)
}

// join gives the sightings to a Joiner in batches of random sizes.
func join(t testing.TB, l *lab, c Config, in []collector.Sighting, size func() int) ([]trail, *Joiner) {
	var got []trail
	j := mustJoiner(t, c, func(p *Path) {
		tr := trail{Verdict: p.Verdict, End: l.name(p.Steps[p.End].Hop)}
		for _, st := range p.Steps {
			tr.Times = append(tr.Times, st.TimeNS)
		}
		got = append(got, tr)
	})
	for len(in) > 0 {
		n := min(size(), len(in))
		j.Add(in[:n])
		in = in[n:]
	}
	j.Flush()
	return sorted(got), j
}

func TestPathsAreTheTruth(t *testing.T) {
	for seed := range uint64(20) {
		for _, id := range []Identity{Auto, Fingerprint} {
			for _, loss := range []float64{0, 0.1} {
				t.Run(fmt.Sprintf("seed %d identity %d loss %v", seed, id, loss), func(t *testing.T) {
					l := natLab()
					s := newSim(l, seed)
					s.loss = loss
					js := s.traffic(800)
					in := s.shuffle(js, 900_000)
					c := l.Config
					c.Identity = id
					got, j := join(t, l, c, in, func() int { return 1 + s.rand.IntN(200) })
					if d := cmp.Diff(truth(js), got); d != "" {
						t.Error(d)
					}
					if tot := j.Totals(); tot.Sightings != uint64(len(in)) || tot.Paths != uint64(len(js)) || tot.Strays+tot.GivenUp != 0 {
						t.Errorf("totals %+v of %d packets and %d sightings", tot, len(js), len(in))
					}
				})
			}
		}
	}
}

// Address reuse must not depend on what the packets look like: alike packets,
// one after the other by the same skb, are told apart by where they are.
func TestAlikePacketsOneSkb(t *testing.T) {
	for _, id := range []Identity{Auto, Fingerprint} {
		l := natLab()
		s := newSim(l, 1)
		var js []journey
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
		seen := map[uint64]int{}
		total := 0
		j := mustJoiner(t, c, func(p *Path) {
			checkPath(t, p)
			for _, st := range p.Steps {
				seen[uint64(st.Packet.Len)]++
				total++
			}
		})
		for i := range in {
			j.Add(in[i : i+1])
			if in[i].Packet.TOS&7 == 7 {
				j.Advance(in[i].TimeNS)
			}
		}
		j.Flush()
		tot := j.Totals()
		if uint64(total)+tot.Strays != uint64(len(in)) || tot.Sightings != uint64(len(in)) {
			t.Fatalf("%d sightings in, %d in paths, totals %+v", len(in), total, tot)
		}
		if tot.Paths != tot.Delivered+tot.LeftLab+tot.LastSeen {
			t.Fatalf("totals do not add up: %+v", tot)
		}
		if j.opened != 0 || len(j.skbs)+len(j.heads)+len(j.prints) != 0 {
			t.Fatalf("left open: %d, indexed %d %d %d", j.opened, len(j.skbs), len(j.heads), len(j.prints))
		}
		for serial, n := range seen {
			if n != 1 {
				t.Fatalf("sighting %d is in %d paths", serial, n)
			}
		}
	})
}

func checkPath(t *testing.T, p *Path) {
	for i, st := range p.Steps {
		if st.Prev >= i || (st.Prev < 0) != (i == 0) || st.Delta < 0 {
			t.Fatalf("step %d: prev %d, delta %v", i, st.Prev, st.Delta)
		}
	}
	if p.End < 0 || p.End >= len(p.Steps) {
		t.Fatalf("end %d of %d steps", p.End, len(p.Steps))
	}
}

// sightings makes a sighting of every four bytes, numbered by its length field.
func sightings(b []byte) []collector.Sighting {
	var out []collector.Sighting
	for i := 0; i+4 <= len(b); i += 4 {
		var s collector.Sighting
		s.TimeNS = uint64(b[i]) * 100_000
		if b[i] == 255 {
			s.TimeNS = 1<<64 - 1
		}
		s.Hop = uint16(b[i+1] % 16)
		s.Skb, s.Head = uint64(b[i+2]%4), uint64(b[i+2]>>4)%4
		s.Packet.Proto, s.Packet.IPID = b[i+3]%3, uint16(b[i+3]>>6)
		s.Packet.EtherType = []uint16{collector.EtherIPv4, collector.EtherIPv6, collector.EtherARP, 0}[b[i+3]>>4%4]
		s.Packet.Dst = addr([]string{"8.8.8.8", "172.16.16.10", "224.0.0.1", "172.16.16.1"}[b[i+3]>>2%4])
		s.Packet.TOS = b[i+2]
		s.Packet.Len = uint32(i)
		out = append(out, s)
	}
	return out
}
