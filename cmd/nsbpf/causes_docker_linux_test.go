package main

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/nsbpf/nsbpf/internal/testenv"
)

// dockerFaults are of a lab on a host where Docker is, whose rules were written
// down in forward/testdata. The lab nat is on bridge br0 of that host.
var dockerFaults = []struct {
	fault
	lab  string
	to   [2]string // what left cannot reach
	path string    // what `nsbpf path` begins with; ~ stands for ip or ip6
}{
	{
		lab: "bridge", to: [2]string{"172.16.16.20", "fd16::20"},
		path: "dropped by `policy drop` (table ~ filter, chain FORWARD) in host, forward; it is bridged by ",
		fault: fault{
			name: "bridged", explain: true, code: "policy-drop-docker", do: []string{knowRight},
			says: [2]string{
				"dropped in host, forward: chain FORWARD of table ip filter has policy drop (Docker's), and bridged packets come there because net.bridge.bridge-nf-call-iptables=1",
				"dropped in host, forward: chain FORWARD of table ip6 filter has policy drop (Docker's), and bridged packets come there because net.bridge.bridge-nf-call-ip6tables=1",
			},
		},
	},
	{
		lab: "nat", to: [2]string{"172.16.16.20", "fd16::20"},
		path: "dropped by `policy drop` (table ~ filter, chain FORWARD) in host, forward; it is bridged by ",
		fault: fault{
			name: "bridged, without --explain", code: "policy-drop", do: []string{knowRight},
			says: [2]string{
				"dropped in host, forward: netfilter; what no rule accepts is dropped by policy of chain FORWARD of table ip filter, and bridged packets come there because net.bridge.bridge-nf-call-iptables=1",
				"dropped in host, forward: netfilter; what no rule accepts is dropped by policy of chain FORWARD of table ip6 filter, and bridged packets come there because net.bridge.bridge-nf-call-ip6tables=1",
			},
		},
	},
	{
		lab: "bridge", to: [2]string{"", "fd16::20"},
		path: "neighbour discovery, the question who has fd16::20: dropped by `policy drop` (table ip6 filter, chain FORWARD) in host, forward; it is bridged by ",
		fault: fault{
			name: "neighbour discovery, bridged", explain: true, code: "neighbour-unasked",
			do:   []string{"left: sysctl -qw net.ipv6.neigh.left-veth.retrans_time_ms=100"},
			says: [2]string{"", "dropped in left:left-veth: neighbour discovery of fd16::20 is dropped by `policy drop` (table ip6 filter, chain FORWARD) in host, where bridged packets come because net.bridge.bridge-nf-call-ip6tables=1"},
		},
	},
	{
		lab: "nat", to: wanAddrs,
		path: "dropped by `policy drop` (table ~ filter, chain FORWARD) in host, forward",
		fault: fault{
			name: "routed", explain: true, code: "policy-drop-docker",
			says: [2]string{
				"dropped in host, forward: chain FORWARD of table ip filter has policy drop (Docker's)",
				"dropped in host, forward: chain FORWARD of table ip6 filter has policy drop (Docker's)",
			},
		},
	},
}

// knowRight spares left the neighbour discovery that Docker's rules stop too.
const knowRight = "left: ip neigh replace fd16::20 dev left-veth lladdr 02:00:00:00:00:20; nsbpf exec nat/right -- ip link set right-veth address 02:00:00:00:00:20"

// TestDocker checks what is said where Docker's rules stop a lab's packets: by path,
// ping and trace; and that what path and trace advise mends it.
func TestDocker(t *testing.T) {
	testenv.Uplink(t)
	for _, version := range []string{"24", "28"} {
		for i := range dockerFaults {
			f := &dockerFaults[i]
			if version == "24" && f.name != "routed" {
				continue // as with 28
			}
			t.Run(version+" "+f.name, func(t *testing.T) {
				withDocker(t, version)
				if f.lab == "nat" {
					upLab(t, f.lab)
				} else {
					upLab(t, f.lab, "--name", "nat")
				}
				for _, line := range f.do {
					node, command, _ := strings.Cut(line, ": ")
					testenv.Run(t, "nsbpf", "exec", "nat/"+node, "--", "sh", "-ec", command)
				}
				for six, to := range f.to {
					if to == "" {
						continue
					}
					f.send = pingingTo(f.to[0], f.to[1])
					f.expr = "(icmp or icmp6-echo) and dst host " + to
					t.Run([]string{"IPv4", "IPv6"}[six], func(t *testing.T) {
						checkPath(t, to, strings.ReplaceAll(f.path, "~", [2]string{"ip", "ip6"}[six]))
						checkTrace(t, f.fault, six == 1, to)
					})
				}
			})
		}
	}
}

// TestDockerAnswers checks what is said where what leaves the lab is accepted, and
// the answers from outside are not: by path, and by ping, whose advice mends it. Then
// nobody outside answers.
func TestDockerAnswers(t *testing.T) {
	testenv.Uplink(t)
	withDocker(t, "28")
	testenv.Run(t, "iptables", "-I", "DOCKER-USER", "-i", "br0", "-j", "ACCEPT")
	upLab(t, "nat")
	const to, stops = "8.8.8.8", "✗ dropped by `policy drop` (table ip filter, chain FORWARD) in host, forward\n" +
		"    `nsbpf exec host -- iptables -I DOCKER-USER -i eth0 -o br0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT`"
	out, code := ran(t, "nsbpf", "path", "nat/left", to)
	if code != exitBlocked || !strings.Contains(out, "and an answer: ICMP echo reply 8.8.8.8 > 192.0.2.2") || !strings.Contains(out, stops) {
		t.Errorf("path: exit code %d\n%s\nwant %s", code, out, stops)
	}
	const advice = "allow answers with `nsbpf exec host -- iptables -I DOCKER-USER -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT`, or bring the lab up with --isolated\n"
	out, code = ran(t, "nsbpf", "ping", "nat/left", to, "-c1", "--explain")
	if code == 0 || !strings.Contains(out, advice) || !strings.Contains(out, "as predicted\n") {
		t.Errorf("ping: exit code %d\n%s\nwant %s", code, out, advice)
	}
	testenv.Run(t, "sh", "-ec", commands(advice)[0])
	testenv.Run(t, "nsbpf", "path", "nat/left", to)
	testenv.Run(t, "nsbpf", "ping", "nat/left", to, "-c1")
	testenv.Run(t, "ip", "netns", "exec", testenv.WAN, "sysctl", "-qw", "net.ipv4.icmp_echo_ignore_all=1")
	out, code = ran(t, "nsbpf", "ping", "nat/left", to, "-c1")
	if code == 0 || strings.Contains(out, "as predicted") || !strings.Contains(out, "return: nothing came in from outside the lab, of which nothing is known\n") {
		t.Errorf("ping of what does not answer: exit code %d\n%s", code, out)
	}
}

// withDocker gives the host Docker's rules for as long as the test lasts.
func withDocker(t *testing.T, version string) {
	t.Helper()
	t.Cleanup(func() {
		testenv.Run(t, "nft", "flush", "ruleset")
		testenv.Run(t, "sysctl", "-qw", "net.bridge.bridge-nf-call-iptables=1", "net.bridge.bridge-nf-call-ip6tables=1")
	})
	for _, tool := range []string{"iptables", "ip6tables"} {
		testenv.Run(t, testenv.Tool(t, tool+"-restore"), "../../forward/testdata/docker-"+version+"."+tool)
	}
}

// commands are those of an advice, but for what is advised instead of them.
func commands(advice string) []string {
	first, _, _ := strings.Cut(advice, ", or ")
	var all []string
	for i, command := range strings.Split(first, "`") {
		if i%2 == 1 {
			all = append(all, command)
		}
	}
	return all
}

// advised is the line of path's output that advises something.
var advised = regexp.MustCompile("(?m)^    `nsbpf exec .*$")

// checkPath checks what is said before anything is sent, and by ping; then follows
// the advice, and pings. It leaves the rules as they were.
func checkPath(t *testing.T, to, want string) {
	t.Helper()
	out, code := ran(t, "nsbpf", "path", "nat/left", to)
	if code != exitBlocked || !strings.Contains(out, "✗ "+want) {
		t.Fatalf("path: exit code %d\n%s\nwant %q", code, out, want)
	}
	if out, code := ran(t, "nsbpf", "ping", "nat/left", to, "-c1"); code == 0 || !strings.Contains(out, "as predicted") || !strings.Contains(out, "chain FORWARD") {
		t.Errorf("ping: exit code %d\n%s", code, out)
	}
	for _, command := range commands(advised.FindString(out)) {
		testenv.Run(t, "sh", "-ec", command)
	}
	forgetNeighbour(t)
	testenv.Run(t, "nsbpf", "path", "nat/left", to)
	testenv.Run(t, "nsbpf", "ping", "nat/left", to, "-c1")
	for _, tool := range []string{"iptables", "ip6tables"} {
		testenv.Run(t, tool, "-F", "DOCKER-USER")
	}
	forgetNeighbour(t)
}

// forgetNeighbour makes left ask anew, unless it was told.
func forgetNeighbour(t *testing.T) {
	t.Helper()
	for _, state := range []string{"incomplete", "failed", "probe", "delay", "stale", "reachable"} {
		testenv.Run(t, "nsbpf", "exec", "nat/left", "--", "ip", "-6", "neigh", "flush", "dev", "left-veth", "nud", state)
	}
}

// checkTrace checks what trace says, and that all commands of its advice together
// let a packet and its answer pass.
func checkTrace(t *testing.T, f fault, six bool, to string) {
	t.Helper()
	got := f.traced(t, six, "dropped").Conclusion
	if got == nil || got.Code != f.code || got.Sentence != f.says[btoi(six)] {
		t.Fatalf("concluded %+v\nwant %s: %s", got, f.code, f.says[btoi(six)])
	}
	for _, command := range commands(got.Advice) {
		testenv.Run(t, "sh", "-ec", command)
	}
	forgetNeighbour(t)
	if p := f.traced(t, six, "not dropped"); p.Verdict != "delivered" && p.Verdict != "left_lab" {
		t.Errorf("after %q a packet is %q", got.Advice, p.Verdict)
	}
	testenv.Run(t, "nsbpf", "ping", "nat/left", to, "-c1")
	testenv.Run(t, "nsbpf", "path", "nat/left", to)
}

// ran runs a command that may fail, and returns what it wrote and its exit code.
func ran(t *testing.T, name string, args ...string) (string, int) {
	t.Helper()
	out, err := exec.Command(testenv.Tool(t, name), args...).CombinedOutput()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return string(out), exit.ExitCode()
	} else if err != nil {
		t.Fatal(err)
	}
	return string(bytes.TrimSpace(out)), 0
}

// published is a host with a container as Docker makes them.
const published = `
name: nat
nodes:
  web: {routes: [default via 172.17.0.1, default via fd00:17::1]}
  host: {forward: true}
bridges:
  docker0: {node: host, addresses: [172.17.0.1/16, fd00:17::1/64]}
links:
  - [web:eth0 172.17.0.2/16 fd00:17::2/64, docker0:veth-web]
`

// TestDockerPublishes follows packets from outside to a published port, and to the
// container itself, where Docker 28 has a rule against that.
func TestDockerPublishes(t *testing.T) {
	testenv.Root(t)
	file := filepath.Join(t.TempDir(), "published.yaml")
	if err := os.WriteFile(file, []byte(published), 0o600); err != nil {
		t.Fatal(err)
	}
	upLab(t, file, "--wan")
	for _, tool := range []string{"iptables", "ip6tables"} {
		testenv.Run(t, "nsbpf", "exec", "nat/host", "--", testenv.Tool(t, tool+"-restore"), "../../forward/testdata/docker-28."+tool)
	}
	testenv.Run(t, "nsbpf", "exec", "nat/wan", "--", "sh", "-ec", "ip route add 172.17.0.0/16 via 192.0.2.2; ip route add fd00:17::/64 via 2001:db8::2")
	var ln net.Listener
	in(t, "web", func() (err error) {
		ln, err = net.Listen("tcp", "[::]:80")
		return err
	})
	defer ln.Close()
	for _, tt := range []struct{ family, host, web, container string }{
		{"ip", "192.0.2.2", "172.17.0.2:80", "172.17.0.2"},
		{"ip6", "2001:db8::2", "[fd00:17::2]:80", "fd00:17::2"},
	} {
		t.Run(tt.family, func(t *testing.T) {
			out := testenv.Run(t, "nsbpf", "path", "nat/wan", tt.host, "tcp", "8080")
			dnat := fmt.Sprintf("dnat by `iifname != \"docker0\" tcp dport 8080 counter dnat to %s` (table %s nat, chain DOCKER,", tt.web, tt.family)
			if !strings.Contains(out, dnat) || !strings.Contains(out, "web:eth0       in   delivered\n") {
				t.Errorf("path:\n%s\nwant %s", out, dnat)
			}
			out = testenv.Run(t, "nsbpf", "ping", "nat/wan", tt.host, "--proto", "tcp", "--port", "8080", "-c1", "--explain")
			if !strings.Contains(out, "as predicted\n") || !strings.Contains(out, "dnat by table "+tt.family+" nat, chain DOCKER") {
				t.Errorf("ping:\n%s", out)
			}
			rule := fmt.Sprintf("`iifname != \"docker0\" %s daddr %s counter drop`", tt.family, tt.container)
			if out, code := ran(t, "nsbpf", "path", "nat/wan", tt.container, "tcp", "80"); code != exitBlocked ||
				!strings.Contains(out, "dropped by "+rule+" (table "+tt.family+" raw, chain PREROUTING,") {
				t.Errorf("path: exit code %d\n%s\nwant %s", code, out, rule)
			}
			out, code := ran(t, "nsbpf", "ping", "nat/wan", tt.container, "--proto", "tcp", "--port", "80", "-c1", "--explain")
			if want := "dropped in host, prerouting: rule " + rule + " of table " + tt.family + " raw, chain PREROUTING"; code == 0 || !strings.Contains(out, want) {
				t.Errorf("ping: exit code %d\n%s\nwant %s", code, out, want)
			}
		})
	}
}

// TestLegacy checks what is said of a drop by iptables-legacy, whose rules nobody
// sees.
func TestLegacy(t *testing.T) {
	testenv.Root(t)
	upLab(t, "nat", "--wan")
	for six, tool := range []string{"iptables-legacy", "ip6tables-legacy"} {
		if out, err := exec.Command(testenv.Tool(t, "nsbpf"), "exec", "nat/host", "--", testenv.Tool(t, tool), "-P", "FORWARD", "DROP").CombinedOutput(); err != nil {
			t.Skipf("this kernel has no %s: %s", tool, out)
		}
		const unknown = "? what rules of iptables-legacy do in host, forward, is not known (table filter)\n"
		if out := testenv.Run(t, "nsbpf", "path", "nat/left", wanAddrs[six]); !strings.Contains(out, unknown) {
			t.Errorf("path:\n%s\nwant %q", out, unknown)
		}
		f := fault{explain: true, send: pinging()}
		got := f.traced(t, six == 1, "dropped").Conclusion
		want := "dropped in host, forward: netfilter, and no rule of nft's said so; iptables-legacy, whose rules are not seen, has table filter"
		if got == nil || got.Code != "netfilter-legacy" || got.Sentence != want || got.Certain {
			t.Errorf("concluded %+v, want %q", got, want)
		}
	}
}
