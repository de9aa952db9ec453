package forward

import (
	"bufio"
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nsbpf/nsbpf/internal/netns"
	"github.com/nsbpf/nsbpf/internal/testenv"
	"github.com/nsbpf/nsbpf/topology"
)

// TestWalkAsTcpdump sends an echo request, and compares the hops where tcpdump
// sees it and its reply, in order of time, with the predicted ones.
func TestWalkAsTcpdump(t *testing.T) {
	for _, tt := range []struct {
		lab string
		ask Ask
	}{
		{"pair", Ask{From: "left", To: "right"}},
		{"pair", Ask{From: "left", To: "right", IPv6: true}},
		{"bridge", Ask{From: "left", To: "right"}},
		{"bridge", Ask{From: "left", To: "host"}},
		{"bridge", Ask{From: "host", To: "right", IPv6: true}},
		{"nat-wan", Ask{From: "left", To: "8.8.8.8"}},
		{"nat-wan", Ask{From: "right", To: "2001:4860:4860::8888"}},
		{"nat-wan", Ask{From: "left", To: "right"}},
		{"routers", Ask{From: "a", To: "b"}},
		{"routers", Ask{From: "b", To: "a", IPv6: true}},
	} {
		t.Run(fmt.Sprint(tt.lab, " ", tt.ask.From, " ", tt.ask.To, " ", tt.ask.IPv6), func(t *testing.T) {
			lab := up(t, tt.lab)
			j := walk(t, lab, tt.ask)
			var want []string
			for _, way := range []*Journey{j, j.Back} {
				for _, s := range way.Steps {
					want = append(want, fmt.Sprintf("%s %s > %s", s.Hop, s.Packet.Src, s.Packet.Dst))
				}
			}
			got := watch(t, lab, len(want), func() {
				cmd := []string{"ping", "-nq", "-c1", "-W2", j.Packet.Dst.String()}
				if node := lab.Topology.Node(tt.ask.From); node.Netns != "" {
					cmd = slices.Concat([]string{"ip", "netns", "exec", node.Netns}, cmd)
				}
				testenv.Run(t, cmd[0], cmd[1:]...)
			})
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("hops (-predicted +seen):\n%s", diff)
			}
		})
	}
}

// watch returns where tcpdump sees packets in all nodes of the lab while do runs,
// as soon as there are n.
func watch(t *testing.T, lab *topology.Lab, n int, do func()) []string {
	t.Helper()
	lines := make(chan string, 100)
	for _, node := range lab.Topology.Nodes {
		args := []string{"tcpdump", "-i", "any", "-nl", "--immediate-mode", "-tt", "--time-stamp-precision=nano",
			"icmp[0] == 8 or icmp[0] == 0 or (icmp6 and (ip6[40] == 128 or ip6[40] == 129))"}
		if node.Netns != "" {
			args = slices.Concat([]string{"ip", "netns", "exec", node.Netns}, args)
		}
		cmd := exec.Command(testenv.Tool(t, args[0]), args[1:]...)
		stdout, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		stderr, err := cmd.StderrPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
		for s := bufio.NewScanner(stderr); s.Scan() && !strings.Contains(s.Text(), "listening"); {
		}
		go func() {
			for s := bufio.NewScanner(stdout); s.Scan(); {
				lines <- node.Name + " " + s.Text()
			}
		}()
	}
	do()
	var seen []string
	for deadline := time.After(5 * time.Second); len(seen) < n; {
		select {
		case l := <-lines:
			seen = append(seen, l)
		case <-deadline:
			t.Fatalf("tcpdump saw %d of %d:\n%s", len(seen), n, strings.Join(seen, "\n"))
		}
	}
	slices.SortFunc(seen, func(a, b string) int { return strings.Compare(strings.Fields(a)[1], strings.Fields(b)[1]) })
	for i, l := range seen { // node time device In|Out|P IP a > b: …
		f := strings.Fields(l)
		dir := "in"
		if f[3] == "Out" {
			dir = "out"
		}
		seen[i] = fmt.Sprintf("%s:%s %s %s > %s", f[0], f[2], dir, f[5], strings.TrimSuffix(f[7], ":"))
	}
	return seen
}

// TestSettingsAsSysctl compares what is taken out of the kernel's arrays with the
// files of the same names.
func TestSettingsAsSysctl(t *testing.T) {
	lab := up(t, "nat-wan")
	netnsName := lab.Topology.Node("host").Netns
	script := "sysctl -qw net.ipv4.conf.br0.rp_filter=2 net.ipv4.conf.br0.accept_local=1 net.ipv4.conf.br0.route_localnet=1 net.ipv4.conf.br0.arp_ignore=3 net.ipv4.conf.br0.src_valid_mark=1 net.ipv4.conf.br0.proxy_arp=1 net.ipv6.conf.br0.accept_ra=2"
	testenv.Run(t, "ip", "netns", "exec", netnsName, "sh", "-ec", script)
	node, err := Read(lab, "host")
	if err != nil {
		t.Fatal(err)
	}
	for key, got := range node.Sysctls {
		want := strings.TrimSpace(testenv.Run(t, "ip", "netns", "exec", netnsName, "sysctl", "-n", key))
		if got != want {
			t.Errorf("%s = %s, sysctl says %s", key, got, want)
		}
	}
}

// TestSockets opens some, and looks for them.
func TestSockets(t *testing.T) {
	lab := up(t, "pair")
	ns, err := lab.Netns("right")
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	want := []Socket{
		{Proto: "tcp", Addr: addr("172.16.16.20"), Port: 80},
		{Proto: "tcp", Addr: addr("::"), Port: 81},
		{Proto: "tcp", Addr: addr("::"), Port: 82, Only6: true},
		{Proto: "udp", Addr: addr("0.0.0.0"), Port: 53},
		{Proto: "udp", Addr: addr("fd16::20"), Port: 54, Only6: true},
	}
	err = netns.Do(ns, func() error {
		for network, at := range map[string]string{"tcp4": "172.16.16.20:80", "tcp": "[::]:81", "tcp6": "[::]:82"} {
			l, err := net.Listen(network, at)
			if err != nil {
				return err
			}
			t.Cleanup(func() { l.Close() })
		}
		for network, at := range map[string]string{"udp4": "0.0.0.0:53", "udp6": "[fd16::20]:54"} {
			c, err := net.ListenPacket(network, at)
			if err != nil {
				return err
			}
			t.Cleanup(func() { c.Close() })
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	node, err := Read(lab, "right")
	if err != nil {
		t.Fatal(err)
	}
	order := func(a, b Socket) int { return int(a.Port) - int(b.Port) }
	slices.SortFunc(node.Sockets, order)
	slices.SortFunc(want, order)
	if diff := cmp.Diff(want, node.Sockets, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
		t.Errorf("sockets (-want +got):\n%s", diff)
	}
	for _, tt := range []struct {
		ask  Ask
		want string
	}{
		{Ask{From: "left", To: "right", Proto: "tcp", Port: "80"}, ""},
		{Ask{From: "left", To: "right", Proto: "tcp", Port: "81"}, ""},
		{Ask{From: "left", To: "right", Proto: "tcp", Port: "82"}, "nobody in right listens on tcp port 82 at 172.16.16.20, only at ::"},
		{Ask{From: "left", To: "right", Proto: "tcp", Port: "82", IPv6: true}, ""},
		{Ask{From: "left", To: "right", Proto: "tcp", Port: "80", IPv6: true}, "only at 172.16.16.20"},
		{Ask{From: "left", To: "right", Proto: "udp", Port: "53"}, ""},
	} {
		stop := walk(t, lab, tt.ask).stop()
		if (stop == nil) != (tt.want == "") || stop != nil && !strings.Contains(stop.Sentence, tt.want) {
			t.Errorf("%+v: %+v, want %q", tt.ask, stop, tt.want)
		}
	}
}

// TestCountersCount sends a packet to a port that nobody listens on.
func TestCountersCount(t *testing.T) {
	lab := up(t, "pair")
	before, err := Counters(lab, "right")
	if err != nil {
		t.Fatal(err)
	}
	p := probes()[0]
	p.run(t, lab)
	for deadline := time.Now().Add(5 * time.Second); ; {
		after, err := Counters(lab, "right")
		if err != nil {
			t.Fatal(err)
		}
		if diff := DiffCounters(before, after); slices.Contains(diff, Loss{"Udp.NoPorts", 1, Meaning("Udp.NoPorts")}) {
			return
		} else if time.Now().After(deadline) {
			t.Fatalf("no packet without a port in %v", diff)
		}
	}
}
