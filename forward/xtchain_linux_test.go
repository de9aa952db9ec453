package forward

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/nsbpf/nsbpf/internal/testenv"
)

// translated are NAT rules of router r1 in lab routers, asked by UDP from a, or by
// its answer's way.
var translated = []struct {
	rule, dst string // dst: where a sends, port 8080; "": to b
	unknown   string // what is not known
}{
	{rule: "4 -A PREROUTING -p udp --dport 8080 -j DNAT --to-destination 10.0.2.10:80", dst: "10.0.1.1"},
	{rule: "4 -A PREROUTING -p udp --dport 8080 -j DNAT --to-destination 10.0.2.10", dst: "10.0.1.1"},
	{rule: "4 -A PREROUTING -p udp --dport 8080 -j DNAT --to-destination :80"},
	{rule: "4 -A PREROUTING -p udp --dport 8080 -j DNAT --to-destination 10.0.2.10:8000-9000", dst: "10.0.1.1"},
	{rule: "4 -A PREROUTING -p udp --dport 8080 -j DNAT --to-destination 10.0.2.10:1000-2000/8000", dst: "10.0.1.1"},
	{rule: "4 -A PREROUTING -p udp --dport 8080 -j DNAT --to-destination 10.0.2.10:1000-2000", dst: "10.0.1.1", unknown: "which port of 1000-2000"},
	{rule: "4 -A PREROUTING -p udp --dport 8080 -j DNAT --to-destination 10.0.2.10-10.0.2.19", dst: "10.0.1.1", unknown: "which address of 10.0.2.10-10.0.2.19"},
	{rule: "6 -A PREROUTING -p udp --dport 8080 -j DNAT --to-destination [fd02::10]:80", dst: "fd01::1"},
	{rule: "6 -A PREROUTING -p udp --dport 8080 -j DNAT --to-destination fd02::10", dst: "fd01::1"},
	{rule: "4 -A PREROUTING -p udp --dport 8080 -j REDIRECT"},
	{rule: "4 -A PREROUTING -p udp --dport 8080 -j REDIRECT --to-ports 99"},
	{rule: "6 -A PREROUTING -p udp --dport 8080 -j REDIRECT --to-ports 99", dst: "fd02::10"},
	{rule: "4 -A PREROUTING -p udp --dport 8081 -j REDIRECT --to-ports 99"},
	{rule: "4 -A POSTROUTING -o eth1 -j MASQUERADE"},
	{rule: "4 -A POSTROUTING ! -o eth1 -j MASQUERADE"},
	{rule: "4 -A POSTROUTING -p udp -j MASQUERADE --to-ports 5000"},
	{rule: "4 -A POSTROUTING -p udp -j MASQUERADE --to-ports 4000-5000"},
	{rule: "4 -A POSTROUTING -p udp -j MASQUERADE --random"},
	{rule: "6 -A POSTROUTING -p udp -j MASQUERADE", dst: "fd02::10"},
	{rule: "6 -A POSTROUTING -p udp -j MASQUERADE --to-ports 5000", dst: "fd02::10"},
	{rule: "4 -A POSTROUTING -j SNAT --to-source 10.255.0.1"},
	{rule: "4 -A POSTROUTING -p udp -j SNAT --to-source 10.255.0.1:5000"},
	{rule: "4 -A POSTROUTING -p udp -j SNAT --to-source :4000-5000"},
	{rule: "4 -A POSTROUTING -p udp -j SNAT --to-source 10.255.0.1:5000-6000", unknown: "which port of 5000-6000"},
	{rule: "4 -A POSTROUTING -p udp -j SNAT --to-source 10.255.0.1-10.255.0.9", unknown: "which address of 10.255.0.1-10.255.0.9"},
	{rule: "6 -A POSTROUTING -p udp -j SNAT --to-source [fd00:255::1]:5000", dst: "fd02::10"},
	{rule: "4 -A PREROUTING -p udp -m conntrack --ctstate NEW -m addrtype --dst-type LOCAL -j DNAT --to-destination 10.0.2.10:80", dst: "10.0.1.1"},
	{rule: "4 -A PREROUTING -j NETMAP --to 10.0.2.0/24", unknown: "takes it in r1"},
}

// TestTranslationsAsKernel compares what connections became with what conntrack
// says of them.
func TestTranslationsAsKernel(t *testing.T) {
	lab := up(t, "routers")
	for _, tt := range translated {
		t.Run(tt.rule, func(t *testing.T) {
			for _, tool := range []string{"iptables", "ip6tables"} {
				testenv.Run(t, "ip", "netns", "exec", "r1", tool, "-t", "nat", "-F")
			}
			forget(t, "r1")
			iptables(t, "r1", "nat", tt.rule)
			if tt.dst == "" {
				tt.dst = "10.0.2.10"
			}
			net, err := ReadNet(lab)
			if err != nil {
				t.Fatal(err)
			}
			p := probe{pkt: Packet{Dst: addr(tt.dst), Proto: UDP, Sport: 4242, Dport: 8080}, send: "udp"}
			w := &walker{net: net, conns: map[string][]*conn{}}
			j := w.send(net.Node("a"), p.pkt.complete())
			sentFrom(t, lab, "a", p.pkt)
			if tt.unknown != "" {
				if !slices.ContainsFunc(j.Obstacles, func(o Obstacle) bool { return o.Effect == Unknown && strings.Contains(o.Sentence, tt.unknown) }) {
					t.Errorf("obstacles %+v, want one unknown: %s", j.Obstacles, tt.unknown)
				}
				return
			}
			if !j.Sure() {
				t.Errorf("obstacles %+v", j.Obstacles)
			}
			got := w.conns["r1"][0].now
			want := tracks(t, "r1", "dport=8080")
			if got.sport == 0 {
				want.sport = 0 // chosen at random
			}
			if got != want {
				t.Errorf("predicted %+v, conntrack says %+v", got, want)
			}
		})
	}
}

// tracks returns what a UDP connection became by conntrack, as soon as it knows one.
func tracks(t *testing.T, node, which string) tuple {
	t.Helper()
	reply := regexp.MustCompile(`src=(\S+) dst=(\S+) sport=(\d+) dport=(\d+)`)
	for deadline := time.Now().Add(5 * time.Second); ; {
		for line := range strings.Lines(testenv.Run(t, "ip", "netns", "exec", node, "cat", "/proc/net/nf_conntrack")) {
			if !strings.Contains(line, which) {
				continue
			}
			m := reply.FindAllStringSubmatch(line, -1)[1]
			c := tuple{src: netip.MustParseAddr(m[1]), dst: netip.MustParseAddr(m[2]), proto: UDP}
			fmt.Sscan(m[3]+" "+m[4], &c.sport, &c.dport)
			return c.reverse()
		}
		if time.Now().After(deadline) {
			t.Fatal("conntrack knows of no connection")
		}
	}
}

// TestXTVerdictsAsKernel generates iptables chains that jump, go and return, sends
// a packet through them and compares its end with the predicted one.
func TestXTVerdictsAsKernel(t *testing.T) {
	lab := up(t, "pair")
	p := probes()[0]
	p.warm(t)
	for seed := range uint64(25) {
		policy, lines := xtChains(seed)
		iptables(t, "right", "filter", lines...)
		testenv.Run(t, "ip", "netns", "exec", "right", "iptables", "-P", "INPUT", policy)
		nft(t, "right", "table inet t {}\n delete table inet t\n table inet t {\n chain in { type filter hook input priority -300; meta l4proto 17 counter; }\n"+
			" chain end { type filter hook input priority 300; meta l4proto 17 counter; }\n}\n")
		forget(t, "right")
		node, err := Read(lab, "right")
		if err != nil {
			t.Fatal(err)
		}
		pkt := p.pkt.complete()
		pkt.Src = addr("172.16.16.10")
		track := tracked{state: stateNew, conn: &conn{orig: tupleOf(&pkt), now: tupleOf(&pkt)}}
		got := node.hook(place{family: "ip", hook: "input", in: "right-veth"}, &pkt, &track, netip.Addr{})
		p.run(t, lab)
		counted(t)
		want := "accept"
		if out := testenv.Run(t, "ip", "netns", "exec", "right", "nft", "list", "chain", "inet", "t", "end"); strings.Contains(out, "packets 0 ") {
			want = "drop"
		}
		if (got.verdict == "accept") != (want == "accept") || len(got.doubts) > 0 {
			t.Errorf("seed %d: predicted %s by %s, doubts %v; the kernel says %s:\n%s", seed, got.verdict, got.rule, got.doubts, want, strings.Join(lines, "\n"))
		}
	}
}

// xtChains makes up a policy of INPUT, and chains of rules, each of which jumps to
// later ones only.
func xtChains(seed uint64) (policy string, lines []string) {
	rnd := rand.New(rand.NewPCG(seed, 7))
	chains := []string{"INPUT", "c0", "c1", "c2"}
	for _, c := range chains[1:] {
		lines = append(lines, fmt.Sprintf(":%s - [0:0]", c))
	}
	for i, c := range chains {
		for range 1 + rnd.IntN(5) {
			a := asked[rnd.IntN(len(asked))]
			if strings.Contains(a, "-j") || strings.HasPrefix(a, "?") || strings.HasPrefix(a, "6 ") {
				a = ""
			}
			target := []string{"-j ACCEPT", "-j DROP", "-j RETURN", "-j REJECT", "-j LOG", "-j MARK --set-mark 7", ""}[rnd.IntN(7)]
			if i < 3 && rnd.IntN(2) == 0 {
				target = []string{"-j ", "-g "}[rnd.IntN(2)] + chains[i+1+rnd.IntN(3-i)]
			}
			lines = append(lines, "4 -A "+c+" "+strings.TrimPrefix(a, "4 ")+" "+target)
		}
	}
	return []string{"ACCEPT", "DROP"}[rnd.IntN(2)], lines
}

// TestLegacy has a rule of iptables-legacy stop a packet: nobody can know that, and
// nobody says so.
func TestLegacy(t *testing.T) {
	lab := up(t, "pair")
	for _, tool := range []string{"iptables-legacy", "ip6tables-legacy"} {
		cmd := exec.Command("ip", "netns", "exec", "right", testenv.Tool(t, tool), "-P", "INPUT", "DROP")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Skipf("this kernel has no %s: %s", tool, out)
		}
	}
	for _, six := range []bool{false, true} {
		j := walk(t, lab, Ask{From: "left", To: "right", IPv6: six})
		var got []string
		for _, o := range j.Obstacles {
			got = append(got, string(o.Effect)+": "+o.Sentence)
		}
		want := []string{"unknown: what rules of iptables-legacy do in right, input, is not known (table filter)"}
		if diff := cmp.Diff(want, got); diff != "" || j.Sure() {
			t.Errorf("sure: %v, obstacles (-want +got):\n%s", j.Sure(), diff)
		}
	}
}

// TestDiscoveryIsUntracked has a node drop the questions of neighbours that conntrack
// takes no note of.
func TestDiscoveryIsUntracked(t *testing.T) {
	lab := up(t, "pair")
	iptables(t, "right", "filter", "6 -A INPUT -p icmpv6 -m icmp6 --icmpv6-type 135 -m conntrack --ctstate UNTRACKED -j DROP")
	j := walk(t, lab, Ask{From: "left", To: "right", IPv6: true})
	if o := j.stop(); o == nil || !strings.Contains(o.Sentence, "the question who has fd16::20: dropped by `icmpv6 type 135") {
		t.Errorf("stopped by %+v", o)
	}
	if out, err := exec.Command("ip", "netns", "exec", "left", "ping", "-nqc1", "-W1", "fd16::20").CombinedOutput(); err == nil {
		t.Errorf("ping gets through:\n%s", out)
	}
}

// FuzzXT parses any bytes as a match or a target, works it off and writes it.
func FuzzXT(f *testing.F) {
	for name, x := range xts {
		f.Add(name, x.most, true, make([]byte, 160))
		f.Add(name, x.least, false, make([]byte, x.size))
	}
	f.Fuzz(func(t *testing.T, name string, rev uint32, four bool, info []byte) {
		op, key, _ := strings.Cut(name, " ")
		family, table, pkt := byte(unix.NFPROTO_IPV6), Table{Family: "ip6"}, Packet{Src: addr("fd00::1"), Dst: addr("fd00::2"), Proto: TCP}
		if four {
			family, table.Family = unix.NFPROTO_IPV4, "ip"
			pkt.Src, pkt.Dst = addr("10.0.0.1"), addr("10.0.0.2")
		}
		e := Expr{Op: op}
		e.parseXT(family, attrs{1: []byte(key), 2: binary.BigEndian.AppendUint32(nil, rev), 3: info})
		line := Line{Exprs: []Expr{e}}
		_ = line.Text(&table)
		m := machine{node: &Node{}, pkt: &pkt, at: place{family: table.Family, hook: "forward"}}
		if holds, _ := m.line(&table, &line); op == "match" && key != "comment" && len(e.Data) == 0 && holds != maybe {
			t.Errorf("%s of revision %d is not understood, and yet holds: %d", name, rev, holds)
		}
	})
}
