package report

import (
	"io"
	"net/netip"
	"testing"
	"time"

	"github.com/nsbpf/nsbpf/trace"
	"github.com/nsbpf/nsbpf/trace/diff"
)

var (
	ip4TCP  = diff.Kind{EtherType: 0x0800, Proto: 6}
	ip4ICMP = diff.Kind{EtherType: 0x0800, Proto: 1}

	https  = diff.Flow{Origin: "left:left-veth out", Kind: ip4TCP, Peer: netip.MustParseAddrPort("8.8.8.8:443")}
	pinged = diff.Flow{Origin: "left:left-veth out", Kind: ip4ICMP, Peer: netip.AddrPortFrom(netip.MustParseAddr("8.8.8.8"), 0), ICMPType: 8}
	whoHas = diff.Flow{Origin: "left:left-veth out", Kind: diff.Kind{EtherType: 0x0806}, ICMPType: 1}
	web6   = diff.Flow{
		Origin: "right:right-veth out", Kind: diff.Kind{EtherType: 0x86dd, Proto: 6},
		Peer: netip.MustParseAddrPort("[fd16::20]:80"), Reply: true,
	}
	lldp = diff.Flow{Origin: "left:left-veth out", Kind: diff.Kind{EtherType: 0x88cc}}

	byFirewall = diff.Outcome{
		Node: "host", Hook: "forward", Reason: "NETFILTER_DROP",
		Rule: trace.Rule{Family: "ip", Table: "fw", Chain: "fwd", Text: "tcp dport 443 drop", Verdict: "drop"},
	}
	byPolicy = diff.Outcome{
		Node: "host", Hook: "forward", Reason: "NETFILTER_DROP",
		Rule: trace.Rule{Family: "inet", Table: "docker", Chain: "DOCKER-USER", Verdict: "drop"},
	}
)

// difference has one of each.
func difference() *diff.Difference {
	uplink := diff.Edge{From: "host:br0 in", To: "host:eth0 out"}
	slow := diff.Time{
		Edge: uplink, Kind: ip4TCP, Count: [2]uint64{412, 390}, Median: [2]float64{6400, 9650},
		Ratio: 1.508, Low: 1.42, High: 1.6, P: 1e-9,
	}
	whole := diff.Time{
		Edge: diff.Edge{From: "left:left-veth out", To: "wan:eth0 in"}, Kind: ip4ICMP, Whole: true,
		Count: [2]uint64{100, 100}, Median: [2]float64{30_000, 27_800}, Ratio: .927, Low: .88, High: .97, P: .021,
	}
	snat := diff.Outcome{NAT: "snat to 192.0.2.2 at host:br0 in > host:eth0 out"}
	return &diff.Difference{
		A:       diff.Side{Source: diff.Source{Name: "monday.ndjson", Lab: "nat"}, Paths: 4812, Span: 10 * time.Second},
		B:       diff.Side{Source: diff.Source{Name: "tuesday.pcapng", Lab: "nat2", Lost: 1, Sample: 16, Rate: 1000, Expr: "tcp"}, Paths: 300, Span: 9 * time.Second},
		Options: diff.Options{MinEffect: .05, Alpha: .05},
		Findings: []diff.Finding{
			{Change: diff.DropNew, Is: byFirewall, Flows: []diff.Flow{https, web6, pinged, whoHas, lldp}, A: diff.Share{Of: 412}, B: diff.Share{N: 77, Of: 390}, P: 1e-20},
			{Change: diff.DropMoved, Was: byFirewall, Is: byPolicy, Flows: []diff.Flow{https}, A: diff.Share{N: 400, Of: 412}, B: diff.Share{N: 390, Of: 390}, P: 1e-9},
			{Change: diff.EdgeGone, Edge: uplink, Kinds: []diff.Kind{ip4TCP, ip4ICMP}, Flows: []diff.Flow{https}, A: diff.Share{N: 400, Of: 412}, B: diff.Share{Of: 390}, NotInLab: true, P: 1e-9},
			{Change: diff.NATChanged, Was: snat, Is: diff.Outcome{NAT: "snat to 192.0.2.7 at host:br0 in > host:eth0 out"}, Flows: []diff.Flow{https, pinged}, A: diff.Share{N: 412, Of: 412}, B: diff.Share{N: 390, Of: 390}, P: 1e-9},
			{Change: diff.ResentMore, Is: diff.Outcome{Again: true}, Flows: []diff.Flow{https}, A: diff.Share{N: 3, Of: 412}, B: diff.Share{N: 30, Of: 390}, P: .0004},
			{Change: diff.Slower, Edge: uplink, Time: &slow, P: 1e-9},
			{Change: diff.EdgeNew, Edge: diff.Edge{From: "host:left-br0-veth in", To: "host:right-br0-veth out"}, Kinds: []diff.Kind{web6.Kind}, Flows: []diff.Flow{web6}, A: diff.Share{Of: 12}, B: diff.Share{N: 13, Of: 13}, P: .003},
			{Change: diff.Faster, Edge: whole.Edge, Time: &whole, P: .021},
			{Change: diff.DropGone, Was: diff.Outcome{Hop: "host:br0 in"}, Flows: []diff.Flow{pinged}, A: diff.Share{N: 20, Of: 40}, B: diff.Share{Of: 40}, P: .0008},
		},
		Doubtful: []diff.Finding{
			{Change: diff.DropNew, Doubt: diff.Chance, Is: diff.Outcome{Node: "host", Reason: "NOT_SPECIFIED", Function: "ip_forward"}, Flows: []diff.Flow{https}, A: diff.Share{Of: 12}, B: diff.Share{N: 1, Of: 13}, P: 1},
			{Change: diff.EdgeGone, Doubt: diff.Incomplete, Edge: uplink, Kinds: []diff.Kind{ip4TCP, ip4ICMP}, Flows: []diff.Flow{https}, A: diff.Share{N: 4, Of: 12}, B: diff.Share{Of: 13}, P: .04},
			{Change: diff.EdgeGone, Doubt: diff.Absent, Edge: uplink, Kinds: []diff.Kind{ip4TCP, ip4ICMP}, Flows: []diff.Flow{https}, A: diff.Share{N: 4, Of: 12}, P: 1},
		},
		OnlyA: []diff.Presence{{Flow: whoHas, Paths: 12}, {Flow: lldp, Paths: 1}},
		Times: []diff.Time{slow, whole}, Thin: 3, Edges: 14, Flows: 6, Tests: 31,
	}
}

func TestDiff(t *testing.T) {
	d := difference()
	fits(t, golden(t, "diff.txt", func(w io.Writer) error { return DiffText(w, d, Style{}) }), 80)
	golden(t, "diff-colour.txt", func(w io.Writer) error { return DiffText(w, d, Colour) })
	goldenJSON(t, "diff.json", "nsbpf.diff/1", func(w io.Writer) error { return DiffJSON(w, d) })

	none := &diff.Difference{A: d.A, B: d.A, Options: d.Options, Edges: 4, Flows: 1, Tests: 5, Times: d.Times[:1]}
	fits(t, golden(t, "diff-none.txt", func(w io.Writer) error { return DiffText(w, none, Style{}) }), 80)
	goldenJSON(t, "diff-none.json", "nsbpf.diff/1", func(w io.Writer) error { return DiffJSON(w, none) })
}
