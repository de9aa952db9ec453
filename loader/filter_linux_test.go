package loader

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nsbpf/nsbpf/collector"
	"github.com/nsbpf/nsbpf/internal/hop"
	"github.com/nsbpf/nsbpf/topology"
)

// datagrams is how many datagrams right's stack was given, by its own counters.
func datagrams(t *testing.T, lab *topology.Lab) int {
	t.Helper()
	var n int
	for line := range strings.Lines(in(t, lab, "right", "nstat", "-asz", "UdpInDatagrams", "UdpNoPorts")) {
		var name string
		var count int
		if _, err := fmt.Sscan(line, &name, &count); err == nil && name[0] != '#' {
			n += count
		}
	}
	return n
}

// TestFilter adds a filter by each hook, compares what it drops with what the
// receiver gets, and removes it.
func TestFilter(t *testing.T) {
	for _, tt := range []struct {
		name   string
		count  Hooks
		hook   Hook
		used   Hook
		during string // programs at the hop
	}{
		{"best", Hooks{}, HookNone, TCX, "tcx filter_tc, tcx count_tc"},
		{"tcx", Hooks{}, TCX, TCX, "tcx filter_tc, tcx count_tc"},
		{"clsact", Hooks{TC: Clsact}, Clsact, Clsact, "clsact filter_tc, clsact count_tc"},
		{"tcx before clsact", Hooks{TC: Clsact}, HookNone, TCX, "tcx filter_tc, clsact count_tc"},
		{"xdp", Hooks{}, XDPNative, XDPNative, "driver filter_xdp"},
		{"xdpgeneric", Hooks{}, XDPGeneric, XDPGeneric, "generic filter_xdp"},
		{"xdp, counted", Hooks{XDP: XDPNative}, XDPNative, XDPNative, "driver filter_xdp"},
		{"xdpgeneric, counted", Hooks{XDP: XDPGeneric}, XDPGeneric, XDPGeneric, "generic filter_xdp"},
		{"xdp, counted by xdpgeneric", Hooks{XDP: XDPGeneric}, XDPNative, XDPGeneric, "generic filter_xdp"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			needs(t, tt.used)
			lab := up(t, preset(t, "pair"))
			attachCount(t, lab, tt.count)
			ping(t, lab, "172.16.16.20") // neighbours know each other now
			at := findHop(t, lab, "right:right-veth", tt.hook.layer())
			before := stack(t, lab, at)
			f := addFilter(t, lab, "right:right-veth", tt.hook, "udp port 9")
			if f.ID != 1 || f.Hook != tt.used {
				t.Errorf("filter %d by %s", f.ID, f.Hook)
			}
			if got := strings.Join(stack(t, lab, at), ", "); got != tt.during {
				t.Errorf("programs: %s, want %s", got, tt.during)
			}
			checkDrops(t, lab, at, f.ID)
			to := counts(t, lab)[at.String()]
			if err := Open(lab).RemoveFilter(f.ID); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(before, stack(t, lab, at)); diff != "" {
				t.Errorf("programs after removal (-before +after):\n%s", diff)
			}
			got := datagrams(t, lab)
			sendUDP(t, lab, 9, 2)
			wait(t, "two datagrams arrive", func() bool { return datagrams(t, lab)-got == 2 })
			end := counts(t, lab)[at.String()]
			if dropped(end) != dropped(to) {
				t.Errorf("%d counted as dropped at the end", dropped(end))
			}
			if before != nil && end.Passed().Packets < to.Passed().Packets+2 {
				t.Errorf("the counter does not go on: %d, then %d", to.Passed().Packets, end.Passed().Packets)
			}
		})
	}
}

// checkDrops sends what a filter of "udp port 9" at right's end drops, and what it
// does not.
func checkDrops(t *testing.T, lab *topology.Lab, at hop.Hop, id int) {
	t.Helper()
	from, got := counts(t, lab)[at.String()], datagrams(t, lab)
	was, err := Open(lab).CountFilter(id)
	if err != nil {
		t.Fatal(err)
	}
	counted, stats := measure(t, lab)
	sendUDP(t, lab, 9, 5)
	sendUDP(t, lab, 10, 3)
	wait(t, "three datagrams arrive", func() bool { return datagrams(t, lab)-got >= 3 })
	ping(t, lab, "172.16.16.20")
	if n := datagrams(t, lab) - got; n != 3 {
		t.Errorf("right got %d datagrams, want 3", n)
	}
	if n := dropped(counts(t, lab)[at.String()]) - dropped(from); n != 5 {
		t.Errorf("%d counted as dropped, want 5", n)
	}
	nowCounted, nowStats := measure(t, lab)
	compareCounts(t, []Attachment{{Hop: at}}, since(nowCounted, counted), since(nowStats, stats))
	if c, err := Open(lab).CountFilter(id); err != nil || c != (FilterCount{Matched: was.Matched + 5}) {
		t.Errorf("filter counted %+v, before %+v, error %v", c, was, err)
	}
}

// TestFilterIDs checks that filters are listed in order and their IDs not used
// again, also those of filters that could not be added.
func TestFilterIDs(t *testing.T) {
	needs(t, TCX)
	lab := up(t, preset(t, "pair"))
	attachCount(t, lab, Hooks{})
	const place = "right:right-veth"
	addFilter(t, lab, place, TCX, "udp port 1")
	addFilter(t, lab, place, XDPGeneric, "udp port 2")
	at := findHop(t, lab, place, hop.XDP)
	_, err := Open(lab).AddFilter(Filter{Hop: at, Hook: XDPGeneric, Expr: "udp port 3"}, compile(t, "udp port 3"))
	if err == nil || !strings.Contains(err.Error(), "filter 2 is there, and XDP has room for one") {
		t.Errorf("second at XDP: %v", err)
	}
	in(t, lab, "left", "ip", "link", "set", "left-veth", "mtu", "9000")
	in(t, lab, "right", "ip", "link", "set", "right-veth", "mtu", "9000")
	at = findHop(t, lab, "left:left-veth", hop.XDP)
	if _, err := Open(lab).AddFilter(Filter{Hop: at, Hook: XDPNative, Expr: "icmp"}, compile(t, "icmp")); err == nil {
		t.Error("native XDP with a large peer is possible: no failure to test")
	}
	for _, id := range []int{3, 4, -1} {
		if err := Open(lab).RemoveFilter(id); !errors.Is(err, ErrNoFilter) {
			t.Errorf("remove %d: %v", id, err)
		}
	}
	if err := Open(lab).RemoveFilter(2); err != nil {
		t.Fatal(err)
	}
	if f := addFilter(t, lab, place, TCX, "udp port 4"); f.ID != 4 {
		t.Errorf("the next is filter %d, want 4", f.ID)
	}
	checkFilters(t, lab, "1 tcx udp port 1", "4 tcx udp port 4")
}

func checkFilters(t *testing.T, lab *topology.Lab, want ...string) {
	t.Helper()
	fs, err := Open(lab).Filters()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, f := range fs {
		got = append(got, fmt.Sprintf("%d %s %s", f.ID, f.Hook, f.Expr))
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("filters (-want +got):\n%s", diff)
	}
}

func TestAddFilterRefuses(t *testing.T) {
	needs(t, TCX)
	lab := up(t, preset(t, "pair"))
	match := compile(t, "icmp")
	for _, tt := range []struct {
		counted bool
		layer   hop.Layer
		hook    Hook
		err     string
	}{
		{false, hop.TC, HookNone, "bring it up without --no-count"},
		{true, hop.TC, XDPNative, "hook xdp is none of tc"},
		{true, hop.XDP, TCX, "hook tcx is none of XDP"},
		{true, hop.XDP, HookNone, "hook none is none of XDP"},
		{true, hop.TC, Clsact, "counted by tcx, which runs before clsact"},
	} {
		if as, err := Open(lab).Attachments(); err == nil && tt.counted && len(as) == 0 {
			attachCount(t, lab, Hooks{})
		}
		_, err := Open(lab).AddFilter(Filter{Hop: findHop(t, lab, "left:left-veth", tt.layer), Hook: tt.hook}, match)
		if err == nil || !strings.Contains(err.Error(), tt.err) {
			t.Errorf("%s by %s: error %v, want %q", tt.layer, tt.hook, err, tt.err)
		}
	}
	checkFilters(t, lab)
	checkStacks(t, lab, countedBy(Hooks{}))
}

// TestAddFilterTogether adds from many places at once, while traces begin and end.
func TestAddFilterTogether(t *testing.T) {
	lab := up(t, preset(t, "pair"))
	used := attachCount(t, lab, Hooks{})[0].Hook.String()
	match := compile(t, "udp port 9")
	h := findHop(t, lab, "right:right-veth", hop.TC)
	var wg sync.WaitGroup
	ids := make([]int, 8)
	for i := range ids {
		wg.Go(func() {
			f, err := Open(lab).AddFilter(Filter{Hop: h, Expr: "udp port 9"}, match)
			if err != nil {
				t.Error(err)
			}
			ids[i] = f.ID
		})
	}
	for range 4 {
		wg.Go(func() {
			tr, err := Open(lab).Trace(ctx, TraceOptions{Ring: 1 << 12})
			if err != nil {
				t.Error(err)
				return
			}
			if err := tr.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	slices.Sort(ids)
	if diff := cmp.Diff([]int{1, 2, 3, 4, 5, 6, 7, 8}, ids); diff != "" {
		t.Errorf("ids (-want +got):\n%s", diff)
	}
	want := append(slices.Repeat([]string{used + " filter_tc"}, 8), used+" count_tc")
	if diff := cmp.Diff(want, stack(t, lab, h)); diff != "" {
		t.Errorf("programs (-want +got):\n%s", diff)
	}
}

// TestFilterAndTrace has the trace see what the filter drops, whichever came
// first, and the counter know what was dropped.
func TestFilterAndTrace(t *testing.T) {
	for _, hook := range []Hook{TCX, Clsact} {
		for _, traceFirst := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, trace first %t", hook, traceFirst), func(t *testing.T) {
				needs(t, hook)
				lab := up(t, preset(t, "pair"))
				attachCount(t, lab, Hooks{TC: hook})
				ping(t, lab, "172.16.16.20")
				const expr = "udp port 9"
				var tr *Trace
				begin := func() { tr = startTrace(t, lab, TraceOptions{Hook: hook, Match: compile(t, expr)}) }
				if traceFirst {
					begin()
				}
				for range 2 {
					addFilter(t, lab, "right:right-veth", hook, expr)
				}
				if !traceFirst {
					begin()
				}
				at := findHop(t, lab, "right:right-veth", hop.TC)
				var want []string
				for _, p := range []string{"trace_tc", "filter_tc", "filter_tc", "count_tc"} {
					want = append(want, hook.String()+" "+p)
				}
				if diff := cmp.Diff(want, stack(t, lab, at)); diff != "" {
					t.Errorf("programs (-want +got):\n%s", diff)
				}
				before := counts(t, lab)[at.String()]
				sendUDP(t, lab, 9, 4)
				wait(t, "four are dropped", func() bool {
					return dropped(counts(t, lab)[at.String()])-dropped(before) == 4
				})
				if err := tr.Detach(); err != nil {
					t.Fatal(err)
				}
				checkTraced(t, tr, at, 4)
				if diff := cmp.Diff(want[1:], stack(t, lab, at)); diff != "" {
					t.Errorf("programs without the trace (-want +got):\n%s", diff)
				}
				var matched uint64 // tcx asks the first filter first, clsact the last
				for id := 1; id <= 2; id++ {
					c, err := Open(lab).CountFilter(id)
					if err != nil {
						t.Error(err)
					}
					matched += c.Matched
				}
				if matched != 4 {
					t.Errorf("the filters counted %d", matched)
				}
			})
		}
	}
}

// checkTraced compares what a detached trace saw at a hop with n.
func checkTraced(t *testing.T, tr *Trace, at hop.Hop, n uint64) {
	t.Helper()
	ls, err := collector.ReadLedgers(tr.Ledgers, tr.Hops)
	if err != nil {
		t.Fatal(err)
	}
	if l := ls.Hops[at.ID]; l.Traced != n || l.Lost != 0 || !l.Balanced() {
		t.Errorf("trace at %s: %+v, want %d traced", at, l.Ledger, n)
	}
}

// TestFilterHalfMade removes filters whose adding was killed: written down, but
// attached no further than a kill could come.
func TestFilterHalfMade(t *testing.T) {
	for _, layer := range []hop.Layer{hop.TC, hop.XDP} {
		t.Run(layer.String(), func(t *testing.T) {
			lab := up(t, preset(t, "pair"))
			hooks := Hooks{XDP: XDPGeneric}
			attachCount(t, lab, hooks)
			l := Open(lab)
			h := findHop(t, lab, "right:right-veth", layer)
			hook := HookNone
			if layer == hop.XDP {
				hook = XDPGeneric
			}
			addFilter(t, lab, "right:right-veth", hook, "icmp")
			half := []Filter{
				{ID: 1, Hop: h, Expr: "icmp"}, // attached, but not told so
				{ID: 2, Hop: h, Expr: "icmp"}, // not attached
			}
			if err := l.writeFile(filtersFile, filterBook{2, half}); err != nil {
				t.Fatal(err)
			}
			for _, f := range half {
				if c, err := l.CountFilter(f.ID); err != nil || c != (FilterCount{}) {
					t.Errorf("filter %d: %+v, error %v", f.ID, c, err)
				}
				if err := l.RemoveFilter(f.ID); err != nil {
					t.Errorf("remove %d: %v", f.ID, err)
				}
			}
			checkStacks(t, lab, countedBy(hooks))
			ping(t, lab, "172.16.16.20")
			if f := addFilter(t, lab, "right:right-veth", hook, "icmp"); f.ID != 3 {
				t.Errorf("the next is filter %d, want 3", f.ID)
			}
		})
	}
}

// TestRemoveFilterRenamed removes filters from a device that has another name by
// now, and that is gone.
func TestRemoveFilterRenamed(t *testing.T) {
	for _, hooks := range []Hooks{{TC: TCX}, {TC: Clsact}} {
		t.Run(hooks.TC.String(), func(t *testing.T) {
			needs(t, hooks.TC)
			lab := up(t, preset(t, "pair"))
			attachCount(t, lab, hooks)
			addFilter(t, lab, "right:right-veth", hooks.TC, "icmp")
			addFilter(t, lab, "right:right-veth", hooks.TC, "icmp")
			in(t, lab, "right", "sh", "-ec", renameToX)
			if err := Open(lab).RemoveFilter(1); err != nil {
				t.Error(err)
			}
			renamed := findHop(t, lab, "right:right-veth", hop.TC)
			renamed.Device = "x"
			by := hooks.TC.String()
			if diff := cmp.Diff([]string{by + " filter_tc", by + " count_tc"}, stack(t, lab, renamed)); diff != "" {
				t.Errorf("programs (-want +got):\n%s", diff)
			}
			in(t, lab, "right", "ip", "link", "del", "x")
			if err := Open(lab).RemoveFilter(2); err != nil {
				t.Error(err)
			}
			checkFilters(t, lab)
		})
	}
}
