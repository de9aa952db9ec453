package loader

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/gopacket/gopacket/pcapgo"
	"golang.org/x/sys/unix"

	"github.com/nsbpf/nsbpf/bpf"
	"github.com/nsbpf/nsbpf/collector"
	"github.com/nsbpf/nsbpf/internal/hop"
	"github.com/nsbpf/nsbpf/internal/testenv"
	"github.com/nsbpf/nsbpf/topology"
)

// TestTraceSnap has the bytes of every packet at every hop equal what tcpdump
// captures there: of pings through NAT, and of a stream in GSO packets, which are
// not linear in memory.
func TestTraceSnap(t *testing.T) {
	const expr = "icmp or tcp"
	lab := up(t, preset(t, "nat-wan"))
	attachCount(t, lab, Hooks{})
	dumps := make(map[hop.Hop]*dump)
	for _, h := range lab.Topology.Hops(false) {
		dumps[h] = startDump(t, lab, h, expr)
	}
	tr := startTrace(t, lab, TraceOptions{Match: compile(t, expr), Snap: bpf.MostSnap, Ring: 1 << 26})
	for range 3 {
		ping(t, lab, "8.8.8.8")
	}
	stream(t, lab, 1<<20)

	snaps, runs := snapsOf(t, tr)
	var large int
	for _, h := range tr.Hops {
		if l := ledger(t, tr, h); l.Lost != 0 || l.Unsnapped != 0 || int(l.Traced) != runs[h.ID] {
			t.Errorf("ledger of %s: %+v, of %d runs", h, l, runs[h.ID])
		}
		kept, captured := snaps[h.ID], dumps[h].end(t, len(snaps[h.ID]))
		// It captured for longer than the trace.
		captured = captured[:len(kept)]
		for _, b := range kept {
			large = max(large, len(b))
		}
		slices.Sort(kept)
		slices.Sort(captured)
		if diff := cmp.Diff(captured, kept); diff != "" {
			t.Errorf("%s (-tcpdump +snaps):\n%.2000s", h, diff)
		}
	}
	if n := len(snaps[findHop(t, lab, "left:left-veth out", hop.TC).ID]); n < 20 || large < 3000 {
		t.Errorf("left sent %d packets, the largest has %d bytes: too few, or no GSO", n, large)
	}
}

// snapsOf detaches tr and returns what was kept of packets, by hop, and how many runs
// there were. A run has the snap that comes before it.
func snapsOf(t *testing.T, tr *Trace) (snaps map[hop.ID][]string, runs map[hop.ID]int) {
	t.Helper()
	ring, err := collector.OpenRing(tr.Ring, tr.Sweep)
	if err != nil {
		t.Fatal(err)
	}
	defer ring.Close()
	if err := tr.Detach(); err != nil {
		t.Fatal(err)
	}
	snaps, runs = make(map[hop.ID][]string), make(map[hop.ID]int)
	type key struct {
		time, skb uint64
		hop       uint16
	}
	waiting := make(map[key]bool)
	if err := ring.Drain(func(batch *collector.Batch, _ uint64) error {
		for _, s := range batch.Snaps {
			waiting[key{s.TimeNS, s.Skb, s.Hop}] = true
			snaps[hop.ID(s.Hop)] = append(snaps[hop.ID(s.Hop)], string(s.Bytes))
			if int(s.Length) != len(s.Bytes) {
				t.Errorf("%d bytes of %d", len(s.Bytes), s.Length)
			}
		}
		for i := range batch.Runs {
			r := &batch.Runs[i]
			k := key{r.TimeNS, r.Skb, r.Hop}
			if !waiting[k] || r.Steps != 0 {
				return fmt.Errorf("a run of %d hops, its snap was there: %t", r.Len(), waiting[k])
			}
			delete(waiting, k)
			runs[r.HopID()]++
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if len(waiting) > 0 {
		t.Errorf("%d snaps are of no run", len(waiting))
	}
	return snaps, runs
}

// dump is a tcpdump of what passes a hop.
type dump struct {
	cmd  *exec.Cmd
	file string
}

// startDump returns when tcpdump captures.
func startDump(t *testing.T, lab *topology.Lab, h hop.Hop, expr string) *dump {
	t.Helper()
	d := &dump{file: filepath.Join(t.TempDir(), "x.pcap")}
	d.cmd = exec.Command(testenv.Tool(t, "tcpdump"), "-n", "-U", "--immediate-mode", "-s", "262144", "-B", "16384",
		"-Q", h.Direction.Short(), "-i", h.Device, "-w", d.file, expr)
	stderr, err := d.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	inside(t, lab, h.Node, d.cmd.Start)
	t.Cleanup(func() { _ = d.cmd.Process.Kill() })
	said := bufio.NewReader(stderr)
	for {
		line, err := said.ReadString('\n')
		if strings.Contains(line, "listening on") {
			go io.Copy(io.Discard, said)
			return d
		}
		if err != nil {
			t.Fatalf("tcpdump at %s: %v: %s", h, err, line)
		}
	}
}

// end ends tcpdump when it has n packets, and returns all that it has.
func (d *dump) end(t *testing.T, n int) (all []string) {
	t.Helper()
	wait(t, fmt.Sprintf("tcpdump has %d packets in %s", n, d.file), func() bool {
		all = d.packets(t)
		return len(all) >= n
	})
	if err := d.cmd.Process.Signal(unix.SIGINT); err != nil {
		t.Fatal(err)
	}
	if err := d.cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	return all
}

// packets returns those that were written so far.
func (d *dump) packets(t *testing.T) (all []string) {
	t.Helper()
	f, err := os.Open(d.file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r, err := pcapgo.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	for {
		b, _, err := r.ReadPacketData()
		if err != nil { // the last may be half written
			return all
		}
		all = append(all, string(b))
	}
}
