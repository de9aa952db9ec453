package loader

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/nsbpf/nsbpf/collector"
	"github.com/nsbpf/nsbpf/internal/hop"
	"github.com/nsbpf/nsbpf/internal/testenv"
	"github.com/nsbpf/nsbpf/topology"
)

// TestAttachCount attaches at every hop, compares the counters with those of the
// devices, and takes everything away again.
func TestAttachCount(t *testing.T) {
	for _, tt := range []struct {
		preset, hooks, to string
	}{
		{"pair", "", "172.16.16.20"},
		{"pair", "clsact", "172.16.16.20"},
		{"nat-wan", "tcx", "8.8.8.8"},
		{"nat-wan", "clsact", "8.8.8.8"},
		{"bridge", "xdp", "172.16.16.20"},
		{"bridge", "clsact,xdpgeneric", "172.16.16.20"},
	} {
		t.Run(tt.preset+" "+tt.hooks, func(t *testing.T) {
			testenv.Root(t)
			hooks, err := ParseHooks(tt.hooks)
			if err != nil {
				t.Fatal(err)
			}
			needs(t, hooks.TC)
			before := testenv.Snapshot(t)
			lab := up(t, preset(t, tt.preset))
			as := attachCount(t, lab, hooks)
			checkStacks(t, lab, countedBy(hooks))
			found, err := Open(lab).Attachments()
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(as, found); diff != "" {
				t.Errorf("another process finds (-attached +found):\n%s", diff)
			}

			counted, stats := measure(t, lab)
			for range 3 {
				ping(t, lab, tt.to)
			}
			nowCounted, nowStats := measure(t, lab)
			compareCounts(t, as, since(nowCounted, counted), since(nowStats, stats))

			detachAll(t, lab)
			checkStacks(t, lab, nothing)
			if as, err := Open(lab).Attachments(); err != nil || len(as) > 0 {
				t.Errorf("after clean: attachments %v, error %v", as, err)
			}
			down(t, lab)
			unchanged(t, before)
		})
	}
}

// measure returns what our counters and the devices' saw, between two of which no
// packet came: the kernel sends some of its own.
func measure(t *testing.T, lab *topology.Lab) (counted, stats map[string]amount) {
	t.Helper()
	wait(t, "a moment without packets", func() bool {
		counted = arrived(counts(t, lab))
		stats = deviceStats(t, lab)
		return maps.Equal(counted, arrived(counts(t, lab)))
	})
	return counted, stats
}

// arrived returns what came to each hop.
func arrived(cs map[string]collector.HopCount) map[string]amount {
	out := make(map[string]amount)
	for name, c := range cs {
		out[name] = amount{c.Arrived().Packets, c.Arrived().Bytes}
	}
	return out
}

// since returns now less before.
func since(now, before map[string]amount) map[string]amount {
	out := make(map[string]amount)
	for name, n := range now {
		out[name] = amount{n.Packets - before[name].Packets, n.Bytes - before[name].Bytes}
	}
	return out
}

// compareCounts compares what the hops of as counted with the devices' counters.
// Bridges and, with native XDP, veth ends do not count what they take in with its
// Ethernet header.
func compareCounts(t *testing.T, as []Attachment, counted, stats map[string]amount) {
	t.Helper()
	for _, a := range as {
		want := stats[strings.TrimSuffix(a.Hop.String(), " xdp")]
		bare := amount{want.Packets, want.Bytes + 14*want.Packets}
		if got := counted[a.Hop.String()]; got != want && got != bare {
			t.Errorf("%s counted %+v, the device %+v", a.Hop, got, want)
		}
	}
	if n := counted["left:left-veth out"].Packets; n < 3 {
		t.Errorf("three pings were %d packets", n)
	}
}

func TestAttachCountTwice(t *testing.T) {
	lab := up(t, preset(t, "pair"))
	attachCount(t, lab, Hooks{})
	if _, err := Open(lab).AttachCount(ctx, Hooks{}); err == nil || !strings.Contains(err.Error(), `lab "pair" is counted already`) {
		t.Errorf("error %v", err)
	}
	checkStacks(t, lab, countedBy(Hooks{}))
	ping(t, lab, "172.16.16.20")
	if c := counts(t, lab)["left:left-veth out"]; c.Passed().Packets == 0 {
		t.Error("the counters are gone")
	}
}

// TestAttachCountFails checks that an error leaves nothing, and says what to do.
func TestAttachCountFails(t *testing.T) {
	testenv.Root(t)
	for _, tt := range []struct {
		name  string
		mtu   int
		hooks Hooks
		is    error
		hint  string
	}{
		{"large peer", 9000, Hooks{XDP: XDPNative}, unix.ERANGE, "lower it or use --hook xdpgeneric"},
		{"large peer, clsact", 9000, Hooks{Clsact, XDPNative}, unix.ERANGE, "lower it or use --hook xdpgeneric"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			topo := preset(t, "pair")
			topo.Links[0].MTU = tt.mtu
			lab := up(t, topo)
			_, err := Open(lab).AttachCount(ctx, tt.hooks)
			if !errors.Is(err, tt.is) || !strings.Contains(err.Error(), tt.hint) {
				t.Errorf("error %v, want %v and %q", err, tt.is, tt.hint)
			}
			checkStacks(t, lab, nothing)
			if isMounted(t, lab) {
				t.Error("the bpffs is still there")
			}
			attachCount(t, lab, Hooks{TC: tt.hooks.TC, XDP: XDPGeneric})
		})
	}
}

// TestAttachCountBesideXDP leaves a program of somebody else's where it is.
func TestAttachCountBesideXDP(t *testing.T) {
	lab := up(t, preset(t, "pair"))
	foreignXDP(t, lab)
	_, err := Open(lab).AttachCount(ctx, Hooks{XDP: XDPNative})
	if err == nil || !strings.Contains(err.Error(), "another XDP program is there") {
		t.Errorf("error %v", err)
	}
	checkStacks(t, lab, func(h hop.Hop) []string {
		if h.Layer == hop.XDP && h.Node == "left" {
			return []string{"driver foreign"}
		}
		return nil
	})
}

func TestAttachCountCancelled(t *testing.T) {
	lab := up(t, preset(t, "pair"))
	ctx, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := Open(lab).AttachCount(ctx, Hooks{}); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	checkStacks(t, lab, nothing)
}

// renameToX takes right's device down for it, because only Linux 6.2 renames one that is up.
const renameToX = "ip link set right-veth down; ip link set right-veth name x; ip link set x up"

// TestAttachCountDeviceGone names the device that is missing.
func TestAttachCountDeviceGone(t *testing.T) {
	lab := up(t, preset(t, "pair"))
	in(t, lab, "right", "sh", "-ec", renameToX)
	_, err := Open(lab).AttachCount(ctx, Hooks{})
	if err == nil || !strings.Contains(err.Error(), "finding right:right-veth") {
		t.Errorf("error %v", err)
	}
	if _, err := Open(lab).Counts(); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("counters: error %v", err)
	}
}

// TestOpenFiles checks that all descriptors are given back.
func TestOpenFiles(t *testing.T) {
	for _, hooks := range []Hooks{{TCX, XDPGeneric}, {Clsact, XDPNative}} {
		t.Run(hooks.TC.String(), func(t *testing.T) {
			needs(t, hooks.TC)
			lab := up(t, preset(t, "pair"))
			cycle := func() {
				attachCount(t, lab, hooks)
				for _, hook := range []Hook{hooks.TC, hooks.XDP} {
					f := addFilter(t, lab, "right:right-veth", hook, "icmp")
					if err := Open(lab).RemoveFilter(f.ID); err != nil {
						t.Fatal(err)
					}
				}
				tr, err := Open(lab).Trace(ctx, TraceOptions{Hook: hooks.TC})
				if err != nil {
					t.Fatal(err)
				}
				if err := tr.Close(); err != nil {
					t.Fatal(err)
				}
				detachAll(t, lab)
			}
			cycle() // what the library keeps for ever is open now
			before := openFiles(t)
			for range 3 {
				cycle()
			}
			if after := openFiles(t); after != before {
				t.Errorf("%d descriptors, before %d", after, before)
			}
		})
	}
}
