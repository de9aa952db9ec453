package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"maps"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nsbpf/nsbpf/collector"
	"github.com/nsbpf/nsbpf/internal/testenv"
	"github.com/nsbpf/nsbpf/loader"
)

// load is what is sent from left to one address, and how many packets that is,
// there and back.
type load struct {
	name string
	to   netip.Addr
	expr string // matches it and nothing else
	send func(*testing.T, *course, netip.Addr) int
}

// loads are sent to an address of IPv4 and to one of IPv6.
func loads(to4, to6 netip.Addr) []load {
	return []load{
		{"udp4", to4, "udp", sendCounters}, {"udp6", to6, "udp", sendCounters},
		{"ping4", to4, "icmp", flood}, {"ping6", to6, "icmp6 and host " + to6.String(), flood},
		{"tcp4", to4, "tcp", sendTCP}, {"tcp6", to6, "tcp", sendTCP},
	}
}

const counters = 4000

// sendCounters sends UDP packets that differ in a number at their beginning.
func sendCounters(t *testing.T, c *course, to netip.Addr) int {
	t.Helper()
	conn, err := probeSocket(c.nodes["left"], &flow{port: 7, to: to, route: across()})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	clock := time.NewTicker(time.Millisecond)
	defer clock.Stop()
	b := make([]byte, 64)
	for i := range uint64(counters) {
		if i%32 == 0 {
			<-clock.C // so that no queue overflows
		}
		binary.LittleEndian.PutUint64(b, i)
		if _, err := conn.WriteTo(b, net.UDPAddrFromAddrPort(netip.AddrPortFrom(to, probePort))); err != nil {
			t.Fatal(err)
		}
	}
	return counters
}

var transmitted = regexp.MustCompile(`(\d+) packets transmitted, (\d+) received`)

// flood pings as fast as it goes.
func flood(t *testing.T, _ *course, to netip.Addr) int {
	t.Helper()
	out := testenv.Run(t, "nsbpf", "exec", "left", "--", "ping", "-nqfc2000", to.String())
	m := transmitted.FindStringSubmatch(out)
	if m == nil {
		t.Fatalf("ping says %s", out)
	}
	sent, _ := strconv.Atoi(m[1])
	received, _ := strconv.Atoi(m[2])
	return sent + received
}

// sendTCP sends by a connection. How many packets that takes is not known: 0.
func sendTCP(t *testing.T, c *course, to netip.Addr) int {
	t.Helper()
	node := "right"
	if c.nodes["wan"] != nil {
		node = "wan"
	}
	conn, wait, err := c.connect("left", node, to)
	if err != nil {
		t.Fatal(err)
	}
	var sent error
	for range 500 { // small writes, so that packets are many
		_, err := conn.Write(make([]byte, 20_000))
		sent = errors.Join(sent, err)
	}
	if err := errors.Join(sent, conn.Close(), wait()); err != nil {
		t.Fatal(err)
	}
	return 0
}

// document is what `trace --json` printed.
type document struct {
	paths  []pathLine
	ledger ledgerLine
}

type pathLine struct {
	Schema, Verdict   string
	Partial, GivenUp_ bool
	Packet            struct {
		Proto int
		ICMP  *struct{ Type, Seq int }
	}
	Steps []struct{ Hop string }
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
		if p.Verdict != "delivered" || p.Partial || !slices.ContainsFunc(routes, known) {
			t.Errorf("a path of protocol %d is %s, partial %t, %q", p.Packet.Proto, p.Verdict, p.Partial, steps)
		}
	}
	return n
}

// contains says whether n is as the estimate has it. That holds in 95 of 100
// cases; with bounds 5 instead of 1.96 standard deviations away, in all but one of
// a million.
func (e estimateLine) contains(n int) bool {
	const wider = 5 / 1.96
	low, high := e.Value-wider*(e.Value-e.Low), e.Value+wider*(e.High-e.Value)
	return low <= float64(n) && float64(n) <= high
}

// eachSampled runs test in the labs nat and bridge.
func eachSampled(t *testing.T, test func(*testing.T, *course, []load, [][]string)) {
	testenv.Root(t)
	for _, tt := range []struct {
		name  string
		up    []string
		to    [2]netip.Addr
		route []string
	}{
		{"nat", []string{"nat", "--wan"}, [2]netip.Addr{outside, outside6}, abroadFrom("left")},
		{"bridge", []string{"bridge", "--isolated"}, [2]netip.Addr{right4, right6}, across()},
	} {
		t.Run(tt.name, func(t *testing.T) {
			upLab(t, tt.up...)
			learned := []flow{{to: tt.to[0], route: tt.route}, {to: tt.to[1], route: tt.route}}
			c := openCourse(t, proving{name: tt.name, flows: learned})
			for _, sinks := range c.openSinks(t, true) {
				for _, s := range sinks {
					if s.network == "udp" {
						defer s.close()
					}
				}
			}
			test(t, c, loads(tt.to[0], tt.to[1]), [][]string{tt.route, wayBack(tt.route)})
		})
	}
}

// A sample is of whole paths, NAT or not, and tells how many packets there were.
func TestSample(t *testing.T) {
	eachSampled(t, func(t *testing.T, c *course, loads []load, routes [][]string) {
		for _, l := range loads {
			t.Run(l.name, func(t *testing.T) {
				sent := 0
				d := c.traced(t, []string{"--sample", "1/8", "--ring=65536"}, func() { sent = l.send(t, c, l.to) })
				whole := d.checkWhole(t, routes...)
				if sent == 0 {
					sent = d.began(routes)
				}
				got := d.ledger.Sample.Paths
				// What neighbours say to each other is in the estimate, too.
				if !got.contains(sent) && !got.contains(d.began(routes)) {
					t.Errorf("%d packets were sent, estimated %+v", sent, got)
				}
				d.checkHops(t)
				t.Logf("%d packets, %d whole paths, estimated %+v", sent, whole, got)
			})
		}
	})
}

// began returns how many packets were seen where the routes begin.
func (d *document) began(routes [][]string) int {
	n := 0
	for _, r := range routes {
		for _, h := range d.ledger.Hops {
			if h.Hop == r[0] {
				n += int(h.Seen)
			}
		}
	}
	return n
}

// checkHops wants one packet of 8 at each hop.
func (d *document) checkHops(t *testing.T) {
	t.Helper()
	for _, h := range d.ledger.Hops {
		mean, variance := float64(h.Seen)/8, float64(h.Seen)*7/64
		if off := float64(h.Traced) - mean; off*off > 25*variance+25 {
			t.Errorf("of %d packets at %s %d were chosen, %.0f are 1 of 8", h.Seen, h.Hop, h.Traced, mean)
		}
	}
}

var _ = []any{context.Background, exec.Command, maps.Keys[map[int]int], strings.Cut, collector.Now, loader.Open}
