package trace

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nsbpf/nsbpf/bpf"
	"github.com/nsbpf/nsbpf/collector"
	"github.com/nsbpf/nsbpf/internal/hop"
)

// describe writes p as a line for each step and one for the end.
func describe(l *lab, p *Path) string {
	var b strings.Builder
	for _, st := range p.Steps {
		fmt.Fprintf(&b, "%s", l.name(st.Hop))
		if st.Prev >= 0 {
			fmt.Fprintf(&b, " +%d", st.Delta/time.Microsecond)
			if from := l.name(p.Steps[st.Prev].Hop); st.Prev != len(p.Steps) && p.Steps[st.Prev].Hop != previous(p, &st) {
				fmt.Fprintf(&b, " after %s", from)
			}
		}
		for _, w := range []string{st.Match.String(), st.Change.String()} {
			if w != "" {
				b.WriteString(" " + w)
			}
		}
		if p.InPieces() && p.Steps[0].Packet.Proto == collector.ProtoTCP {
			fmt.Fprintf(&b, " %d+%d", st.Offset, st.Length)
		}
		if st.With > 0 {
			fmt.Fprintf(&b, " with %d", st.With)
		}
		b.WriteString("\n")
	}
	fmt.Fprintf(&b, "%s at %s, %d", p.Verdict, l.name(p.Steps[p.End].Hop), p.Duration()/time.Microsecond)
	if p.Partial {
		b.WriteString(" partial")
	}
	if p.GivenUp {
		b.WriteString(" given up")
	}
	if p.Missing > 0 {
		fmt.Fprintf(&b, " missing %d", p.Missing)
	}
	if p.Attempt > 1 {
		fmt.Fprintf(&b, " attempt %d after #%d", p.Attempt, p.Again)
	}
	for _, m := range p.Merges {
		fmt.Fprintf(&b, " %d+%d into #%d step %d at %s +%d", m.Offset, m.Length, m.Path, m.AtStep, l.name(uint16(m.Hop)), m.Delta/time.Microsecond)
	}
	for _, id := range p.Next {
		b.WriteString(" next " + l.name(uint16(id)))
	}
	return b.String() + "\n"
}

// previous returns the hop of the step above st.
func previous(p *Path, st *Step) uint16 {
	for i := range p.Steps {
		if p.Steps[i].Hop == st.Hop && p.Steps[i].TimeNS == st.TimeNS {
			return p.Steps[i-1].Hop
		}
	}
	return 0
}

// trip returns sightings of p along hops, 1 µs apart from time t in µs.
func trip(l *lab, p collector.Sighting, t uint64, hops []simHop) []collector.Sighting {
	var out []collector.Sighting
	for i, h := range hops {
		if h.mangle != nil {
			h.mangle(&p)
		}
		p.TimeNS, p.Hop = (t+uint64(i))*1000, l.id(h.name)
		out = append(out, p)
	}
	return out
}

func as(p collector.Sighting, skb, head uint64) collector.Sighting {
	p.Skb, p.Head = skb, head
	return p
}

func with(p collector.Sighting, f func(*collector.Sighting)) collector.Sighting {
	f(&p)
	return p
}

func seq(trips ...[]collector.Sighting) []collector.Sighting {
	var all []collector.Sighting
	for _, t := range trips {
		all = append(all, t...)
	}
	return all
}

func broadcast(s *collector.Sighting) { s.Packet.EthDst = [6]byte{255, 255, 255, 255, 255, 255} }

func arp(op uint8, from, to string) collector.Sighting {
	return collector.Sighting{Sighting: bpf.Sighting{Segments: 1, Packet: bpf.Packet{
		EtherType: collector.EtherARP, ICMPType: op, Src: addr(from), Dst: addr(to), Len: 42,
	}}}
}

// What completes a Path, and when.
func TestJoinerPatience(t *testing.T) {
	l := natLab()
	s := newSim(l, 1)
	ping := as(s.echo("172.16.16.10", "8.8.8.8", 8, 1), 1, 1)
	var ends []string
	j := mustJoiner(t, l.Config, func(p *Path) { ends = append(ends, p.Verdict.String()) })
	expect := func(when string, want ...string) {
		t.Helper()
		if d := cmp.Diff(want, ends); d != "" {
			t.Errorf("%s: %s", when, d)
		}
		ends = nil
	}
	const ms = 1_000_000

	give(j, trip(l, ping, 0, outward))
	give(j, nil)
	expect("held back")
	advance(j, 4*ms)
	expect("before it settles")
	advance(j, 6*ms)
	expect("settled", "delivered")

	give(j, trip(l, ping, 10_000, outward[:2]))
	advance(j, 209*ms)
	expect("within the linger time")
	advance(j, 211*ms)
	expect("after the linger time", "last_seen")

	whohas := as(with(arp(1, "172.16.16.10", "172.16.16.20"), broadcast), 2, 2)
	give(j, trip(l, whohas, 300_000, across))
	advance(j, 450*ms)
	expect("a group packet has yet to come to a hop")
	// Event time alone completes it too.
	give(j, trip(l, ping, 501_000, outward[:1]))
	give(j, trip(l, ping, 502_001, outward[1:2]))
	expect("by the time of others", "delivered")

	give(j, trip(l, as(whohas, 3, 3), 600_000, across))
	give(j, trip(l, as(whohas, 4, 3), 600_010, at("host:br0 in")))
	advance(j, 604*ms)
	expect("before the group packet settles")
	advance(j, 606*ms)
	expect("it has come everywhere", "delivered")

	if d := cmp.Diff(Totals{Sightings: 18, Paths: 4, Delivered: 3, LastSeen: 1}, j.Totals()); d != "" {
		t.Error(d)
	}
}

func TestNewJoinerRefuses(t *testing.T) {
	for name, c := range map[string]Config{
		"joining paths: edge from hop 0 to 7: no such hop":     {Hops: []hop.Hop{{}}, Edges: []hop.Edge{{To: 7}}},
		"joining paths: hops a:x in and b:y in share the id 0": {Hops: []hop.Hop{{Node: "a", Device: "x"}, {Node: "b", Device: "y"}}},
	} {
		if _, err := NewJoiner(c, nil); err == nil || err.Error() != name {
			t.Errorf("got error %v, want %s", err, name)
		}
	}
}

func TestChanges(t *testing.T) {
	base := newSim(natLab(), 1).tcp(1, "10.0.0.1", "10.0.0.2", 1)
	echo := newSim(natLab(), 1).echo("10.0.0.1", "10.0.0.2", 8, 1)
	src := func(a string) func(*collector.Sighting) {
		return func(s *collector.Sighting) { s.Packet.Src = addr(a) }
	}
	conn := func(status uint32, from, to string) func(*collector.Sighting) {
		return func(s *collector.Sighting) { s.Orig = bpf.Tuple{Status: status, Src: addr(from), Dst: addr(to)} }
	}
	dst := func(a string) func(*collector.Sighting) {
		return func(s *collector.Sighting) { s.Packet.Dst = addr(a) }
	}
	tests := map[string]struct {
		to   []func(*collector.Sighting)
		want Change
	}{
		"nothing":          {nil, 0},
		"source":           {[]func(*collector.Sighting){src("1.1.1.1")}, SNAT},
		"source port":      {[]func(*collector.Sighting){func(s *collector.Sighting) { s.Packet.Sport = 9 }}, SNAT},
		"destination":      {[]func(*collector.Sighting){dst("1.1.1.1")}, DNAT},
		"both":             {[]func(*collector.Sighting){src("1.1.1.1"), dst("1.1.1.2")}, SNAT | DNAT},
		"reply of snat":    {[]func(*collector.Sighting){dst("1.1.1.1"), conn(collector.ConnSNAT, "1.1.1.1", "10.0.0.1")}, SNATBack},
		"reply of dnat":    {[]func(*collector.Sighting){src("1.1.1.1"), conn(collector.ConnDNAT, "10.0.0.2", "1.1.1.1")}, DNATBack},
		"another's source": {[]func(*collector.Sighting){src("1.1.1.1"), conn(collector.ConnSNAT, "10.0.0.1", "10.0.0.2")}, SNAT},
		"echo's id":        {[]func(*collector.Sighting){func(s *collector.Sighting) { s.Packet.ICMPID = 1 }}, EchoID},
		"forwarded":        {[]func(*collector.Sighting){func(s *collector.Sighting) { s.Packet.TTL-- }}, TTL},
	}
	for name, tt := range tests {
		to := base
		for _, f := range tt.to {
			f(&to)
		}
		from := base
		if tt.want == EchoID {
			from, to = echo, with(echo, tt.to[0])
		}
		if got := changes(&from, &to); got != tt.want {
			t.Errorf("%s: %08b, want %08b", name, got, tt.want)
		}
	}
}

// What is on its way when the trace ends is not called lost; what was not seen for
// long enough is.
func TestJoinerEnd(t *testing.T) {
	l := natLab()
	ping := as(newSim(l, 1).echo("172.16.16.10", "8.8.8.8", 8, 1), 1, 1)
	other := as(newSim(l, 2).echo("fd16::10", "fd16::20", 8, 1), 2, 2)
	var ends []string
	j := mustJoiner(t, l.Config, func(p *Path) { ends = append(ends, p.Verdict.String()) })
	const ms = 1000 // of trip's times
	give(j, trip(l, other, 0, across[:2]))
	give(j, trip(l, ping, 300*ms, outward[:3]))
	give(j, trip(l, with(ping, func(s *collector.Sighting) { s.Skb, s.Head, s.Packet.ICMPSeq = 3, 3, 9 }), 310*ms, outward))
	advance(j, 320*ms*1000)
	j.End()
	if d := cmp.Diff([]string{"last_seen", "delivered", "unfinished"}, ends); d != "" {
		t.Error(d)
	}
	if tot := j.Totals(); tot.Unfinished != 1 || tot.LastSeen != 1 || tot.Delivered != 1 {
		t.Errorf("totals %+v", tot)
	}
}
