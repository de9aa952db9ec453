package diff

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/nsbpf/nsbpf/bpf"
	"github.com/nsbpf/nsbpf/collector"
	"github.com/nsbpf/nsbpf/internal/hop"
	"github.com/nsbpf/nsbpf/trace"
)

// sight returns a sighting of a packet.
func sight(ethertype uint16, proto uint8, src, dst string, sport, dport uint16) *collector.Sighting {
	s := &collector.Sighting{}
	s.Packet = bpf.Packet{EtherType: ethertype, Proto: proto, Src: addr(src), Dst: addr(dst), Sport: sport, Dport: dport}
	if sport+dport != 0 {
		s.Packet.Flags = bpf.PacketPorts
	}
	return s
}

func TestFlowOf(t *testing.T) {
	icmp := func(ethertype uint16, proto, kind, code uint8) *collector.Sighting {
		s := sight(ethertype, proto, "fd00::1", "fd00::2", 0, 0)
		s.Packet.ICMPType, s.Packet.ICMPCode = kind, code
		return s
	}
	host := func(s string) netip.AddrPort { return netip.AddrPortFrom(netip.MustParseAddr(s), 0) }
	udp4, tcp6, icmp6 := Kind{0x0800, 17}, Kind{0x86dd, 6}, Kind{0x86dd, 58}
	for name, tt := range map[string]struct {
		s    *collector.Sighting
		want Flow
	}{
		"to a service":       {sight(0x0800, 17, "10.0.0.1", "10.0.0.2", 40000, 53), Flow{Kind: udp4, Peer: netip.MustParseAddrPort("10.0.0.2:53")}},
		"from a service":     {sight(0x86dd, 6, "fd00::1", "fd00::2", 80, 51000), Flow{Kind: tcp6, Peer: netip.MustParseAddrPort("[fd00::1]:80"), Reply: true}},
		"of two services":    {sight(0x0800, 17, "10.0.0.1", "10.0.0.2", 123, 123), Flow{Kind: udp4, Peer: netip.MustParseAddrPort("10.0.0.2:123")}},
		"of two clients":     {sight(0x0800, 17, "10.0.0.1", "10.0.0.2", 40000, 33434), Flow{Kind: udp4, Peer: host("10.0.0.2")}},
		"echo request":       {icmp(0x86dd, 58, 128, 0), Flow{Kind: icmp6, Peer: host("fd00::2"), ICMPType: 128}},
		"echo reply":         {icmp(0x86dd, 58, 129, 0), Flow{Kind: icmp6, Peer: host("fd00::1"), ICMPType: 129, Reply: true}},
		"error":              {icmp(0x86dd, 58, 1, 4), Flow{Kind: icmp6, ICMPType: 1, ICMPCode: 4}},
		"who-has":            {icmp(0x0806, 0, 1, 0), Flow{Kind: Kind{EtherType: 0x0806}, ICMPType: 1}},
		"another protocol":   {sight(0x0800, 47, "10.0.0.1", "10.0.0.2", 0, 0), Flow{Kind: Kind{0x0800, 47}, Peer: host("10.0.0.2")}},
		"another ether type": {sight(0x88cc, 9, "10.0.0.1", "10.0.0.2", 0, 0), Flow{Kind: Kind{EtherType: 0x88cc}}},
	} {
		tt.want.Origin = "a:eth0 out"
		if d := cmp.Diff(tt.want, flowOf("a:eth0 out", tt.s), cmpopts.EquateComparable(netip.AddrPort{})); d != "" {
			t.Errorf("%s (-want +got):\n%s", name, d)
		}
	}
}

func TestFateOf(t *testing.T) {
	at := func(v trace.Verdict, drops ...trace.Drop) *trace.Path {
		p := &trace.Path{Verdict: v, Steps: make([]trace.Step, 2), End: 1, Drops: drops}
		p.Steps[1].Hop = 1
		return p
	}
	filtered := at(trace.Dropped)
	filtered.DroppedBy = 3
	givenUp := at(trace.LastSeen)
	givenUp.GivenUp = true
	copied := at(trace.Dropped, trace.Drop{Node: "a", Reason: "OTHERHOST"}, trace.Drop{Node: "b", Reason: "NO_SOCKET", Step: 1}, trace.Drop{Node: "c", Reason: "OTHERHOST"})
	policy := &trace.Rule{Family: "ip", Table: "t", Chain: "c", Verdict: "drop"}
	for name, tt := range map[string]struct {
		path    *trace.Path
		want    Outcome
		unknown bool
	}{
		"delivered":         {path: at(trace.Delivered)},
		"left the lab":      {path: at(trace.LeftLab)},
		"copy dropped":      {path: at(trace.Delivered, trace.Drop{Reason: "OTHERHOST"})},
		"merged":            {path: at(trace.Merged), unknown: true},
		"unfinished":        {path: at(trace.Unfinished), unknown: true},
		"given up":          {path: givenUp, unknown: true},
		"last seen":         {path: at(trace.LastSeen), want: Outcome{Hop: "b:eth0 in"}},
		"filter":            {path: filtered, want: Outcome{Hop: "b:eth0 in", Reason: "FILTER"}},
		"some pieces":       {path: at(trace.PartlyDelivered), want: Outcome{Hop: "b:eth0 in", Partly: true}},
		"at its end":        {path: copied, want: Outcome{Node: "b", Reason: "NO_SOCKET"}},
		"not specified":     {path: at(trace.Dropped, trace.Drop{Node: "b", Reason: "NOT_SPECIFIED", Function: "f"}), want: Outcome{Node: "b", Reason: "NOT_SPECIFIED", Function: "f"}},
		"at a hook":         {path: at(trace.Dropped, trace.Drop{Node: "b", Reason: "NETFILTER_DROP", Callers: []string{"nf_hook", "ip6_forward", "ip_output"}}), want: Outcome{Node: "b", Reason: "NETFILTER_DROP", Hook: "forward"}},
		"by a policy":       {path: at(trace.Dropped, trace.Drop{Node: "b", Reason: "NETFILTER_DROP", Rule: policy}), want: Outcome{Node: "b", Reason: "NETFILTER_DROP", Rule: *policy}},
		"at a hook unknown": {path: at(trace.Dropped, trace.Drop{Node: "b", Reason: "NETFILTER_DROP"}), want: Outcome{Node: "b", Reason: "NETFILTER_DROP"}},
	} {
		got, known := fateOf(tt.path, func(id hop.ID) string { return [...]string{"a:eth0 out", "b:eth0 in"}[id] })
		if got != tt.want || known == tt.unknown {
			t.Errorf("%s: %+v, known %t; want %+v", name, got, known, tt.want)
		}
	}
}

func TestAppendNAT(t *testing.T) {
	step := func(c trace.Change) *trace.Step {
		return &trace.Step{Sighting: *sight(0x0800, 6, "192.0.2.2", "10.0.0.80", 61000, 8080), Change: c}
	}
	e := Edge{"a", "b"}
	for _, tt := range []struct {
		change trace.Change
		want   string
	}{
		{trace.SNAT, "snat to 192.0.2.2 at a > b"},
		{trace.DNAT, "dnat to 10.0.0.80:8080 at a > b"},
		{trace.SNAT | trace.DNAT | trace.TTL, "snat to 192.0.2.2 and dnat to 10.0.0.80:8080 at a > b"},
		{trace.SNATBack, "snat-back at a > b"},
		{trace.EchoID, "echo id at a > b"},
	} {
		if got := string(appendNAT(nil, e, step(tt.change))); got != tt.want {
			t.Errorf("got %q, want %q", got, tt.want)
		}
	}
	twice := appendNAT(appendNAT(nil, e, step(trace.SNATBack)), Edge{"b", "c"}, step(trace.DNATBack))
	if want := "snat-back at a > b, then dnat-back at b > c"; string(twice) != want {
		t.Errorf("got %q, want %q", twice, want)
	}
}

// nowhere is a Path of a packet that came to no hop.
func nowhere(reason string) *trace.Path {
	p := &trace.Path{Verdict: trace.Dropped, Attempt: 1, Steps: make([]trace.Step, 1), Drops: []trace.Drop{{Node: "left", Reason: reason}}}
	p.Steps[0].Sighting = *sight(0x0800, 17, "10.0.0.1", "10.0.0.2", 40000, 53)
	p.Steps[0].Hop, p.Steps[0].Prev = uint16(hop.None), -1
	return p
}

// A packet that came to no hop begins in the node that dropped it.
func TestProfileNowhere(t *testing.T) {
	p := NewProfile(lab.hops, lab.edges)
	path := nowhere("IP_OUTNOROUTES")
	p.Add(path)
	f := flowOf("left", &path.Steps[0].Sighting)
	if p.flows[f] == nil || p.flows[f].fates.by[Outcome{Node: "left", Reason: "IP_OUTNOROUTES"}].n != 1 {
		t.Errorf("flows %+v", p.flows)
	}
}

// What the kernel says late of a packet is its end, and the packet is not counted
// again.
func TestProfileLate(t *testing.T) {
	p := NewProfile(lab.hops, lab.edges)
	s := sender{net: lab, clock: 1e9, Rand: newRand(1)}
	b := behaviour{packet: echo("8.8.8.8"), way: toWAN[:3]}
	for n := range uint64(3) {
		path := s.send(&b)
		path.Verdict, path.Number = trace.LastSeen, n+1
		p.Add(path)
	}
	for _, of := range []uint64{2, 2, 99} {
		late := nowhere("NEIGH_FAILED")
		late.Late = of
		p.Add(late)
	}
	want := map[Outcome]uint64{{Hop: "host:br0 in"}: 2, {Node: "left", Reason: "NEIGH_FAILED"}: 1}
	got := map[Outcome]uint64{}
	for _, f := range p.flows {
		for o, c := range f.fates.by {
			got[o] = c.n
		}
	}
	if d := cmp.Diff(want, got); d != "" || p.paths != 3 {
		t.Errorf("%d paths (-want +got):\n%s", p.paths, d)
	}
}

// Flows beyond the bound are told apart by their kind only.
func TestProfileBounded(t *testing.T) {
	p := NewProfile(lab.hops, lab.edges)
	s := sender{net: lab, clock: 1e9, Rand: newRand(1)}
	const flows = mostFlows + 1000
	for i := range flows {
		b := behaviour{packet: tcp(fmt.Sprintf("10.0.%d.%d", i/256, i%256), 80), way: toRight}
		p.Add(s.send(&b))
	}
	coarse := p.flows[Flow{Origin: "left:eth0 out", Kind: Kind{0x0800, 6}}]
	if len(p.flows) != mostFlows+1 || coarse == nil || coarse.paths != flows-mostFlows {
		t.Errorf("%d flows, of those beyond the bound %+v", len(p.flows), coarse)
	}
}

func BenchmarkAdd(b *testing.B) {
	s := sender{net: lab, clock: 1e9, Rand: newRand(1)}
	flows := usual()
	var paths []*trace.Path
	for i := range 3000 {
		paths = append(paths, s.send(&flows[i%len(flows)]))
	}
	p := NewProfile(lab.hops, lab.edges)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		p.Add(paths[i%len(paths)])
	}
}
