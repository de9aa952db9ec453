package filter

import (
	"errors"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestParse has what expressions mean, in canonical form.
func TestParse(t *testing.T) {
	for _, tt := range []struct{ expr, want string }{
		{"", ""},
		{" \t\n", ""},
		{"10.1.2.3", "host 10.1.2.3"},
		{"not 10.1.2.3 or fd16::10", "not host 10.1.2.3 or host fd16::10"},
		{"tcp and 10.1.2.3", "tcp and host 10.1.2.3"},
		{"src 10.1.2.3", "src host 10.1.2.3"},
		{"dst or src host 10.1.2.3", "host 10.1.2.3"},
		{"dst and src host FD16::0:10", "src and dst host fd16::10"},
		{"ip6 dst host ::1", "ip6 dst host ::1"},
		{"host ::ffff:1.2.3.4", "host ::ffff:1.2.3.4"},
		{"net 10", "net 10.0.0.0/8"},
		{"net 10.1", "net 10.1.0.0/16"},
		{"net 10.16/12 or 10/8", "net 10.16.0.0/12 or net 10.0.0.0/8"},
		{"net 1.2.3.4", "net 1.2.3.4/32"},
		{"arp src net 172.16.16.0/24", "arp src net 172.16.16.0/24"},
		{"net fe80::", "net fe80::/128"},
		{"net fe80::/10", "net fe80::/10"},
		{"port 80 or 443", "port 80 or port 443"},
		{"tcp src port 0x50 or 443 and not 22", "tcp src port 80 or tcp src port 443 and not tcp src port 22"},
		{"port (80 or (443 and not 22))", "port 80 or (port 443 and not port 22)"},
		{"portrange 5 or 6-7", "port 5 or portrange 6-7"},
		{"port http or https", "tcp port 80 or port 443"},
		{"udp port domain", "udp port 53"},
		{"tcp port 80 or udp port 53 and 54", "tcp port 80 or udp port 53 and udp port 54"},
		{"host 10.1.2.3 and (port 80) and 10.1.2.4", "host 10.1.2.3 and port 80 and host 10.1.2.4"},
		{"ip or tcp and udp", "ip or tcp and udp"},
		{"ip or (tcp and udp)", "ip or (tcp and udp)"},
		{"((ip or tcp) and udp)", "ip or tcp and udp"},
		{"not (ip or tcp) and !!udp", "not (ip or tcp) and not not udp"},
		{"!ip||!arp&&icmp6", "not ip or not arp and icmp6"},
		{"ip proto tcp", "ip proto 6"},
		{`proto \icmp6 or gre`, "proto 58 or proto 47"},
		{"proto sctp", "proto 132"},
		{"ether src 02:00:00:00:00:0A", "ether src host 02:00:00:00:00:0a"},
		{"ether host 02-00-00-00-00-0a or 02:00:00:00:00:01", "ether host 02:00:00:00:00:0a or ether host 02:00:00:00:00:01"},
		{"greater 100 and less 0x1000", "greater 100 and less 4096"},
		{"tcp-syn and not tcp-ack", "tcp-syn and not tcp-ack"},
		{"tcp[tcpflags]&tcp-syn!=0", "tcp[tcpflags] & tcp-syn != 0"},
		{"tcp[13] & (2|16) = tcp-ack", "tcp[tcpflags] & (tcp-syn|tcp-ack) == tcp-ack"},
		{"tcp[tcpflags] == (tcp-syn|tcp-ack)", "tcp[tcpflags] == tcp-syn|tcp-ack"},
		{"tcp[tcpflags] & (tcp-syn) >= 2", "tcp[tcpflags] & tcp-syn >= tcp-syn"},
		{"icmp[icmptype] = 8 or icmp[1] < 3", "icmp[icmptype] == icmp-echo or icmp[icmpcode] < 3"},
		{"icmp6[icmp6type] > 200", "icmp6[icmp6type] > 200"},
		{"icmp[icmptype] != icmp-echoreply", "icmp[icmptype] != icmp-echoreply"},
		{"vlan and ip and not host 10.1.2.3", "vlan and ip and not host 10.1.2.3"},
		{"vlan 0x10 && arp", "vlan 16 and arp"},
		{"broadcast or ether broadcast", "ether dst host ff:ff:ff:ff:ff:ff or ether dst host ff:ff:ff:ff:ff:ff"},
		{"multicast and not ip multicast", "ether multicast and not ip multicast"},
		{"len>100 and len <= 200 or len = 60", "len > 100 and less 200 or len == 60"},
		{"ether proto arp or \\ip6 or 0x88cc", "ether proto 0x806 or ether proto 0x86dd or ether proto 0x88cc"},
		{"icmp-echo or icmp6-neighborsolicit", "icmp[icmptype] == icmp-echo or icmp6[icmp6type] == icmp6-neighborsolicit"},
		{"ip[8] < 5 and ip6[7] & 0xf == 1", "ip[8] < 5 and ip6[7] & 15 == 1"},
		{"sctp or igmp", "sctp or igmp"},
		{"proto tcp or esp", "proto 6 or esp"},
	} {
		e, err := Parse(tt.expr)
		if err != nil {
			t.Errorf("Parse(%q): %v", tt.expr, err)
			continue
		}
		if got := e.String(); got != tt.want {
			t.Errorf("Parse(%q) is %q, want %q", tt.expr, got, tt.want)
		}
		checkCanonical(t, tt.expr)
	}
}

// checkCanonical checks that the canonical form of expr means what expr does.
func checkCanonical(t *testing.T, expr string) {
	t.Helper()
	e := mustParse(t, expr)
	again, err := Parse(e.String())
	if err != nil {
		t.Fatalf("canonical form of %q: %v", expr, err)
	}
	if !reflect.DeepEqual(e.cond, again.cond) { // cmp takes exponential time for nested conditions
		t.Errorf("%q and its canonical form %q differ:\n%v\n%v", expr, e, e.cond, again.cond)
	}
	if again.String() != e.String() {
		t.Errorf("the canonical form of %q is not", e)
	}
}

// TestParseErrors has the caret form: under every expression the caret stands
// where the mistake is.
func TestParseErrors(t *testing.T) {
	for _, tt := range []struct{ expr, caret string }{
		{"icmp and gateway x", "         ^ gateway is not supported (write ether host MAC and not host ADDR)"},
		{"ip broadcast", "   ^ ip broadcast is not supported (it depends on the netmask; write ether broadcast, or dst host ADDR)"},
		{"arp multicast", `    ^ unexpected "multicast" (write "and" or "or" before it)`},
		{"inbound", "^ inbound is not supported (name a hop that looks in)"},
		{"mpls 5", "^ mpls is not supported"},
		{"tcp and pppoes", "        ^ pppoes is not supported"},
		{"rarp", "^ rarp is not supported (write ether proto 0x8035)"},
		{"sctp port 80", "     ^ sctp does not apply to port (only the ports of tcp and udp are read)"},
		{"len", "   ^ expected a comparison, found the end (write for example len > 100)"},
		{"len > 1k", "      ^ 1k is not a length"},
		{"len & 1 == 0", `    ^ expected a comparison, found "&" (write for example len > 100)`},
		{"node", "    ^ expected a node, found the end"},
		{"node host:br0", "     ^ host:br0 is not a node (write hop host:br0)"},
		{"hop left", "    ^ hop left has no device (write hop left:DEVICE or node left)"},
		{"hop host:", "    ^ hop host: is not whole (want node:device, and in or out)"},
		{"hop :br0 in", "    ^ hop :br0 is not whole (want node:device, and in or out)"},
		{"hop host:br0:up", "    ^ hop host:br0: direction \"up\" (want in or out)"},
		{"hop host:br0 up", "             ^ unexpected \"up\" (write \"and\" or \"or\" before it)"},
		{"hop host:br0 and 10.1.2.3", "                 ^ hop 10.1.2.3 has no device (write hop 10.1.2.3:DEVICE or node 10.1.2.3)"},
		{"latency", "       ^ expected a comparison, found the end (write for example latency > 1ms)"},
		{"latency 1ms", "        ^ expected a comparison, found \"1ms\" (write for example latency > 1ms)"},
		{"latency = 1ms", "        ^ a latency is never the same twice, == is not supported (write for example latency > 1ms)"},
		{"latency > 5", "          ^ 5 has no unit (write 5ms, or another of ns, us, ms, s)"},
		{"latency > fast", "          ^ fast is not a duration (write for example latency > 1ms)"},
		{"latency < -1ms", "          ^ -1ms is not a duration (write for example latency > 1ms)"},
		{"latency > 9999999999999s", "          ^ 9999999999999s is not a duration (write for example latency > 1ms)"},
		{"latency > µs", "          ^ unexpected character 'µ'"},
		{"latency > (", "          ^ expected a duration, found \"(\" (write for example latency > 1ms)"},
		{"dropped natted", "        ^ unexpected \"natted\" (write \"and\" or \"or\" before it)"},
		{"tcp-psh", "^ tcp-psh is not supported (write tcp-push)"},
		{"host a or b", "     ^ a is not an address"},
		{"host left or right", "     ^ left is not an address (names are not looked up; if it is a node, write node left)"},
		{"droped", `^ droped is not a word of the filter language (did you mean "dropped"?)`},
		{"tcp and prot 80", `        ^ prot is not a word of the filter language (did you mean "proto"?)`},
		{"ip[0] & 0xf != 5", "  ^ ip[0] is not supported (only tcp[tcpflags], icmp[icmptype], icmp[icmpcode], icmp6[icmp6type], icmp6[icmp6code], ip[1], ip[8] and ip6[7] are)"},
		{"tcp[0:2] = 80", "   ^ tcp[0:2] is not supported (only tcp[tcpflags], icmp[icmptype], icmp[icmpcode], icmp6[icmp6type], icmp6[icmp6code], ip[1], ip[8] and ip6[7] are)"},
		{"host example.com", "     ^ example.com is not an address (names are not looked up)"},
		{"example.com", "^ example.com is not an address (names are not looked up, write an address)"},
		{"host 10.1", "     ^ 10.1 is not an address (write net 10.1)"},
		{"10.1", "^ 10.1 is not a whole address (write net 10.1)"},
		{"host 010.1.2.3", "     ^ 010.1.2.3 is not an address"},
		{"host 1.2.3.4/24", "            ^ host takes no prefix length (write net)"},
		{"10.0.0.0/8", `        ^ host takes no prefix length (write net)`},
		{"net 10.0.0.1/8", "    ^ 10.0.0.1/8 has bits set behind its prefix (write net 10.0.0.0/8)"},
		{"net 10.1/12", "    ^ 10.1.0.0/12 has bits set behind its prefix (write net 10.0.0.0/12)"},
		{"net 300", "    ^ 300 is not a net (write net ADDR/LEN)"},
		{"net 0", "    ^ net 0 has no prefix length (write net 0.0.0.0/0)"},
		{"net 10.0.0.0/33", "             ^ 33 is too large for a prefix length (at most 32)"},
		{"net 10.0.0.0 mask 255.0.0.0", `             ^ mask is not supported (write net ADDR/LEN)`},
		{"ip6 host 10.1.2.3", "         ^ ip6 does not apply to IPv4 addresses"},
		{"arp net ::/0", "        ^ arp does not apply to IPv6 addresses"},
		{"tcp host 10.1.2.3", "    ^ tcp does not apply to host (write tcp and host)"},
		{"ip port 80", "   ^ ip does not apply to port (only the ports of tcp and udp are read)"},
		{"icmp port 80", "     ^ icmp does not apply to port (only the ports of tcp and udp are read)"},
		{"ether net 10", "      ^ ether does not apply to net (ether takes host, src, dst and proto)"},
		{"ether proto 100", "            ^ 100 is a length and no ether type (types begin at 0x600)"},
		{"ether proto 0x8100", "            ^ 0x8100 is a tag's type (write vlan)"},
		{"ether proto 0x809b", "            ^ 0x809b is not supported"},
		{"ether proto 65536", "            ^ 65536 is too large for an ether type (at most 65535)"},
		{"ether proto foo", "            ^ foo is not an ether type"},
		{"ether", "     ^ expected host, found the end (ether takes host, src, dst, proto, broadcast and multicast)"},
		{"ether host 10.1.2.3", "           ^ 10.1.2.3 is not a MAC address"},
		{"host 02:00:00:00:00:01", "     ^ 02:00:00:00:00:01 is not an address (write ether host 02:00:00:00:00:01)"},
		{"port", "    ^ expected a port, found the end"},
		{"port foo", "     ^ foo is not a port (write its number)"},
		{"port 80-90", "     ^ 80-90 is not a port (write portrange 80-90)"},
		{"port 65536", "     ^ 65536 is too large for a port (at most 65535)"},
		{"port 080", "     ^ 080 is not a port (a leading 0 means octal to libpcap, leave it out)"},
		{"udp port http", "         ^ http is a port of tcp (write its number)"},
		{"portrange 9-5", "          ^ 9-5 ends before it starts (write 5-9)"},
		{"portrange 9-", "          ^ 9- is not a range of ports"},
		{"port 80 or 10.1.2.3", "           ^ 10.1.2.3 is not a port"},
		{"host 10.1.2.3 and port", "                      ^ expected a port, found the end"},
		{"src port 80 dst port 81", `            ^ unexpected "dst" (write "and" or "or" before it)`},
		{"src or src port 80", `       ^ expected "dst", found "src"`},
		{"src proto 6", "    ^ src and dst do not apply to proto"},
		{"tcp proto 6", "    ^ tcp does not apply to proto (write ip proto or ip6 proto)"},
		{"proto 256", "      ^ 256 is too large for a protocol (at most 255)"},
		{"proto foo", "      ^ foo is not a protocol"},
		{"80", "^ 80 has no qualifier (write port 80)"},
		{"tcp and 80", "        ^ 80 has no qualifier (write port 80)"},
		{"(port 80) or 443", "             ^ 443 has no qualifier (write port 443)"},
		{"(src 10.1.2.3) or 10.1.2.4", "                  ^ no qualifier reaches 10.1.2.4 out of the parentheses (write host 10.1.2.4)"},
		{"https", "^ https has no qualifier (write port https)"},
		{"TCP", "^ TCP is not a word of the filter language (write tcp)"},
		{"foo", "^ foo is not a word of the filter language"},
		{"(tcp", `    ^ expected ")", found the end`},
		{"tcp)", `   ^ unexpected ")"`},
		{"()", ` ^ expected a condition, found ")"`},
		{"tcp and", "       ^ expected a condition, found the end"},
		{"and tcp", `^ expected a condition, found "and"`},
		{"not", "   ^ expected a condition, found the end"},
		{"tcp & udp", `    ^ unexpected "&"`},
		{"tcp; udp", `   ^ unexpected character ';'`},
		{"tcp and é", `        ^ unexpected character 'é'`},
		{"tcp[tcpflags] & tcp-syn", "                       ^ expected a comparison, found the end (write for example != 0)"},
		{"tcp[tcpflags] & tcp-syn|tcp-ack != 0", "                       ^ a mask of several needs parentheses (write & (A|B))"},
		{"tcp[tcpflags] == icmp-echo", "                 ^ icmp-echo is not a value of tcpflags"},
		{"tcp[tcpflags] == 256", "                 ^ 256 is too large for a value of tcpflags (at most 255)"},
		{"tcp[tcpflags", `            ^ expected "]", found the end`},
		{"vlan 4096", "     ^ 4096 is too large for a VLAN id (at most 4095)"},
		{"vlan 5 or 6", "          ^ 6 has no qualifier (write port 6)"},
		{"vlan and vlan", "         ^ a second vlan is not supported (only the outermost tag is read)"},
		{"greater", "       ^ expected a length, found the end"},
		{"less -1", "     ^ -1 is not a length"},
	} {
		_, err := Parse(tt.expr)
		checkCaret(t, tt.expr, tt.caret, err)
	}
}

// checkCaret checks that err shows expr with the caret and the cause behind it.
func checkCaret(t *testing.T, expr, caret string, err error) {
	t.Helper()
	var got *Error
	if !errors.As(err, &got) {
		t.Errorf("%q: error %v, want an *Error", expr, err)
		return
	}
	at, cause, _ := strings.Cut(caret, "^ ")
	want := "  " + expr + "\n  " + at + "^\n" + cause
	if diff := cmp.Diff(want, got.Excerpt()+got.cause()); diff != "" {
		t.Errorf("%q (-want +got):\n%s", expr, diff)
	}
}

func TestErrorOneLine(t *testing.T) {
	_, err := Parse("tcp and\ngateway")
	want := `filter "tcp and\ngateway": column 9: gateway is not supported (write ether host MAC and not host ADDR)`
	if err.Error() != want {
		t.Errorf("got  %s\nwant %s", err, want)
	}
	var e *Error
	if errors.As(err, &e) && strings.Count(e.Excerpt(), "\n") != 2 {
		t.Errorf("more than two lines:\n%s", e.Excerpt())
	}
}

func TestParseTooLong(t *testing.T) {
	longest := "tcp" + strings.Repeat(" ", maxLen-3)
	if _, err := Parse(longest); err != nil {
		t.Error(err)
	}
	_, err := Parse(longest + " ")
	if err == nil || !strings.Contains(err.Error(), "too long") || len(err.Error()) > 200 {
		t.Errorf("got %v", err)
	}
}

// TestOctets checks that every name reads and prints as itself.
func TestOctets(t *testing.T) {
	for _, o := range octets {
		for _, n := range o.names {
			e := mustParse(t, o.proto+"["+o.number+"] == "+n.text)
			if want := o.proto + "[" + o.text + "] == " + n.text; e.String() != want {
				t.Errorf("got %q, want %q", e, want)
			}
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, expr := range someExprs(7, 100) {
		f.Add(expr)
	}
	f.Add("tcp-syn or 10.1.2.3")
	f.Add("host fe80::1%eth0")
	for _, expr := range ownExprs {
		f.Add(expr)
	}
	packets := someFrames(7, 50, true)
	w := paths{exprs{rand.New(rand.NewPCG(7, 1))}, nil}.way()
	f.Fuzz(func(t *testing.T, expr string) {
		e, err := Parse(expr)
		if err != nil {
			var at *Error
			if !errors.As(err, &at) || at.Pos < 0 || at.Pos > len(at.Expr) || strings.Contains(at.Error(), "\n") || strings.Count(at.Excerpt(), "\n") != 2 {
				t.Fatalf("%#v", err)
			}
			return
		}
		if len(e.String()) <= maxLen {
			checkCanonical(t, expr)
		}
		if _, err := e.Kernel().Compile(); err != nil {
			t.Fatal(err)
		}
		if _, err := e.Compile(); (err == nil) != (e.path == nil) {
			t.Fatalf("compiled with own words: %v", err)
		}
		for _, b := range packets {
			p := readFrame(b)
			if e.Match(p) != e.Kernel().Match(p) {
				t.Fatalf("Match and Kernel differ on %+v", p)
			}
		}
		wants, err := e.OnPaths(testHops)
		var at *Error
		if err != nil && !(errors.As(err, &at) && strings.Count(at.Excerpt(), "\n") == 2) {
			t.Fatalf("%#v", err)
		}
		if first := wants != nil && wants(w); first != (wants != nil && wants(w)) {
			t.Fatal("asked twice, another answer")
		}
	})
}

// ownExprs have nsbpf's own words.
var ownExprs = []string{
	"node left", "hop host:br0 in", "hop host:br0:out or left:left-veth", "dropped", "latency > 1.5ms", "latency<=10µs", "natted and tcp", "not retransmitted",
	`node (left or \and) and host`, "tcp port 80 and (dropped or latency >= 1s) and not natted", "vlan and dropped or ip", "hop or:out.5 and host 10.1.2.3",
}

// TestParseDeep takes the most deeply nested expressions.
func TestParseDeep(t *testing.T) {
	for _, expr := range []string{
		strings.Repeat("(", 2000) + "tcp" + strings.Repeat(")", 2000),
		strings.Repeat("!", 4000) + "tcp",
		strings.Repeat("ip||(", 500) + "tcp" + strings.Repeat(")", 500),
		strings.Repeat("ip||(!udp&&(", 250) + "tcp" + strings.Repeat("))", 250),
		strings.Repeat("!", 4000) + "natted",
		strings.Repeat("ip||(", 500) + "dropped" + strings.Repeat(")", 500),
		strings.Repeat("ip&&(!dropped||(", 200) + "natted" + strings.Repeat("))", 200),
		strings.Repeat("!(", 1000) + "tcp" + strings.Repeat(" or ip)", 1000)[:7*150] + strings.Repeat(")", 850),
	} {
		e := mustParse(t, expr)
		if _, err := e.Kernel().Compile(); err != nil {
			t.Error(err)
		}
		if _, err := e.OnPaths(testHops); err != nil {
			t.Error(err)
		}
		if len(e.String()) <= maxLen {
			checkCanonical(t, expr)
		}
	}
}
