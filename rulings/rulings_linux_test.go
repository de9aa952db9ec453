package rulings

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/nsbpf/nsbpf/internal/netns"
	"github.com/nsbpf/nsbpf/internal/testenv"
	"github.com/nsbpf/nsbpf/trace"
)

func TestMain(m *testing.M) {
	if os.Getenv(childDies) != "" {
		armAndDie()
	}
	os.Exit(testenv.Main(m))
}

// tracedPort is the destination of the UDP packets that the tests trace.
const tracedPort = 7777

// selector returns a program that selects UDP packets to tracedPort, as iptables'
// match bpf has them: from the network header on.
func selector(t testing.TB) *ebpf.Program {
	t.Helper()
	prog, err := selectPort()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { prog.Close() })
	return prog
}

func selectPort() (*ebpf.Program, error) {
	return ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "test_traced",
		Type: ebpf.SocketFilter,
		Instructions: asm.Instructions{
			asm.Mov.Reg(asm.R6, asm.R1),
			asm.LoadAbs(0, asm.Byte),
			asm.RSh.Imm(asm.R0, 4),
			asm.JEq.Imm(asm.R0, 6, "ipv6"),
			asm.LoadAbs(9, asm.Byte),
			asm.JNE.Imm(asm.R0, unix.IPPROTO_UDP, "no"),
			asm.LoadAbs(22, asm.Half),
			asm.Ja.Label("port"),
			asm.LoadAbs(6, asm.Byte).WithSymbol("ipv6"),
			asm.JNE.Imm(asm.R0, unix.IPPROTO_UDP, "no"),
			asm.LoadAbs(42, asm.Half),
			asm.JNE.Imm(asm.R0, tracedPort, "no").WithSymbol("port"),
			asm.Mov.Imm(asm.R0, 1),
			asm.Return(),
			asm.Mov.Imm(asm.R0, 0).WithSymbol("no"),
			asm.Return(),
		},
		License: "Dual BSD/GPL",
	})
}

// built makes the network once: it ends with the host that the tests are given.
var built sync.Once

// network makes a — r — b, where r routes, and c — s — d, where s bridges.
func network(t testing.TB) {
	t.Helper()
	testenv.Root(t)
	testenv.Tool(t, "nft")
	built.Do(func() { testenv.Run(t, "sh", "-ec", script) })
	if !netns.Exists("d") {
		t.Fatal("there is no network")
	}
}

const script = `
	for n in a r b c s d; do ip netns add $n; ip -n $n link set lo up; done
	ip -n r link add r-a type veth peer name a0 netns a
	ip -n r link add r-b type veth peer name b0 netns b
	ip -n s link add s-c type veth peer name c0 netns c
	ip -n s link add s-d type veth peer name d0 netns d
	ip -n s link add br0 type bridge forward_delay 0
	ip -n s link set s-c master br0; ip -n s link set s-d master br0
	add() { ip -n $1 addr add $3 dev $2; ip -n $1 addr add $4 dev $2 nodad; ip -n $1 link set $2 up; }
	add a a0 10.0.1.2/24 fd01::2/64; add r r-a 10.0.1.1/24 fd01::1/64
	add b b0 10.0.2.2/24 fd02::2/64; add r r-b 10.0.2.1/24 fd02::1/64
	add c c0 10.0.3.1/24 fd03::1/64; add d d0 10.0.3.2/24 fd03::2/64
	add s br0 10.0.3.9/24 fd03::9/64
	ip -n s link set s-c up; ip -n s link set s-d up
	for k in net.ipv4.ip_forward net.ipv6.conf.all.forwarding; do ip netns exec r sysctl -qw $k=1; done
	for k in iptables ip6tables; do ip netns exec s sysctl -qw net.bridge.bridge-nf-call-$k=1; done
	ip -n a route add default via 10.0.1.1; ip -n a -6 route add default via fd01::1
	ip -n b route add default via 10.0.2.1; ip -n b -6 route add default via fd02::1
	reach() { for i in $(seq 20); do ip netns exec $1 ping -n -c 1 -W 1 $2 && return; done; }
	reach a 10.0.2.2; reach a fd02::2; reach c 10.0.3.2; reach c fd03::2`

func namespace(t testing.TB, name string) *os.File {
	t.Helper()
	ns, err := netns.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ns.Close() })
	return ns
}

func nodes(t testing.TB, names ...string) []Node {
	t.Helper()
	var ns []Node
	for _, n := range names {
		ns = append(ns, Node{Name: n, NS: namespace(t, n)})
	}
	return ns
}

// rules sets the rules of a node for the time of the test.
func rules(t testing.TB, node, text string) {
	t.Helper()
	inNode(t, node, "nft", "flush", "ruleset")
	inNode(t, node, "nft", text)
	t.Cleanup(func() { inNode(t, node, "nft", "flush", "ruleset") })
}

func inNode(t testing.TB, node string, args ...string) string {
	t.Helper()
	return testenv.Run(t, "ip", append([]string{"netns", "exec", node}, args...)...)
}

// send sends a UDP packet from a port of its own and returns that.
func send(t testing.TB, node, to string, port uint16) netip.AddrPort {
	t.Helper()
	var from netip.AddrPort
	err := netns.Do(namespace(t, node), func() error {
		c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(to), port)))
		if err != nil {
			return err
		}
		from = c.LocalAddr().(*net.UDPAddr).AddrPort()
		_, err = c.Write([]byte("hello"))
		return errors.Join(err, c.Close())
	})
	// A rule in the way of a node's own packet is what the test is about.
	if err != nil && !errors.Is(err, unix.EPERM) && !errors.Is(err, unix.ECONNREFUSED) {
		t.Fatal(err)
	}
	return from
}

func open(t testing.TB, all bool, names ...string) *Watch {
	t.Helper()
	w, err := Open(nodes(t, names...), Config{Lab: "lab", Selects: selector(t), All: all})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close() })
	return w
}

// take waits for n rulings and returns all that there are when w is closed.
func take(t testing.TB, w *Watch, n int) []trace.Ruling {
	t.Helper()
	all := wait(t, w, n)
	if err := w.Close(); err != nil {
		t.Error(err)
	}
	if lost := w.Lost(); lost != 0 {
		t.Errorf("lost %d", lost)
	}
	return append(all, w.Take()...)
}

// wait waits for n rulings.
func wait(t testing.TB, w *Watch, n int) []trace.Ruling {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	var all []trace.Ruling
	for deadline := time.Now().Add(10 * time.Second); len(all) < n; <-tick.C {
		all = append(all, w.Take()...)
		if time.Now().After(deadline) {
			t.Errorf("%d rulings, want %d", len(all), n)
			break
		}
	}
	return all
}

// line is a ruling as a test has it.
func line(r trace.Ruling) string {
	return fmt.Sprintf("%s %s: %s %s %s [%s] %s", r.Node, r.Hook, r.Rule.Family, r.Rule.Table, r.Rule.Chain, r.Rule.Text, r.Rule.Verdict)
}

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
		"bridge", "s",
		`table bridge fw { chain flt { type filter hook forward priority 0; ip protocol udp drop; }; }`,
		"c", "10.0.3.2",
		[]string{"s forward: bridge fw flt [ip protocol udp drop] drop"},
	},
	{
		"bridge for IPv6", "s",
		`table bridge fw { chain flt { type filter hook forward priority 0; policy drop; ip6 nexthdr icmpv6 accept; }; }`,
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

// TestSelected has packets that are not selected, in nodes at once: nobody speaks
// of them. All of those that are selected are told.
func TestSelected(t *testing.T) {
	network(t)
	rules(t, "r", `table ip fw {
		chain some { udp sport 1 drop; return; }
		chain flt { type filter hook forward priority 0; policy drop; jump some; udp dport 7778 drop; }
	}`)
	rules(t, "b", `table ip fw { chain flt { type filter hook input priority 0; policy drop; }; }`)
	w := open(t, true, "r", "b")
	send(t, "a", "10.0.2.2", tracedPort+1)
	send(t, "a", "10.0.2.2", tracedPort)
	send(t, "r", "10.0.2.2", tracedPort)
	var got []string
	for _, r := range take(t, w, 4) {
		if r.Packet.Dport != tracedPort {
			t.Errorf("port %d", r.Packet.Dport)
		}
		got = append(got, line(r))
	}
	slices.Sort(got) // the nodes have no order
	want := []string{
		"b input: ip fw flt [policy drop] drop",
		"r forward: ip fw flt [jump some] jump",
		"r forward: ip fw flt [policy drop] drop",
		"r forward: ip fw some [return] return",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// TestTwo has two traces in one namespace: both hear of both's packets, neither of
// the other's table, and each removes its own.
func TestTwo(t *testing.T) {
	network(t)
	rules(t, "r", `table ip fw { chain flt { type filter hook forward priority 0; policy drop; }; }`)
	before := inNode(t, "r", "nft", "list", "ruleset")
	one, two := open(t, true, "r"), open(t, true, "r")
	inNode(t, "r", "nft", "add rule ip fw flt udp dport 7777 drop")
	inNode(t, "r", "nft", "flush ruleset") // cannot remove what others own
	inNode(t, "r", "nft", before)
	if n := strings.Count(inNode(t, "r", "nft", "list", "tables"), tablePrefix+"lab-"); n != 6 {
		t.Errorf("%d tables of ours", n)
	}
	send(t, "a", "10.0.2.2", tracedPort)
	for _, w := range []*Watch{one, two} {
		rs := take(t, w, 1)
		if len(rs) != 1 || line(rs[0]) != "r forward: ip fw flt [policy drop] drop" {
			t.Errorf("%+v", rs)
		}
	}
	if diff := cmp.Diff(before, inNode(t, "r", "nft", "list", "ruleset")); diff != "" {
		t.Error(diff)
	}
}

// TestReplaced replaces a rule by another with the same handle while the trace
// runs.
func TestReplaced(t *testing.T) {
	network(t)
	const fw = `table ip fw { chain flt { type filter hook forward priority 0; %s drop; }; }`
	rules(t, "r", fmt.Sprintf(fw, "udp dport 7777"))
	w := open(t, false, "r")
	send(t, "a", "10.0.2.2", tracedPort)
	first := wait(t, w, 1)
	inNode(t, "r", "nft", "delete table ip fw; "+fmt.Sprintf(fw, "ip daddr 10.0.2.2"))
	send(t, "a", "10.0.2.2", tracedPort)
	second := take(t, w, 1)
	if len(first) != 1 || len(second) != 1 || first[0].Rule.Handle != second[0].Rule.Handle {
		t.Fatalf("%+v\n%+v", first, second)
	}
	if a, b := first[0].Rule.Text, second[0].Rule.Text; a != "udp dport 7777 drop" || b != "ip daddr 10.0.2.2 drop" {
		t.Errorf("%q, %q", a, b)
	}
}

// TestWithoutNft has no program to ask for the rules' text.
func TestWithoutNft(t *testing.T) {
	network(t)
	rules(t, "r", `table ip fw { chain flt { type filter hook forward priority 0; udp dport 7777 reject; }; }`)
	path := os.Getenv("PATH")
	t.Setenv("PATH", "")
	w := open(t, false, "r")
	t.Setenv("PATH", path)
	send(t, "a", "10.0.2.2", tracedPort)
	rs := take(t, w, 1)
	if len(rs) != 1 || line(rs[0]) != "r forward: ip fw flt [] reject" {
		t.Errorf("%+v", rs)
	}
}

// TestLost counts what a socket has no room for.
func TestLost(t *testing.T) {
	network(t)
	w := open(t, false, "a")
	s, err := dial(namespace(t, "a"))
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	if err := s.subscribe(1, unix.NFNLGRP_NFTRACE); err != nil {
		t.Fatal(err)
	}
	for range 20 {
		send(t, "a", "10.0.2.2", tracedPort)
	}
	read := 0
	for {
		messages, err := s.receive(false)
		if err != nil {
			t.Fatal(err)
		}
		if len(messages) == 0 {
			break
		}
		read += len(messages)
	}
	lost, err := s.drops()
	if err != nil || lost == 0 || read+int(lost) != 20 { // of each our own rule
		t.Errorf("%d read, %d lost, %v", read, lost, err)
	}
	take(t, w, 0)
}

// TestUnsupported asks for what the kernel does not have.
func TestUnsupported(t *testing.T) {
	testenv.Root(t)
	s, err := dial(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	messages, err := arming(tablePrefix+"x", unix.NFPROTO_IPV4, -1)
	if err != nil {
		t.Fatal(err)
	}
	none := func(syscall.NetlinkMessage) error { return nil }
	if err := s.exchange(none, messages...); !errors.Is(err, unix.EBADF) || errors.Is(explain(err), errors.ErrUnsupported) {
		t.Errorf("no program: %v", err)
	}
	for i := range messages {
		messages[i].Data = bytes.ReplaceAll(messages[i].Data, []byte("bpf\x00"), []byte("bpg\x00"))
	}
	err = explain(s.exchange(none, messages...))
	if !errors.Is(err, errors.ErrUnsupported) || !strings.Contains(err.Error(), "xt_bpf") {
		t.Errorf("no match: %v", err)
	}
	if tables := testenv.Run(t, "nft", "list", "tables"); tables != "" {
		t.Errorf("left: %s", tables)
	}
}

const childDies = "NSBPF_TEST_CHILD"

func armAndDie() {
	prog, err := selectPort()
	if err == nil {
		_, err = Open([]Node{{Name: "host"}}, Config{Lab: "lab", Selects: prog})
	}
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	out, _ := exec.Command("nft", "list", "tables").Output()
	os.Stdout.Write(out)
	_ = unix.Kill(os.Getpid(), unix.SIGKILL)
}

func TestKilled(t *testing.T) {
	network(t)
	rules(t, "r", `table inet fw { chain flt { type filter hook forward priority 0; policy drop; }; }`)
	before := inNode(t, "r", "nft", "list", "ruleset")
	cmd := exec.Command("ip", "netns", "exec", "r", "/proc/self/exe")
	cmd.Args[len(cmd.Args)-1], _ = os.Executable()
	cmd.Env = append(os.Environ(), childDies+"=1")
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != unix.SIGKILL {
		t.Fatalf("it was not killed: %v\n%s", err, out)
	}
	if n := strings.Count(string(out), tablePrefix+"lab-"); n != 3 {
		t.Errorf("%d tables of ours\n%s", n, out)
	}
	if diff := cmp.Diff(before, inNode(t, "r", "nft", "list", "ruleset")); diff != "" {
		t.Error(diff)
	}
}
