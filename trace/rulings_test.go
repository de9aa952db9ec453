package trace

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nsbpf/nsbpf/collector"
)

// Of a packet that gets both addresses at one step, the rule that gave it the
// second saw it with the first only.
func TestJoinTranslatedTwice(t *testing.T) {
	l := natLab()
	c := l.Config
	c.Explain = true
	both := func(s *collector.Sighting) {
		masquerade("192.0.2.2")(s)
		s.Orig.Status |= collector.ConnDNAT
		s.Packet.Dst = addr("8.8.4.4")
	}
	halfway := with(ping, func(s *collector.Sighting) { s.Packet.Dst = addr("8.8.4.4") })
	ruling := func(p collector.Sighting, node, chain string) Ruling {
		p.TimeNS, p.Skb, p.Head, p.PayloadHash = 20_000, 0, 0, 0
		return Ruling{Sighting: p, Node: node, Hook: chain, Rule: Rule{Table: "t", Chain: chain, Verdict: "accept"}}
	}
	var got []string
	j := mustJoiner(t, c, func(p *Path) { got = append(got, fate(l, p)) })
	j.Add(Input{
		Runs:    runsOf(trip(l, as(ping, 1, 1), 10, via(outward[:4], "host:eth0 out", both))),
		Rulings: []Ruling{ruling(ping, "host", "prerouting"), ruling(halfway, "host", "postrouting"), ruling(halfway, "wan", "elsewhere")},
	})
	j.Flush()
	want := []string{"#1 last_seen at host:eth0 out; prerouting accept behind step 2; postrouting accept behind step 2"}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}
