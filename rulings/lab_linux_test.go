package rulings

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
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
