package rulings

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

var decisions = []struct {
	name, node, rules string
	from, to          string
	want              []string
}{
	{
		"rule", "r",
		`table ip fw { chain flt { type filter hook forward priority 0; udp dport 1 accept; udp dport 7777 counter drop; }; }`,
		"a", "10.0.2.2",
		[]string{"r forward: ip fw flt [udp dport 7777 counter drop] drop"},
	},
	{
		"rule for IPv6", "r",
		`table inet fw { chain flt { type filter hook forward priority 0; ip6 daddr fd02::2 drop; }; }`,
		"a", "fd02::2",
		[]string{"r forward: inet fw flt [ip6 daddr fd02::2 drop] drop"},
	},
	{
		"policy", "r",
		`table ip docker { chain FORWARD { type filter hook forward priority 0; policy drop; tcp dport 80 accept; }; }`,
		"a", "10.0.2.2",
		[]string{"r forward: ip docker FORWARD [policy drop] drop"},
	},
	{
		"policy for IPv6", "r",
		`table ip6 docker { chain FORWARD { type filter hook forward priority 0; policy drop; }; }`,
		"a", "fd02::2",
		[]string{"r forward: ip6 docker FORWARD [policy drop] drop"},
	},
	{
		"chain jumped to", "r",
		`table ip fw {
			chain bad { ip saddr { 10.0.1.2, 10.9.9.9 } drop; }
			chain some { goto bad; }
			chain flt { type filter hook forward priority 0; jump some; }
		}`,
		"a", "10.0.2.2",
		[]string{"r forward: ip fw bad [ip saddr { 10.0.1.2, 10.9.9.9 } drop] drop"},
	},
	{
		"before routing", "r",
		`table ip raw { chain pre { type filter hook prerouting priority raw; udp dport 7777 drop; }; }`,
		"a", "10.0.2.2",
		[]string{"r prerouting: ip raw pre [udp dport 7777 drop] drop"},
	},
	{
		"reject", "r",
		`table inet fw { chain flt { type filter hook forward priority 0; udp dport 7777 reject; }; }`,
		"a", "10.0.2.2",
		[]string{"r forward: inet fw flt [udp dport 7777 reject] reject"},
	},
	{
		"a node's own packets", "a",
		`table ip fw { chain out { type filter hook output priority 0; udp dport 7777 drop; }; }`,
		"a", "10.0.2.2",
		[]string{"a output: ip fw out [udp dport 7777 drop] drop"},
	},
	{
		"input", "b",
		`table ip fw { chain in { type filter hook input priority 0; udp dport 7777 drop; }; }`,
		"a", "10.0.2.2",
		[]string{"b input: ip fw in [udp dport 7777 drop] drop"},
	},
	{
		// On Linux 6.1 br_netfilter takes packets past chains of priority 0.
		"bridge", "s",
		`table bridge fw { chain flt { type filter hook forward priority 5; ip protocol udp drop; }; }`,
		"c", "10.0.3.2",
		[]string{"s forward: bridge fw flt [ip protocol udp drop] drop"},
	},
	{
		"bridge for IPv6", "s",
		`table bridge fw { chain flt { type filter hook forward priority 5; policy drop; ip6 nexthdr icmpv6 accept; }; }`,
		"c", "fd03::2",
		[]string{"s forward: bridge fw flt [policy drop] drop"},
	},
	{
		"bridge through IPv4's rules", "s",
		`table ip docker { chain FORWARD { type filter hook forward priority 0; policy drop; }; }`,
		"c", "10.0.3.2",
		[]string{"s forward: ip docker FORWARD [policy drop] drop"},
	},
	{
		"masquerade", "r",
		`table ip nat { chain post { type nat hook postrouting priority srcnat; oifname "r-b" counter masquerade; }; }
		 table inet fw { chain flt { type filter hook forward priority 0; accept; }; }`,
		"a", "10.0.2.2",
		[]string{`r postrouting: ip nat post [oifname "r-b" counter masquerade] accept`},
	},
	{
		"port published", "r",
		`table ip nat {
			chain pub { udp dport 7777 dnat to 10.0.2.2:9; }
			chain pre { type nat hook prerouting priority dstnat; jump pub; }
		}`,
		"a", "10.0.1.1",
		[]string{"r prerouting: ip nat pub [udp dport 7777 dnat to 10.0.2.2:9] accept"},
	},
	{
		"snat for IPv6", "r",
		`table ip6 nat { chain post { type nat hook postrouting priority srcnat; snat to fd02::7; }; }`,
		"a", "fd02::2",
		[]string{"r postrouting: ip6 nat post [snat to fd02::7] accept"},
	},
}

func TestDecisions(t *testing.T) {
	network(t)
	for _, c := range decisions {
		t.Run(c.name, func(t *testing.T) {
			rules(t, c.node, c.rules)
			w := open(t, false, "a", "r", "b", "c", "s", "d")
			from := send(t, c.from, c.to, tracedPort)
			var got []string
			for _, r := range take(t, w, len(c.want)) {
				got = append(got, line(r))
				p := &r.Packet
				if r.Src() != from.Addr() || r.Dst() != netip.MustParseAddr(c.to) || p.Sport != from.Port() || p.Dport != tracedPort ||
					p.Proto != unix.IPPROTO_UDP || p.Len != uint32(map[bool]int{true: 47, false: 67}[from.Addr().Is4()]) {
					t.Errorf("packet %+v", p)
				}
				if (r.Rule.Handle == 0) != strings.HasPrefix(r.Rule.Text, "policy") {
					t.Errorf("handle %d", r.Rule.Handle)
				}
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}
