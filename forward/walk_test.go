package forward

import (
	"encoding/json"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// stored returns the configuration of a lab nat --wan, as a recording keeps it.
func stored(t testing.TB) (*Net, []byte) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", "nat-wan.json"))
	if err != nil {
		t.Fatal(err)
	}
	var net Net
	if err := json.Unmarshal(b, &net); err != nil {
		t.Fatal(err)
	}
	return &net, b
}

// sketch returns a journey as lines.
func sketch(j *Journey) []string {
	var lines []string
	for _, s := range j.Steps {
		line := s.Hop.String()
		for _, n := range s.NAT {
			line += " " + n.Kind
		}
		if len(s.NAT) > 0 {
			line += " " + s.Packet.String()
		}
		lines = append(lines, line)
	}
	lines = append(lines, string(j.End)+" "+j.At)
	for _, o := range j.Obstacles {
		lines = append(lines, string(o.Effect)+" "+string(o.Code)+": "+o.Sentence)
	}
	return lines
}

func TestStoredIsTheSame(t *testing.T) {
	net, b := stored(t)
	again, err := json.Marshal(net)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(b), string(again)+"\n"); diff != "" {
		t.Errorf("written again (-want +got):\n%s", diff)
	}
}

// TestMasqueradeSparesBridges follows the packets of the preset without a kernel.
func TestMasqueradeSparesBridges(t *testing.T) {
	net, _ := stored(t)
	for _, tt := range []struct {
		to   string
		want []string
	}{
		{"8.8.8.8", []string{"left:left-veth out", "host:left-br0-veth in", "host:br0 in",
			"host:eth0 out snat ICMP 192.0.2.2 > 8.8.8.8", "wan:eth0 in", "delivered wan"}},
		{"right", []string{"left:left-veth out", "host:left-br0-veth in", "host:right-br0-veth out", "right:right-veth in", "delivered right"}},
	} {
		p, err := net.Packet(Ask{From: "left", To: tt.to})
		if err != nil {
			t.Fatal(err)
		}
		j, err := Walk(net, "left", p)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(tt.want, sketch(j)); diff != "" {
			t.Errorf("to %s (-want +got):\n%s", tt.to, diff)
		}
	}
}

// changes are what can be said without a kernel: of the packet, once the stored
// lab is changed so.
var changes = []struct {
	name   string
	change func(*Net)
	pkt    Packet
	want   string // obstacle: effect, code, and part of the sentence
}{
	{"TTL", nil, Packet{TTL: 1}, "stops ttl: its TTL is used up in host"},
	{"MTU", func(n *Net) { n.Node("host").Device("eth0").MTU = 1400 }, Packet{Length: 1500, DF: true}, "stops mtu: 1500 bytes do not fit through host:eth0, whose MTU is 1400"},
	{"MTU without DF", func(n *Net) { n.Node("host").Device("eth0").MTU = 1400 }, Packet{Length: 1500}, ""},
	{"MTU of the other end", func(n *Net) { n.Node("wan").Device("eth0").MTU = 1400 }, Packet{Length: 1405}, "stops mtu: 1405 bytes are more than the MTU 1400 of wan:eth0"},
	{"MTU of the other end, as a VLAN tag has room", func(n *Net) { n.Node("wan").Device("eth0").MTU = 1400 }, Packet{Length: 1404}, ""},
	{"MTU of the other end, with fragments", func(n *Net) { n.Node("wan").Device("eth0").MTU = 1400 }, Packet{Length: 3000}, "stops mtu: 1500 bytes are more than the MTU 1400 of wan:eth0"},
	{"MTU of the route", func(n *Net) { n.Node("left").Routes[0].MTU = 1300 }, Packet{Length: 1400, DF: true}, "stops mtu: 1400 bytes are more than the MTU 1300 of the route"},
	{"bridge MTU", func(n *Net) {
		n.Node("left").Device("left-veth").MTU, n.Node("host").Device("left-br0-veth").MTU = 9000, 9000
	}, Packet{Dst: addr("172.16.16.20"), Length: 5000}, "stops mtu: 5000 bytes do not fit through host:right-br0-veth"},
	{"failed neighbour", func(n *Net) {
		n.Node("left").Neighbours = []Neighbour{{Addr: addr("172.16.16.1"), Device: "left-veth", State: "failed"}}
	}, Packet{}, "note neighbour: left could not reach 172.16.16.1"},
	{"foreign XDP", func(n *Net) { n.Node("host").Device("eth0").XDP = "firewall" }, Packet{}, ""},
	{"foreign tc", func(n *Net) { n.Node("host").Device("eth0").Programs = []string{"egress cil_to_netdev"} }, Packet{}, "unknown program: what the tc program cil_to_netdev does at host:eth0 egress is not known"},
	{"own tc", func(n *Net) { n.Node("host").Device("eth0").Programs = []string{"egress count_tc"} }, Packet{}, ""},
	{"filter", func(n *Net) { n.Node("host").Device("eth0").Programs = []string{"egress filter_tc"} }, Packet{}, "unknown program: a filter of nsbpf's stands at host:eth0 egress"},
	{"nobody listens", nil, Packet{Proto: UDP, Dport: 9}, "stops no_socket: nobody in wan listens on udp port 9"},
	{"elsewhere", func(n *Net) {
		n.Node("wan").Sockets = []Socket{{Proto: "udp", Addr: addr("127.0.0.1"), Port: 9}}
	}, Packet{Proto: UDP, Dport: 9}, "stops no_socket: nobody in wan listens on udp port 9 at 8.8.8.8, only at 127.0.0.1"},
	{"IPv6 socket", func(n *Net) {
		n.Node("wan").Sockets = []Socket{{Proto: "udp", Addr: addr("::"), Port: 9}}
	}, Packet{Proto: UDP, Dport: 9}, ""},
	{"IPv6 socket only", func(n *Net) {
		n.Node("wan").Sockets = []Socket{{Proto: "udp", Addr: addr("::"), Port: 9, Only6: true}}
	}, Packet{Proto: UDP, Dport: 9}, "stops no_socket: nobody in wan listens"},
	{"sockets unknown", func(n *Net) { n.Node("wan").Sockets = nil }, Packet{Proto: UDP, Dport: 9}, "unknown no_socket: whether somebody in wan listens"},
	{"limit", func(n *Net) { n.Node("host").filter("drop", Expr{Op: "limit"}) }, Packet{}, "unknown netfilter: whether `limit rate 0/ drop` (table ip f, chain c, handle 1) drops it in host, forward, depends on limit"},
	{"limit before the same", func(n *Net) {
		n.Node("host").filter("drop", Expr{Op: "limit"})
		n.Node("host").filter("drop")
	}, Packet{}, "stops netfilter: dropped by `drop`"},
	{"unknown expression that does not matter", func(n *Net) {
		n.Node("host").filter("drop", Expr{Op: "osf", Dst: 1}, Expr{Op: "meta", Key: "l4proto", Dst: 2}, Expr{Op: "cmp", Cmp: "==", Src: 2, Data: Bytes{6}})
	}, Packet{}, ""},
	{"two routes", func(n *Net) {
		n.Node("host").Routes = append(n.Node("host").Routes, Route{Table: 254, Kind: "unicast", Dst: netip.MustParsePrefix("8.8.8.8/32"),
			Hops: []NextHop{{Device: "eth0", Via: addr("192.0.2.1")}, {Device: "br0"}}})
	}, Packet{}, "unknown route_unknown: which way host sends it is not sure"},
	{"loop", func(n *Net) {
		n.Node("wan").Routes = []Route{{Table: 254, Kind: "unicast", Device: "eth0", Via: addr("192.0.2.2"), Dst: netip.MustParsePrefix("0.0.0.0/0")}}
		n.Node("wan").Sysctls["net.ipv4.conf.eth0.forwarding"] = "1"
	}, Packet{}, "stops"},
}

func TestChanges(t *testing.T) {
	for _, tt := range changes {
		t.Run(tt.name, func(t *testing.T) {
			net, _ := stored(t)
			if tt.change != nil {
				tt.change(net)
			}
			if !tt.pkt.Dst.IsValid() {
				tt.pkt.Dst = addr("8.8.8.8")
			}
			j, err := Walk(net, "left", tt.pkt)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, o := range j.Obstacles {
				got = append(got, string(o.Effect)+" "+string(o.Code)+": "+o.Sentence)
			}
			all := strings.Join(got, "\n")
			if tt.want == "" && all != "" || !strings.Contains(all, tt.want) {
				t.Errorf("obstacles %q, want %q", all, tt.want)
			}
		})
	}
}

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

// filter adds a rule to a forward chain of table f, which it makes.
func (n *Node) filter(verdict string, exprs ...Expr) {
	line := Line{Handle: 1, Exprs: append(exprs, Expr{Op: "immediate", Verdict: verdict})}
	for i := range n.Tables {
		if t := &n.Tables[i]; t.Name == "f" {
			t.Chains[0].Rules = append(t.Chains[0].Rules, line)
			return
		}
	}
	n.Tables = append(n.Tables, Table{Family: "ip", Name: "f", Chains: []Chain{
		{Name: "c", Hook: "forward", Kind: "filter", Policy: "accept", Rules: []Line{line}},
	}})
}

func TestAsk(t *testing.T) {
	net, _ := stored(t)
	for _, tt := range []struct {
		ask  Ask
		want string // part of the error, or the packet
	}{
		{Ask{From: "left", To: "right"}, "ICMP ? > 172.16.16.20"},
		{Ask{From: "left", To: "right", IPv6: true}, "ICMPv6 ? > fd16::20"},
		{Ask{From: "left", To: "::ffff:8.8.8.8", Proto: "udp", Port: "53"}, "UDP ? > 8.8.8.8:53"},
		{Ask{From: "left", To: "8.8.8.8", Proto: "47"}, "GRE ? > 8.8.8.8"},
		{Ask{From: "lfet", To: "right"}, `node "lfet" does not exist (did you mean "left"?)`},
		{Ask{From: "left", To: "rihgt"}, `node "rihgt" does not exist (did you mean "right"?)`},
		{Ask{From: "left", To: "8.8.8"}, `"8.8.8" is neither a node nor an address`},
		{Ask{From: "left", To: "fe80::1%eth9"}, `left has no device "eth9"`},
		{Ask{From: "left", To: "right", Proto: "tcpp", Port: "80"}, `protocol "tcpp" does not exist (did you mean "tcp"?)`},
		{Ask{From: "left", To: "right", Proto: "tcp", Port: "http"}, `port "http" is none (want a number from 1 to 65535)`},
		{Ask{From: "left", To: "right", Proto: "tcp", Port: "0"}, `port "0" is none`},
		{Ask{From: "left", To: "right", Proto: "tcp", Port: "65536"}, `port "65536" is none`},
		{Ask{From: "left", To: "right", Proto: "icmp", Port: "7"}, `ICMP has no ports; want tcp or udp`},
		{Ask{From: "left", To: "8.8.8.8", Proto: "icmp6"}, `protocol "icmp6" to an IPv4 address (want icmp)`},
	} {
		p, err := net.Packet(tt.ask)
		got := p.String()
		if err != nil {
			got = err.Error()
		}
		if !strings.Contains(got, tt.want) {
			t.Errorf("%+v: %s, want %s", tt.ask, got, tt.want)
		}
	}
	if _, err := Walk(net, "nobody", Packet{Dst: addr("8.8.8.8")}); err == nil {
		t.Error("a walk from nobody")
	}
	if _, err := Walk(net, "left", Packet{}); err == nil {
		t.Error("a walk to nowhere")
	}
}

// FuzzWalk: whatever a recording has, a walk ends. Edits are of three bytes, a
// place in the stored lab and what to write there. As root it needs
// NSBPF_TEST_INSIDE=2, as fuzzing starts processes of its own.
func FuzzWalk(f *testing.F) {
	_, stored := stored(f)
	f.Add([]byte{}, "left", "8.8.8.8", uint8(UDP), uint16(53))
	f.Add([]byte{1, 2, '9', 20, 30, 'f'}, "wan", "fd16::10", uint8(ICMP6), uint16(0))
	f.Fuzz(func(t *testing.T, edits []byte, from, to string, proto uint8, port uint16) {
		b := slices.Clone(stored)
		for ; len(edits) >= 3; edits = edits[3:] {
			b[(int(edits[0])<<8|int(edits[1]))%len(b)] = edits[2]
		}
		var net Net
		if json.Unmarshal(b, &net) != nil {
			return
		}
		dst, err := netip.ParseAddr(to)
		if err != nil {
			return
		}
		if j, err := Walk(&net, from, Packet{Dst: dst, Proto: proto, Dport: port}); err == nil && len(j.Steps) > maxSteps {
			t.Errorf("%d steps", len(j.Steps))
		}
	})
}

func TestIntervals(t *testing.T) {
	start := func(k byte) edge { return edge{Element: Element{Key: Bytes{k}}} }
	end := func(k byte) edge { return edge{Element{Key: Bytes{k}}, true} }
	for _, tt := range []struct {
		name string
		in   []edge
		want []Element
	}{
		{"keys", []edge{start(1), start(9)}, []Element{{Key: Bytes{1}}, {Key: Bytes{9}}}},
		{"backwards", []edge{end(20), start(10), end(0)}, []Element{{Key: Bytes{10}, Last: Bytes{19}}}},
		{"to the last", []edge{start(10), end(0)}, []Element{{Key: Bytes{10}, Last: Bytes{255}}}},
		{"side by side", []edge{start(10), end(20), start(20), end(30)}, []Element{{Key: Bytes{10}, Last: Bytes{19}}, {Key: Bytes{20}, Last: Bytes{29}}}},
	} {
		if diff := cmp.Diff(tt.want, intervals(tt.in), cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, diff)
		}
	}
}

func TestDiffCounters(t *testing.T) {
	before := map[string]uint64{"Udp.NoPorts": 3, "Ip.InReceives": 9, "eth0 rx_dropped": 1}
	after := map[string]uint64{"Udp.NoPorts": 5, "Ip.InReceives": 90, "eth0 rx_dropped": 1, "veth7 tx_dropped": 2}
	want := []Loss{
		{"Udp.NoPorts", 2, meanings["Udp.NoPorts"]},
		{"veth7 tx_dropped", 2, deviceMeanings[" tx_dropped"]},
	}
	if diff := cmp.Diff(want, DiffCounters(before, after)); diff != "" {
		t.Errorf("losses (-want +got):\n%s", diff)
	}
}

func TestRuleAt(t *testing.T) {
	net, _ := stored(t)
	host := net.Node("host")
	chain := host.Tables[0].chain("POSTROUTING")
	got, ok := host.RuleAt(host.Tables[0].Family, host.Tables[0].Name, "POSTROUTING", chain.Rules[0].Handle)
	want := `ip saddr 172.16.16.0/24 oifname != "br0" counter masquerade`
	if !ok || got.Text != want {
		t.Errorf("%s, %t, want %s", got, ok, want)
	}
	if got, ok := host.RuleAt("ip", host.Tables[0].Name, "POSTROUTING", 99); ok {
		t.Errorf("rule 99 is %s", got)
	}
}
