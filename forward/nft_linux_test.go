package forward

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nsbpf/nsbpf/internal/netns"
	"github.com/nsbpf/nsbpf/internal/testenv"
	"github.com/nsbpf/nsbpf/topology"
)

// conditions are written as nft prints them.
var conditions = []string{
	`ip saddr 172.16.16.10`,
	`ip saddr != 172.16.16.10`,
	`ip saddr 172.16.16.0/24`,
	`ip daddr 172.16.16.16-172.16.16.31`,
	`ip daddr { 10.0.0.1, 172.16.16.20 }`,
	`ip daddr { 10.0.0.0/8, 172.16.16.0/28 }`,
	`ip saddr @friends`,
	`ip saddr != @friends`,
	`ip6 saddr fd16::/64`,
	`ip6 daddr fd16::20`,
	`udp dport 9999`,
	`udp dport != 9999`,
	`udp dport 9000-9998`,
	`udp dport { 53, 9999 }`,
	`udp dport { 1000-2000, 9000-9999 }`,
	`udp dport != { 53, 9999 }`,
	`udp sport 4242`,
	`udp dport > 9998`,
	`tcp dport 9999`,
	`tcp flags 2`,
	`meta l4proto 17`,
	`meta l4proto { 6, 17 }`,
	`meta nfproto ipv4`,
	`iifname "right-veth"`,
	`iifname != "right-veth"`,
	`oifname "right-veth"`,
	`meta mark 0x00000000`,
	`ct state established,related`,
	`ct state new`,
	`ct state invalid`,
	`ct state established,new`,
	`ip ttl 64`,
	`ip length > 100`,
	`fib daddr type local`,
	`fib saddr type local`,
	`ip saddr . udp dport { 172.16.16.10 . 9999, 10.0.0.1 . 53 }`,
	`ip saddr . udp dport { 172.16.16.0/24 . 9000-9999 }`,
	`iifname "right-veth" ip saddr 172.16.16.0/28`,
	`icmp type echo-request`,
	`icmpv6 type echo-request`,
	`ct direction original`,
	`ct original ip saddr 172.16.16.10`,
	`meta iifkind "veth"`,
	`meta pkttype 0`,
}

// probe is a packet that is really sent from left to right, and as what.
type probe struct {
	name string
	pkt  Packet
	send string
}

func probes() []probe {
	v4, v6 := netip.MustParseAddr("172.16.16.20"), netip.MustParseAddr("fd16::20")
	return []probe{
		{"udp", Packet{Dst: v4, Proto: UDP, Sport: 4242, Dport: 9999, Length: 29}, "udp"},
		{"udp6", Packet{Dst: v6, Proto: UDP, Sport: 4242, Dport: 9999, Length: 49}, "udp"},
		{"icmp", Packet{Dst: v4, Length: 84}, "ping"},
		{"icmp6", Packet{Dst: v6, Length: 104}, "ping"},
	}
}

func (p probe) run(t *testing.T, lab *topology.Lab) {
	t.Helper()
	if p.send == "ping" {
		_ = testenv.Tool(t, "ping")
		testenv.Run(t, "sh", "-c", "ip netns exec left ping -nq -c1 -W1 "+p.pkt.Dst.String()+" || :")
		return
	}
	sentFrom(t, lab, "left", p.pkt)
}

// sentFrom sends a UDP packet, or tries a TCP connection, from a node.
func sentFrom(t *testing.T, lab *topology.Lab, node string, p Packet) {
	t.Helper()
	ns, err := lab.Netns(node)
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	to := netip.AddrPortFrom(p.Dst, p.Dport)
	err = netns.Do(ns, func() error {
		if p.Proto == TCP {
			d := net.Dialer{LocalAddr: &net.TCPAddr{Port: int(p.Sport)}, Timeout: time.Second}
			if c, err := d.Dial("tcp", to.String()); err == nil {
				return c.Close()
			}
			return nil // refused: it was tried
		}
		c, err := net.DialUDP("udp", &net.UDPAddr{Port: int(p.Sport)}, net.UDPAddrFromAddrPort(to))
		if err != nil {
			return err
		}
		_, err = c.Write([]byte("x"))
		return errors.Join(err, c.Close())
	})
	if err != nil {
		t.Fatal(err)
	}
}

func nft(t *testing.T, node, script string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "nft")
	if err := os.WriteFile(file, []byte(script), 0o600); err != nil {
		t.Fatal(err)
	}
	testenv.Run(t, "ip", "netns", "exec", node, "nft", "-f", file)
}

var packets = regexp.MustCompile(`counter packets (\d+) bytes`)

// TestConditionsAsKernel puts each condition before a counter, sends real packets
// and compares what counted with what was predicted. The words are compared with
// those of nft.
func TestConditionsAsKernel(t *testing.T) {
	lab := up(t, "pair")
	var b strings.Builder
	b.WriteString("table inet t {\n set friends { type ipv4_addr; flags interval; elements = { 172.16.16.0/27 }; }\n chain in { type filter hook input priority 0;\n")
	for _, c := range conditions {
		b.WriteString(c + " counter\n")
	}
	b.WriteString("meta l4proto { 1, 17, 58 } counter comment \"last\"\n}\n}\n")
	for _, p := range probes() {
		t.Run(p.name, func(t *testing.T) {
			testenv.Run(t, "ip", "-n", "left", "neigh", "flush", "all")
			p.warm(t)
			testenv.Run(t, "ip", "netns", "exec", "right", "nft", "flush", "ruleset")
			nft(t, "right", b.String())
			p.run(t, lab)
			counts := counted(t)
			node, err := Read(lab, "right")
			if err != nil {
				t.Fatal(err)
			}
			pkt := p.pkt.complete()
			pkt.Src = netip.MustParseAddr(map[bool]string{true: "172.16.16.10", false: "fd16::10"}[pkt.Dst.Is4()])
			c := &conn{orig: tupleOf(&pkt), now: tupleOf(&pkt)}
			m := machine{
				node: node, pkt: &pkt, track: tracked{state: stateNew, conn: c},
				at: place{family: familyOf(pkt.Dst), hook: "input", in: "right-veth"},
			}
			for i, cond := range conditions {
				table := &node.Tables[0]
				line := &table.chain("in").Rules[i]
				got, _ := m.line(table, line)
				if want := truthOf(counts[i] > 0); got != want {
					t.Errorf("%s: predicted %d, the kernel says %d (%+v)", cond, got, want, line.Exprs)
				}
			}
		})
	}
}

// warm makes the neighbours known without a packet at the rules.
func (p probe) warm(t *testing.T) {
	t.Helper()
	testenv.Run(t, "sh", "-c", "ip netns exec left ping -nq -c1 -W1 "+p.pkt.Dst.String()+" || :")
	testenv.Run(t, "ip", "netns", "exec", "right", "sh", "-c", "command -v conntrack >/dev/null && conntrack -F 2>/dev/null; :")
}

// counted waits until the last rule of chain in counted, and returns all counts.
func counted(t *testing.T) []int {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); ; {
		out := testenv.Run(t, "ip", "netns", "exec", "right", "nft", "list", "chain", "inet", "t", "in")
		var counts []int
		for _, m := range packets.FindAllStringSubmatch(out, -1) {
			var n int
			fmt.Sscan(m[1], &n)
			counts = append(counts, n)
		}
		if counts[len(counts)-1] > 0 {
			return counts
		}
		if time.Now().After(deadline) {
			t.Fatalf("no packet came:\n%s", out)
		}
	}
}

// TestTextAsNft compares the words of rules with nft's own.
func TestTextAsNft(t *testing.T) {
	lab := up(t, "pair")
	rules := []string{
		`udp dport 9999 drop`,
		`ip saddr 172.16.16.0/24 counter accept`,
		`iifname "eth0" oifname != "br0" tcp dport 80 reject with tcp reset`,
		`ct state established,related accept`,
		`ip saddr @friends drop`,
		`ip daddr 10.0.0.1 meta mark set 0x00000007`,
		`tcp dport { 22, 80, 443 } accept`,
		`udp sport 1000-2000 drop`,
		`ip protocol icmp accept`,
		`meta l4proto tcp drop`,
		`ip6 saddr fd16::/64 drop`,
		`ip saddr != 10.0.0.0/8 jump other`,
		`limit rate 5/second accept`,
		`counter`,
	}
	nft(t, "right", "table inet t {\n set friends { type ipv4_addr; }\n chain other {}\n chain in {\n"+strings.Join(rules, "\n")+"\n}\n}\n")
	out := testenv.Run(t, "ip", "netns", "exec", "right", "nft", "-s", "list", "chain", "inet", "t", "in")
	var want []string
	for line := range strings.Lines(out) {
		line = strings.TrimSpace(line)
		if line != "}" && !strings.HasPrefix(line, "table") && !strings.HasPrefix(line, "chain") {
			want = append(want, line)
		}
	}
	node, err := Read(lab, "right")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, l := range node.Tables[0].chain("in").Rules {
		got = append(got, l.Text(&node.Tables[0]))
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("rules (-nft +got):\n%s", diff)
	}
}

// TestVerdictsAsKernel generates chains that jump, go and return, sends a packet
// through them and compares its end with the predicted one.
func TestVerdictsAsKernel(t *testing.T) {
	lab := up(t, "pair")
	p := probes()[0]
	p.warm(t)
	for seed := range uint64(25) {
		rnd := rand.New(rand.NewPCG(seed, 9))
		script := "flush ruleset\ntable inet t {\n chain c0 {} \n chain c1 {} \n chain c2 {} \n chain c3 {}\n" +
			" chain in { type filter hook input priority -300; meta l4proto 17 counter; }\n chain end { type filter hook input priority 300; meta l4proto 17 counter; }\n" +
			fmt.Sprintf(" chain a { type filter hook input priority 0; policy %s; }\n chain b { type filter hook input priority 10; }\n}\n", []string{"accept", "drop"}[rnd.IntN(2)])
		add := func(chain string, next int) {
			for range 1 + rnd.IntN(4) {
				cond := conditions[rnd.IntN(len(conditions))]
				if strings.Contains(cond, "@") {
					cond = ""
				}
				verdict := []string{"accept", "drop", "return", "counter", "continue"}[rnd.IntN(5)]
				if next < 4 && rnd.IntN(2) == 0 {
					verdict = fmt.Sprintf("%s c%d", []string{"jump", "goto"}[rnd.IntN(2)], next+rnd.IntN(4-next))
				}
				if rnd.IntN(6) == 0 && next < 4 {
					cond, verdict = fmt.Sprintf("udp dport vmap { 53 : drop, 9999 : jump c%d }", next), ""
				}
				script += fmt.Sprintf("add rule inet t %s %s %s\n", chain, cond, verdict)
			}
		}
		add("a", 0)
		add("b", 1)
		for i := range 4 {
			add(fmt.Sprint("c", i), i+1)
		}
		nft(t, "right", script)
		node, err := Read(lab, "right")
		if err != nil {
			t.Fatal(err)
		}
		pkt := p.pkt.complete()
		pkt.Src = netip.MustParseAddr("172.16.16.10")
		track := tracked{state: stateNew, conn: &conn{orig: tupleOf(&pkt), now: tupleOf(&pkt)}}
		got := node.hook(place{family: "ip", hook: "input", in: "right-veth"}, &pkt, &track, netip.Addr{})
		p.run(t, lab)
		counted(t)
		out := testenv.Run(t, "ip", "netns", "exec", "right", "nft", "list", "chain", "inet", "t", "end")
		want := "drop"
		if !strings.Contains(out, "packets 0 ") {
			want = "accept"
		}
		if got.verdict != want || len(got.doubts) > 0 {
			t.Errorf("seed %d: predicted %s by %s, doubts %v; the kernel says %s:\n%s", seed, got.verdict, got.rule, got.doubts, want, script)
		}
	}
}
