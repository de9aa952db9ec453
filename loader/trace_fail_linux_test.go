package loader

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/nsbpf/nsbpf/internal/hop"
)

// ending is a context that ends when it was asked for the time after left.
type ending struct {
	context.Context
	left int
}

func (e *ending) Err() error {
	if e.left--; e.left < 0 {
		return context.Canceled
	}
	return nil
}

// labKinds are what a trace finds in a lab: nothing, programs in whose places it can
// stand, and those of XDP.
var labKinds = []struct {
	name  string
	count bool
	hooks Hooks
}{
	{"uncounted", false, Hooks{}},
	{"counted", true, Hooks{}},
	{"counted by clsact", true, Hooks{TC: Clsact}},
	{"counted at XDP", true, Hooks{XDP: XDPGeneric}},
}

// TestTraceInterrupted ends the context before each hop. All hops are as they were,
// no descriptor is left, and the next trace begins.
func TestTraceInterrupted(t *testing.T) {
	for _, kind := range labKinds {
		t.Run(kind.name, func(t *testing.T) {
			lab := up(t, preset(t, "pair"))
			want := nothing
			hops := lab.Topology.Hops(kind.hooks.XDP != HookNone)
			if kind.count {
				attachCount(t, lab, kind.hooks)
				want = countedBy(kind.hooks)
			}
			interrupt := func(n int) {
				_, err := Open(lab).Trace(&ending{ctx, n}, TraceOptions{Ring: 4096})
				if !errors.Is(err, context.Canceled) {
					t.Errorf("ended at hop %d: error %v", n, err)
				}
			}
			interrupt(0) // what the library keeps for ever is open now
			before := openFiles(t)
			for n := range hops {
				interrupt(n)
				checkStacks(t, lab, want)
			}
			if after := openFiles(t); after != before {
				t.Errorf("%d descriptors, before %d", after, before)
			}
			if tr := startTrace(t, lab, TraceOptions{}); len(tr.Hops) != len(hops) || tr.Taken != nil {
				t.Errorf("the next traces %v, taken %v", tr.Hops, tr.Taken)
			}
		})
	}
}

// TestTraceFails fails before anything is loaded, and while it is. The lab is as it
// was, and not locked.
func TestTraceFails(t *testing.T) {
	for _, kind := range labKinds {
		t.Run(kind.name, func(t *testing.T) {
			lab := up(t, preset(t, "pair"))
			if kind.count {
				attachCount(t, lab, kind.hooks)
			}
			left := findHop(t, lab, "left:left-veth", hop.TC)
			before := stack(t, lab, left)
			if _, err := Open(lab).Trace(ctx, TraceOptions{Ring: 4097}); err == nil {
				t.Error("a ring of 4097 bytes was made")
			}
			in(t, lab, "right", "sh", "-ec", renameToX)
			_, err := Open(lab).Trace(ctx, TraceOptions{})
			if err == nil || !strings.Contains(err.Error(), "finding right:right-veth") {
				t.Errorf("error %v", err)
			}
			if after := stack(t, lab, left); !slices.Equal(before, after) {
				t.Errorf("programs: %v, before %v", after, before)
			}
			detachAll(t, lab)
		})
	}
}

// TestTraceDown takes the lab down while a trace runs.
func TestTraceDown(t *testing.T) {
	for _, kind := range labKinds {
		t.Run(kind.name, func(t *testing.T) {
			lab := up(t, preset(t, "pair"))
			if kind.count {
				attachCount(t, lab, kind.hooks)
			}
			before := openFiles(t)
			tr := startTrace(t, lab, TraceOptions{})
			down(t, lab)
			if err := errors.Join(tr.Close(), tr.Detach(), tr.Close()); err != nil {
				t.Error(err)
			}
			if after := openFiles(t); after != before {
				t.Errorf("%d descriptors, before %d", after, before)
			}
		})
	}
}

// TestTraceDeviceGone removes a traced device, whose hops are then of no matter.
func TestTraceDeviceGone(t *testing.T) {
	for _, kind := range labKinds {
		t.Run(kind.name, func(t *testing.T) {
			lab := up(t, preset(t, "pair"))
			if kind.count {
				attachCount(t, lab, kind.hooks)
			}
			tr := startTrace(t, lab, TraceOptions{})
			in(t, lab, "right", "ip", "link", "del", "right-veth")
			closeTrace(t, tr)
		})
	}
}

// TestTraceCountedAnew removes and makes anew the lab's count programs while a trace
// stands in their places, and while the next one does. The end of the first leaves
// the new ones alone.
func TestTraceCountedAnew(t *testing.T) {
	lab := counted(t, "pair")
	tr := startTrace(t, lab, TraceOptions{})
	detachAll(t, lab)
	checkStacks(t, lab, nothing)
	attachCount(t, lab, Hooks{})
	next := startTrace(t, lab, TraceOptions{Match: compile(t, "udp dst port 9")})
	exactly(t, lab, func() { closeTrace(t, tr) })
	checkStacks(t, lab, gatedUpTo(len(next.Hops)))
	closeTrace(t, next)
	checkStacks(t, lab, countedBy(Hooks{}))
}

// TestTraceCountedLater counts a lab that is being traced.
func TestTraceCountedLater(t *testing.T) {
	needs(t, TCX)
	lab := up(t, preset(t, "pair"))
	ping(t, lab, "172.16.16.20")
	tr := startTrace(t, lab, TraceOptions{})
	attachCount(t, lab, Hooks{})
	exactly(t, lab, func() {
		next := startTrace(t, lab, TraceOptions{})
		checkStack(t, lab, next.Hops[0], "tcx gate_tc", "tcx trace_tc")
		closeTrace(t, tr)
		checkStack(t, lab, next.Hops[0], "tcx gate_tc")
		closeTrace(t, next)
	})
	checkStacks(t, lab, countedBy(Hooks{}))
}
