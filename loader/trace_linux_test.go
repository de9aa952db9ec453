package loader

import (
	"errors"
	"io"
	"net"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nsbpf/nsbpf/bpf"
	"github.com/nsbpf/nsbpf/collector"
	"github.com/nsbpf/nsbpf/internal/hop"
	"github.com/nsbpf/nsbpf/topology"
)

// ledger returns what a detached trace saw at a hop.
func ledger(t *testing.T, tr *Trace, at hop.Hop) collector.Ledger {
	t.Helper()
	ls, err := collector.ReadLedgers(tr.Ledgers, tr.Hops)
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range ls.Hops {
		if l.Hop == at {
			return l.Ledger
		}
	}
	t.Fatalf("the trace does not stand at %s", at)
	return collector.Ledger{}
}

// sightings detaches tr and returns what is in its ring: sightings that begin a run.
func sightings(t *testing.T, tr *Trace) []collector.Run {
	t.Helper()
	ring, err := collector.OpenRing(tr.Ring, tr.Sweep)
	if err != nil {
		t.Fatal(err)
	}
	defer ring.Close()
	if err := tr.Detach(); err != nil {
		t.Fatal(err)
	}
	var all []collector.Run
	if err := ring.Drain(func(batch *collector.Batch, _ uint64) error {
		all = append(all, batch.Runs...)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return all
}

// TestTraceXDP sights at both XDP hops what comes there, by the buffer that the tc
// hop behind has too, and gives the hops their programs back.
func TestTraceXDP(t *testing.T) {
	for _, hook := range xdpHooks {
		t.Run(hook.String(), func(t *testing.T) {
			lab, at := countedXDP(t, hook)
			before := passed(t, lab, at)
			tr := startTrace(t, lab, TraceOptions{Match: compile(t, "udp or icmp")})
			if want := lab.Topology.Hops(true); !cmp.Equal(want, tr.Hops) || tr.Taken != nil {
				t.Errorf("traced: %v, taken: %v, want %v", tr.Hops, tr.Taken, want)
			}
			if diff := cmp.Diff(gate(hook), stack(t, lab, at)); diff != "" {
				t.Errorf("programs (-want +got):\n%s", diff)
			}
			ping(t, lab, "172.16.16.20")
			sendUDP(t, lab, 9, 5)
			wait(t, "all are counted", func() bool { return passed(t, lab, at)-before >= 6 })
			all := sightings(t, tr)
			if l := ledger(t, tr, at); l.Traced != 6 || l.Lost != 0 || !l.Balanced() {
				t.Errorf("ledger of %s: %+v, want 6 traced", at, l)
			}
			checkHeads(t, all, at, findHop(t, lab, "right:right-veth", hop.TC), 6)
			checkStacks(t, lab, countedBy(Hooks{XDP: hook}))
			ping(t, lab, "172.16.16.20")
		})
	}
}

// TestTraceXDPStream has a TCP connection's segments sighted at right's hops. In
// native mode they are cut before; in generic mode a frame may be many of them.
func TestTraceXDPStream(t *testing.T) {
	for _, hook := range xdpHooks {
		t.Run(hook.String(), func(t *testing.T) {
			lab, at := countedXDP(t, hook)
			tr := startTrace(t, lab, TraceOptions{Match: compile(t, "tcp")})
			stream(t, lab, 1<<20)
			all := sightings(t, tr)
			l := ledger(t, tr, at)
			if l.Traced < 20 || l.Lost != 0 || !l.Balanced() {
				t.Errorf("ledger of %s: %+v", at, l)
			}
			checkHeads(t, all, at, findHop(t, lab, "right:right-veth", hop.TC), int(l.Traced))
		})
	}
}

// stream sends n bytes by TCP from left to right.
func stream(t *testing.T, lab *topology.Lab, n int) {
	t.Helper()
	var ln net.Listener
	inside(t, lab, "right", func() (err error) {
		ln, err = net.Listen("tcp4", "172.16.16.20:0")
		return err
	})
	defer ln.Close()
	received := make(chan int64, 1)
	go func() {
		c, err := ln.Accept()
		if err != nil {
			t.Error(err)
			received <- 0
			return
		}
		defer c.Close()
		n, _ := io.Copy(io.Discard, c)
		received <- n
	}()
	inside(t, lab, "left", func() error {
		c, err := net.Dial("tcp4", ln.Addr().String())
		if err != nil {
			return err
		}
		_, err = c.Write(make([]byte, n))
		return errors.Join(err, c.Close())
	})
	if got := <-received; got != int64(n) {
		t.Errorf("%d of %d bytes arrived", got, n)
	}
}

// checkHeads looks for n sightings at xdp whose buffer and headers are those of
// one at tc each.
func checkHeads(t *testing.T, all []collector.Run, xdp, tc hop.Hop, n int) {
	t.Helper()
	type key struct {
		head    uint64
		payload uint32
		packet  bpf.Packet
	}
	at := func(r *collector.Run, h hop.Hop) bool {
		for i := range r.Len() {
			if id, _ := r.At(i); id == uint16(h.ID) {
				return true
			}
		}
		return false
	}
	tcs := make(map[key]int)
	for i := range all {
		if r := &all[i]; at(r, tc) {
			tcs[key{r.Head, r.PayloadHash, r.Packet}]++
		}
	}
	var found int
	for i := range all {
		r := &all[i]
		if !at(r, xdp) {
			continue
		}
		found++
		k := key{r.Head, r.PayloadHash, r.Packet}
		if tcs[k]--; tcs[k] < 0 || r.Skb != 0 || r.Segments != 1 || r.Len() != 1 {
			t.Errorf("sighting at %s has no counterpart at %s: %+v", xdp, tc, r.Sighting)
		}
	}
	if found != n {
		t.Errorf("%d sightings at %s, want %d", found, xdp, n)
	}
}
