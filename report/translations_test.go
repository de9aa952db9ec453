package report

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/nsbpf/nsbpf/collector"
	"github.com/nsbpf/nsbpf/trace"
)

// TestTranslations names the rules by which a packet got both addresses at one step.
func TestTranslations(t *testing.T) {
	ruling := func(hook, table string) trace.Ruling {
		return trace.Ruling{Node: "host", Hook: hook, Step: 2, Rule: trace.Rule{Family: "ip", Table: table, Chain: "c", Verdict: "accept"}}
	}
	dnat, masquerade := ruling("prerouting", "d"), ruling("postrouting", "s")
	for _, tt := range []struct {
		name    string
		rulings []trace.Ruling
		want    string
	}{
		{"both", []trace.Ruling{dnat, masquerade}, "dnat by table ip d, chain c; snat by table ip s, chain c"},
		{"one", []trace.Ruling{masquerade}, "dnat; snat by table ip s, chain c"},
		{"none", nil, "dnat snat"},
	} {
		r := record(t, natWAN(t))
		r.send(icmp4(8, 0, "172.16.16.10", "9.9.9.9"), at{"left:left-veth out", 0, nil}, at{"host:left-br0-veth in", 1_000, nil},
			at{"host:br0 in", 1_000, nil}, at{"host:eth0 out", 1_000, func(s *collector.Sighting) {
				snat("192.0.2.2", 0)(s)
				s.Orig.Status |= collector.ConnDNAT
				s.Packet.Dst = netip.MustParseAddr("8.8.8.8").As16()
			}}, at{"wan:eth0 in", 1_000, nil})
		path := r.end()[0]
		path.Rulings = tt.rulings
		var b strings.Builder
		if err := NewPathText(&b, r.hops, Style{}).Path(path, nil); err != nil {
			t.Fatal(err)
		}
		if want := "192.0.2.2 > 8.8.8.8   " + tt.want + "\n"; !strings.Contains(b.String(), want) {
			t.Errorf("%s:\n%s\nwant %s", tt.name, &b, want)
		}
	}
}
