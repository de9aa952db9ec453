package assert

import (
	"errors"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nsbpf/nsbpf/bpf"
	"github.com/nsbpf/nsbpf/collector"
	"github.com/nsbpf/nsbpf/internal/hop"
	"github.com/nsbpf/nsbpf/ping"
	"github.com/nsbpf/nsbpf/trace"
	"github.com/nsbpf/nsbpf/trace/why"
)

// hops are those of left, through host with its bridge, to wan.
var hops = []hop.Hop{
	{ID: 0, Node: "left", Device: "left-veth", Direction: hop.Egress},
	{ID: 1, Node: "host", Device: "left-br0-veth", Direction: hop.Ingress},
	{ID: 2, Node: "host", Device: "br0", Direction: hop.Ingress},
	{ID: 3, Node: "host", Device: "eth0", Direction: hop.Egress},
	{ID: 4, Node: "wan", Device: "eth0", Direction: hop.Ingress},
	{ID: 5, Node: "wan", Device: "eth0", Direction: hop.Ingress, Layer: hop.XDP},
}

var (
	inside  = netip.MustParseAddr("172.16.16.10")
	outside = netip.MustParseAddr("8.8.8.8")
	masked  = netip.MustParseAddr("192.0.2.2")
)

// wayTo returns a Path by the hops up to the last, 10 µs each, with its source
// translated at host:eth0.
func wayTo(last int, v trace.Verdict) *trace.Path {
	p := &trace.Path{Verdict: v, End: last}
	for i := range last + 1 {
		src := inside
		st := trace.Step{Prev: i - 1, Sighting: collector.Sighting{Sighting: bpf.Sighting{Hop: uint16(i), TimeNS: uint64(1000 + i*10_000)}}}
		if i >= 3 {
			src = masked
		}
		if i == 3 {
			st.Change = trace.SNAT
		}
		st.Packet.EtherType, st.Packet.Src, st.Packet.Dst = collector.EtherIPv4, src.As16(), outside.As16()
		p.Steps = append(p.Steps, st)
	}
	return p
}

// probed returns a packet, and the answer to it, 100 µs later.
func probed(proto ping.Proto, kind ping.Kind, forward *trace.Path, c *why.Conclusion) Probe {
	p := Probe{Forward: forward, ForwardWhy: c}
	p.Key = ping.Key{Proto: proto, Src: inside, Dst: outside}
	if kind != 0 {
		p.Answer = &ping.Answer{Kind: kind, From: outside, RTT: 100 * time.Microsecond, Type: 3, Code: 3}
		p.Said = kind.String()
		if kind == ping.RST {
			p.Said += ", the port is closed"
		}
	}
	return p
}

func ruled() (*trace.Path, *why.Conclusion) {
	p := wayTo(2, trace.Dropped)
	p.Drops = []trace.Drop{{Node: "host", Reason: "NETFILTER_DROP", Rule: &trace.Rule{Family: "ip", Table: "fw", Chain: "f", Text: "udp dport 53 drop"}}}
	return p, &why.Conclusion{Code: "rule-drop", Place: "host, forward", Sentence: "dropped in host, forward: rule"}
}

func closed() (*trace.Path, *why.Conclusion) {
	return wayTo(4, trace.Dropped), &why.Conclusion{Code: "no-socket", Place: "wan", Sentence: "dropped in wan: nobody listens"}
}

// lostBack returns a packet that arrived, and of which the answer was lost.
func lostBack() Probe {
	p := probed(ping.ICMP, 0, wayTo(4, trace.Delivered), nil)
	p.Back, p.BackWhy = wayTo(1, trace.Dropped), &why.Conclusion{Sentence: "dropped in host: no route"}
	return p
}

var (
	rule, ruleWhy = ruled()
	shut, shutWhy = closed()
	unsent        = refused()
	filtered      = byFilter()
	byXDP         = seenByXDP()
)

// refused returns a packet that the sender's kernel did not send.
func refused() Probe {
	p := probed(ping.ICMP, 0, nil, nil)
	p.Err = errors.New("operation not permitted")
	return p
}

// byFilter returns a Path that a filter of the user's ended.
func byFilter() *trace.Path {
	p := wayTo(2, trace.Dropped)
	p.DroppedBy = 1
	return p
}

// seenByXDP returns one that was seen at wan:eth0 by XDP, too.
func seenByXDP() *trace.Path {
	p := arrived()
	p.Steps = append(p.Steps[:4:4], p.Steps[4], p.Steps[4])
	p.Steps[4].Hop, p.Steps[5].Prev, p.End = 5, 4, 5
	return p
}

func arrived() *trace.Path { return wayTo(4, trace.Delivered) }

// judgements are what became of packets, and what is to be said of an assertion.
var judgements = map[string]struct {
	assertion string
	probes    []Probe
	unsent    string
	want      []Failure
	summary   string
}{
	"an answer":           {assertion: "left -> wan icmp", probes: []Probe{probed(ping.ICMP, ping.EchoReply, nil, nil)}, summary: "answered by echo-reply from 8.8.8.8 in 100µs"},
	"an open port":        {assertion: "left -> wan tcp/80", probes: []Probe{probed(ping.TCP, ping.SYNACK, nil, nil)}, summary: "answered by syn-ack from 8.8.8.8 in 100µs"},
	"a closed port":       {assertion: "left -> wan tcp/80", probes: []Probe{probed(ping.TCP, ping.RST, shut, shutWhy)}, want: []Failure{{"packet", "dropped in wan: nobody listens", 0}}},
	"a reset unexplained": {assertion: "left -> wan tcp/80", probes: []Probe{probed(ping.TCP, ping.RST, arrived(), nil)}, want: []Failure{{"packet", "answered by rst from 8.8.8.8 in 100µs, the port is closed", 0}}},
	"silent udp":          {assertion: "left -> wan udp/53", probes: []Probe{probed(ping.UDP, 0, arrived(), nil)}, summary: "delivered to wan"},
	"silent udp outside":  {assertion: "left -> wan udp/53", probes: []Probe{probed(ping.UDP, 0, wayTo(3, trace.LeftLab), nil)}, want: []Failure{{"packet", "left the lab by host:eth0, and was not answered", 0}}},
	"udp refused":         {assertion: "left -> wan udp/53", probes: []Probe{probed(ping.UDP, ping.ICMPError, shut, shutWhy)}, want: []Failure{{"packet", "dropped in wan: nobody listens", 0}}},
	"dropped":             {assertion: "left -> wan icmp", probes: []Probe{probed(ping.ICMP, 0, rule, ruleWhy)}, want: []Failure{{"packet", "dropped in host, forward: rule", 0}}},
	"by a filter":         {assertion: "left -> wan icmp", probes: []Probe{probed(ping.ICMP, 0, filtered, nil)}, want: []Failure{{"packet", "dropped by filter 1 at host:br0 in", 0}}},
	"last seen":           {assertion: "left -> wan icmp", probes: []Probe{probed(ping.ICMP, 0, wayTo(1, trace.LastSeen), nil)}, want: []Failure{{"packet", "last seen at host:left-br0-veth in", 0}}},
	"no path":             {assertion: "left -> wan icmp", probes: []Probe{probed(ping.ICMP, 0, nil, nil)}, want: []Failure{{"packet", "no answer, and its way is not known", 0}}},
	"answer lost":         {assertion: "left -> wan icmp", probes: []Probe{lostBack()}, want: []Failure{{"packet", "its answer: dropped in host: no route", 0}}},
	"not sent":            {assertion: "left -> wan icmp", probes: []Probe{unsent}, want: []Failure{{"packet", "not sent: operation not permitted", 0}}},
	"no way":              {assertion: "left -> wan icmp", unsent: "network is unreachable", want: []Failure{{"packet", "network is unreachable", -1}}},
	"some lost": {assertion: "left -> wan icmp", probes: []Probe{probed(ping.ICMP, ping.EchoReply, nil, nil), probed(ping.ICMP, 0, rule, ruleWhy)},
		want: []Failure{{"packet", "1 of 2 lost, one dropped in host, forward: rule", 1}}},

	"blocked":             {assertion: "left -x-> wan icmp", probes: []Probe{probed(ping.ICMP, 0, rule, ruleWhy)}, summary: "dropped in host, forward: rule"},
	"blocked by a reset":  {assertion: "left -x-> wan tcp/80", probes: []Probe{probed(ping.TCP, ping.RST, rule, ruleWhy)}, summary: "dropped in host, forward: rule"},
	"blocked, no way":     {assertion: "left -x-> wan icmp", unsent: "network is unreachable", summary: "network is unreachable"},
	"blocked, not sent":   {assertion: "left -x-> wan icmp", probes: []Probe{unsent}, summary: "not sent: operation not permitted"},
	"not blocked":         {assertion: "left -x-> wan icmp", probes: []Probe{probed(ping.ICMP, ping.EchoReply, arrived(), nil)}, want: []Failure{{"packet", "it came to its destination: answered by echo-reply from 8.8.8.8 in 100µs", 0}}},
	"a port closed only":  {assertion: "left -x-> wan tcp/80", probes: []Probe{probed(ping.TCP, ping.RST, shut, shutWhy)}, want: []Failure{{"packet", "it came to its destination: dropped in wan: nobody listens", 0}}},
	"blocked by silence":  {assertion: "left -x-> wan icmp", probes: []Probe{probed(ping.ICMP, 0, wayTo(3, trace.LeftLab), nil)}, summary: "left the lab by host:eth0, and was not answered"},
	"answered outside":    {assertion: "left -x-> wan icmp", probes: []Probe{probed(ping.ICMP, ping.EchoReply, wayTo(3, trace.LeftLab), nil)}, want: []Failure{{"packet", "it came to its destination: answered by echo-reply from 8.8.8.8 in 100µs", 0}}},
	"blocked, path short": {assertion: "left -x-> wan icmp", probes: []Probe{probed(ping.ICMP, 0, nil, nil)}, summary: "no answer, and its way is not known"},

	"via":         {assertion: "{packet: left -> wan icmp, via: [left:left-veth, host:br0 in, host:eth0 snat]}", probes: []Probe{probed(ping.ICMP, ping.EchoReply, arrived(), nil)}, summary: "answered by echo-reply from 8.8.8.8 in 100µs"},
	"via, wrong":  {assertion: "{packet: left -> wan icmp, via: [host:br0, left:left-veth]}", probes: []Probe{probed(ping.ICMP, ping.EchoReply, arrived(), nil)}, want: []Failure{{"via", "it did not pass left:left-veth behind host:br0", 0}}},
	"via, way":    {assertion: "{packet: left -> wan icmp, via: [host:br0 out]}", probes: []Probe{probed(ping.ICMP, ping.EchoReply, arrived(), nil)}, want: []Failure{{"via", "it did not pass host:br0 out", 0}}},
	"via, change": {assertion: "{packet: left -> wan icmp, via: [host:eth0 dnat]}", probes: []Probe{probed(ping.ICMP, ping.EchoReply, arrived(), nil)}, want: []Failure{{"via", "it did not pass host:eth0 dnat", 0}}},
	"via, no way": {assertion: "{packet: left -> wan icmp, via: [host:eth0]}", probes: []Probe{probed(ping.ICMP, ping.EchoReply, nil, nil)}, want: []Failure{{"via", "the packet's way is not known", 0}}},
	"exactly":     {assertion: "{packet: left -> wan icmp, exactly: [left:left-veth, host:left-br0-veth, host:br0, host:eth0, wan:eth0]}", probes: []Probe{probed(ping.ICMP, ping.EchoReply, byXDP, nil)}, summary: "answered by echo-reply from 8.8.8.8 in 100µs"},
	"exactly, one missing": {assertion: "{packet: left -> wan icmp, exactly: [left:left-veth, host:br0]}", probes: []Probe{probed(ping.ICMP, ping.EchoReply, arrived(), nil)},
		want: []Failure{{"exactly", "it passed host:left-br0-veth in, where host:br0 was to be", 0}}},
	"exactly, and on": {assertion: "{packet: left -> wan icmp, exactly: [left:left-veth]}", probes: []Probe{probed(ping.ICMP, ping.EchoReply, arrived(), nil)},
		want: []Failure{{"exactly", "it went on to host:left-br0-veth in", 0}}},
	"source":        {assertion: "{packet: left -> wan icmp, source: 192.0.2.2}", probes: []Probe{probed(ping.ICMP, ping.EchoReply, arrived(), nil)}, summary: "answered by echo-reply from 8.8.8.8 in 100µs"},
	"source, other": {assertion: "{packet: left -> wan icmp, source: 192.0.2.9}", probes: []Probe{probed(ping.ICMP, ping.EchoReply, arrived(), nil)}, want: []Failure{{"source", "the receiver sees 192.0.2.2, not 192.0.2.9", 0}}},
	"source, lost":  {assertion: "{packet: left -> wan icmp, source: 192.0.2.9}", probes: []Probe{probed(ping.ICMP, 0, rule, ruleWhy)}, want: []Failure{{"packet", "dropped in host, forward: rule", 0}}},
	"times": {assertion: "{packet: left -> wan icmp, latency: {p50: < 41us, max: <= 40us}, rtt: < 1ms}", probes: []Probe{probed(ping.ICMP, ping.EchoReply, arrived(), nil)},
		summary: "answered by echo-reply from 8.8.8.8 in 100µs · latency p50 40µs, max 40µs · rtt max 100µs"},
	"too long": {assertion: "{packet: left -> wan icmp, latency: < 40us, rtt: {min: '>= 1ms'}}", probes: []Probe{probed(ping.ICMP, ping.EchoReply, arrived(), nil)},
		want: []Failure{{"latency", "latency: want max < 40us, is 40µs (of 1)", 0}, {"rtt", "rtt: want min >= 1ms, is 100µs (of 1)", 0}}},
	"no times": {assertion: "{packet: left -> wan icmp, latency: < 40us}", probes: []Probe{probed(ping.ICMP, ping.EchoReply, nil, nil)}, want: []Failure{{"latency", "nothing could be measured", -1}}},
	"loss": {assertion: "{packet: left -> wan icmp, loss: <= 50%}", probes: []Probe{probed(ping.ICMP, ping.EchoReply, nil, nil), probed(ping.ICMP, 0, rule, ruleWhy)},
		summary: "50% of 2 lost"},
	"too many lost": {assertion: "{packet: left -> wan icmp, loss: < 50%}", probes: []Probe{probed(ping.ICMP, ping.EchoReply, nil, nil), probed(ping.ICMP, 0, rule, ruleWhy)},
		want: []Failure{{"loss", "want < 50%, is 50% of 2 lost, one dropped in host, forward: rule", 1}}},
	"all lost": {assertion: "{packet: left -> wan icmp, loss: <= 100%}", probes: []Probe{probed(ping.ICMP, 0, rule, ruleWhy)}, want: []Failure{{"packet", "dropped in host, forward: rule", 0}}},

	"dropped as asked": {assertion: "{packet: left -x-> wan udp/53, dropped: {in: host, hook: forward, reason: netfilter_drop, by: table ip fw}}", probes: []Probe{probed(ping.UDP, 0, rule, ruleWhy)},
		summary: "dropped in host, forward: rule"},
	"by its code":       {assertion: "{packet: left -x-> wan udp/53, dropped: {reason: rule-drop, by: dport 53}}", probes: []Probe{probed(ping.UDP, 0, rule, ruleWhy)}, summary: "dropped in host, forward: rule"},
	"dropped elsewhere": {assertion: "{packet: left -x-> wan udp/53, dropped: {in: wan}}", probes: []Probe{probed(ping.UDP, 0, rule, ruleWhy)}, want: []Failure{{"dropped", "dropped: want in wan, is host: dropped in host, forward: rule", 0}}},
	"for another reason": {assertion: "{packet: left -x-> wan udp/53, dropped: {reason: rp-filter}}", probes: []Probe{probed(ping.UDP, 0, rule, ruleWhy)},
		want: []Failure{{"dropped", "dropped: want reason rp-filter, is NETFILTER_DROP (rule-drop): dropped in host, forward: rule", 0}}},
	"by another rule": {assertion: "{packet: left -x-> wan udp/53, dropped: {by: table inet fw}}", probes: []Probe{probed(ping.UDP, 0, rule, ruleWhy)},
		want: []Failure{{"dropped", "dropped: want by table inet fw, is table ip fw, chain f, udp dport 53 drop: dropped in host, forward: rule", 0}}},
	"by a filter of ours": {assertion: "{packet: left -x-> wan udp/53, dropped: {in: host, reason: filter}}", probes: []Probe{probed(ping.UDP, 0, filtered, nil)}, summary: "dropped by filter 1 at host:br0 in"},
	"dropped, no way":     {assertion: "{packet: left -x-> wan icmp, dropped: {in: host}}", unsent: "network is unreachable", summary: "network is unreachable", want: []Failure{{"dropped", "network is unreachable", -1}}},
	"dropped, but came":   {assertion: "{packet: left -x-> wan icmp, dropped: {in: host}}", probes: []Probe{probed(ping.ICMP, ping.EchoReply, arrived(), nil)}, want: []Failure{{"packet", "it came to its destination: answered by echo-reply from 8.8.8.8 in 100µs", 0}}},
}

func TestJudge(t *testing.T) {
	for name, tt := range judgements {
		t.Run(name, func(t *testing.T) {
			s, err := Parse("a.yaml", []byte("- "+tt.assertion))
			if err != nil {
				t.Fatal(err)
			}
			got := Judge(&s.Assertions[0], Outcome{Probes: tt.probes, Unsent: tt.unsent}, hops)
			if diff := cmp.Diff(tt.want, got.Failures); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if (tt.want == nil || tt.summary != "") && got.Summary != tt.summary {
				t.Errorf("summary %q, want %q", got.Summary, tt.summary)
			}
		})
	}
}

func TestQuantile(t *testing.T) {
	var ds []time.Duration
	for i := 100; i > 0; i-- {
		ds = append(ds, time.Duration(i))
	}
	for of, want := range map[string]time.Duration{"min": 1, "p50": 50, "p90": 90, "p99": 99, "max": 100} {
		if got := quantile(of, ds); got != want {
			t.Errorf("%s is %d, want %d", of, got, want)
		}
		if got := quantile(of, ds[:1]); got != 100 {
			t.Errorf("%s of one is %d", of, got)
		}
	}
}
