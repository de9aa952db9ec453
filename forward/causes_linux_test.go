package forward

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/nsbpf/nsbpf/internal/testenv"
)

// causes are ways to stop a packet. What is predicted for each is compared with
// what really happens to one.
var causes = []struct {
	name, lab, do string
	ask           Ask
	really        string // exits with 0 if the packet gets through
	code          Code   // "": nothing stops it
	says          string // in the sentence
}{
	{"nothing", "pair", "", Ask{From: "left", To: "right"}, ping("left", "172.16.16.20"), "", ""},
	{"no route", "pair", "", Ask{From: "left", To: "9.9.9.9"}, ping("left", "9.9.9.9"), NoRoute, "left has no route to 9.9.9.9"},
	{"no route, IPv6", "pair", "", Ask{From: "left", To: "2001:db8::9"}, ping("left", "2001:db8::9"), NoRoute, "left has no route"},
	{"prohibit", "pair", "ip -n left route add prohibit 9.9.9.9", Ask{From: "left", To: "9.9.9.9"}, ping("left", "9.9.9.9"), RouteRefuses, "prohibit 9.9.9.9/32"},
	{"blackhole at the router", "routers", "ip -n r1 route add blackhole 10.0.2.10", Ask{From: "a", To: "b"}, ping("a", "10.0.2.10"), RouteRefuses, "r1 refuses"},
	{"no way back", "routers", "ip -n b route del default", Ask{From: "a", To: "b"}, ping("a", "10.0.2.10"), NoRoute, "b has no route to 10.0.1.10"},
	{"forwarding off", "routers", "ip netns exec r1 sysctl -qw net.ipv4.ip_forward=0", Ask{From: "a", To: "b"}, ping("a", "10.0.2.10"), NotForwarding, "r1 does not forward (net.ipv4.ip_forward=0)"},
	{"forwarding off at a device", "routers", "ip netns exec r1 sysctl -qw net.ipv4.conf.eth0.forwarding=0", Ask{From: "a", To: "b"}, ping("a", "10.0.2.10"), NotForwarding, "comes in by eth0"},
	{"forwarding off, IPv6", "routers", "ip netns exec r1 sysctl -qw net.ipv6.conf.all.forwarding=0", Ask{From: "a", To: "b", IPv6: true}, ping("a", "fd02::10"), NotForwarding, "net.ipv6.conf.all.forwarding=0"},
	{"rp_filter", "routers", "ip netns exec r2 sysctl -qw net.ipv4.conf.eth0.rp_filter=1; ip -n r2 route replace 10.0.1.0/24 via 10.0.2.10", Ask{From: "a", To: "b"}, ping("a", "10.0.2.10"), ReversePath, "rp_filter of r2:eth0 drops it: answers to 10.0.1.10 would go out by eth1"},
	{"loose rp_filter", "routers", "ip netns exec r1 sysctl -qw net.ipv4.conf.eth0.rp_filter=2", Ask{From: "a", To: "b"}, ping("a", "10.0.2.10"), "", ""},
	{"own source", "routers", "ip -n r2 addr add 10.0.1.10/32 dev lo", Ask{From: "a", To: "b"}, ping("a", "10.0.2.10"), Martian, "source 10.0.1.10 itself"},
	{"nobody there", "pair", "", Ask{From: "left", To: "172.16.16.99"}, ping("left", "172.16.16.99"), NoNeighbour, "nobody that left:left-veth reaches has the address 172.16.16.99"},
	{"nobody there, IPv6", "pair", "", Ask{From: "left", To: "fd16::99"}, ping("left", "fd16::99"), NoNeighbour, "fd16::99"},
	{"wrong MAC", "pair", "ip -n left neigh replace 172.16.16.20 lladdr 02:00:00:00:00:99 dev left-veth", Ask{From: "left", To: "right"}, ping("left", "172.16.16.20"), Unresolved, "02:00:00:00:00:99"},
	{"device down", "pair", "ip -n right link set right-veth down", Ask{From: "left", To: "172.16.16.20"}, ping("left", "172.16.16.20"), DeviceDown, "right:right-veth"},
	{"own device down", "bridge", "ip link set left-br0-veth down", Ask{From: "left", To: "172.16.16.20"}, ping("left", "172.16.16.20"), DeviceDown, "host:left-br0-veth"},
	{"port blocks", "bridge", "ip link set br0 type bridge stp_state 1; ip link set right-br0-veth down; ip link set right-br0-veth up", Ask{From: "left", To: "172.16.16.20"}, ping("left", "172.16.16.20"), PortState, "right-br0-veth"},
	{"own port blocks", "bridge", "ip link set br0 type bridge stp_state 1; ip link set left-br0-veth down; ip link set left-br0-veth up", Ask{From: "left", To: "172.16.16.20"}, ping("left", "172.16.16.20"), PortState, "left-br0-veth"},
	{"isolated ports", "bridge", "bridge link set dev left-br0-veth isolated on; bridge link set dev right-br0-veth isolated on", Ask{From: "left", To: "172.16.16.20"}, ping("left", "172.16.16.20"), PortState, "isolated"},
	{"wrong port, until asked", "bridge", wrongPort, Ask{From: "left", To: "172.16.16.20"}, ping("left", "172.16.16.20"), "", ""},
	{"wrong port", "bridge", wrongPort + " sticky; ip -n left neigh replace 172.16.16.20 lladdr $M dev left-veth", Ask{From: "left", To: "172.16.16.20"}, ping("left", "172.16.16.20"), WrongPort, "left-br0-veth"},
	{"foreign policy", "bridge", "nft add table ip filter; nft add chain ip filter FORWARD '{ type filter hook forward priority 0; policy drop; }'", Ask{From: "left", To: "172.16.16.20"}, ping("left", "172.16.16.20"), Netfilter, "`policy drop` (table ip filter, chain FORWARD) in host, forward; it is bridged by br0"},
	{"without br_netfilter", "bridge", "nft add table ip filter; nft add chain ip filter FORWARD '{ type filter hook forward priority 0; policy drop; }'; sysctl -qw net.bridge.bridge-nf-call-iptables=0", Ask{From: "left", To: "172.16.16.20"}, ping("left", "172.16.16.20"), "", ""},
	{"rule", "nat-wan", "ip netns exec nat-host nft add table inet fw; ip netns exec nat-host nft add chain inet fw forw '{ type filter hook forward priority 0; }'; ip netns exec nat-host nft add rule inet fw forw ip daddr 8.8.8.8 drop", Ask{From: "left", To: "8.8.8.8"}, ping("left", "8.8.8.8"), Netfilter, "dropped by `ip daddr 8.8.8.8 drop` (table inet fw, chain forw, handle 2) in host, forward"},
	{"answers only", "nat-wan", "ip netns exec nat-host nft add table inet fw; ip netns exec nat-host nft add chain inet fw forw '{ type filter hook forward priority 0; policy drop; }'; ip netns exec nat-host nft add rule inet fw forw ct state established,related accept; ip netns exec nat-host nft add rule inet fw forw iifname br0 accept", Ask{From: "left", To: "8.8.8.8"}, ping("left", "8.8.8.8"), "", ""},
	{"reject, IPv6", "pair", "ip netns exec right nft add table ip6 f; ip netns exec right nft add chain ip6 f in '{ type filter hook input priority 0; }'; ip netns exec right nft add rule ip6 f in icmpv6 type echo-request reject", Ask{From: "left", To: "right", IPv6: true}, ping("left", "fd16::20"), Netfilter, "rejected by `icmpv6 type 128 reject`"},
	{"bridge family", "bridge", "nft add table bridge f; nft add chain bridge f forw '{ type filter hook forward priority 0; policy drop; }'", Ask{From: "left", To: "172.16.16.20"}, ping("left", "172.16.16.20"), Netfilter, "table bridge f"},
	{"netdev", "pair", "ip netns exec right nft 'add table netdev f; add chain netdev f in { type filter hook ingress device right-veth priority 0; policy drop; }'", Ask{From: "left", To: "172.16.16.20"}, ping("left", "172.16.16.20"), Netfilter, "table netdev f"},
	{"dnat", "nat-wan", "ip netns exec nat-host nft add table ip d; ip netns exec nat-host nft add chain ip d pre '{ type nat hook prerouting priority dstnat; }'; ip netns exec nat-host nft add rule ip d pre ip daddr 9.9.9.9 dnat to 8.8.8.8", Ask{From: "left", To: "9.9.9.9"}, ping("left", "9.9.9.9"), "", ""},
	{"IPv6 off", "pair", "ip netns exec right sysctl -qw net.ipv6.conf.right-veth.disable_ipv6=1", Ask{From: "left", To: "fd16::20"}, ping("left", "fd16::20"), NoNeighbour, ""},
	{"echo ignored", "pair", "ip netns exec right sysctl -qw net.ipv4.icmp_echo_ignore_all=1", Ask{From: "left", To: "right"}, ping("left", "172.16.16.20"), Ignored, "icmp_echo_ignore_all=1"},
	{"nobody listens", "pair", "", Ask{From: "left", To: "right", Proto: "tcp", Port: "9999"}, "ip netns exec left timeout 1 bash -c '</dev/tcp/172.16.16.20/9999'", NobodyListens, "nobody in right listens on tcp port 9999"},
	{"XDP unknown", "pair", "ip -n right link set right-veth xdp off", Ask{From: "left", To: "right"}, ping("left", "172.16.16.20"), "", ""},
}

const wrongPort = `M=$(ip -n right -j link show right-veth | sed 's/.*"address":"\([0-9a-f:]*\)".*/\1/'); bridge fdb replace $M dev left-br0-veth master static`

func ping(from, to string) string {
	return "ip netns exec " + from + " ping -nq -c1 -W0.5 " + to
}

func TestCauses(t *testing.T) {
	for _, tt := range causes {
		t.Run(tt.name, func(t *testing.T) {
			lab := up(t, tt.lab)
			script := tt.do
			if lab.Topology.Node("host") != nil && lab.Topology.Node("host").Netns != "" {
				script = strings.ReplaceAll(script, "nat-host", lab.Topology.Node("host").Netns)
			}
			testenv.Run(t, "sh", "-ec", script)
			t.Cleanup(func() {
				testenv.Run(t, "sh", "-c", "nft flush ruleset; sysctl -qw net.bridge.bridge-nf-call-iptables=1")
			})
			j := walk(t, lab, tt.ask)
			err := exec.Command("sh", "-c", tt.really).Run()
			stop := j.stop()
			if (err == nil) != (stop == nil) {
				t.Errorf("predicted %+v, really: %v", stop, err)
			}
			switch {
			case stop == nil && tt.code != "":
				t.Errorf("nothing stops it, want %s:\n%s", tt.code, strings.Join(sketch(j), "\n"))
			case stop != nil && (stop.Code != tt.code || !strings.Contains(stop.Sentence, tt.says)):
				t.Errorf("%s: %q (%s), want %s: %q", stop.Code, stop.Sentence, stop.Advice, tt.code, tt.says)
			case stop == nil && !j.Sure():
				t.Errorf("not sure:\n%s", strings.Join(sketch(j), "\n"))
			}
			if tt.code == WrongPort {
				return // the other end's own packets teach the bridge better
			}
			again := walk(t, lab, tt.ask) // with what the real packet left behind
			if s := again.stop(); (s == nil) != (stop == nil) {
				t.Errorf("predicted %+v at first, and then %+v", stop, s)
			}
		})
	}
}

// stop returns what stops the packet or its answer.
func (j *Journey) stop() *Obstacle {
	for ; j != nil; j = j.Back {
		for i := range j.Obstacles {
			if j.Obstacles[i].Effect == Stops {
				return &j.Obstacles[i]
			}
		}
	}
	return nil
}
