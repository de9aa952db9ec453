package loader

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf/asm"
	"github.com/google/go-cmp/cmp"

	"github.com/nsbpf/nsbpf/bpf"
	"github.com/nsbpf/nsbpf/collector"
	"github.com/nsbpf/nsbpf/internal/hop"
	"github.com/nsbpf/nsbpf/internal/netns"
	"github.com/nsbpf/nsbpf/internal/testenv"
	"github.com/nsbpf/nsbpf/topology"
	"github.com/nsbpf/nsbpf/trace/filter"
)

func TestMain(m *testing.M) {
	if what := os.Getenv(childDoes); what != "" {
		os.Exit(child(what))
	}
	os.Exit(testenv.Main(m))
}

var ctx = context.Background()

// preset returns a preset; "nat-wan" is nat with a simulated outside, and
// "nat-uplink" has the host's eth0 as its uplink.
func preset(tb testing.TB, name string) *topology.Topology {
	tb.Helper()
	base, variant, _ := strings.Cut(name, "-")
	topo, err := topology.Load(base)
	if err == nil && variant == "wan" {
		topo, err = topo.WithWAN()
	}
	if err != nil {
		tb.Fatal(err)
	}
	if variant == "uplink" {
		topo = topo.WithUplinks([]string{"eth0"})
	}
	return topo
}

// up brings topo up and, at the test's end, down.
func up(tb testing.TB, topo *topology.Topology) *topology.Lab {
	tb.Helper()
	testenv.Root(tb)
	lab, err := topology.Up(ctx, topo, topology.UpOptions{})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { down(tb, lab) })
	return lab
}

// down leaves nothing of the lab, up or not.
func down(tb testing.TB, lab *topology.Lab) {
	tb.Helper()
	detachAll(tb, lab)
	if err := topology.Down(ctx, lab.Name, topology.DownOptions{}); err != nil && !errors.Is(err, topology.ErrNotUp) {
		tb.Error(err)
	}
}

func detachAll(tb testing.TB, lab *topology.Lab) {
	tb.Helper()
	if err := Clean(lab.Dir); err != nil {
		tb.Error(err)
	}
}

func attachCount(tb testing.TB, lab *topology.Lab, hooks Hooks) []Attachment {
	tb.Helper()
	as, err := Open(lab).AttachCount(ctx, hooks)
	if err != nil {
		tb.Fatal(err)
	}
	return as
}

func compile(tb testing.TB, expr string) asm.Instructions {
	tb.Helper()
	x, err := filter.Parse(expr)
	if err != nil {
		tb.Fatal(err)
	}
	match, err := x.Compile()
	if err != nil {
		tb.Fatal(err)
	}
	return match
}

// addFilter drops expr at place, "node:device" or "node:device out", by hook.
func addFilter(tb testing.TB, lab *topology.Lab, place string, hook Hook, expr string) Filter {
	tb.Helper()
	f, err := Open(lab).AddFilter(Filter{Hop: findHop(tb, lab, place, hook.layer()), Hook: hook, Expr: expr}, compile(tb, expr))
	if err != nil {
		tb.Fatal(err)
	}
	return f
}

func findHop(tb testing.TB, lab *topology.Lab, place string, layer hop.Layer) hop.Hop {
	tb.Helper()
	h, err := hop.Find(lab.Topology.Hops(true), place, layer)
	if err != nil {
		tb.Fatal(err)
	}
	return h
}

// startTrace traces until the test's end.
func startTrace(tb testing.TB, lab *topology.Lab, opts TraceOptions) *Trace {
	tb.Helper()
	tr, err := Open(lab).Trace(ctx, opts)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := tr.Close(); err != nil {
			tb.Error(err)
		}
	})
	return tr
}

// in runs a program in a node of the lab.
func in(tb testing.TB, lab *topology.Lab, node string, args ...string) string {
	tb.Helper()
	if ns := lab.Topology.Node(node); ns != nil && ns.Netns != "" {
		args = append([]string{"ip", "netns", "exec", ns.Netns}, args...)
	}
	return testenv.Run(tb, args[0], args[1:]...)
}

// inside runs fn in a node of the lab.
func inside(tb testing.TB, lab *topology.Lab, node string, fn func() error) {
	tb.Helper()
	ns, err := lab.Netns(node)
	if err != nil {
		tb.Fatal(err)
	}
	defer ns.Close()
	if err := netns.Do(ns, fn); err != nil {
		tb.Fatal(err)
	}
}

func ping(tb testing.TB, lab *topology.Lab, to string) {
	tb.Helper()
	in(tb, lab, "left", "ping", "-nq", "-c", "1", "-W", "2", to)
}

// sendUDP sends n datagrams from left to right.
func sendUDP(tb testing.TB, lab *topology.Lab, port, n int) {
	tb.Helper()
	inside(tb, lab, "left", func() error {
		c, err := net.ListenPacket("udp4", "172.16.16.10:0")
		if err != nil {
			return err
		}
		defer c.Close()
		for range n {
			if _, err := c.WriteTo([]byte("hello"), &net.UDPAddr{IP: net.IPv4(172, 16, 16, 20), Port: port}); err != nil {
				return err
			}
		}
		return nil
	})
}

// wait waits until cond holds.
func wait(tb testing.TB, what string, cond func() bool) {
	tb.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(5 * time.Second); !cond(); <-tick.C {
		if time.Now().After(deadline) {
			tb.Fatalf("never: %s", what)
		}
	}
}

// counts returns the counters of all hops by their names.
func counts(tb testing.TB, lab *topology.Lab) map[string]collector.HopCount {
	tb.Helper()
	m, err := Open(lab).Counts()
	if err != nil {
		tb.Fatal(err)
	}
	defer m.Close()
	s, err := collector.ReadSnapshot(m, lab.Topology.Hops(true))
	if err != nil {
		tb.Fatal(err)
	}
	byName := make(map[string]collector.HopCount)
	for _, h := range s.Hops {
		byName[h.Hop.String()] = h
	}
	return byName
}

// dropped is how many packets filters dropped at a hop.
func dropped(c collector.HopCount) uint64 { return c.ByReason[bpf.ReasonFilter].Packets }

// amount is what passed a place.
type amount struct{ Packets, Bytes uint64 }

// deviceStats returns what `ip -s link` says of a lab's devices by hop.
func deviceStats(tb testing.TB, lab *topology.Lab) map[string]amount {
	tb.Helper()
	all := make(map[string]amount)
	for _, n := range lab.Topology.Nodes {
		var devices []struct {
			IfName  string
			Stats64 struct{ RX, TX amount }
		}
		if err := json.Unmarshal([]byte(in(tb, lab, n.Name, "ip", "-s", "-j", "link")), &devices); err != nil {
			tb.Fatal(err)
		}
		for _, d := range devices {
			all[n.Name+":"+d.IfName+" in"] = d.Stats64.RX
			all[n.Name+":"+d.IfName+" out"] = d.Stats64.TX
		}
	}
	return all
}

// unchanged compares the host with what it was.
func unchanged(tb testing.TB, before string) {
	tb.Helper()
	if diff := cmp.Diff(before, testenv.Snapshot(tb)); diff != "" {
		tb.Errorf("the host is not as it was (-before +after):\n%s", diff)
	}
}

// isMounted reports whether the lab has a bpffs.
func isMounted(tb testing.TB, lab *topology.Lab) bool {
	tb.Helper()
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		tb.Fatal(err)
	}
	return strings.Contains(string(mounts), lab.Dir+"/bpf")
}

// openFiles returns how many descriptors the process has, without those of its own
// namespace: the socket library leaves them to the garbage collector.
func openFiles(tb testing.TB) int {
	tb.Helper()
	own, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		tb.Fatal(err)
	}
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		tb.Fatal(err)
	}
	return len(slices.DeleteFunc(fds, func(e os.DirEntry) bool {
		to, _ := os.Readlink("/proc/self/fd/" + e.Name())
		return to == own || strings.HasPrefix(to, "anon_inode:[event") // the runtime's
	}))
}
