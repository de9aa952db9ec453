package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sync/errgroup"

	"github.com/nsbpf/nsbpf/bench"
	"github.com/nsbpf/nsbpf/internal/testenv"
	"github.com/nsbpf/nsbpf/topology"
)

var outside = netip.MustParseAddr("8.8.8.8")

// upLab runs `nsbpf up` and takes everything down with the test.
func upLab(t testing.TB, args ...string) {
	t.Helper()
	t.Cleanup(func() { testenv.Run(t, "nsbpf", "down", "--all") })
	testenv.Run(t, "nsbpf", append([]string{"up"}, args...)...)
}

// pingLeft pings as ping does with -c1 and args, in left.
func pingLeft(t testing.TB, args ...string) {
	t.Helper()
	testenv.Run(t, "nsbpf", append([]string{"exec", "left", "--", "ping", "-nqc1"}, args...)...)
}

// openNode returns the namespace of a node of the lab nat.
func openNode(t testing.TB, node string) *os.File {
	t.Helper()
	lab, err := topology.Open("nat")
	if err != nil {
		t.Fatal(err)
	}
	ns, err := lab.Netns(node)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ns.Close() })
	return ns
}

// background is a command that traces.
type background struct {
	t      testing.TB
	cmd    *exec.Cmd
	stdout bytes.Buffer
	stderr io.ReadCloser
}

// startTrace runs a command and returns once it traces.
func startTrace(t testing.TB, args ...string) *background {
	t.Helper()
	b := &background{t: t, cmd: exec.Command(testenv.Tool(t, "nsbpf"), args...)}
	b.cmd.Stdout = &b.stdout
	var err error
	if b.stderr, err = b.cmd.StderrPipe(); err != nil {
		t.Fatal(err)
	}
	if err := b.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(b.stderr)
	for lines.Scan() {
		if strings.HasPrefix(lines.Text(), "tracing ") {
			return b
		}
		t.Log(lines.Text())
	}
	t.Fatalf("nsbpf %q does not trace: %v", args, b.cmd.Wait())
	return nil
}

// end sends the command a signal, waits for it and returns its stdout.
func (b *background) end(s os.Signal) (stdout []byte, err error) {
	b.t.Helper()
	if err := b.cmd.Process.Signal(s); err != nil {
		b.t.Fatal(err)
	}
	talk, _ := io.ReadAll(b.stderr)
	if len(talk) > 0 {
		b.t.Logf("%s", talk)
	}
	err = b.cmd.Wait()
	return b.stdout.Bytes(), err
}

// TestPathsUnderLoad follows pings through NAT while TCP fills the same path.
func TestPathsUnderLoad(t *testing.T) {
	testenv.Root(t)
	upLab(t, "nat", "--wan")
	for _, args := range [][]string{
		{"icmp"},
		{"icmp", "--identity=fingerprint", "--hook=clsact"},
		{"--ring=131072"},
		{"--ring=131072", "--hook=clsact"},
		{"--ring=131072", "--identity=fingerprint"},
	} {
		t.Run(strings.Join(args, " "), func(t *testing.T) {
			trace := startTrace(t, append([]string{"trace", "nat", "--json", "--strict"}, args...)...)
			loadAndPing(t)
			out, err := trace.end(os.Interrupt)
			if err != nil {
				t.Errorf("trace: %v", err)
			}
			checkEchoes(t, out)
		})
	}
}

const pings = 5

// loadAndPing sends four streams from left to wan, and pings beside them.
func loadAndPing(t *testing.T) {
	t.Helper()
	load := bench.TCP(openNode(t, "left"), openNode(t, "wan"), outside)
	var g errgroup.Group
	for range 4 {
		g.Go(func() error {
			_, err := load.Run(t.Context(), 500*time.Millisecond)
			return err
		})
	}
	pingLeft(t, "-c", "5", "-i", "0.1", outside.String())
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
}

// line is one line of `trace --json`: a path, or the ledger.
type line struct {
	Schema   string
	Verdict  string
	Partial  bool
	Packet   struct{ ICMP *struct{ Type, Seq int } }
	Steps    []struct{ Hop, Src, Dst string }
	Balanced bool
	Lost     int
}

// echo is what is expected of a ping's path.
type echo struct {
	Verdict string
	Partial bool
	Steps   []string
}

// checkEchoes wants one whole path of each request and each reply, and a ledger
// that adds up.
func checkEchoes(t *testing.T, out []byte) {
	t.Helper()
	want := map[string]echo{
		"request": {Verdict: "delivered", Steps: []string{
			"left:left-veth out 172.16.16.10 > 8.8.8.8",
			"host:left-br0-veth in 172.16.16.10 > 8.8.8.8",
			"host:br0 in 172.16.16.10 > 8.8.8.8",
			"host:eth0 out 192.0.2.2 > 8.8.8.8",
			"wan:eth0 in 192.0.2.2 > 8.8.8.8",
		}},
		"reply": {Verdict: "delivered", Steps: []string{
			"wan:eth0 out 8.8.8.8 > 192.0.2.2",
			"host:eth0 in 8.8.8.8 > 192.0.2.2",
			"host:br0 out 8.8.8.8 > 172.16.16.10",
			"host:left-br0-veth out 8.8.8.8 > 172.16.16.10",
			"left:left-veth in 8.8.8.8 > 172.16.16.10",
		}},
	}
	kinds := map[int]string{8: "request", 0: "reply"}
	seen := map[string]int{}
	var last line
	paths := 0
	for dec := json.NewDecoder(bytes.NewReader(out)); dec.More(); paths++ {
		last = line{}
		if err := dec.Decode(&last); err != nil {
			t.Fatal(err)
		}
		if last.Packet.ICMP == nil {
			continue
		}
		kind := kinds[last.Packet.ICMP.Type]
		if kind == "" {
			continue // of a neighbour
		}
		seen[kind]++
		got := echo{Verdict: last.Verdict, Partial: last.Partial}
		for _, s := range last.Steps {
			got.Steps = append(got.Steps, s.Hop+" "+s.Src+" > "+s.Dst)
		}
		if diff := cmp.Diff(want[kind], got); diff != "" {
			t.Errorf("path of %s %d (-want +got):\n%s", kind, last.Packet.ICMP.Seq, diff)
		}
	}
	if diff := cmp.Diff(map[string]int{"request": pings, "reply": pings}, seen); diff != "" {
		t.Errorf("paths (-want +got):\n%s", diff)
	}
	if last.Schema != "nsbpf.ledger/1" || !last.Balanced || last.Lost != 0 {
		t.Errorf("the last line is %+v", last)
	}
	t.Logf("%d paths", paths-1)
}

// TestTraceOfRunningTraffic checks that a packet that is on its way while the
// programs are attached, hop by hop, does not look lost. One may be cut off when
// the trace ends.
func TestTraceOfRunningTraffic(t *testing.T) {
	testenv.Root(t)
	leavesNothing(t)
	testenv.Run(t, "nsbpf", "up", "nat", "--wan")
	defer testenv.Run(t, "nsbpf", "down")
	ping := exec.Command(testenv.Tool(t, "ip"), "netns", "exec", "left", "ping", "-nq", "-i0.002", "8.8.8.8")
	if err := ping.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { ping.Process.Kill(); ping.Wait() }()
	for _, hook := range []string{"", "clsact"} { // the kernel's best, and the oldest
		out := testenv.Run(t, "nsbpf", "trace", "icmp", "--hook="+hook, "--for=200ms", "--json", "-q")
		var l struct {
			Paths, Delivered, Lost uint64
			Balanced               bool
		}
		if err := json.Unmarshal([]byte(out), &l); err != nil {
			t.Fatal(err)
		}
		if l.Paths < 10 || l.Delivered+1 < l.Paths || l.Lost > 0 || !l.Balanced {
			t.Errorf("--hook=%s: %s", hook, out)
		}
	}
}

// TestKilledTrace checks that down finds what a trace that was killed left, and
// nothing else.
func TestKilledTrace(t *testing.T) {
	testenv.Root(t)
	for _, tt := range []struct {
		name  string
		setUp func(testing.TB)
		args  []string
	}{
		{"tcx", func(testing.TB) {}, []string{"nat", "--wan"}},
		{"clsact on an uplink", testenv.Uplink, []string{"nat", "--hook=clsact"}},
		{"tcx on a foreign clsact", foreignClsact, []string{"nat"}},
		{"clsact on a foreign clsact", foreignClsact, []string{"nat", "--hook=clsact"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.setUp(t)
			leavesNothing(t)
			before := clsactOf(t, "eth0")
			trace := startTrace(t, append([]string{"up", "--trace"}, tt.args...)...)
			pingLeft(t, outside.String())
			if _, err := trace.end(syscall.SIGKILL); err == nil {
				t.Error("killed, and yet it succeeded")
			}
			testenv.Run(t, "nsbpf", "down")
			if diff := cmp.Diff(before, clsactOf(t, "eth0")); diff != "" {
				t.Errorf("eth0 is not as it was (-before +after):\n%s", diff)
			}
		})
	}
}

// foreignClsact makes an uplink that somebody else watches.
func foreignClsact(t testing.TB) {
	testenv.Uplink(t)
	testenv.Run(t, "tc", "qdisc", "add", "dev", "eth0", "clsact")
	for _, direction := range []string{"ingress", "egress"} {
		testenv.Run(t, "tc", "filter", "add", "dev", "eth0", direction, "prio", "77", "bpf", "bytecode", "1,6 0 0 0")
	}
}

// clsactOf returns the qdiscs and filters of a device of the host, if there is one.
func clsactOf(t testing.TB, device string) string {
	t.Helper()
	if !slices.Contains(strings.Fields(testenv.Run(t, "ls", "/sys/class/net")), device) {
		return ""
	}
	return testenv.Run(t, "tc", "qdisc", "show", "dev", device) +
		testenv.Run(t, "tc", "filter", "show", "dev", device, "ingress") +
		testenv.Run(t, "tc", "filter", "show", "dev", device, "egress")
}

// TestBenchOverhead checks that each variant is measured, not what it costs.
func TestBenchOverhead(t *testing.T) {
	testenv.Root(t)
	testenv.Tool(t, "tcpdump")
	leavesNothing(t)
	out := testenv.Run(t, "nsbpf", "bench", "overhead", "--rounds=1", "--duration=50ms", "--json")
	var doc struct {
		Schema    string
		Summaries []bench.Summary
	}
	if err := json.Unmarshal([]byte(out), &doc); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, s := range doc.Summaries {
		got = append(got, s.Load+" "+s.Variant)
		if s.Rate <= 0 || s.CPU <= 0 || s.RateRatio <= 0 || s.Samples != 1 {
			t.Errorf("summary %+v", s)
		}
	}
	want := []string{
		"tcp nothing", "tcp floor", "tcp count", "tcp trace", "tcp 1/64", "tcp no match", "tcp tcpdump",
		"udp64 nothing", "udp64 floor", "udp64 count", "udp64 trace", "udp64 1/64", "udp64 no match", "udp64 tcpdump",
	}
	if diff := cmp.Diff(want, got); diff != "" || doc.Schema != "nsbpf.overhead/1" {
		t.Errorf("schema %q, summaries (-want +got):\n%s", doc.Schema, diff)
	}
}
