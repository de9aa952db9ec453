package filter

// Word is a word that a condition begins with.
type Word struct {
	Text string
	Form string // with what stands beside it; "" if it goes with the Form before
	Help string // what it says of a packet, in one line
	Own  bool   // nsbpf's own, of a packet's whole path
}

// Words returns the words of the language, ordered by what they speak of, for
// completion and help.
func Words() []Word {
	var list []Word
	for _, w := range words {
		list = append(list, w)
		for _, names := range [][]name{flagNames, icmpNames, icmp6Names} {
			if _, ok := valueOf(names, w.Text); ok {
				list = append(list, alike(w, names)...)
			}
		}
	}
	return list
}

// alike returns the other names as words that mean the like of w.
func alike(w Word, names []name) []Word {
	var list []Word
	for _, n := range names {
		if n.text != w.Text {
			list = append(list, Word{Text: n.text, Help: w.Help})
		}
	}
	return list
}

var words = []Word{
	{"host", "[ip|ip6|arp] [src|dst] host ADDR", "has this IPv4 or IPv6 address; ADDR alone is the same", false},
	{"net", "[ip|ip6|arp] [src|dst] net ADDR/LEN", "has an address of this net; net 10.1 is net 10.1.0.0/16", false},
	{"port", "[tcp|udp] [src|dst] port PORT", "has this TCP or UDP port, a number or a name such as https", false},
	{"portrange", "[tcp|udp] [src|dst] portrange P-Q", "has a TCP or UDP port from P to Q", false},
	{"src", "src host|net|port …", "only the source is meant; src ADDR is src host ADDR", false},
	{"dst", "dst host|net|port …", "only the destination is meant; dst ADDR is dst host ADDR", false},
	{"ip", "ip", "is IPv4; also ip[8] < 5 for the TTL and ip[1] for the type of service", false},
	{"ip6", "ip6", "is IPv6; also ip6[7] < 5 for the hop limit", false},
	{"arp", "arp", "is ARP", false},
	{"tcp", "tcp", "is TCP, over IPv4 or IPv6", false},
	{"udp", "udp", "is UDP, over IPv4 or IPv6", false},
	{"icmp", "icmp", "is ICMP", false},
	{"icmp6", "icmp6", "is ICMPv6", false},
	{"sctp", "sctp", "is SCTP, over IPv4 or IPv6", false},
	{"igmp", "igmp", "is IGMP", false},
	{"esp", "esp", "is IPsec ESP, over IPv4 or IPv6", false},
	{"ah", "ah", "is IPsec AH, over IPv4 or IPv6", false},
	{"pim", "pim", "is PIM, over IPv4 or IPv6", false},
	{"vrrp", "vrrp", "is VRRP over IPv4", false},
	{"carp", "carp", "is CARP over IPv4", false},
	{"proto", "[ip|ip6] proto N", "is of this IP protocol, a number or a name such as gre", false},
	{"tcp-syn", "tcp-syn, tcp-ack, …", "is TCP and has the flag; also tcp[tcpflags] & (tcp-syn|tcp-ack) == tcp-syn", false},
	{"icmp-echo", "icmp-echo, icmp-unreach, …", "is an ICMP message of this type; also icmp[icmptype] == 8, icmp[icmpcode]", false},
	{"icmp6-echo", "icmp6-echo, icmp6-neighborsolicit, …", "is an ICMPv6 message of this type; also icmp6[icmp6type] == 128, icmp6[icmp6code]", false},
	{"ether", "ether [src|dst] host MAC", "has this Ethernet address; also ether proto 0x88cc", false},
	{"broadcast", "broadcast", "goes to the Ethernet broadcast address", false},
	{"multicast", "[ip|ip6] multicast", "goes to a group's Ethernet address, or IP address", false},
	{"vlan", "vlan [ID]", "has a VLAN tag; what stands to the right of the word is read behind it", false},
	{"greater", "greater N", "is N bytes long or longer, with the Ethernet header", false},
	{"less", "less N", "is N bytes long or shorter", false},
	{"len", "len > N", "is longer than N bytes; also <, <=, >=, ==, !=", false},
	{"and", "EXPR and EXPR", "both hold; as && and with the precedence of or", false},
	{"or", "EXPR or EXPR", "one of both holds; as ||", false},
	{"not", "not EXPR", "does not hold; as !", false},
	{"node", "node NAME", "was seen in this node", true},
	{"hop", "hop NODE:DEVICE [in|out]", "was seen at this device", true},
	{"dropped", "dropped", "was not delivered and did not leave the lab", true},
	{"latency", "latency > 1ms", "took longer from its first hop to its last; also <, <=, >=", true},
	{"natted", "natted", "an address, a port or an echo's id was translated", true},
	{"retransmitted", "retransmitted", "is a TCP segment that was sent before", true},
}
