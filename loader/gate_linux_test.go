package loader

import (
	"errors"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/google/go-cmp/cmp"

	"github.com/nsbpf/nsbpf/bpf"
	"github.com/nsbpf/nsbpf/internal/hop"
	"github.com/nsbpf/nsbpf/topology"
)

// xdpHooks are the two ways to stand at an XDP hop.
var xdpHooks = []Hook{XDPNative, XDPGeneric}

// gate is what [stack] says of a gate.
func gate(hook Hook) []string {
	return []string{map[Hook]string{XDPNative: "driver", XDPGeneric: "generic"}[hook] + " gate_xdp"}
}

// countedXDP brings up a pair that is counted at XDP, with neighbours that know
// each other, and returns right's XDP hop.
func countedXDP(t *testing.T, hook Hook) (*topology.Lab, hop.Hop) {
	t.Helper()
	lab := up(t, preset(t, "pair"))
	attachCount(t, lab, Hooks{XDP: hook})
	ping(t, lab, "172.16.16.20")
	return lab, findHop(t, lab, "right:right-veth", hop.XDP)
}

// passed is how many packets passed a hop.
func passed(t *testing.T, lab *topology.Lab, at hop.Hop) int {
	t.Helper()
	c := counts(t, lab)[at.String()]
	return int(c.Passed().Packets)
}

// TestTraceXDPFilter adds and removes filters while a trace runs, at a hop that is
// counted and, from before the trace, at one that is not.
func TestTraceXDPFilter(t *testing.T) {
	for _, hook := range xdpHooks {
		t.Run(hook.String(), func(t *testing.T) {
			lab, at := countedXDP(t, hook)
			tr := startTrace(t, lab, TraceOptions{Match: compile(t, "udp")})
			f := addFilter(t, lab, "right:right-veth", hook, "udp port 9")
			if diff := cmp.Diff(gate(hook), stack(t, lab, at)); diff != "" {
				t.Errorf("programs (-want +got):\n%s", diff)
			}
			checkDrops(t, lab, at, f.ID)
			if err := Open(lab).RemoveFilter(f.ID); err != nil {
				t.Fatal(err)
			}
			got := datagrams(t, lab)
			sendUDP(t, lab, 9, 2)
			wait(t, "two datagrams arrive", func() bool { return datagrams(t, lab)-got == 2 })
			f = addFilter(t, lab, "right:right-veth", hook, "udp port 9")
			if err := tr.Detach(); err != nil {
				t.Fatal(err)
			}
			if l := ledger(t, tr, at); l.Traced != 5+3+2 || !l.Balanced() {
				t.Errorf("ledger: %+v, want 10 traced", l)
			}
			want := []string{strings.Replace(gate(hook)[0], "gate", "filter", 1)}
			if diff := cmp.Diff(want, stack(t, lab, at)); diff != "" {
				t.Errorf("programs after the trace (-want +got):\n%s", diff)
			}
			checkDrops(t, lab, at, f.ID)
		})
	}
}

// TestTraceXDPFilterAlone traces at an XDP hop where only a filter stands, which is
// removed meanwhile. Of another filter there is no more than a note.
func TestTraceXDPFilterAlone(t *testing.T) {
	lab := up(t, preset(t, "pair"))
	attachCount(t, lab, Hooks{})
	ping(t, lab, "172.16.16.20")
	at := findHop(t, lab, "right:right-veth", hop.XDP)
	f := addFilter(t, lab, "right:right-veth", XDPNative, "udp port 9")
	half := Filter{ID: 2, Hop: findHop(t, lab, "left:left-veth", hop.XDP), Expr: "icmp"}
	if err := Open(lab).writeFile(filtersFile, filterBook{2, []Filter{f, half}}); err != nil {
		t.Fatal(err)
	}
	tr := startTrace(t, lab, TraceOptions{Match: compile(t, "udp")})
	if want := append(lab.Topology.Hops(false), at); !cmp.Equal(want, tr.Hops) {
		t.Errorf("traced: %v, want %v", tr.Hops, want)
	}
	checkDrops(t, lab, at, f.ID)
	if err := Open(lab).RemoveFilter(f.ID); err != nil {
		t.Fatal(err)
	}
	if err := tr.Detach(); err != nil {
		t.Error(err)
	}
	if l := ledger(t, tr, at); l.Traced != 8 {
		t.Errorf("ledger: %+v, want 8 traced", l)
	}
	checkStacks(t, lab, countedBy(Hooks{}))
}

// TestTraceXDPKilled kills a trace. Its taps go with it, and what they cost; the
// traffic and its counting go on, a filter can be added, and the next trace takes
// the gates over.
func TestTraceXDPKilled(t *testing.T) {
	for _, hook := range xdpHooks {
		t.Run(hook.String(), func(t *testing.T) {
			lab, at := countedXDP(t, hook)
			killChild(t, command("trace", lab, HookNone, 0))
			if diff := cmp.Diff(gate(hook), stack(t, lab, at)); diff != "" {
				t.Fatalf("programs (-want +got):\n%s", diff)
			}
			taps := mapOf(t, lab, at, bpf.MapTaps)
			wait(t, "the taps are gone", func() bool {
				var id ebpf.ProgramID
				return errors.Is(taps.Lookup(uint32(at.ID), &id), ebpf.ErrKeyNotExist)
			})
			before := passed(t, lab, at)
			ping(t, lab, "172.16.16.20")
			if n := passed(t, lab, at) - before; n < 1 {
				t.Errorf("%d counted", n)
			}
			f := addFilter(t, lab, "right:right-veth", hook, "udp port 9")
			checkDrops(t, lab, at, f.ID)
			tr := startTrace(t, lab, TraceOptions{Match: compile(t, "udp")})
			got := datagrams(t, lab)
			sendUDP(t, lab, 9, 4)
			sendUDP(t, lab, 10, 3)
			wait(t, "three datagrams arrive", func() bool { return datagrams(t, lab)-got == 3 })
			if err := tr.Detach(); err != nil {
				t.Fatal(err)
			}
			if l := ledger(t, tr, at); l.Traced != 7 {
				t.Errorf("ledger of the next: %+v, want 7 traced", l)
			}
			if err := Open(lab).RemoveFilter(f.ID); err != nil {
				t.Fatal(err)
			}
			checkStacks(t, lab, countedBy(Hooks{XDP: hook}))
		})
	}
}

// mapOf opens a map of the program at an XDP hop.
func mapOf(t *testing.T, lab *topology.Lab, at hop.Hop, name string) *ebpf.Map {
	t.Helper()
	ln, p, err := Open(lab).openPinned(countPin(at.ID))
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	defer p.Close()
	info, err := p.Info()
	if err != nil {
		t.Fatal(err)
	}
	ids, _ := info.MapIDs()
	for _, id := range ids {
		m, err := ebpf.NewMapFromID(id)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { m.Close() })
		if mi, err := m.Info(); err == nil && mi.Name == name {
			return m
		}
	}
	t.Fatalf("the program at %s has no map %s", at, name)
	return nil
}

// TestTraceXDPTurns begins a second trace at XDP hops that another has, and a
// third when that has ended.
func TestTraceXDPTurns(t *testing.T) {
	lab, at := countedXDP(t, XDPGeneric)
	first := startTrace(t, lab, TraceOptions{Match: compile(t, "udp")})
	second := startTrace(t, lab, TraceOptions{Match: compile(t, "udp")})
	xdp := slices.DeleteFunc(lab.Topology.Hops(true), func(h hop.Hop) bool { return h.Layer != hop.XDP })
	if diff := cmp.Diff(xdp, second.Taken); diff != "" {
		t.Errorf("taken (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(lab.Topology.Hops(false), second.Hops); diff != "" {
		t.Errorf("the second traces (-want +got):\n%s", diff)
	}
	if err := second.Close(); err != nil {
		t.Error(err)
	}
	sendUDP(t, lab, 9, 3)
	if err := errors.Join(first.Detach(), first.Detach()); err != nil {
		t.Error(err)
	}
	if l := ledger(t, first, at); l.Traced != 3 {
		t.Errorf("ledger of the first: %+v, want 3 traced", l)
	}
	if third := startTrace(t, lab, TraceOptions{}); third.Taken != nil {
		t.Errorf("taken from the third: %v", third.Taken)
	}
}

// TestTraceXDPCleaned removes and makes anew the lab's programs while a trace runs,
// whose end leaves the new ones alone.
func TestTraceXDPCleaned(t *testing.T) {
	lab, at := countedXDP(t, XDPGeneric)
	tr := startTrace(t, lab, TraceOptions{})
	detachAll(t, lab)
	attachCount(t, lab, Hooks{XDP: XDPGeneric})
	next := startTrace(t, lab, TraceOptions{Match: compile(t, "udp")})
	if err := tr.Close(); err != nil {
		t.Error(err)
	}
	sendUDP(t, lab, 9, 3)
	if err := next.Detach(); err != nil {
		t.Error(err)
	}
	if l := ledger(t, next, at); l.Traced != 3 {
		t.Errorf("ledger: %+v, want 3 traced", l)
	}
	checkStacks(t, lab, countedBy(Hooks{XDP: XDPGeneric}))
}

// TestTraceXDPUnderTraffic begins and ends traces, and kills some, while datagrams
// flow. Each is counted once, and judged by the filter.
func TestTraceXDPUnderTraffic(t *testing.T) {
	for _, hook := range xdpHooks {
		t.Run(hook.String(), func(t *testing.T) {
			lab, at := countedXDP(t, hook)
			addFilter(t, lab, "right:right-veth", hook, "udp port 9")
			wasPassed, wasDropped, got := passed(t, lab, at), dropped(counts(t, lab)[at.String()]), datagrams(t, lab)
			done := make(chan int, 1)
			stop := make(chan struct{})
			go func() { done <- flow(t, lab, stop) }()
			for i := range 12 {
				if i%4 == 3 { // at all tc hops, and at none or one of XDP
					tc := len(lab.Topology.Hops(false))
					killChild(t, command("attach", lab, HookNone, tc+i/4%2))
					continue
				}
				tr, err := Open(lab).Trace(ctx, TraceOptions{})
				if err != nil {
					t.Error(err)
					break
				}
				if err := tr.Close(); err != nil {
					t.Error(err)
				}
			}
			close(stop)
			sent := <-done
			drops := func() int { return int(dropped(counts(t, lab)[at.String()]) - wasDropped) }
			wait(t, "all datagrams are counted", func() bool {
				return passed(t, lab, at)-wasPassed >= sent && drops() >= sent
			})
			if n := drops(); n != sent {
				t.Errorf("%d dropped, want %d", n, sent)
			}
			if n := datagrams(t, lab) - got; n != sent {
				t.Errorf("right got %d datagrams, want %d", n, sent)
			}
		})
	}
}

// flow sends datagrams from left to right until stop is closed, to ports 9 and 10
// in turn, and returns how many to each. Those to 10 have to arrive. It lets fewer
// be on the way than a veth's ring and the socket have room for.
func flow(t *testing.T, lab *topology.Lab, stop <-chan struct{}) (n int) {
	const atOnce = 16
	var from, to net.PacketConn
	inside(t, lab, "right", func() (err error) {
		to, err = net.ListenPacket("udp4", "172.16.16.20:10")
		return err
	})
	defer to.Close()
	inside(t, lab, "left", func() (err error) {
		from, err = net.ListenPacket("udp4", "172.16.16.10:0")
		return err
	})
	defer from.Close()
	for {
		select {
		case <-stop:
			return n
		default:
		}
		for range atOnce {
			for port := 9; port <= 10; port++ {
				if _, err := from.WriteTo([]byte("hello"), &net.UDPAddr{IP: net.IPv4(172, 16, 16, 20), Port: port}); err != nil {
					t.Error(err)
					return n
				}
			}
			n++
		}
		if err := to.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
			t.Error(err)
		}
		for i := range atOnce {
			if _, _, err := to.ReadFrom(make([]byte, 16)); err != nil {
				t.Errorf("%d of %d datagrams did not arrive: %v", atOnce-i, atOnce, err)
				return n
			}
		}
	}
}
