package loader

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/google/go-cmp/cmp"

	"github.com/nsbpf/nsbpf/internal/hop"
	"github.com/nsbpf/nsbpf/topology"
)

// counted brings up a preset that is counted by tcx, with neighbours that know each
// other.
func counted(t *testing.T, name string) *topology.Lab {
	t.Helper()
	needs(t, TCX)
	lab := up(t, preset(t, name))
	attachCount(t, lab, Hooks{})
	ping(t, lab, "172.16.16.20")
	return lab
}

// tcx is what [stack] says of tcx programs.
func tcx(progs ...string) []string {
	for i, p := range progs {
		progs[i] = "tcx " + p
	}
	return progs
}

// gatedUpTo is what stands at each hop when a trace has the first n.
func gatedUpTo(n int) func(hop.Hop) []string {
	return func(h hop.Hop) []string {
		switch {
		case h.Layer == hop.XDP:
			return nil
		case int(h.ID) < n:
			return tcx("gate_tc")
		}
		return tcx("count_tc")
	}
}

// exactly runs fn while datagrams flow, and compares what the hops counted
// meanwhile with what the devices did, to the byte.
func exactly(t *testing.T, lab *topology.Lab, fn func()) {
	t.Helper()
	wasCounted, wasStats := measure(t, lab)
	stop, done := make(chan struct{}), make(chan int, 1)
	go func() { done <- flow(t, lab, stop) }()
	wait(t, "datagrams flow", func() bool {
		return since(deviceStats(t, lab), wasStats)["left:left-veth out"].Packets >= 3
	})
	fn()
	close(stop)
	<-done
	nowCounted, nowStats := measure(t, lab)
	as, err := Open(lab).Attachments()
	if err != nil {
		t.Fatal(err)
	}
	compareCounts(t, as, since(nowCounted, wasCounted), since(nowStats, wasStats))
}

func closeTrace(t *testing.T, tr *Trace) {
	t.Helper()
	if err := tr.Close(); err != nil {
		t.Error(err)
	}
}

// TestStandin begins and ends traces under traffic. While one stands in, nothing is
// added to a hop, and nothing is counted twice or missed.
func TestStandin(t *testing.T) {
	for _, name := range []string{"pair", "nat-wan"} {
		t.Run(name, func(t *testing.T) {
			lab := counted(t, name)
			exactly(t, lab, func() {
				for i := range 8 {
					tr, err := Open(lab).Trace(ctx, TraceOptions{Match: compile(t, "udp")})
					if err != nil {
						t.Error(err)
						return
					}
					if i == 0 {
						checkStacks(t, lab, gatedUpTo(len(tr.Hops)))
					}
					closeTrace(t, tr)
				}
			})
			checkStacks(t, lab, countedBy(Hooks{}))
		})
	}
}

// TestStandinKilled kills traces while they attach, at each hop, and when they have,
// under traffic. The gates that are left count, also what a filter leaves, and the
// next trace takes over.
func TestStandinKilled(t *testing.T) {
	lab := counted(t, "pair")
	hops := len(lab.Topology.Hops(false))
	exactly(t, lab, func() {
		for n := range hops {
			killChild(t, command("attach", lab, HookNone, n))
			checkStacks(t, lab, gatedUpTo(n))
			if n%2 == 0 { // else the next child is the next trace
				closeTrace(t, startTrace(t, lab, TraceOptions{}))
				checkStacks(t, lab, countedBy(Hooks{}))
			}
		}
		killChild(t, command("trace", lab, HookNone, 0))
		checkStacks(t, lab, gatedUpTo(hops))
	})
	at := findHop(t, lab, "right:right-veth", hop.TC)
	f := addFilter(t, lab, "right:right-veth", HookNone, "udp port 9")
	checkDrops(t, lab, at, f.ID)
	tr := startTrace(t, lab, TraceOptions{Match: compile(t, "udp port 9")})
	checkStack(t, lab, at, "tcx trace_tc", "tcx filter_tc", "tcx count_tc")
	checkDrops(t, lab, at, f.ID)
	closeTrace(t, tr)
	checkStack(t, lab, at, "tcx filter_tc", "tcx count_tc")
}

func checkStack(t *testing.T, lab *topology.Lab, at hop.Hop, want ...string) {
	t.Helper()
	if diff := cmp.Diff(want, stack(t, lab, at)); diff != "" {
		t.Errorf("programs at %s (-want +got):\n%s", at, diff)
	}
}

// TestStandinKilledByTCX lets a trace that does not stand in end what one did that
// was killed.
func TestStandinKilledByTCX(t *testing.T) {
	lab := counted(t, "pair")
	killChild(t, command("trace", lab, HookNone, 0))
	tr := startTrace(t, lab, TraceOptions{Hook: TCX})
	checkStack(t, lab, tr.Hops[0], "tcx trace_tc", "tcx count_tc")
	closeTrace(t, tr)
	checkStacks(t, lab, countedBy(Hooks{}))
}

// TestStandinKilledAndCleaned leaves nothing of a killed trace in the kernel.
func TestStandinKilledAndCleaned(t *testing.T) {
	lab := counted(t, "pair")
	killChild(t, command("trace", lab, HookNone, 0))
	var ids []ebpf.ProgramID
	for _, h := range lab.Topology.Hops(false) {
		ln, p, err := Open(lab).openPinned(countPin(h.ID))
		if err != nil {
			t.Fatal(err)
		}
		info, err := ln.Info()
		if err := errors.Join(err, p.Close(), ln.Close()); err != nil {
			t.Fatal(err)
		}
		ids = append(ids, info.Program)
	}
	detachAll(t, lab)
	checkStacks(t, lab, nothing)
	for _, id := range ids {
		wait(t, fmt.Sprintf("program %d is freed", id), func() bool {
			p, err := ebpf.NewProgramFromID(id)
			if err == nil {
				p.Close()
			}
			return errors.Is(err, fs.ErrNotExist)
		})
	}
}

// TestStandinTwoTraces has two traces at once, of which the second comes beside, and
// ends them in both orders. Both see all, and the third waits for its turn.
func TestStandinTwoTraces(t *testing.T) {
	for _, firstEnds := range []bool{true, false} {
		t.Run(fmt.Sprintf("first ends first %t", firstEnds), func(t *testing.T) {
			lab := counted(t, "pair")
			opts := TraceOptions{Match: compile(t, "udp dst port 9")}
			var trs []*Trace
			at := findHop(t, lab, "right:right-veth", hop.TC)
			exactly(t, lab, func() {
				trs = []*Trace{startTrace(t, lab, TraceOptions{}), startTrace(t, lab, TraceOptions{})}
				checkStack(t, lab, at, "tcx trace_tc", "tcx gate_tc")
				if !firstEnds {
					slices.Reverse(trs)
				}
				closeTrace(t, trs[0])
				closeTrace(t, trs[1])
			})
			trs = []*Trace{startTrace(t, lab, opts), startTrace(t, lab, opts)}
			before := passed(t, lab, at)
			sendUDP(t, lab, 9, 5)
			wait(t, "five are counted", func() bool { return passed(t, lab, at)-before >= 5 })
			left := "gate_tc"
			if firstEnds {
				left = "trace_tc"
			} else {
				slices.Reverse(trs)
			}
			if err := trs[0].Detach(); err != nil {
				t.Fatal(err)
			}
			if firstEnds {
				checkStack(t, lab, at, tcx(left, "count_tc")...)
			} else {
				checkStack(t, lab, at, tcx(left)...)
			}
			if err := trs[1].Detach(); err != nil {
				t.Fatal(err)
			}
			for _, tr := range trs {
				checkTraced(t, tr, at, 5)
			}
			checkStacks(t, lab, countedBy(Hooks{}))
			closeTrace(t, startTrace(t, lab, TraceOptions{}))
		})
	}
}

// TestStandinFilters adds and removes filters before and while a trace runs. The
// trace stands before those that it finds; what a later one drops it sees at the
// hops before.
func TestStandinFilters(t *testing.T) {
	lab := counted(t, "pair")
	out, at := findHop(t, lab, "left:left-veth out", hop.TC), findHop(t, lab, "right:right-veth", hop.TC)
	first := addFilter(t, lab, "right:right-veth", HookNone, "udp port 9")
	tr := startTrace(t, lab, TraceOptions{Match: compile(t, "udp")})
	checkStack(t, lab, at, "tcx trace_tc", "tcx filter_tc", "tcx count_tc")
	checkStack(t, lab, out, "tcx gate_tc")
	checkDrops(t, lab, at, first.ID)
	if err := Open(lab).RemoveFilter(first.ID); err != nil {
		t.Fatal(err)
	}
	checkStack(t, lab, at, "tcx trace_tc", "tcx count_tc")
	if err := tr.Detach(); err != nil {
		t.Fatal(err)
	}
	checkTraced(t, tr, at, 8)
	checkStacks(t, lab, countedBy(Hooks{}))

	tr = startTrace(t, lab, TraceOptions{Match: compile(t, "udp")})
	later := addFilter(t, lab, "right:right-veth", HookNone, "udp port 9")
	checkStack(t, lab, at, "tcx filter_tc", "tcx gate_tc")
	checkDrops(t, lab, at, later.ID)
	another := addFilter(t, lab, "right:right-veth", HookNone, "udp port 9")
	if err := Open(lab).RemoveFilter(later.ID); err != nil {
		t.Fatal(err)
	}
	if err := tr.Detach(); err != nil {
		t.Fatal(err)
	}
	checkTraced(t, tr, out, 8)
	checkTraced(t, tr, at, 3)
	checkStack(t, lab, at, "tcx filter_tc", "tcx count_tc")
	checkDrops(t, lab, at, another.ID)
}

// TestStandinForeign leaves tcx programs of somebody else's where they are: one that
// is first, behind which no trace stands in, and one that comes later.
func TestStandinForeign(t *testing.T) {
	lab := counted(t, "pair")
	at, out := findHop(t, lab, "right:right-veth", hop.TC), findHop(t, lab, "left:left-veth out", hop.TC)
	foreignTCX(t, lab, at)
	exactly(t, lab, func() {
		tr := startTrace(t, lab, TraceOptions{})
		foreignTCX(t, lab, out)
		checkStack(t, lab, at, "tcx trace_tc", "tcx foreign", "tcx count_tc")
		checkStack(t, lab, out, "tcx foreign", "tcx gate_tc")
		closeTrace(t, tr)
	})
	for _, h := range []hop.Hop{at, out} {
		checkStack(t, lab, h, "tcx foreign", "tcx count_tc")
	}
}

// TestStandinWhere traces by each hook in labs that are counted by each or not at
// all, sees all, and measures what that took.
func TestStandinWhere(t *testing.T) {
	for _, tt := range []struct {
		name   string
		count  Hook // HookNone: not at all
		trace  Hook
		during []string
	}{
		{"counted", TCX, HookNone, []string{"tcx gate_tc"}},
		{"by tcx", TCX, TCX, []string{"tcx trace_tc", "tcx count_tc"}},
		{"by clsact", TCX, Clsact, []string{"tcx count_tc", "clsact trace_tc"}},
		{"uncounted", HookNone, HookNone, []string{"tcx trace_tc"}},
		{"uncounted, by clsact", HookNone, Clsact, []string{"clsact trace_tc"}},
		{"counted by clsact", Clsact, HookNone, []string{"tcx trace_tc", "clsact count_tc"}},
		{"all by clsact", Clsact, Clsact, []string{"clsact trace_tc", "clsact count_tc"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			needs(t, TCX)
			lab := up(t, preset(t, "pair"))
			if tt.count != HookNone {
				attachCount(t, lab, Hooks{TC: tt.count})
			}
			ping(t, lab, "172.16.16.20")
			at := findHop(t, lab, "right:right-veth", hop.TC)
			before := stack(t, lab, at)
			tr := startTrace(t, lab, TraceOptions{Hook: tt.trace, Match: compile(t, "udp dst port 9")})
			checkStack(t, lab, at, tt.during...)
			metering, enough := context.WithCancel(ctx)
			cost := make(chan RunTime, 1)
			go func() {
				r, err := tr.Meter(metering)
				if err != nil {
					t.Error(err)
				}
				cost <- r
			}()
			got := datagrams(t, lab)
			sendUDP(t, lab, 9, 2000)
			wait(t, "all arrive", func() bool { return datagrams(t, lab)-got >= 2000 })
			enough()
			if r := <-cost; r.Runs == 0 {
				t.Error("no runs were measured")
			}
			if err := tr.Detach(); err != nil {
				t.Fatal(err)
			}
			checkTraced(t, tr, at, 2000)
			if diff := cmp.Diff(before, stack(t, lab, at)); diff != "" {
				t.Errorf("programs after the trace (-before +after):\n%s", diff)
			}
		})
	}
}
