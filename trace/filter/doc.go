// Package filter is the language in which users say which packets they mean: a
// strict subset of pcap-filter(7), compiled to eBPF and also evaluated in Go.
//
//	[ip|ip6|arp] [src|dst|src or dst|src and dst] host ADDR
//	[ip|ip6|arp] [DIR] net ADDR[/LEN]           net 10.1 is 10.1.0.0/16
//	[tcp|udp] [DIR] port PORT                   a number or a well-known name
//	[tcp|udp] [DIR] portrange A-B
//	ip | ip6 | arp | icmp | icmp6 | tcp | udp
//	[ip|ip6] proto N|NAME
//	ether [DIR] host MAC
//	greater N | less N                          at least, at most N bytes
//	tcp[tcpflags] [& MASK] OP VALUE             IPv4 only, as in libpcap
//	icmp[icmptype] …, icmp[icmpcode] …, icmp6[icmp6type] …, icmp6[icmp6code] …
//	vlan [N]                                    what follows is read behind the tag
//	EXPR and EXPR, EXPR or EXPR, not EXPR, ( EXPR )
//
// `and` and `or` have equal precedence and associate to the left, `not` binds
// tighter, and a value without qualifiers takes those before it: `port 80 or
// 443`. Two forms are ours: a bare address is a host, and tcp-syn, tcp-ack,
// tcp-fin, tcp-rst, tcp-push, tcp-urg, tcp-ece and tcp-cwr stand alone for a TCP
// packet, over IPv4 or IPv6, that carries the flag. Everything else is an [Error]
// that names what is not supported.
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
package filter
