package forward

import (
	"encoding/binary"
	"fmt"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	nfxt "github.com/google/nftables/xt"

	"github.com/nsbpf/nsbpf/internal/testenv"
	"github.com/nsbpf/nsbpf/topology"
)

// iptables gives `iptables-restore` of a node lines of a table. Those that begin
// with "4 " or "6 " are of one family.
func iptables(t *testing.T, node, table string, lines ...string) {
	t.Helper()
	for _, family := range []string{"4", "6"} {
		var b strings.Builder
		fmt.Fprintf(&b, "*%s\n", table)
		for _, l := range lines {
			if of, rest, ok := strings.Cut(l, " "); !ok || len(of) > 1 {
				b.WriteString(l + "\n")
			} else if of == family {
				b.WriteString(rest + "\n")
			}
		}
		b.WriteString("COMMIT\n")
		tool := map[string]string{"4": "iptables-restore", "6": "ip6tables-restore"}[family]
		_ = testenv.Tool(t, tool)
		cmd := exec.Command("ip", "netns", "exec", node, tool)
		cmd.Stdin = strings.NewReader(b.String())
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s\n%s", tool, err, out, b.String())
		}
	}
}

// asked are matches, and targets after which the next rule is asked, in their
// order. Those behind "?" are not understood.
var asked = []string{
	"-m conntrack --ctstate NEW",
	"-m conntrack ! --ctstate NEW,INVALID",
	"-m conntrack --ctstate RELATED,ESTABLISHED",
	"-m conntrack --ctstate UNTRACKED",
	"-m conntrack --ctstate SNAT,DNAT",
	"-m state --state ESTABLISHED",
	"-m addrtype --dst-type LOCAL",
	"-m addrtype ! --dst-type LOCAL",
	"-m addrtype --src-type LOCAL",
	"-m addrtype --src-type UNICAST",
	"-m addrtype ! --src-type UNICAST --dst-type LOCAL",
	"-m addrtype --src-type UNICAST --dst-type UNICAST,LOCAL",
	"-m addrtype --dst-type MULTICAST",
	"6 -m addrtype --dst-type UNREACHABLE",
	"6 -m addrtype --dst-type LOCAL,UNREACHABLE",
	"6 -m addrtype --dst-type ANYCAST",
	"-p tcp --dport 9999",
	"-p tcp --syn",
	"-p tcp ! --syn",
	"-p tcp --tcp-flags SYN,RST SYN --sport 4242",
	"-p udp --dport 9999",
	"-p udp ! --dport 9999",
	"-p udp --sport 4000:5000 --dport 9999",
	"-p udp ! --sport 4000:5000",
	"-p udp -m multiport --dports 53,9000:9999",
	"-p udp -m multiport --dports 53,9000:10000",
	"-p udp -m multiport --dports 53,9998,10000",
	"-p udp -m multiport --sports 53,9000:9999",
	"-p udp -m multiport --ports 1:2,4242,9",
	"-p udp -m multiport ! --dports 53,9999",
	"-p tcp -m multiport --dports 9998,9999,10000",
	"4 -p icmp -m icmp --icmp-type 8",
	"4 -p icmp -m icmp --icmp-type any",
	"4 -p icmp -m icmp ! --icmp-type echo-request",
	"4 -p icmp -m icmp --icmp-type 3/1",
	"6 -p icmpv6 -m icmp6 --icmpv6-type 128",
	"6 -p icmpv6 -m icmp6 ! --icmpv6-type 129",
	"4 -s 172.16.16.0/24 ! -d 172.16.16.0/28",
	"6 -s fd16::/64",
	"-i right+",
	"! -i right-veth",
	"-m comment --comment said",
	"-m mark --mark 0x7",
	"-j MARK --set-mark 0x7",
	"-m mark --mark 0x7",
	"-m mark ! --mark 0x7",
	"-j MARK --set-xmark 0xf0/0xff",
	"-m mark --mark 0xf0",
	"-j MARK --or-mark 0x1",
	"-j MARK --and-mark 0x10",
	"-j MARK --xor-mark 0x13",
	"-m mark --mark 0x3/0xff",
	"-m mark --mark 0x10/0xf0",
	"-j LOG",
	"-j CONNMARK --set-mark 1",
	"-p udp -j NFLOG",
	"? -m physdev --physdev-is-bridged",
	"? -m limit --limit 100/s",
	"? -m length --length 10:2000",
	"? -m recent --set",
	"? -m statistic --mode random --probability 0.5",
}

// TestMatchesAsKernel puts iptables rules into a node, sends real packets there
// and compares what each counted with what was predicted.
func TestMatchesAsKernel(t *testing.T) {
	lab := up(t, "pair")
	var lines []string
	for _, a := range asked {
		family, match, ok := strings.Cut(a, " ")
		if !ok || family != "4" && family != "6" && family != "?" {
			family, match = "", a
		}
		if family == "4" || family == "6" {
			match = family + " -A INPUT " + match
		} else {
			match = "-A INPUT " + match
		}
		lines = append(lines, match)
	}
	iptables(t, "right", "filter", lines...)
	tcp := func(dst string) probe {
		return probe{"tcp " + dst, Packet{Dst: addr(dst), Proto: TCP, Sport: 4242, Dport: 9999}, "tcp"}
	}
	for _, p := range append(probes(), tcp("172.16.16.20"), tcp("fd16::20")) {
		t.Run(p.name, func(t *testing.T) {
			p.warm(t)
			family, tool := "4", "iptables"
			if p.pkt.Dst.Is6() {
				family, tool = "6", "ip6tables"
			}
			forget(t, "right")
			testenv.Run(t, "ip", "netns", "exec", "right", tool, "-Z")
			p.run(t, lab)
			counts := xtCounts(t, "right", tool)
			checkMatches(t, lab, p, family, counts)
		})
	}
}

// forget makes conntrack of a node know nothing.
func forget(t *testing.T, node string) {
	t.Helper()
	testenv.Run(t, "ip", "netns", "exec", node, "conntrack", "-F")
}

var xtCounter = regexp.MustCompile(`(?m)^\[(\d+):\d+\] -A INPUT (.*)$`)

// xtCounts returns which rules of a node's INPUT counted, once one did.
func xtCounts(t *testing.T, node, tool string) []bool {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); ; {
		var counts []bool
		for _, m := range xtCounter.FindAllStringSubmatch(testenv.Run(t, "ip", "netns", "exec", node, tool+"-save", "-c"), -1) {
			counts = append(counts, m[1] != "0")
		}
		if slices.Contains(counts, true) {
			return counts
		}
		if time.Now().After(deadline) {
			t.Fatal("no packet came")
		}
	}
}

func checkMatches(t *testing.T, lab *topology.Lab, p probe, family string, counts []bool) {
	t.Helper()
	node, err := Read(lab, "right")
	if err != nil {
		t.Fatal(err)
	}
	pkt := p.pkt.complete()
	pkt.Src = addr(map[string]string{"4": "172.16.16.10", "6": "fd16::10"}[family])
	m := machine{
		node: node, pkt: &pkt, track: tracked{state: stateNew, conn: &conn{orig: tupleOf(&pkt), now: tupleOf(&pkt)}},
		at: place{family: familyOf(pkt.Dst), hook: "input", in: "right-veth"},
	}
	table := node.table(familyOf(pkt.Dst), "filter")
	rules := table.chain("INPUT").Rules
	for _, a := range asked {
		if of, _, _ := strings.Cut(a, " "); (of == "4" || of == "6") && of != family {
			continue
		}
		line := &rules[0]
		got, _ := m.line(table, line)
		want := truthOf(counts[0])
		if strings.HasPrefix(a, "? ") {
			want = maybe
		}
		if got != want {
			t.Errorf("%s: predicted %d, want %d (%s, %+v)", a, got, want, line.Text(table), line.Exprs)
		}
		rules, counts = rules[1:], counts[1:]
	}
	if len(rules) != 0 {
		t.Errorf("%d rules are left", len(rules))
	}
}

func (n *Node) table(family, name string) *Table {
	for i := range n.Tables {
		if n.Tables[i].Family == family && n.Tables[i].Name == name {
			return &n.Tables[i]
		}
	}
	return nil
}

// oldMatch is a match in the form that only older iptables-nft give it.
type oldMatch struct {
	match expr.Match
	proto byte
	text  string
}

// old returns a match made of numbers of two bytes, and bytes.
func old(name string, rev uint32, words []uint16, more ...byte) expr.Match {
	var raw nfxt.Unknown
	for _, w := range words {
		raw = binary.NativeEndian.AppendUint16(raw, w)
	}
	raw = append(raw, more...)
	raw = append(raw, make([]byte, (8-len(raw)%8)%8)...)
	return expr.Match{Name: name, Rev: rev, Info: &raw}
}

func oldMatches() []oldMatch {
	udp := func(inverted byte, ports ...uint16) expr.Match { return old("udp", 0, ports, inverted) }
	tcp := func(mask, flags, inverted byte, ports ...uint16) expr.Match {
		return old("tcp", 0, ports, 0, mask, flags, inverted)
	}
	mark := func(mark, mask uint16, inverted byte) expr.Match {
		words := []uint16{mark, 0, mask, 0}
		if binary.NativeEndian.Uint16([]byte{0, 1}) == 1 {
			words = []uint16{0, mark, 0, mask}
		}
		return old("mark", 1, words, inverted)
	}
	return []oldMatch{
		{udp(0, 0, 65535, 9999, 9999), UDP, "udp dport 9999"},
		{udp(0, 4242, 4242, 9000, 9998), UDP, "udp sport 4242 udp dport 9000-9998"},
		{udp(1, 4242, 4242, 0, 65535), UDP, "udp sport != 4242"},
		{udp(2, 4242, 4242, 1, 2), UDP, "udp sport 4242 udp dport != 1-2"},
		{tcp(0, 0, 0, 0, 65535, 9999, 9999), TCP, "tcp dport 9999"},
		{tcp(0x17, 0x02, 0, 0, 65535, 0, 65535), TCP, "tcp flags & 0x17 == 0x02"},
		{tcp(0x17, 0x02, 4, 0, 65535, 0, 65535), TCP, "tcp flags & 0x17 != 0x02"},
		{tcp(0x10, 0x10, 0, 0, 65535, 0, 65535), TCP, "tcp flags & 0x10 == 0x10"},
		{tcp(0, 0, 2, 0, 65535, 9999, 9999), TCP, "tcp dport != 9999"},
		{mark(0, 0xff, 0), UDP, "meta mark & 0x000000ff 0x00000000"},
		{mark(1, 0xffff, 1), UDP, "meta mark & 0x0000ffff != 0x00000001"},
	}
}

// TestOldMatchesAsKernel does so with matches that only older iptables-nft have in
// their own form.
func TestOldMatchesAsKernel(t *testing.T) {
	_ = testenv.Tool(t, "iptables")
	lab := up(t, "pair")
	ns, err := lab.Netns("right")
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	c, err := nftables.New(nftables.WithNetNSFd(int(ns.Fd())))
	if err != nil {
		t.Fatal(err)
	}
	table := c.AddTable(&nftables.Table{Name: "t", Family: nftables.TableFamilyIPv4})
	chain := c.AddChain(&nftables.Chain{
		Name: "in", Table: table, Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookInput, Priority: nftables.ChainPriorityFilter,
	})
	for _, tt := range oldMatches() {
		c.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: []expr.Any{
			&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1}, &expr.Cmp{Register: 1, Op: expr.CmpOpEq, Data: []byte{tt.proto}},
			&tt.match, &expr.Counter{},
		}})
	}
	if err := c.Flush(); err != nil {
		t.Fatal(err)
	}
	v4 := addr("172.16.16.20")
	for _, p := range []probe{probes()[0], {"tcp", Packet{Dst: v4, Proto: TCP, Sport: 4242, Dport: 9999}, "tcp"}} {
		p.warm(t)
		before := xtCounted(t)
		p.run(t, lab)
		node, err := Read(lab, "right")
		if err != nil {
			t.Fatal(err)
		}
		pkt := p.pkt.complete()
		m := machine{node: node, pkt: &pkt, at: place{family: "ip", hook: "input", in: "right-veth"}}
		after := xtCounted(t)
		for i, tt := range oldMatches() {
			line := &node.Tables[0].Chains[0].Rules[i]
			got, _ := m.line(&node.Tables[0], line)
			if want := truthOf(after[i] != before[i]); got != want {
				t.Errorf("%s %s: predicted %d, the kernel says %d", p.name, tt.text, got, want)
			}
			text := strings.TrimPrefix(line.Text(&node.Tables[0]), "meta l4proto udp ")
			if text != tt.text+" counter" {
				t.Errorf("%q, want %q", text, tt.text)
			}
		}
	}
}

// xtCounted returns what the rules of table t counted.
func xtCounted(t *testing.T) (counts []string) {
	t.Helper()
	for _, m := range packets.FindAllStringSubmatch(testenv.Run(t, "ip", "netns", "exec", "right", "nft", "list", "table", "ip", "t"), -1) {
		counts = append(counts, m[1])
	}
	return counts
}

// TestXTTextAsNft compares the words of rules with those that nft has for them.
func TestXTTextAsNft(t *testing.T) {
	lab := up(t, "pair")
	iptables(t, "right", "filter", ":other - [0:0]",
		"-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
		"-A INPUT -m addrtype --dst-type LOCAL -j other",
		"-A INPUT -p tcp -m tcp --dport 80 -j ACCEPT",
		"-A INPUT -j LOG",
		"-A INPUT -g other",
		"-A INPUT -i eth0 -p udp -j DROP",
		"-A INPUT -p tcp -m mark ! --mark 7 -j RETURN",
	)
	iptables(t, "right", "nat",
		"4 -A PREROUTING -p tcp --dport 80 -j DNAT --to-destination 10.0.0.2:80",
		"4 -A PREROUTING -p tcp --dport 80 -j DNAT --to-destination 10.0.0.2-10.0.0.9",
		"4 -A PREROUTING -p tcp --dport 80 -j DNAT --to-destination 10.0.0.2:1000-2000",
		"4 -A PREROUTING -p tcp --dport 80 -j REDIRECT --to-ports 99",
		"4 -A PREROUTING -p tcp --dport 80 -j REDIRECT",
		"4 -A POSTROUTING -p udp --dport 80 -j SNAT --to-source 10.0.0.2:7",
		"4 -A POSTROUTING -p udp --dport 80 -j MASQUERADE --to-ports 7-9",
		"4 -A POSTROUTING ! -o eth0 -j MASQUERADE",
	)
	node, err := Read(lab, "right")
	if err != nil {
		t.Fatal(err)
	}
	for _, at := range [][2]string{{"filter", "INPUT"}, {"nat", "PREROUTING"}, {"nat", "POSTROUTING"}} {
		out := testenv.Run(t, "ip", "netns", "exec", "right", "nft", "-s", "list", "chain", "ip", at[0], at[1])
		var want, got []string
		for line := range strings.Lines(out) {
			line = strings.TrimSpace(line)
			if line != "}" && !strings.HasPrefix(line, "table") && !strings.HasPrefix(line, "chain") && !strings.HasPrefix(line, "type") {
				want = append(want, line)
			}
		}
		table := node.table("ip", at[0])
		for _, l := range table.chain(at[1]).Rules {
			got = append(got, l.Text(table))
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-nft +got):\n%s", at[1], diff)
		}
	}
}
