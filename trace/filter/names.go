package filter

// Numbers of protocols that the language itself speaks of.
const (
	typeIPv4 = 0x0800
	typeARP  = 0x0806
	typeRARP = 0x8035
	typeIPv6 = 0x86dd

	typeVLAN      = 0x8100
	typeQinQ      = 0x88a8
	typeOldQinQ   = 0x9100
	typeAppleTalk = 0x809b
	typeAARP      = 0x80f3

	protoICMP     = 1
	protoIGMP     = 2
	protoTCP      = 6
	protoUDP      = 17
	protoFragment = 44
	protoESP      = 50
	protoAH       = 51
	protoICMPv6   = 58
	protoPIM      = 103
	protoVRRP     = 112
	protoSCTP     = 132
)

// protocols are the names that `proto` takes, by IANA's registry.
var protocols = map[string]uint8{
	"icmp": protoICMP, "igmp": protoIGMP, "ipip": 4, "tcp": protoTCP, "udp": protoUDP, "dccp": 33, "ipv6": 41,
	"gre": 47, "esp": protoESP, "ah": protoAH, "icmp6": protoICMPv6, "ipv6-icmp": protoICMPv6,
	"ospf": 89, "pim": protoPIM, "vrrp": protoVRRP, "carp": protoVRRP, "l2tp": 115, "sctp": protoSCTP,
}

// protoWords are the protocols that stand alone, each with the family that it is
// looked for in.
var protoWords = map[string]proto{
	"tcp": {number: protoTCP}, "udp": {number: protoUDP}, "sctp": {number: protoSCTP},
	"icmp": {number: protoICMP, family: family{name: "ip"}}, "icmp6": {number: protoICMPv6, family: family{name: "ip6"}},
	"igmp": {number: protoIGMP, family: family{name: "ip"}}, "vrrp": {number: protoVRRP, family: family{name: "ip"}},
	"carp": {number: protoVRRP, family: family{name: "ip"}},
	"esp":  {number: protoESP}, "ah": {number: protoAH}, "pim": {number: protoPIM},
}

var familyWords = []string{"ip", "ip6", "arp"}

// etherTypes are the names that `ether proto` takes.
var etherTypes = map[string]uint16{"ip": typeIPv4, "ip6": typeIPv6, "arp": typeARP, "rarp": typeRARP}

// service is a well-known port and the protocol it belongs to, "" for both.
type service struct {
	port  uint16
	proto string
}

// services are the names that `port` takes. They stand here and are not read
// from /etc/services so that an expression means the same on every machine.
var services = map[string]service{
	"ftp-data": {20, "tcp"}, "ftp": {21, "tcp"}, "ssh": {22, "tcp"}, "telnet": {23, "tcp"},
	"smtp": {25, "tcp"}, "domain": {53, ""}, "bootps": {67, "udp"}, "bootpc": {68, "udp"},
	"tftp": {69, "udp"}, "http": {80, "tcp"}, "kerberos": {88, ""}, "pop3": {110, "tcp"},
	"sunrpc": {111, ""}, "ntp": {123, "udp"}, "netbios-ns": {137, "udp"}, "imap2": {143, "tcp"},
	"snmp": {161, ""}, "snmp-trap": {162, ""}, "bgp": {179, "tcp"}, "ldap": {389, ""},
	"https": {443, ""}, "isakmp": {500, "udp"}, "syslog": {514, "udp"},
	"dhcpv6-client": {546, "udp"}, "dhcpv6-server": {547, "udp"}, "submission": {587, "tcp"},
	"ldaps": {636, ""}, "domain-s": {853, ""}, "imaps": {993, "tcp"}, "pop3s": {995, "tcp"},
	"radius": {1812, ""}, "nfs": {2049, ""}, "mysql": {3306, "tcp"}, "ipsec-nat-t": {4500, "udp"},
	"sip": {5060, ""}, "mdns": {5353, "udp"}, "postgresql": {5432, "tcp"}, "redis": {6379, "tcp"},
	"http-alt": {8080, "tcp"},
}

// name is a constant of the language.
type name struct {
	text  string
	value uint8
}

var flagNames = []name{
	{"tcp-fin", 0x01}, {"tcp-syn", 0x02}, {"tcp-rst", 0x04}, {"tcp-push", 0x08},
	{"tcp-ack", 0x10}, {"tcp-urg", 0x20}, {"tcp-ece", 0x40}, {"tcp-cwr", 0x80},
}

var icmpNames = []name{
	{"icmp-echoreply", 0}, {"icmp-unreach", 3}, {"icmp-sourcequench", 4}, {"icmp-redirect", 5},
	{"icmp-echo", 8}, {"icmp-routeradvert", 9}, {"icmp-routersolicit", 10}, {"icmp-timxceed", 11},
	{"icmp-paramprob", 12}, {"icmp-tstamp", 13}, {"icmp-tstampreply", 14}, {"icmp-ireq", 15},
	{"icmp-ireqreply", 16}, {"icmp-maskreq", 17}, {"icmp-maskreply", 18},
}

var icmp6Names = []name{
	{"icmp6-destinationunreach", 1}, {"icmp6-packettoobig", 2}, {"icmp6-timeexceeded", 3},
	{"icmp6-parameterproblem", 4}, {"icmp6-echo", 128}, {"icmp6-echoreply", 129},
	{"icmp6-multicastlistenerquery", 130}, {"icmp6-multicastlistenerreportv1", 131},
	{"icmp6-multicastlistenerdone", 132}, {"icmp6-routersolicit", 133}, {"icmp6-routeradvert", 134},
	{"icmp6-neighborsolicit", 135}, {"icmp6-neighboradvert", 136}, {"icmp6-redirect", 137},
	{"icmp6-routerrenum", 138}, {"icmp6-nodeinformationquery", 139},
	{"icmp6-nodeinformationresponse", 140}, {"icmp6-ineighbordiscoverysolicit", 141},
	{"icmp6-ineighbordiscoveryadvert", 142}, {"icmp6-multicastlistenerreportv2", 143},
	{"icmp6-homeagentdiscoveryrequest", 144}, {"icmp6-homeagentdiscoveryreply", 145},
	{"icmp6-mobileprefixsolicit", 146}, {"icmp6-mobileprefixadvert", 147},
	{"icmp6-certpathsolicit", 148}, {"icmp6-certpathadvert", 149},
	{"icmp6-multicastrouteradvert", 151}, {"icmp6-multicastroutersolicit", 152},
	{"icmp6-multicastrouterterm", 153},
}

// octetNames is a header byte that can be compared: its protocol and the one or
// two ways to write it.
type octetNames struct {
	proto, text, number string
	field               field
	names               []name // of its values
}

var octets = []octetNames{
	{"tcp", "tcpflags", "13", tcpFlags, flagNames},
	{"icmp", "icmptype", "0", icmpType, icmpNames},
	{"icmp", "icmpcode", "1", icmpCode, nil},
	{"icmp6", "icmp6type", "0", icmpType, icmp6Names},
	{"icmp6", "icmp6code", "1", icmpCode, nil},
	{"ip", "1", "1", tos, nil},
	{"ip", "8", "8", ttl, nil},
	{"ip6", "7", "7", ttl, nil},
}

// valueOf returns the value that a name of the list has.
func valueOf(names []name, text string) (uint8, bool) {
	for _, n := range names {
		if n.text == text {
			return n.value, true
		}
	}
	return 0, false
}

// unsupported are the words of pcap-filter(7) that are not part of this
// language, with what to write instead where there is something.
var unsupported = map[string]string{
	"gateway": "write ether host MAC and not host ADDR", "mask": "write net ADDR/LEN", "link": "write ether",
	"rarp": "write ether proto 0x8035", "igrp": "write proto 9", "protochain": "write proto",
	"tcp-psh": "write tcp-push",
	"byte":    "", "inbound": "name a hop that looks in", "outbound": "name a hop that looks out",
	"ifname": "name a hop", "on": "name a hop", "ifindex": "name a hop",
	"mpls": "", "pppoed": "", "pppoes": "", "geneve": "", "atalk": "", "aarp": "", "decnet": "", "iso": "",
	"stp": "", "ipx": "", "netbeui": "", "lat": "", "moprc": "", "mopdl": "", "clnp": "", "esis": "", "isis": "",
	"llc": "", "wlan": "", "fddi": "", "tr": "", "ppp": "", "slip": "", "radio": "", "type": "", "subtype": "",
	"dir": "", "rnr": "", "rulenum": "", "reason": "", "rset": "", "ruleset": "", "srnr": "", "subrulenum": "",
	"action": "", "lane": "", "metac": "", "bcc": "", "oam": "", "oamf4": "", "connectmsg": "", "metaconnect": "",
}
