package main

func routeFaults() []fault {
	return []fault{
		{
			name: "rp_filter", mends: true, code: "rp-filter", send: pinging("-I", "192.0.2.77"),
			do:   []string{"host: sysctl -qw net.ipv4.conf.all.rp_filter=1", "left: ip addr add 192.0.2.77/32 dev left-veth"},
			says: [2]string{"dropped in host: the way back to 192.0.2.77 leads by eth0, not by br0 where the packet came in (net.ipv4.conf.all.rp_filter=1)"},
		},
		{
			name: "no route", code: "no-route", send: pinging(),
			do:   []string{"host: ip route del default; ip -6 route del default"},
			says: [2]string{"dropped in host: host has no route to 8.8.8.8", "dropped in host: host has no route to 2001:4860:4860::8888"},
		},
		{
			name: "a blackhole route", mends: true, code: "route-blackhole", send: pinging(),
			do: []string{"host: ip route add blackhole 8.8.8.8; ip -6 route add blackhole 2001:4860:4860::8888"},
			says: [2]string{
				"dropped in host: route `blackhole 8.8.8.8/32` refuses 8.8.8.8",
				"dropped in host: route `blackhole 2001:4860:4860::8888/128` refuses 2001:4860:4860::8888",
			},
		},
		{
			name: "an unreachable route", mends: true, code: "route-blackhole", send: pinging(),
			do: []string{"host: ip route add unreachable 8.8.8.8; ip -6 route add unreachable 2001:4860:4860::8888"},
			says: [2]string{
				"dropped in host: route `unreachable 8.8.8.8/32` refuses 8.8.8.8",
				"dropped in host: route `unreachable 2001:4860:4860::8888/128` refuses 2001:4860:4860::8888",
			},
		},
		{
			name: "a prohibit route", mends: true, code: "route-blackhole", send: pinging(),
			do: []string{"host: ip route add prohibit 8.8.8.8; ip -6 route add prohibit 2001:4860:4860::8888"},
			says: [2]string{
				"dropped in host: route `prohibit 8.8.8.8/32` refuses 8.8.8.8",
				"dropped in host: route `prohibit 2001:4860:4860::8888/128` refuses 2001:4860:4860::8888",
			},
		},
		{
			name: "forwarding is off", mends: true, code: "forwarding-off", send: pinging(),
			do: []string{"host: sysctl -qw net.ipv4.ip_forward=0 net.ipv6.conf.all.forwarding=0; " +
				"ip -6 route replace default via 2001:db8::1"},
			says: [2]string{
				"dropped in host: host does not forward IPv4 (net.ipv4.ip_forward=0)",
				"dropped in host: host does not forward IPv6 (net.ipv6.conf.all.forwarding=0)",
			},
		},
		{
			name: "IPv6 is off", mends: true, code: "ipv6-off", send: pinging(), do: []string{"host: sysctl -qw net.ipv6.conf.br0.disable_ipv6=1"},
			says: [2]string{"", "dropped in host: IPv6 is switched off on br0 (net.ipv6.conf.br0.disable_ipv6=1)"},
		},
	}
}

// limitFaults are of packets that may not go on as they are.
func limitFaults() []fault {
	return []fault{
		{
			name: "more than the MTU", code: "mtu", send: pinging("-Mdo", "-s1420"),
			do: []string{"host: ip link set eth0 mtu 1400"},
			says: [2]string{
				"dropped in host: its 1448 bytes are more than the MTU 1400 of eth0, and it may not be fragmented (DF)",
				"dropped in host: its 1468 bytes are more than the MTU 1400 of eth0, and IPv6 is fragmented by its sender alone",
			},
		},
		{
			name: "more than the MTU of a bridge port", code: "mtu", send: pingingTo("172.16.16.20", "fd16::20", "-Mdo", "-s1420"),
			expr: toRight,
			do:   []string{"host: ip link set right-br0-veth mtu 1400"},
			says: [2]string{
				"dropped in host: its 1448 bytes are more than the MTU 1400 of right-br0-veth, and it may not be fragmented (DF)",
				"dropped in host: its 1468 bytes are more than the MTU 1400 of right-br0-veth, and IPv6 is fragmented by its sender alone",
			},
		},
		{
			name: "more than the MTU of the other end", mends: true, code: "mtu", send: pinging("-Mdo", "-s1420"),
			do: []string{"wan: ip link set eth0 mtu 1400"},
			says: [2]string{
				"dropped in host:eth0: its 1448 bytes are more than the MTU 1400 of wan:eth0 at the other end, which takes nothing larger and tells nobody",
				"dropped in host:eth0: its 1468 bytes are more than the MTU 1400 of wan:eth0 at the other end, which takes nothing larger and tells nobody",
			},
		},
		{
			name: "the time to live is over", code: "ttl", send: pinging("-t1"),
			says: [2]string{"dropped in host: its TTL of 1 ends there", "dropped in host: its hop limit of 1 ends there"},
		},
		{
			name: "a source that is the receiver's own", code: "martian-source", expr: "udp port 9999",
			send: crafted{src: [2]string{"172.16.16.1"}, dst: atHost}.send,
			says: [2]string{"dropped in host: the source 172.16.16.1 is an address of host itself"},
		},
		{
			name: "a source that cannot be one", code: "martian-source", expr: "udp port 9999",
			send: crafted{src: [2]string{"224.0.0.5"}, dst: atHost}.send,
			says: [2]string{"dropped in host: 224.0.0.5 cannot be a source (multicast, broadcast or zero)"},
		},
		{
			name: "a loopback source", code: "martian-source", expr: "udp port 9999",
			send: crafted{src: [2]string{"127.0.0.1"}, dst: atHost}.send,
			says: [2]string{"dropped in host: 127.0.0.1 > 172.16.16.1: loopback addresses do not come by a wire"},
		},
		{
			name: "a loopback source", code: "bad-header", expr: "udp port 9999",
			send: crafted{src: [2]string{"", "::1"}, dst: atHost}.send,
			says: [2]string{"", "dropped in host: ::1 cannot be a source"},
		},
	}
}

func neighbourFaults() []fault {
	return []fault{
		{
			name: "a neighbour that does not answer", code: "neighbour-failed", send: pinging(),
			do: []string{
				"host: ip route replace default via 192.0.2.99; ip -6 route del default; ip -6 route add default via 2001:db8::99",
				"host: sysctl -qw net.ipv4.neigh.eth0.mcast_solicit=1 net.ipv4.neigh.eth0.retrans_time_ms=50",
				"host: sysctl -qw net.ipv6.neigh.eth0.mcast_solicit=1 net.ipv6.neigh.eth0.retrans_time_ms=50",
			},
			says: [2]string{
				"dropped in host:eth0: 192.0.2.99 does not answer ARP on eth0",
				"dropped in host:eth0: 2001:db8::99 does not answer neighbour discovery on eth0",
			},
		},
		{
			name: "a neighbour that has not answered yet", code: "neighbour-wait", send: pinging(),
			do: []string{"host: ip route replace default via 192.0.2.99; ip -6 route del default; ip -6 route add default via 2001:db8::99"},
			says: [2]string{
				"last seen at host:br0 in: host waits until 192.0.2.99 answers ARP on eth0",
				"last seen at host:br0 in: host waits until 2001:db8::99 answers neighbour discovery on eth0",
			},
		},
		{
			name: "too many wait for a neighbour", code: "neighbour-queue", send: pinging("-c5", "-i0.01", "-s1000"),
			do: []string{"host: ip route replace default via 192.0.2.99; sysctl -qw net.ipv4.neigh.eth0.unres_qlen_bytes=1500",
				"host: ip -6 route del default; ip -6 route add default via 2001:db8::99; sysctl -qw net.ipv6.neigh.eth0.unres_qlen_bytes=1500"},
			says: [2]string{
				"dropped in host:eth0: too many packets wait until the next host, 192.0.2.99, answers ARP",
				"dropped in host:eth0: too many packets wait until the next host, 2001:db8::99, answers neighbour discovery",
			},
		},
		{
			name: "a neighbour's MAC that is not its own", code: "other-mac", send: pinging(),
			do: []string{"host: ip neigh replace 192.0.2.1 lladdr 02:00:00:00:00:99 dev eth0 nud permanent; " +
				"ip neigh replace 2001:db8::1 lladdr 02:00:00:00:00:99 dev eth0 nud permanent"},
			says: same("dropped in wan:eth0: it is for MAC …, not for … of eth0"),
		},
	}
}
