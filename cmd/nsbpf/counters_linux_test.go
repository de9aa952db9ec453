package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nsbpf/nsbpf/bench"
	"github.com/nsbpf/nsbpf/internal/testenv"
)

// tally is what passed one hop.
type tally struct{ Packets, Bytes int64 }

// reading is the lab nat's counters, ours and the kernel's.
type reading struct {
	Ours     map[string]tally // by hop, as "left:left-veth in"
	Links    map[string]tally // likewise; drops of the sender count as sent
	Segments map[string]int64 // by hop
	Missing  map[string]int64 // by wire
	Dropped  int64            // by senders
}

func readCounters(t *testing.T) reading {
	t.Helper()
	r := reading{map[string]tally{}, map[string]tally{}, map[string]int64{}, map[string]int64{}, 0}
	for _, node := range []string{"left", "right", "host", "wan"} {
		r.addLinks(t, node)
	}
	var doc struct {
		Hops []struct {
			Hop                      string
			Packets, Segments, Bytes int64
		}
		Edges []struct {
			From, To string
			Missing  int64
		}
	}
	if err := json.Unmarshal([]byte(testenv.Run(t, "nsbpf", "stats", "nat", "--json")), &doc); err != nil {
		t.Fatal(err)
	}
	for _, h := range doc.Hops {
		r.Ours[h.Hop] = tally{h.Packets, h.Bytes}
		r.Segments[h.Hop] = h.Segments
	}
	for _, e := range doc.Edges {
		r.Missing[e.From+" > "+e.To] = e.Missing
	}
	return r
}

// addLinks adds what the kernel counted on a node's devices.
func (r *reading) addLinks(t *testing.T, node string) {
	t.Helper()
	var links []struct {
		Ifname string
		Stats  struct {
			Rx, Tx struct{ Packets, Bytes, Dropped int64 }
		} `json:"stats64"`
	}
	out := testenv.Run(t, "nsbpf", "exec", "nat/"+node, "--", "ip", "-s", "-j", "link")
	if err := json.Unmarshal([]byte(out), &links); err != nil {
		t.Fatal(err)
	}
	for _, l := range links {
		if l.Ifname == "lo" {
			continue
		}
		place := fmt.Sprintf("%s:%s ", node, l.Ifname)
		r.Links[place+"in"] = tally{l.Stats.Rx.Packets, l.Stats.Rx.Bytes}
		r.Links[place+"out"] = tally{l.Stats.Tx.Packets + l.Stats.Tx.Dropped, l.Stats.Tx.Bytes}
		r.Dropped += l.Stats.Tx.Dropped
	}
}

// readQuiet returns counters between whose first and last nothing passed: those
// that were read twice the same.
func readQuiet(t *testing.T) reading {
	t.Helper()
	last := readCounters(t)
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); {
		now := readCounters(t)
		if cmp.Equal(last, now) {
			return now
		}
		last = now
	}
	t.Fatal("the lab does not come to rest")
	return last
}

func since(before, after map[string]tally) map[string]tally {
	d := make(map[string]tally, len(after))
	for k, a := range after {
		d[k] = tally{a.Packets - before[k].Packets, a.Bytes - before[k].Bytes}
	}
	return d
}

// TestCountersEqualIPLink compares our counters with `ip -s link`, to the packet
// and the byte, for the same interval.
func TestCountersEqualIPLink(t *testing.T) {
	testenv.Root(t)
	upLab(t, "nat", "--wan")
	left, wan := openNode(t, "left"), openNode(t, "wan")
	load := func(l bench.Load, d time.Duration) func(*testing.T) {
		return func(t *testing.T) {
			if _, err := l.Run(t.Context(), d); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, tt := range []struct {
		name string
		gso  bool
		run  func(*testing.T)
	}{
		{"ping", false, func(t *testing.T) { pingLeft(t, "-c3", "-i0.01", "8.8.8.8") }},
		{"ping -6", false, func(t *testing.T) { pingLeft(t, "-c3", "-i0.01", "-6", "2001:4860:4860::8888") }},
		{"large ping", false, func(t *testing.T) { pingLeft(t, "-s9000", "8.8.8.8") }},
		{"tcp", true, load(bench.TCP(left, wan, outside), 300*time.Millisecond)},
		{"udp", false, load(bench.UDP(left, wan, outside), 20*time.Millisecond)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			before := readQuiet(t)
			tt.run(t)
			after := readQuiet(t)
			compareCounters(t, before, after, tt.gso)
		})
	}
}

func compareCounters(t *testing.T, before, after reading, gso bool) {
	t.Helper()
	ours, links := since(before.Ours, after.Ours), since(before.Links, after.Links)
	// The kernel counts what a bridge takes for itself without the Ethernet
	// header (br_pass_frame_up in net/bridge/br_input.c).
	br0 := links["host:br0 in"]
	br0.Bytes += 14 * br0.Packets
	links["host:br0 in"] = br0
	if dropped := after.Dropped - before.Dropped; dropped != 0 {
		t.Logf("%d packets found a full queue; bytes are not compared", dropped)
		forgetBytes(ours)
		forgetBytes(links)
	}
	if diff := cmp.Diff(links, ours); diff != "" {
		t.Errorf("counters (-ip link +nsbpf):\n%s", diff)
	}
	out := "left:left-veth out"
	if ours[out].Packets == 0 {
		t.Errorf("nothing passed %s", out)
	}
	segments := after.Segments[out] - before.Segments[out]
	if got := segments > ours[out].Packets; got != gso {
		t.Errorf("%d segments in %d packets at %s", segments, ours[out].Packets, out)
	}
	for wire, missing := range after.Missing {
		lost := missing - before.Missing[wire]
		if lost != 0 && (after.Dropped == before.Dropped || lost < 0 || strings.HasPrefix(wire, "right")) {
			t.Errorf("%d segments are missing on %s", lost, wire)
		}
	}
}

func forgetBytes(m map[string]tally) {
	for k, v := range m {
		m[k] = tally{Packets: v.Packets}
	}
}
