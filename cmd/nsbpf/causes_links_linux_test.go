package main

import "github.com/cilium/ebpf/link"

func linkFaults() []fault {
	return []fault{
		{
			name: "a bridge port that waits for STP", code: "bridge-port", expr: "udp port 9999", send: crafted{}.send,
			do:   []string{"host: ip link set br0 type bridge stp_state 1 forward_delay 3000; ip link set left-br0-veth down; ip link set left-br0-veth up"},
			says: same("dropped in host:left-br0-veth: bridge port left-br0-veth is listening, not forwarding"),
		},
		{
			name: "a bridge port that is disabled", code: "bridge-port", send: pinging(),
			do:   []string{"host: bridge link set dev left-br0-veth state 0"},
			says: same("dropped in host:left-br0-veth: bridge port left-br0-veth is disabled, not forwarding"),
		},
		{
			name: "the other bridge port is down", code: "bridge-no-port", expr: toRight, send: pingingTo("172.16.16.20", "fd16::20"),
			do:   []string{"host: ip link set right-br0-veth down"},
			says: same("dropped in host:left-br0-veth: the bridge has no port that it may send it to; not forwarding: right-br0-veth down"),
		},
		{
			name: "bridge ports that are isolated", mends: true, code: "bridge-isolated", expr: toRight, send: pingingTo("172.16.16.20", "fd16::20"),
			do:   []string{"host: bridge link set dev left-br0-veth isolated on; bridge link set dev right-br0-veth isolated on"},
			says: same("dropped in host:left-br0-veth: port left-br0-veth is isolated, and may not reach right-br0-veth"),
		},
		{
			name: "a MAC behind the port that the packet came from", code: "bridge-hairpin", expr: "udp port 9999",
			send: crafted{mac: "02:00:00:00:00:77"}.send,
			do:   []string{"host: bridge fdb add 02:00:00:00:00:77 dev left-br0-veth master static"},
			says: same("dropped in host:left-br0-veth: MAC … is behind left-br0-veth, where the packet came from"),
		},
		{
			name: "no carrier", code: "link-down", expr: "udp port 9999", send: crafted{}.send,
			do:   []string{"host: ip link set left-br0-veth down"},
			says: same("dropped in left:left-veth: left-veth is without carrier"),
		},
		{
			name: "a full queue", code: "queue-full", send: pinging("-c20", "-i0.002", "-s1000"),
			do:   []string{"host: tc qdisc add dev eth0 root tbf rate 8kbit burst 1600 limit 1600"},
			says: same("dropped in host:eth0: the queue of eth0 was full or shaped"),
		},
	}
}

func programFaults() []fault {
	return []fault{
		{
			name: "a tc filter on ingress", code: "tc-ingress", send: pinging(),
			do:   []string{"host: tc qdisc add dev left-br0-veth clsact || :; tc filter add dev left-br0-veth ingress bpf da bytecode '1,6 0 0 2'"},
			says: same("dropped in host:left-br0-veth: a tc program or filter on left-br0-veth ingress, bpf"),
		},
		{
			name: "a tc filter on egress", code: "tc-egress", send: pinging(),
			do:   []string{"host: tc qdisc add dev eth0 clsact || :; tc filter add dev eth0 egress bpf da bytecode '1,6 0 0 2'"},
			says: same("dropped in host:eth0: a tc program or filter on eth0 egress, bpf"),
		},
		{
			name: "generic XDP", code: "xdp", send: pinging(), arrange: foreignXDP("host", "left-br0-veth", link.XDPGenericMode),
			says: same("dropped in host:left-br0-veth: an XDP program on left-br0-veth, guard"),
		},
		{
			name: "native XDP", code: "xdp", send: pinging(), arrange: foreignXDP("wan", "eth0", link.XDPDriverMode),
			says: same("dropped in wan:eth0: an XDP program on eth0, guard"),
		},
	}
}
