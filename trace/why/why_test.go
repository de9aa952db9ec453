package why

import (
	"encoding/json"
	"flag"
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nsbpf/nsbpf/bpf"
	"github.com/nsbpf/nsbpf/collector"
	"github.com/nsbpf/nsbpf/forward"
	"github.com/nsbpf/nsbpf/internal/hop"
	"github.com/nsbpf/nsbpf/trace"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// hops are those of the preset nat on the way from left to wan.
var hops = []hop.Hop{
	{ID: 0, Node: "left", Device: "left-veth", Direction: hop.Egress},
	{ID: 1, Node: "host", Device: "left-br0-veth", Direction: hop.Ingress, Kind: hop.Port},
	{ID: 2, Node: "host", Device: "br0", Direction: hop.Ingress, Kind: hop.Bridge},
	{ID: 3, Node: "host", Device: "eth0", Direction: hop.Egress},
	{ID: 4, Node: "wan", Device: "eth0", Direction: hop.Ingress},
}

// packet is what a sighting is made of.
type packet struct {
	src, dst string
	proto    uint8
	length   uint32
	ttl      uint8
}

var (
	udp4  = packet{"172.16.16.10", "8.8.8.8", collector.ProtoUDP, 98, 64}
	udp6  = packet{"fd16::10", "2001:4860:4860::8888", collector.ProtoUDP, 118, 64}
	icmp4 = packet{"172.16.16.10", "8.8.8.8", collector.ProtoICMP, 98, 64}
)

func sighting(p packet) collector.Sighting {
	var s collector.Sighting
	src, dst := netip.MustParseAddr(p.src), netip.MustParseAddr(p.dst)
	s.Packet = bpf.Packet{
		Src: src.As16(), Dst: dst.As16(), Proto: p.proto, Len: p.length, TTL: p.ttl,
		EtherType: collector.EtherIPv4, EthDst: [6]byte{2, 0, 0, 0, 0, 9},
	}
	if src.Is6() {
		s.Packet.EtherType = collector.EtherIPv6
	}
	if p.proto != collector.ProtoICMP {
		s.Packet.Sport, s.Packet.Dport, s.Packet.Flags = 40000, 9999, bpf.PacketPorts
	}
	s.Segments = 1
	return s
}

// pathOf returns the Path of a packet that went from left as far as wan, at most,
// and was dropped in d's node, or last seen at the last of the hops.
func pathOf(s collector.Sighting, drops ...trace.Drop) *trace.Path {
	return pathTo(s, len(hops), drops...)
}

func pathTo(s collector.Sighting, n int, drops ...trace.Drop) *trace.Path {
	p := &trace.Path{Number: 1}
	for i, h := range hops[:n] {
		if len(drops) > 0 && i > 0 && hops[i-1].Node == drops[0].Node && h.Node != drops[0].Node {
			break
		}
		s.Hop = uint16(h.ID)
		p.Steps = append(p.Steps, trace.Step{Sighting: s, Prev: i - 1})
	}
	p.End = len(p.Steps) - 1
	for _, d := range drops {
		d.Sighting, d.Step = s, p.End
		p.Drops = append(p.Drops, d)
		p.Verdict = trace.Dropped
	}
	if p.End+1 < len(hops) {
		p.Next = []hop.ID{hops[p.End+1].ID}
	}
	return p
}

// host returns the configuration of the node of that name.
func host() *forward.Node {
	addr, prefix := netip.MustParseAddr, netip.MustParsePrefix
	return &forward.Node{
		Name: "host",
		Devices: []forward.Device{
			{Name: "br0", Kind: "bridge", MTU: 1500, Up: true, Carrier: true, MAC: "02:00:00:00:00:01"},
			{Name: "left-br0-veth", Kind: "veth", MTU: 1500, Up: true, Carrier: true, Master: "br0", Port: "forwarding"},
			{Name: "right-br0-veth", Kind: "veth", MTU: 1500, Up: true, Master: "br0", Port: "disabled"},
			{Name: "eth0", Kind: "veth", MTU: 1400, Up: true, Carrier: true},
		},
		Routes: []forward.Route{
			{Table: 254, Dst: prefix("0.0.0.0/0"), Kind: "unicast", Via: addr("192.0.2.1"), Device: "eth0"},
			{Table: 254, Dst: prefix("172.16.16.0/24"), Kind: "unicast", Device: "br0"},
			{Table: 254, Dst: prefix("10.9.0.0/16"), Kind: "blackhole"},
		},
		Neighbours: []forward.Neighbour{{Addr: addr("192.0.2.1"), Device: "eth0", State: "incomplete"}},
		Sysctls:    map[string]string{"net.ipv4.ip_forward": "1", "net.ipv4.conf.all.rp_filter": "1"},
		Tables: []forward.Table{{Family: "ip", Name: "filter", Chains: []forward.Chain{
			{Name: "FORWARD", Hook: "forward", Kind: "filter", Policy: "drop"}, {Name: "DOCKER-USER"},
		}}},
		Sockets: []forward.Socket{{Proto: "udp", Addr: addr("127.0.0.1"), Port: 9999}},
	}
}

// set returns host's configuration with a kernel parameter changed.
func set(name, value string) *forward.Node {
	n := host()
	n.Sysctls[name] = value
	return n
}

// with returns host's configuration with programs at a device.
func with(device string, programs ...string) *forward.Node {
	n := host()
	n.Device(device).Programs = programs
	return n
}

// TestExplain compares the conclusions of one case each with testdata/explain.golden.
func TestExplain(t *testing.T) {
	policy := &trace.Rule{Family: "ip", Table: "filter", Chain: "FORWARD", Verdict: "drop"}
	named := &trace.Rule{Family: "inet", Table: "fw", Chain: "fwd", Handle: 4, Text: "udp dport 9999 drop", Verdict: "drop"}
	drop := func(reason, function string, callers ...string) trace.Drop {
		return trace.Drop{Node: "host", Device: "br0", Reason: reason, Function: function, Callers: callers}
	}
	ruled := func(r *trace.Rule, callers ...string) trace.Drop {
		d := drop("NETFILTER_DROP", "nft_do_chain", append([]string{"nft_do_chain_inet", "nf_hook_slow"}, callers...)...)
		d.Rule = r
		return d
	}
	at := func(device string, d trace.Drop) trace.Drop { d.Device = device; return d }
	to := func(p packet, dst string) packet { p.dst = dst; return p }
	all := Armed{Drops: true, Netfilter: true, Rules: true}
	reply := sighting(icmp4)
	reply.Packet.ICMPType = 0
	// The answer to a datagram that the host had given its own address.
	masqueraded := func(d trace.Drop) *trace.Path {
		was := sighting(packet{"8.8.8.8", "192.0.2.2", collector.ProtoUDP, 98, 64})
		was.Hop = uint16(hops[2].ID)
		d.Sighting = sighting(packet{"8.8.8.8", "172.16.16.10", collector.ProtoUDP, 98, 64})
		return &trace.Path{Number: 1, Steps: []trace.Step{{Sighting: was, Prev: -1}}, Drops: []trace.Drop{d}, Verdict: trace.Dropped}
	}
	var b strings.Builder
	for _, tt := range []struct {
		name string
		Case
	}{
		{"docker", Case{Path: pathOf(sighting(udp4), ruled(policy, "ip_forward"))}},
		{"docker, bridged", Case{Path: pathTo(sighting(udp4), 2, ruled(policy, "br_nf_forward_ip.part.0", "nf_hook_slow", "__br_forward"))}},
		{"docker, an answer", Case{Path: pathOf(reply, ruled(policy, "ip_forward"))}},
		{"docker, an answer that was masqueraded", Case{Path: masqueraded(ruled(policy, "ip_forward"))}},
		{"docker, bridged, not explained", Case{Path: pathTo(sighting(udp4), 2, ruled(nil, "br_nf_forward_ip.part.0", "nf_hook_slow", "__br_forward")), Nodes: []*forward.Node{set("net.bridge.bridge-nf-call-iptables", "1")}}},
		{"docker, functions hidden", Case{Path: pathOf(sighting(udp4), drop("NETFILTER_DROP", ""))}},
		{"rule", Case{Path: pathOf(sighting(udp6), ruled(named, "ip6_forward"))}},
		{"not explained", Case{Path: pathOf(sighting(udp4), ruled(nil, "ip_forward")), Armed: Armed{Drops: true}}},
		{"rule not heard", Case{Path: pathOf(sighting(udp4), ruled(nil, "ip_output")), Armed: all}},
		{"explained by no rule", Case{Path: pathOf(sighting(udp4), drop("NETFILTER_DROP", "nf_hook_slow", "ip_output")), Armed: all}},
		{"rp_filter", Case{Path: pathOf(sighting(packet{"192.0.2.77", "8.8.8.8", 17, 98, 64}), drop("IP_RPFILTER", "ip_rcv_finish_core"))}},
		{"forwarding", Case{Path: pathOf(sighting(udp4), drop("NOT_SPECIFIED", "ip_error")), Nodes: []*forward.Node{set("net.ipv4.ip_forward", "0")}}},
		{"blackhole", Case{Path: pathOf(sighting(to(udp4, "10.9.1.1")), drop("NOT_SPECIFIED", "ip_error"))}},
		{"no route", Case{Path: pathOf(sighting(udp6), drop("IP_INNOROUTES", "ip6_pkt_discard"))}},
		{"mtu", Case{Path: pathOf(sighting(packet{"172.16.16.10", "8.8.8.8", 1, 1462, 64}), drop("PKT_TOO_BIG", "ip_forward"))}},
		{"mtu of the other end", Case{Path: pathOf(sighting(packet{"172.16.16.10", "8.8.8.8", 1, 1422, 64}), at("eth0", drop("NOT_SPECIFIED", "__dev_forward_skb2"))), Nodes: []*forward.Node{
			host(), {Name: "wan", Devices: []forward.Device{{Name: "eth0", MTU: 1300, Up: true, Carrier: true}}},
		}}},
		{"mtu of the other end, not known", Case{Path: pathOf(sighting(icmp4), at("eth0", drop("NOT_SPECIFIED", "__dev_forward_skb2")))}},
		{"echo for all", Case{Path: pathOf(sighting(to(icmp4, "172.16.16.255")), drop("INVALID_PROTO", "icmp_rcv"))}},
		{"ttl", Case{Path: pathOf(sighting(packet{"172.16.16.10", "8.8.8.8", 1, 98, 1}), drop("IP_INHDR", "ip_forward"))}},
		{"ttl, functions hidden", Case{Path: pathOf(sighting(packet{"172.16.16.10", "8.8.8.8", 1, 98, 1}), drop("IP_INHDR", ""))}},
		{"neighbour failed", Case{Path: pathOf(sighting(icmp4), at("eth0", drop("NEIGH_FAILED", "neigh_invalidate")))}},
		{"neighbour wait", Case{Path: pathTo(sighting(icmp4), 3)}},
		{"bridge port", Case{Path: pathTo(sighting(icmp4), 2, at("left-br0-veth", drop("NO_TX_TARGET", "br_handle_frame_finish")))}},
		{"queue", Case{Path: pathOf(sighting(icmp4), at("eth0", drop("QDISC_DROP", "__dev_queue_xmit")))}},
		{"no socket", Case{Path: pathOf(sighting(udp4), drop("NO_SOCKET", "__udp4_lib_rcv"))}},
		{"no socket, no configuration", Case{Path: pathOf(sighting(udp6), trace.Drop{Node: "wan", Device: "eth0", Reason: "NO_SOCKET", Function: "__udp6_lib_rcv"})}},
		{"not specified", Case{Path: pathOf(sighting(icmp4), drop("NOT_SPECIFIED", "some_function")), Changed: map[string][]string{"host": {"Ip.InDiscards +1"}}}},
		{"header at a bridge, of Linux 6.1", Case{Path: pathTo(sighting(udp4), 2, at("left-br0-veth", drop("NOT_SPECIFIED", "br_handle_frame"))), Nodes: []*forward.Node{set("net.bridge.bridge-nf-call-iptables", "1")}}},
		{"tc by clsact", Case{Path: pathTo(sighting(udp4), 2, at("left-br0-veth", drop("TC_INGRESS", "__netif_receive_skb_core"))), Nodes: []*forward.Node{
			with("left-br0-veth", "ingress nsbpf/nat/count", "ingress gate_tc", "egress other", "ingress bpf"),
		}}},
		{"sent again", Case{Path: func() *trace.Path {
			p := pathOf(sighting(udp4), drop("TCP_INVALID_SEQUENCE", "tcp_validate_incoming"))
			p.Attempt = 2
			return p
		}()}},
		{"loopback source, of Linux 6.1", Case{Path: pathOf(sighting(packet{"127.0.0.1", "172.16.16.1", 17, 98, 64}), drop("NOT_SPECIFIED", "ip_rcv_finish_core"))}},
		{"future", Case{Path: pathOf(sighting(icmp4), drop("MARTIANS_ATTACK", "ufo"))}},
		{"own filter", Case{Path: func() *trace.Path {
			p := pathTo(sighting(icmp4), 2)
			p.Verdict, p.DroppedBy, p.DroppedAt = trace.Dropped, 3, p.Steps[len(p.Steps)-1].HopID()
			return p
		}()}},
		{"native xdp", Case{Path: pathTo(sighting(icmp4), 4), Nodes: []*forward.Node{
			host(), {Name: "wan", Devices: []forward.Device{{Name: "eth0", Up: true, Carrier: true, XDP: "guard"}}},
		}}},
		{"unknown", Case{Path: pathTo(sighting(icmp4), 1), Nodes: []*forward.Node{}}},
		{"delivered", Case{Path: &trace.Path{Steps: make([]trace.Step, 1), Verdict: trace.Delivered}}},
	} {
		if tt.Nodes == nil {
			tt.Nodes = []*forward.Node{host()}
		}
		tt.Hops = hops
		c := Explain(tt.Case)
		js, _ := json.MarshalIndent(c, "", "  ") // it has nothing that JSON has not
		b.WriteString("== " + tt.name + "\n" + c.String() + "\n" + string(js) + "\n")
	}
	golden(t, "testdata/explain.golden", b.String())
}

func golden(t *testing.T, file, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(got, "\n")); diff != "" {
		t.Errorf("%s (-want +got):\n%s", file, diff)
	}
}

func TestHarmless(t *testing.T) {
	for _, tt := range []struct {
		reason, function string
		want             bool
	}{
		{"TCP_OLD_ACK", "tcp_ack", true},
		{"NOT_SPECIFIED", "tcp_rcv_state_process", true},
		{"NOT_SPECIFIED", "ip6_mc_input.constprop.0", true},
		{"NO_SOCKET", "ping_rcv", true},
		{"NO_SOCKET", "icmp_rcv", true},
		{"NO_SOCKET", "icmpv6_rcv", true},
		{"NO_SOCKET", "__udp4_lib_rcv", false},
		{"NOT_SPECIFIED", "ip_forward", false},
		{"TCP_CSUM", "tcp_v4_rcv", false},
		{"TCP_RFC7323_PAWS", "tcp_validate_incoming", false},
	} {
		if got := Harmless(&trace.Drop{Reason: tt.reason, Function: tt.function}); got != tt.want {
			t.Errorf("%s in %s: harmless %t, want %t", tt.reason, tt.function, got, tt.want)
		}
	}
	group := trace.Drop{Reason: "NOT_SPECIFIED", Function: "ip_rcv_finish_core", Sighting: sighting(packet{"172.16.16.1", "224.0.0.22", 2, 54, 1})}
	if !Harmless(&group) {
		t.Error("a packet for a group that a node does not want is harmful")
	}
	if group.Function = ""; !Harmless(&group) {
		t.Error("the same is, if the kernel hides its functions")
	}
	if group.Reason = "NETFILTER_DROP"; Harmless(&group) {
		t.Error("a rule that drops packets for groups is harmless")
	}
	if one := (trace.Drop{Reason: "NOT_SPECIFIED", Sighting: sighting(udp4)}); Harmless(&one) {
		t.Error("a packet for one host is harmless")
	}
	ack := trace.Drop{Reason: "TCP_RFC7323_PAWS"}
	if ack.Packet.TCPFlags, ack.Packet.PayloadOff, ack.Packet.Len = 0x10, 66, 66; !Harmless(&ack) {
		t.Error("an acknowledgement that was overtaken is harmful")
	}
	if ack.Packet.Len = 166; Harmless(&ack) {
		t.Error("data that PAWS refuses is harmless")
	}
}

// TestExplainAnything checks that there is an answer whatever the kernel says, and
// whatever is known of the configuration.
func TestExplainAnything(t *testing.T) {
	reasons := []string{"", "NEW_ONE"}
	for i := range causes().Causes {
		for _, p := range causes().Causes[i].Kernel {
			r, f, _ := strings.Cut(p, "@")
			reasons = append(reasons, r+"@"+f)
		}
	}
	for _, r := range reasons {
		reason, function, _ := strings.Cut(r, "@")
		for _, pkt := range []packet{udp4, udp6, icmp4} {
			for _, nodes := range [][]*forward.Node{nil, {host()}, {{Name: "host"}}} {
				d := trace.Drop{Node: "host", Reason: reason, Function: function}
				if c := Explain(Case{Path: pathOf(sighting(pkt), d), Nodes: nodes}); c.Sentence == "" || strings.ContainsAny(c.Sentence, "{}") {
					t.Errorf("%s: %+v", r, c)
				}
			}
		}
	}
	arp := collector.Sighting{}
	arp.Packet.EtherType = collector.EtherARP
	alone := &trace.Path{Verdict: trace.Dropped, Steps: []trace.Step{{Sighting: arp}}, Drops: []trace.Drop{{Node: "host", Reason: "NOT_SPECIFIED"}}}
	alone.Steps[0].Hop = uint16(hop.None)
	if c := Explain(Case{Path: alone, Hops: hops}); c.Sentence == "" {
		t.Error("nothing is said of what was never at a hop")
	}
}

func BenchmarkExplain(b *testing.B) {
	c := Case{
		Path:  pathOf(sighting(icmp4), trace.Drop{Node: "host", Device: "br0", Reason: "NOT_SPECIFIED", Function: "some_function"}),
		Hops:  hops,
		Nodes: []*forward.Node{host()},
	}
	b.ReportAllocs()
	for b.Loop() {
		Explain(c)
	}
}
