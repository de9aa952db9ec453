package trace

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nsbpf/nsbpf/bpf"
	"github.com/nsbpf/nsbpf/collector"
	"github.com/nsbpf/nsbpf/internal/hop"
)

// dying returns the drop of p in a node at a time in µs.
func dying(p collector.Sighting, t uint64, node, reason string) Drop {
	p.TimeNS, p.Hop = t*1000, uint16(hop.None)
	return Drop{Sighting: p, Node: node, Reason: reason, Matched: true}
}

// fate writes how a Path ended, and what was told of it.
func fate(l *lab, p *Path) string {
	var b strings.Builder
	at := "no hop"
	if id := p.Steps[p.End].HopID(); id != hop.None {
		at = l.name(uint16(id))
	}
	fmt.Fprintf(&b, "#%d %s at %s", p.Number, p.Verdict, at)
	if p.Late != 0 {
		fmt.Fprintf(&b, ", the end of #%d", p.Late)
	}
	for _, d := range p.Drops {
		fmt.Fprintf(&b, "; %s in %s behind step %d", d.Reason, d.Node, d.Step)
		if d.Rule != nil {
			fmt.Fprintf(&b, " by %s %s %s", d.Rule.Table, d.Rule.Chain, d.Rule.Verdict)
		}
	}
	for _, q := range p.Passages {
		fmt.Fprintf(&b, "; %s %v behind step %d", q.Hook, q.Last, q.Step)
	}
	for _, r := range p.Rulings {
		fmt.Fprintf(&b, "; %s %s behind step %d", r.Rule.Chain, r.Rule.Verdict, r.Step)
	}
	return b.String()
}

func TestJoinDropped(t *testing.T) {
	l := natLab()
	out := trip(l, as(ping, 1, 1), 0, outward[:3]) // to host:br0 in, at 2 µs
	there := trip(l, as(local, 1, 1), 0, across)   // to right, at 3 µs
	flood := seq(trip(l, as(local, 1, 9), 0, across[:2]), trip(l, as(local, 2, 9), 2, at("host:br0 in")), trip(l, as(local, 1, 9), 3, across[2:]))
	for name, tt := range map[string]struct {
		config func(*Config)
		in     []Input
		want   string
	}{
		"behind the last step": {in: []Input{{Runs: runsOf(out), Drops: []Drop{dying(as(ping, 1, 1), 5, "host", "NETFILTER_DROP")}}},
			want: "#1 dropped at host:br0 in; NETFILTER_DROP in host behind step 2"},
		"told before the sightings": {in: []Input{{Drops: []Drop{dying(as(ping, 1, 1), 5, "host", "NETFILTER_DROP")}}, {Runs: runsOf(out)}},
			want: "#1 dropped at host:br0 in; NETFILTER_DROP in host behind step 2"},
		"at its receiver": {in: []Input{{Runs: runsOf(there), Drops: []Drop{dying(as(local, 1, 1), 5, "right", "NO_SOCKET")}}},
			want: "#1 dropped at right:right-veth in; NO_SOCKET in right behind step 3"},
		"harmless at its receiver": {config: func(c *Config) { c.Harmless = func(d *Drop) bool { return d.Reason == "TCP_OLD_ACK" } },
			in:   []Input{{Runs: runsOf(there), Drops: []Drop{dying(as(local, 1, 1), 5, "right", "TCP_OLD_ACK")}}},
			want: "#1 delivered at right:right-veth in"},
		"harmless is not on the way": {config: func(c *Config) { c.Harmless = func(*Drop) bool { return true } },
			in:   []Input{{Runs: runsOf(out), Drops: []Drop{dying(as(ping, 1, 1), 5, "host", "NOT_SPECIFIED")}}},
			want: "#1 dropped at host:br0 in; NOT_SPECIFIED in host behind step 2"},
		"a copy": {in: []Input{{Runs: runsOf(flood), Drops: []Drop{dying(as(local, 2, 9), 5, "host", "OTHERHOST")}}},
			want: "#1 delivered at right:right-veth in; OTHERHOST in host behind step 2"},
		"another packet with its skb": {in: []Input{{Runs: runsOf(out), Drops: []Drop{dying(as(pong, 1, 1), 5, "host", "NETFILTER_DROP")}}},
			want: "#2 dropped at no hop; NETFILTER_DROP in host behind step 0\n#1 last_seen at host:br0 in"},
		"then its skb is another's": {in: []Input{{Runs: runsOf(seq(out, trip(l, as(local, 1, 1), 10, across))), Drops: []Drop{dying(as(ping, 1, 1), 5, "host", "QDISC_DROP")}}},
			want: "#1 dropped at host:br0 in; QDISC_DROP in host behind step 2\n#2 delivered at right:right-veth in"},
		"twice the same skb": {in: []Input{{
			Runs:  runsOf(seq(out, trip(l, as(ping, 1, 1), 10, outward[:3]))),
			Drops: []Drop{dying(as(ping, 1, 1), 15, "host", "B"), dying(as(ping, 1, 1), 5, "host", "A")}}},
			want: "#1 dropped at host:br0 in; A in host behind step 2\n#2 dropped at host:br0 in; B in host behind step 2"},
		"never at a hop": {in: []Input{{Drops: []Drop{dying(as(local, 1, 1), 5, "left", "NETFILTER_DROP")}}},
			want: "#1 dropped at no hop; NETFILTER_DROP in left behind step 0"},
		"never at a hop, and not asked for": {in: []Input{{Drops: []Drop{func() Drop {
			d := dying(as(local, 1, 1), 5, "left", "NETFILTER_DROP")
			d.Matched = false
			return d
		}()}}}},
		"harmless, long after its path": {config: func(c *Config) { c.Harmless = func(d *Drop) bool { return d.Reason == "QUEUE_PURGE" } },
			in:   []Input{{Runs: runsOf(there), Until: 1_000_000_000}, {Drops: []Drop{dying(as(local, 1, 1), 3_000_000, "right", "QUEUE_PURGE")}}},
			want: "#1 delivered at right:right-veth in"},
		"after its path": {in: []Input{
			{Runs: runsOf(out), Until: 1_000_000_000},
			{Drops: []Drop{dying(as(ping, 1, 1), 3_000_000, "host", "NEIGH_FAILED")}, Until: 4_000_000_000}},
			want: "#1 last_seen at host:br0 in\n#2 dropped at no hop, the end of #1; NEIGH_FAILED in host behind step 0"},
		"by fingerprint": {config: func(c *Config) { c.Identity = Fingerprint },
			in:   []Input{{Runs: runsOf(out), Drops: []Drop{dying(as(ping, 77, 78), 5, "host", "NETFILTER_DROP")}}},
			want: "#1 dropped at host:br0 in; NETFILTER_DROP in host behind step 2"},
		"by fingerprint, in another node": {config: func(c *Config) { c.Identity = Fingerprint },
			in:   []Input{{Runs: runsOf(out), Drops: []Drop{dying(as(ping, 77, 78), 5, "wan", "NETFILTER_DROP")}}},
			want: "#2 dropped at no hop; NETFILTER_DROP in wan behind step 0\n#1 last_seen at host:br0 in"},
	} {
		t.Run(name, func(t *testing.T) {
			c := l.Config
			if tt.config != nil {
				tt.config(&c)
			}
			var got []string
			j := mustJoiner(t, c, func(p *Path) { got = append(got, fate(l, p)) })
			for _, in := range tt.in {
				j.Add(in)
			}
			j.Flush()
			if d := cmp.Diff(tt.want, strings.Join(got, "\n")); d != "" {
				t.Error(d)
			}
			if n := j.Totals(); n.Drops < n.DropsIgnored || n.Paths != uint64(len(got)) {
				t.Errorf("totals do not add up: %+v", n)
			}
		})
	}
}

// What netfilter and nft tell of a packet is behind the step where it was.
func TestJoinExplained(t *testing.T) {
	l := natLab()
	c := l.Config
	c.Explain = true
	passage := func(t, skb uint64, node, hook string, last bool) Passage {
		return Passage{TimeNS: t * 1000, Skb: skb, Node: node, Family: "ip", Hook: hook, Last: last}
	}
	ruling := func(p collector.Sighting, t uint64, node, chain, verdict string) Ruling {
		p.TimeNS, p.Skb, p.Head, p.PayloadHash = t*1000, 0, 0, 0
		return Ruling{Sighting: p, Node: node, Hook: chain, Rule: Rule{Table: "t", Chain: chain, Verdict: verdict}}
	}
	other := with(ping, func(s *collector.Sighting) { s.Packet.ICMPSeq++; s.Packet.IPID++ })
	in := Input{
		Runs: runsOf(trip(l, as(ping, 1, 1), 10, outward[:3])),
		Passages: []Passage{
			passage(8, 1, "left", "output", false), passage(9, 1, "left", "output", true),
			passage(8, 2, "left", "output", false),   // of another packet
			passage(9, 1, "wan", "output", false),    // of one that had its skb, elsewhere
			passage(13, 1, "host", "forward", false), // behind host:br0 in
		},
		Drops: []Drop{dying(as(ping, 1, 1), 15, "host", "NETFILTER_DROP")},
		Rulings: []Ruling{
			ruling(ping, 20, "host", "forward", "drop"), ruling(other, 20, "host", "forward", "drop"),
			ruling(ping, 5, "host", "early", "drop"),
		},
	}
	var got []string
	j := mustJoiner(t, c, func(p *Path) { got = append(got, fate(l, p)) })
	j.Add(in)
	j.Add(Input{Drops: []Drop{dying(as(other, 2, 2), 30, "left", "NETFILTER_DROP")}, Until: 10_000_000})
	j.Add(Input{Rulings: []Ruling{ruling(other, 11_000, "left", "output", "drop")}, Until: 11_000_000})
	j.Add(Input{Until: 1_000_000_000})
	want := []string{
		"#1 dropped at host:br0 in; NETFILTER_DROP in host behind step 2 by t forward drop" +
			"; output false behind step -1; output true behind step -1; forward false behind step 2; forward drop behind step 2",
		"#2 dropped at no hop; NETFILTER_DROP in left behind step 0 by t output drop" +
			"; output false behind step -1; output drop behind step 0",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

// A filter that came while the trace ran is before it: the packet is not seen at
// its hop.
func TestJoinDroppedByNewFilter(t *testing.T) {
	l := natLab()
	c := l.Config
	var got []string
	j := mustJoiner(t, c, func(p *Path) {
		got = append(got, fmt.Sprintf("%v by %d at %s", p.Verdict, p.DroppedBy, l.name(uint16(p.DroppedAt))))
	})
	everything := func(*bpf.Packet) bool { return true }
	j.SetFilters([]Filter{{ID: 3, Hop: hop.ID(l.id("right:right-veth in")), Drops: everything}})
	j.Add(Input{
		Runs:  runsOf(seq(trip(l, as(local, 1, 1), 0, across[:3]), trip(l, as(local, 2, 2), 100, across[:3]))),
		Drops: []Drop{dying(as(local, 1, 1), 5, "right", "TC_INGRESS"), dying(as(local, 2, 2), 105, "right", "NETFILTER_DROP")},
	})
	j.Flush()
	want := []string{"dropped by 3 at right:right-veth in", "dropped by 0 at host:right-br0-veth out"}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}
