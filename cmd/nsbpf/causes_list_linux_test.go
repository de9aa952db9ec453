package main

import (
	"fmt"
	"slices"
)

// faults are all that are tried. Each comes to a lab nat with --wan that works:
//
//	left ── br0 ── right
//	         │
//	        host ── wan
func faults() []fault {
	return slices.Concat(ruleFaults(), moreRuleFaults(), routeFaults(), limitFaults(), neighbourFaults(), linkFaults(), programFaults(), socketFaults(), packetFaults())
}

// same is what is said of both families.
func same(says string) [2]string { return [2]string{says, says} }

// toRight chooses what goes from left to right, on the bridge.
const toRight = "(icmp or icmp6-echo) and (dst host 172.16.16.20 or dst host fd16::20)"

// chain returns the command that makes a table and a base chain in it. Its priority
// has a name: in 6.1, of the bridge family's chains IP packets skip those at 0.
func chain(table, name, hook, policy string) string {
	return fmt.Sprintf("nft add table %[1]s; nft add chain %[1]s %[2]s '{ type filter hook %[3]s priority filter; %[4]s }'", table, name, hook, policy)
}

func ruleFaults() []fault {
	drop9999 := func(node, hook string) []string {
		return []string{node + ": " + chain("inet fw", "c", hook, "") + "; nft add rule inet fw c udp dport 9999 drop"}
	}
	docker := []string{
		"host: " + chain("ip filter", "FORWARD", "forward", "policy drop;") + "; nft add chain ip filter DOCKER-USER; nft add rule ip filter FORWARD counter jump DOCKER-USER",
		"host: " + chain("ip6 filter", "FORWARD", "forward", "policy drop;") + "; nft add chain ip6 filter DOCKER-USER; nft add rule ip6 filter FORWARD counter jump DOCKER-USER",
	}
	rule := func(at string) [2]string {
		return same("dropped in " + at + ": rule `udp dport 9999 drop` of table inet fw, chain c, handle 2")
	}
	return []fault{
		{
			name: "Docker's policy of the forward chain", explain: true, code: "policy-drop-docker", send: pinging(),
			do: docker,
			says: [2]string{
				"dropped in host, forward: chain FORWARD of table ip filter has policy drop (Docker's)",
				"dropped in host, forward: chain FORWARD of table ip6 filter has policy drop (Docker's)",
			},
		},
		{
			name: "the same, for bridged packets", mends: true, explain: true, code: "policy-drop-docker", send: pingingTo("172.16.16.20", "fd16::20"),
			expr: toRight,
			do:   docker,
			says: [2]string{
				"dropped in host, forward: chain FORWARD of table ip filter has policy drop (Docker's), and bridged packets come there because net.bridge.bridge-nf-call-iptables=1",
				"dropped in host, forward: chain FORWARD of table ip6 filter has policy drop (Docker's), and bridged packets come there because net.bridge.bridge-nf-call-ip6tables=1",
			},
		},
		{
			name: "a policy, without --explain", code: "policy-drop", send: pinging(),
			do:   []string{"host: " + chain("inet fw", "c", "forward", "policy drop;")},
			says: same("dropped in host, forward: netfilter; what no rule accepts is dropped by policy of chain c of table inet fw"),
		},
		{name: "a rule in prerouting", explain: true, code: "rule-drop", send: udp(1), do: drop9999("host", "prerouting"), says: rule("host, prerouting")},
		{name: "a rule in forward", explain: true, code: "rule-drop", send: udp(1), do: drop9999("host", "forward"), says: rule("host, forward")},
		{name: "a rule in postrouting", explain: true, code: "rule-drop", send: udp(1), do: drop9999("host", "postrouting"), says: rule("host, postrouting")},
		{
			name: "a rule in input", explain: true, code: "rule-drop", send: udp(1), says: rule("wan, input"),
			do: drop9999("wan", "input"),
		},
		{
			name: "a rule in output", explain: true, code: "rule-drop", send: udp(1), says: rule("left, output"),
			do: drop9999("left", "output"),
		},
	}
}

// moreRuleFaults are of rules that ask for more than a port.
func moreRuleFaults() []fault {
	return []fault{
		{
			name: "a rule of the bridge family", mends: true, explain: true, code: "rule-drop", send: pingingTo("172.16.16.20", "fd16::20"),
			expr: toRight,
			do:   []string{"host: " + chain("bridge b", "c", "forward", "") + "; nft add rule bridge b c meta l4proto '{ icmp, icmpv6 }' drop"},
			says: same("dropped in host, bridge forward: rule `meta l4proto { icmp, ipv6-icmp } drop` of table bridge b, chain c, handle 3"),
		},
		{
			name: "what conntrack calls invalid", explain: true, code: "rule-drop", expr: "tcp port 81", send: crafted{proto: tcpAck}.send,
			do: []string{
				"host: sysctl -qw net.netfilter.nf_conntrack_tcp_loose=0",
				"host: " + chain("inet fw", "c", "forward", "") + "; nft add rule inet fw c ct state invalid drop",
			},
			says: same("dropped in host, forward: rule `ct state invalid drop` of table inet fw, chain c, handle 2"),
		},
		{
			name: "our own filter", mends: true, code: "own-filter", send: pinging(), arrange: ownFilter,
			says: same("dropped by filter 1 at host:left-br0-veth in"),
		},
	}
}
