// Package filter is the language in which users say which packets they mean: a
// strict subset of pcap-filter(7), compiled to eBPF and also evaluated in Go.
//
//	[ip|ip6|arp] [src|dst|src or dst|src and dst] host ADDR
//	[ip|ip6|arp] [DIR] net ADDR[/LEN]           net 10.1 is 10.1.0.0/16
//	[tcp|udp] [DIR] port PORT                   a number or a well-known name
//	[tcp|udp] [DIR] portrange A-B
//	ip | ip6 | arp | icmp | icmp6 | tcp | udp | sctp | igmp | esp | ah | pim | vrrp | carp
//	[ip|ip6] proto N|NAME
//	ether [DIR] host MAC | ether proto N|NAME
//	[ether] broadcast | [ether|ip|ip6] multicast
//	greater N | less N | len OP N               at least, at most N bytes
//	tcp[tcpflags] [& MASK] OP VALUE             IPv4 only, as in libpcap
//	icmp[icmptype] …, icmp[icmpcode] …, icmp6[icmp6type] …, icmp6[icmp6code] …
//	ip[8] …, ip6[7] …, ip[1] …                  TTL, hop limit, type of service
//	vlan [N]                                    what follows is read behind the tag
//	EXPR and EXPR, EXPR or EXPR, not EXPR, ( EXPR )
//
// `and` and `or` have equal precedence and associate to the left, `not` binds
// tighter, and a value without qualifiers takes those before it: `port 80 or
// 443`. Three forms are ours: a bare address is a host; tcp-syn, tcp-ack, tcp-fin,
// tcp-rst, tcp-push, tcp-urg, tcp-ece and tcp-cwr stand alone for a TCP packet,
// over IPv4 or IPv6, that carries the flag; and the names of ICMP and ICMPv6 types
// stand alone for a message of that type. Everything else is an [Error] that names
// what is not supported.
//
// Our own words speak of a packet's whole [Path], and combine with all others:
//
//	node NAME                                   it was seen in the node
//	hop NODE:DEVICE [in|out]                    it was seen at the device
//	dropped                                     it was not delivered, nor did it leave the lab
//	latency > D | < D | >= D | <= D             from its first hop to its last
//	natted                                      an address, a port or an echo's id changed
//	retransmitted                               the segment had been sent before
//
// A name that is an operator is written with a backslash: `node \or`.
//
// # Meaning
//
// An expression matches the packets that libpcap would match on an Ethernet
// device. Thus a host may be in an ARP packet; ports and flags are never those of
// a later fragment nor behind an IPv6 extension header; tcp and its like look
// behind an IPv6 fragment header; and a frame with a VLAN tag is no ip, ip6 or
// arp except to the right of the word vlan.
//
// What a [bpf.Packet] does not tell, neither holds nor does not hold, and an
// expression matches only if it holds whatever the answer is (Kleene's strong
// logic). So neither `port 80` nor `not port 80` matches SCTP, whose ports are not
// read, or a packet whose TCP header was cut off; nor does a host match RARP.
// A packet with a cut network header matches only what speaks of its link header.
// Behind two VLAN tags nothing is ip, ip6 or arp, and vlan N speaks of the
// outermost.
//
// # Packets and Paths
//
// An expression with own words has two parts. What the outermost `and`s join and
// has no own word is asked, all of it together, of the packet at one hop. This is
// the [Expr.Kernel], which programs test; a trace follows a packet from the first
// hop where it holds. The rest is asked of the whole Path ([Expr.OnPaths]), at its
// end and in user space, and node and hop, too, do not make the kernel look at
// less. There a condition on packets holds if it holds at one of the Path's hops,
// and does not if it does not at any. So
//
//	host 10.0.0.1 and not udp and dropped
//
// follows what is of that host and not UDP, and keeps what was dropped, while
//
//	host 10.0.0.1 or dropped
//
// follows everything. If what became of the packet is not known, because the trace
// gave up on it or it was merged into another one, neither `dropped` nor `not
// dropped` holds. An expression without own words is all kernel and asks nothing
// of Paths.
package filter
