package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nsbpf/nsbpf/internal/netns"
	"github.com/nsbpf/nsbpf/internal/testenv"
)

// assertedRules are what packets of the tests of assertions meet in host.
const assertedRules = `table inet fw {
	chain f { type filter hook forward priority 10; udp dport 53 drop; tcp dport 99 reject with tcp reset; }
}`

// assertedDoc is what is read of `assert --json`.
type assertedDoc struct {
	Held, Failed int
	Assertions   []struct {
		Name     string
		Holds    bool
		Tries    int
		Failures []struct{ What, Text string }
		Path     *struct{ Verdict string }
	}
}

// runAssertions asks what text asserts of the lab that is up.
func runAssertions(t *testing.T, text string, args ...string) assertedDoc {
	t.Helper()
	file := filepath.Join(t.TempDir(), "checks.yaml")
	if err := os.WriteFile(file, []byte(text), 0o666); err != nil {
		t.Fatal(err)
	}
	// It exits with 3 where something does not hold.
	sh := fmt.Sprintf("nsbpf assert %s --json %s || [ $? = 3 ]", file, strings.Join(args, " "))
	out := testenv.Run(t, "sh", "-c", sh)
	var doc assertedDoc
	if err := json.Unmarshal([]byte(out), &doc); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return doc
}

// listenTCP answers at a port of a node until the test ends.
func listenTCP(t *testing.T, node, addr string) {
	t.Helper()
	var l net.Listener
	err := netns.Do(openNode(t, node), func() (err error) { l, err = net.Listen("tcp", addr); return err })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
}

// listenUDPAt takes datagrams at a port of a node, and answers none.
func listenUDPAt(t *testing.T, node string, port uint16) {
	t.Helper()
	var c *net.UDPConn
	err := netns.Do(openNode(t, node), func() (err error) {
		c, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(netip.IPv6Unspecified(), port)))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
}

// assertionCheck is an assertion, and what is to be said of it.
type assertionCheck struct {
	text string
	what string // the first that does not hold; "": it does
	says string // of it
}

// assertionChecks are of one family.
func assertionChecks(family string) []assertionCheck {
	via, exactly := "[left:left-veth, host:br0 in, host:eth0 out snat]", "[left:left-veth, host:left-br0-veth, host:br0, host:eth0 snat, wan:eth0]"
	source, other, nowhere := "192.0.2.2", "172.16.16.10", "203.0.113.9"
	if family == "ip6" {
		source, other, nowhere = "2001:db8::2", "fd16::10", "2001:db8:113::9"
	}
	to := func(proto string) string { return "left -> wan " + family + " " + proto }
	not := func(proto string) string { return "left -x-> wan " + family + " " + proto }
	long := func(packet, rest string) string { return "{packet: " + packet + ", " + rest + "}" }
	return []assertionCheck{
		{text: to("icmp")},
		{text: to("tcp/80")},
		{text: to("udp/9000")},
		{to("tcp/81"), "packet", "nobody listens"},
		{to("udp/81"), "packet", "nobody listens"},
		{to("udp/53"), "packet", "dropped in host, forward: rule `udp dport 53 drop` of table inet fw"},
		{text: not("udp/53")},
		{text: not("tcp/99")},
		{not("tcp/80"), "packet", "it came to its destination: answered by SYN-ACK"},
		{not("tcp/81"), "packet", "it came to its destination"},
		{not("icmp"), "packet", "it came to its destination: answered by echo reply"},
		{text: "right -x-> " + nowhere + " icmp"},
		{"right -> " + nowhere + " icmp", "packet", "unreachable"},
		{text: long(to("icmp"), "via: "+via)},
		{long(to("icmp"), "via: [right:right-veth]"), "via", "it did not pass right:right-veth"},
		{long(to("icmp"), "via: [host:eth0 dnat]"), "via", "it did not pass host:eth0 dnat"},
		{text: long(to("icmp"), "exactly: "+exactly)},
		{long(to("icmp"), "exactly: "+via), "exactly", "it passed host:left-br0-veth in, where host:br0 in was to be"},
		{text: long(to("icmp"), "source: '"+source+"'")},
		{long(to("icmp"), "source: '"+other+"'"), "source", "the receiver sees " + source},
		{text: long(to("tcp/80"), "source: '"+source+"'")},
		{text: long(to("icmp"), "latency: {p50: < 1s, max: < 5s}, rtt: < 5s, loss: < 1%, count: 20")},
		{long(to("icmp"), "latency: < 1ns, count: 3"), "latency", "want max < 1ns"},
		{long(to("icmp"), "rtt: {min: '> 1h'}, count: 3"), "rtt", "want min > 1h"},
		{long(to("udp/53"), "loss: < 50%, count: 4"), "loss", "100% of 4 lost"},
		{text: long(not("udp/53"), "dropped: {in: host, hook: forward, reason: netfilter_drop, by: table inet fw}")},
		{long(not("udp/53"), "dropped: {in: wan}"), "dropped", "want in wan, is host"},
		{long(not("udp/53"), "dropped: {by: table inet other}"), "dropped", "want by table inet other, is table inet fw"},
	}
}

// TestAssertions asks assertions of each kind, that hold and that do not, of IPv4
// and of IPv6.
func TestAssertions(t *testing.T) {
	testenv.Root(t)
	leavesNothing(t)
	upLab(t, "nat", "--wan")
	testenv.Run(t, "nsbpf", "exec", "host", "--", "nft", assertedRules)
	listenTCP(t, "wan", ":80")
	listenUDPAt(t, "wan", 9000)
	testenv.Run(t, "nsbpf", "exec", "right", "--", "ip", "route", "add", "unreachable", "203.0.113.0/24")
	testenv.Run(t, "nsbpf", "exec", "right", "--", "ip", "route", "add", "unreachable", "2001:db8:113::/48")
	warmUp(t)

	checks := append(assertionChecks("ip"), assertionChecks("ip6")...)
	var text strings.Builder
	for _, c := range checks {
		text.WriteString("- " + c.text + "\n")
	}
	doc := runAssertions(t, text.String(), "--timeout 300ms")
	if len(doc.Assertions) != len(checks) {
		t.Fatalf("%d results of %d assertions", len(doc.Assertions), len(checks))
	}
	for i, c := range checks {
		got := doc.Assertions[i]
		var what, says string
		if len(got.Failures) > 0 {
			what, says = got.Failures[0].What, got.Failures[0].Text
		}
		if got.Holds != (c.what == "") || what != c.what || !strings.Contains(says, c.says) {
			t.Errorf("%s\n got %q %q\nwant %q %q", c.text, what, says, c.what, c.says)
		}
	}
}

// TestAssertWithin asks for a service that comes up meanwhile, and for one that does
// not.
func TestAssertWithin(t *testing.T) {
	testenv.Root(t)
	upLab(t, "nat", "--wan")
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	ns, done := openNode(t, "wan"), make(chan error, 1)
	go func() {
		done <- netns.Do(ns, func() error {
			for sentResets(t) < 3 { // all three were asked
				select {
				case <-time.After(10 * time.Millisecond):
				case <-ctx.Done():
					return nil
				}
			}
			l, err := net.Listen("tcp", ":80")
			if err != nil {
				return err
			}
			<-ctx.Done()
			return l.Close()
		})
	}()
	doc := runAssertions(t, `
- {packet: left -> wan tcp/80, within: 10s}
- {packet: left -> wan ip6 tcp/80, within: 10s}
- {packet: left -> wan tcp/81, within: 400ms}
`)
	stop()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	var got []bool
	for _, a := range doc.Assertions {
		got = append(got, a.Holds)
		if a.Tries < 2 {
			t.Errorf("%s was asked %d times", a.Name, a.Tries)
		}
	}
	if diff := cmp.Diff([]bool{true, true, false}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// sentResets returns how many TCP resets this namespace has sent.
func sentResets(t *testing.T) (n int) {
	text, err := os.ReadFile("/proc/thread-self/net/snmp")
	if err != nil {
		t.Error(err)
	}
	var names []string
	for line := range strings.Lines(string(text)) {
		words := strings.Fields(line)
		if words[0] != "Tcp:" {
			continue
		}
		if i := slices.Index(names, "OutRsts"); i >= 0 {
			n, _ = strconv.Atoi(words[i])
		}
		names = words
	}
	return n
}
