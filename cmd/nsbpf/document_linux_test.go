package main

import (
	"bytes"
	"encoding/json"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// document is what `trace --json` printed.
type document struct {
	paths  []pathLine
	ledger ledgerLine
}

type pathLine struct {
	Schema, Verdict string
	Partial         bool
	Packet          struct {
		Proto int
		ICMP  *struct{ Type, Seq int }
	}
	Steps []struct{ Hop string }
	Drops []struct{ Reason string }
}

// arrived says whether the packet came to its receiver: also one that the
// receiver's socket had no room for.
func (p *pathLine) arrived() bool {
	unread := len(p.Drops) > 0 && (p.Drops[0].Reason == "SOCKET_RCVBUFF" || p.Drops[0].Reason == "NO_SOCKET")
	return p.Verdict == "delivered" || p.Verdict == "dropped" && unread
}

type ledgerLine struct {
	Schema                              string
	Paths, Delivered, Sightings, Strays uint64
	hopLine
	Hops   []hopLine
	Sample *struct{ Paths, Delivered estimateLine }
	Cost   struct {
		Elapsed time.Duration `json:"elapsed_ns"`
	}
}

type hopLine struct {
	Hop                    string
	Seen, Traced, Filtered uint64
	SampledOut             uint64 `json:"sampled_out"`
	Lost                   uint64
	Balanced               bool
}

type estimateLine struct{ Value, Low, High float64 }

// traced runs a trace while do sends, and reads what it printed.
func (c *course) traced(t *testing.T, args []string, do func()) *document {
	t.Helper()
	b := startTrace(t, append([]string{"trace", c.name, "--json", "--strict"}, args...)...)
	do()
	c.settle(t)
	out, err := b.end(os.Interrupt)
	if err != nil {
		t.Errorf("trace %q: %v", args, err)
	}
	return readDocument(t, out)
}

// readDocument reads JSON, of which the last line is the ledger, and wants that to
// add up.
func readDocument(t *testing.T, out []byte) *document {
	t.Helper()
	d := &document{}
	dec := json.NewDecoder(bytes.NewReader(out))
	for {
		var raw json.RawMessage
		if err := dec.Decode(&raw); err != nil {
			t.Fatalf("%v after %d paths of:\n%.500s", err, len(d.paths), out)
		}
		if !dec.More() {
			if err := json.Unmarshal(raw, &d.ledger); err != nil {
				t.Fatal(err)
			}
			break
		}
		var p pathLine
		if err := json.Unmarshal(raw, &p); err != nil || p.Schema != "nsbpf.path/1" {
			t.Fatalf("%v: %s", err, raw)
		}
		d.paths = append(d.paths, p)
	}
	d.ledger.check(t)
	return d
}

// check wants a ledger that adds up: at each hop, over all hops, and what was
// traced with what was read.
func (l *ledgerLine) check(t *testing.T) {
	t.Helper()
	var sum hopLine
	for _, h := range append(l.Hops, l.hopLine) {
		if h.Seen != h.Traced+h.Filtered+h.SampledOut+h.Lost || !h.Balanced {
			t.Errorf("%q does not add up: %+v", h.Hop, h)
		}
	}
	for _, h := range l.Hops {
		sum.Seen += h.Seen
		sum.Traced += h.Traced
		sum.Filtered += h.Filtered
		sum.SampledOut += h.SampledOut
		sum.Lost += h.Lost
	}
	sum.Balanced = true
	if diff := cmp.Diff(sum, l.hopLine); diff != "" || l.Schema != "nsbpf.ledger/1" {
		t.Errorf("schema %q, the hops' sum and the total (-sum +total):\n%s", l.Schema, diff)
	}
	if l.Sightings != l.Traced || l.Strays > 0 {
		t.Errorf("%d sightings, %d of them strays, of %d traced", l.Sightings, l.Strays, l.Traced)
	}
}

// checkWhole wants all paths of unicast IP packets between left and another node to
// have all hops of a route, and returns how many there are.
func (d *document) checkWhole(t *testing.T, routes ...[]string) int {
	t.Helper()
	n := 0
	for _, p := range d.paths {
		var steps []string
		for _, s := range p.Steps {
			steps = append(steps, s.Hop)
		}
		echo := p.Packet.ICMP != nil && slices.Contains([]int{0, 8, 128, 129}, p.Packet.ICMP.Type)
		if proto := p.Packet.Proto; !echo && proto != 6 && proto != 17 {
			continue
		}
		n++
		known := func(route []string) bool { return slices.Equal(route, steps) }
		if !p.arrived() || p.Partial || !slices.ContainsFunc(routes, known) {
			t.Errorf("a path of protocol %d is %s, partial %t, %q", p.Packet.Proto, p.Verdict, p.Partial, steps)
		}
	}
	return n
}
