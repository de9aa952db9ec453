package filter

import (
	"fmt"
	"math/rand/v2"
	"strings"
)

// trickyExprs are expressions that libpcap takes too and whose meaning depends on
// its finer rules.
var trickyExprs = []string{
	"", "ip", "ip6", "arp", "icmp", "icmp6", "tcp", "udp", "not tcp", "not icmp6", "! udp",
	"proto 0", "proto 6", "ip proto 6", "ip6 proto 44", "ip6 proto 17", `proto \tcp`, `ip proto \udp or 1`, "not proto 50",
	"host 10.1.2.3", "src host 10.1.2.3", "dst 10.1.2.3", "src or dst host 10.1.2.3", "src and dst host 10.1.2.3",
	"ip host 10.1.2.3", "arp host 10.1.2.3", "arp net 10", "host 0.0.0.0", "not host 0.0.0.0", "src 10.1.2.3 or 10.1.2.4",
	"net 10", "net 10.1", "net 10.1.2", "net 10.1.2.3", "net 10.0/16", "src net 0.0.0.0/0", "net 128.0.0.0/1", "net ::/0", "not net ::/0",
	"host ::1", "ip6 host fd16::10", "net fd16::/64", "net fd16:0:0:8000::/49", "src net fe80::/10", "host ::", "host ::ffff:10.1.2.3", "net 8000::/1",
	"port 80", "not port 80", "src port 80", "dst port 80", "src and dst port 80", "tcp port 80", "udp port 53", "tcp dst port 0x50", "port 0", "not port 0",
	"portrange 79-81", "tcp src portrange 9-80", "src or dst portrange 0-65535", "not portrange 0-65535", "src and dst portrange 9-443",
	"port 80 or 443", "port 80 or 443 and 53", "not port 80 and 443", "port 80 or not 443", "port (80 or 443)", "port not 80",
	"src port 80 or dst port 81 or 53", "host 10.1.2.3 or port 80 and tcp", "tcp or udp and port 80", "tcp and (udp or icmp)",
	"host 10.1.2.3 and (port 80) and 10.1.2.4", "host 10.1.2.3 and port 80 or 443", "not (port 80 or host 10.1.2.3)", "not not ip", "host not (10.1.2.3 or 10.1.2.4)",
	"ether host 02:00:00:00:00:01", "ether src 02:00:00:00:00:01", "ether dst host ff:ff:ff:ff:ff:ff", "ether src or dst 33-33-00-00-00-01", "not ether src and dst host 02:00:00:00:00:01",
	"greater 100", "less 100", "greater 0x40 and less 90", "greater 0", "greater 60 and ether src host 02:00:00:00:00:01 and greater 100 or less 80",
	"tcp[tcpflags] == tcp-syn", "tcp[tcpflags] & (tcp-syn|tcp-fin) != 0", "tcp[tcpflags]&tcp-ack=0", "tcp[13] & 18 == tcp-syn|tcp-ack", "tcp[13] >= 0x10", "not tcp[tcpflags] != tcp-ack",
	"tcp[tcpflags] & (tcp-syn) < 2", "tcp[tcpflags] > 17", "tcp[tcpflags] <= 2", "tcp[tcpflags] & 0 == 0", "tcp[tcpflags] & 0xff != 2",
	"icmp[icmptype] == icmp-echo", "not icmp[icmptype] = 0", "icmp[icmpcode] != 0", "icmp[0] < 8", "icmp6[icmp6type] == icmp6-echo", "icmp6[icmp6code] == 0", "not icmp6[icmp6type] == icmp6-neighborsolicit",
	"vlan", "vlan 5", "vlan 0x5 and ip", "not vlan", "vlan and tcp port 80", "vlan 5 and (host 10.1.2.3 or ip6)", "ip or vlan", "tcp and not vlan", "vlan and not ip", "vlan 4095 and arp",
	"ether host 02:00:00:00:00:01 and vlan and ip host 10.1.2.3", "(vlan and ip) or greater 100", "vlan and icmp[icmptype] == 8", "vlan and icmp6", "vlan and tcp[tcpflags] & 2 != 0",
	"sctp", "not igmp", "esp or ah", "pim", "vrrp", "not carp", "ip proto 6 or esp", "udp and not igmp or pim", "vlan and sctp", "not vlan and vrrp",
	"broadcast", "not ether broadcast", "multicast", "ether multicast and not broadcast", "ip multicast", "not ip6 multicast", "vlan and ip multicast", "multicast and not ip multicast",
	"len > 100", "len <= 90 and len != 60", "not len < 80", "len = 0x5a", "ether proto 0x88cc", `ether proto \arp or 0x8035`, "not ether proto 0x86dd", "vlan and ether proto 0x800", "ether proto 0x88cc or 0x600",
	"ip[8] < 5", "not ip[8] = 64", "ip6[7] <= 1 or ip[8] <= 1", "ip[1] & 0xfc == 0xb8", "vlan and ip[8] != 64", "ip6[7] & 0xf0 != 0",
	`ip proto \tcp or icmp`, "src or dst port 80 and src and dst host 10.1.2.3", "ether src 02:00:00:00:00:01 and (ip6 net fd16::/64 or arp)",
}

// exprs is a generator of expressions that libpcap takes too.
type exprs struct{ *rand.Rand }

// expr returns an expression with up to about 2^depth conditions.
func (g exprs) expr(depth int) string {
	s := g.tree(depth)
	switch g.IntN(8) {
	case 0:
		return "vlan and (" + s + ")"
	case 1:
		return "vlan " + pick(g.Rand, []string{"5", "6", "4095"}) + " and (" + s + ")"
	case 2:
		return "(" + s + ") " + g.operator() + " " + pick(g.Rand, []string{"vlan", "not vlan", "vlan 5"})
	}
	return s
}

func (g exprs) operator() string { return pick(g.Rand, []string{"and", "or", "&&", "||"}) }

func (g exprs) tree(depth int) string {
	if depth == 0 {
		return g.condition()
	}
	switch g.IntN(6) {
	case 0:
		return pick(g.Rand, []string{"not ", "!"}) + "(" + g.tree(depth-1) + ")"
	case 1:
		return "(" + g.tree(depth-1) + ") " + g.operator() + " (" + g.tree(depth-1) + ")"
	case 2:
		return "not " + g.condition()
	default:
		return g.tree(depth-1) + " " + g.operator() + " " + g.tree(depth-1)
	}
}

func (g exprs) condition() string {
	side := pick(g.Rand, []string{"", "", "src ", "dst ", "src or dst ", "dst and src "})
	switch g.IntN(15) {
	case 0, 1:
		return g.words()
	case 14:
		return g.cast()
	case 2:
		return side + "host " + g.values(func() string { return pick(g.Rand, poolV4) })
	case 3:
		return pick(g.Rand, []string{"ip ", "arp "}) + side + "host " + pick(g.Rand, poolV4)
	case 4:
		return side + "host " + g.values(func() string { return pick(g.Rand, poolV6) })
	case 5:
		return side + "net " + pick(g.Rand, []string{"10", "10.1", "10.1.2.0/30", "172.16.16.0/24", "0.0.0.0/0", "192.168.1.128/25"})
	case 6:
		return pick(g.Rand, []string{"", "ip6 "}) + side + "net " + pick(g.Rand, []string{"fd16::/64", "fe80::/10", "::/0", "fd16::/127", "2000::/3", "fd16:0:0:8000::/49"})
	case 7, 8, 9:
		proto := pick(g.Rand, []string{"", "tcp ", "udp "})
		return proto + side + "port " + g.values(func() string { return fmt.Sprint(pick(g.Rand, poolPorts)) })
	case 10:
		a, b := pick(g.Rand, poolPorts), pick(g.Rand, poolPorts)
		return pick(g.Rand, []string{"", "tcp ", "udp "}) + side + fmt.Sprintf("portrange %d-%d", min(a, b), max(a, b))
	case 11:
		return pick(g.Rand, []string{"", "ip ", "ip6 "}) + "proto " + g.values(func() string { return fmt.Sprint(pick(g.Rand, poolProto)) })
	case 12:
		return "ether " + side + "host " + pick(g.Rand, poolMAC)
	default:
		return g.octet()
	}
}

func (g exprs) words() string {
	return pick(g.Rand, []string{"ip", "ip6", "arp", "icmp", "icmp6", "tcp", "udp", "greater 90", "less 120",
		"sctp", "igmp", "esp", "ah", "pim", "vrrp", "carp", fmt.Sprintf("len %s %d", g.relation(), 60+g.IntN(60))})
}

func (g exprs) relation() string {
	return pick(g.Rand, []string{"=", "==", "!=", "<", "<=", ">", ">="})
}

func (g exprs) cast() string {
	if g.IntN(3) == 0 {
		return fmt.Sprintf("ether proto %#x", pick(g.Rand, poolEther))
	}
	return pick(g.Rand, []string{"broadcast", "ether broadcast", "multicast", "ether multicast", "ip multicast", "ip6 multicast"})
}

// values returns one value or some that share qualifiers.
func (g exprs) values(value func() string) string {
	switch g.IntN(5) {
	case 0:
		return value() + " " + g.operator() + " " + value()
	case 1:
		return "(" + value() + " " + g.operator() + " not " + value() + ")"
	case 2:
		return value() + " " + g.operator() + " not " + value()
	}
	return value()
}

func (g exprs) octet() string {
	o := pick(g.Rand, octets)
	constant := func() string {
		if o.names == nil || g.IntN(3) == 0 {
			return fmt.Sprint(g.IntN(256))
		}
		return pick(g.Rand, o.names).text
	}
	s := o.proto + "[" + pick(g.Rand, []string{o.text, o.number}) + "] "
	if g.IntN(2) == 0 {
		s += "& (" + strings.Join([]string{constant(), constant()}, "|") + ") "
	}
	return s + g.relation() + " " + constant()
}
