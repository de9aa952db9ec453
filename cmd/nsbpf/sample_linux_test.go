package main

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/net/ipv4"

	"github.com/nsbpf/nsbpf/internal/hop"
	"github.com/nsbpf/nsbpf/internal/netns"
	"github.com/nsbpf/nsbpf/internal/testenv"
	"github.com/nsbpf/nsbpf/loader"
)

// contains says whether between least and most are as the estimate has it. That
// holds in 95 of 100 cases of bounds 1.96 standard deviations away; of bounds 5
// away, as they are made here, in all but one of a million.
func (e estimateLine) contains(least, most int) bool {
	const wider = 5 / 1.96
	low, high := e.Value-wider*(e.Value-e.Low), e.Value+wider*(e.High-e.Value)
	return low <= float64(most) && float64(least) <= high
}

// others is how many packets neighbours and bridges send of themselves meanwhile,
// at most.
const others = 30

// eachSampled runs test in the labs nat and bridge.
func eachSampled(t *testing.T, test func(*testing.T, *course, []burden, [][]string)) {
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
			c.openSinks(t, true) // or UDP would be answered by errors
			test(t, c, loads(tt.to[0], tt.to[1]), [][]string{tt.route, wayBack(tt.route)})
		})
	}
}

// A sample is of whole paths, NAT or not, and tells how many packets there were.
func TestSample(t *testing.T) {
	eachSampled(t, func(t *testing.T, c *course, loads []burden, routes [][]string) {
		for _, l := range loads {
			t.Run(l.name, func(t *testing.T) {
				sent := 0
				d := c.traced(t, []string{"--sample=1/8"}, func() { sent = l.send(t, c, l.to) })
				whole := d.checkWhole(t, routes...)
				if sent == 0 {
					sent = d.began(routes)
				}
				got := d.ledger.Sample.Paths
				if !got.contains(sent, sent+others) {
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

// The choice is by what is in a packet: the same packets are of the sample every
// time and in every lab, translated or not.
func TestSampleIsByContent(t *testing.T) {
	var first [2][]uint64 // by family
	eachSampled(t, func(t *testing.T, c *course, _ []burden, routes [][]string) {
		to := [2]netip.Addr{right4, right6}
		if c.name == "nat" {
			to = [2]netip.Addr{outside, outside6}
		}
		for family, send := range []func(*testing.T, *course, netip.Addr) int{sendNumbered, sendCounters(0)} {
			for range 2 {
				got := c.sampled(t, routes[0], func() { send(t, c, to[family]) })
				if first[family] == nil {
					first[family] = got
				}
				if diff := cmp.Diff(first[family], got); diff != "" || len(got) < counters/16 {
					t.Errorf("to %s, %d packets of the sample (-first +now):\n%s", to[family], len(got), diff)
				}
			}
		}
	})
}

// sendNumbered is sendCounters(0) by IPv4, where a packet's id is in the choice: it
// is the counter.
func sendNumbered(t *testing.T, c *course, to netip.Addr) int {
	t.Helper()
	var raw *ipv4.RawConn
	err := netns.Do(c.nodes["left"], func() error {
		conn, err := net.ListenPacket("ip4:udp", "")
		if err != nil {
			return err
		}
		raw, err = ipv4.NewRawConn(conn)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	eachCounter(t, func(i uint64) error {
		b := make([]byte, 8+64)
		binary.BigEndian.PutUint16(b, 7)
		binary.BigEndian.PutUint16(b[2:], probePort)
		binary.BigEndian.PutUint16(b[4:], uint16(len(b)))
		binary.LittleEndian.PutUint64(b[8:], i)
		h := &ipv4.Header{
			Version: 4, Len: 20, TotalLen: 20 + len(b), ID: int(i) + 1, TTL: 64, Protocol: 17,
			Src: left4.AsSlice(), Dst: to.AsSlice(),
		}
		return raw.WriteTo(h, b, nil)
	})
	return counters
}

// sampled returns the counters of what is seen of do's packets in a sample, which
// has to be the same at each hop of the route.
func (c *course) sampled(t *testing.T, route []string, do func()) []uint64 {
	t.Helper()
	traced, err := loader.Open(c.lab).Trace(t.Context(), loader.TraceOptions{Sample: 8})
	if err != nil {
		t.Fatal(err)
	}
	defer traced.Close()
	r := &tape{}
	stop := readTrace(t, traced, r.take)
	do()
	c.settle(t)
	stop()
	numbers := map[uint32]uint64{} // by the payload's hash
	for i := range uint64(counters) {
		numbers[counterHash(i)] = i
	}
	at := map[string][]uint64{}
	for _, run := range r.runs() {
		i, ok := numbers[run.PayloadHash]
		for k := 0; ok && k < run.Len(); k++ {
			id, _ := run.At(k)
			name := traced.Hops[slices.IndexFunc(traced.Hops, func(h hop.Hop) bool { return uint16(h.ID) == id })].String()
			at[name] = append(at[name], i)
		}
	}
	for _, h := range route {
		slices.Sort(at[h])
		if diff := cmp.Diff(at[route[0]], at[h]); diff != "" {
			t.Errorf("other packets at %s:\n%s", h, diff)
		}
	}
	return at[route[0]]
}

// A rate is kept, and what it lets pass is followed all the way.
func TestRate(t *testing.T) {
	eachSampled(t, func(t *testing.T, c *course, loads []burden, routes [][]string) {
		for _, l := range loads {
			t.Run(l.name, func(t *testing.T) {
				d := c.traced(t, []string{"--rate=100"}, func() { l.send(t, c, l.to) })
				d.checkWhole(t, routes...)
				d.checkRate(t, 100)
				if d.ledger.Filtered != 0 || d.ledger.SampledOut == 0 || d.ledger.Sample != nil {
					t.Errorf("the ledger is %+v", d.ledger)
				}
			})
		}
	})
}

// checkRate wants as many paths as a rate lets pass, in a burst first.
func (d *document) checkRate(t *testing.T, rate int) {
	t.Helper()
	const burst = 100 * time.Millisecond
	most := float64(rate)*(d.ledger.Cost.Elapsed+burst).Seconds() + 1
	n := len(d.paths)
	if float64(n) > most || n < rate/20 {
		t.Errorf("%d paths in %s; %.1f are allowed", n, d.ledger.Cost.Elapsed, most)
	}
	t.Logf("%d paths in %s, %.1f are allowed; %+v", n, d.ledger.Cost.Elapsed, most, d.ledger.hopLine)
}

// An expression, a sample and a rate at once: each has its place in the ledger.
func TestSampleRateAndExpression(t *testing.T) {
	eachSampled(t, func(t *testing.T, c *course, loads []burden, routes [][]string) {
		for _, expr := range []string{"udp", "udp and net 172.16.0.0/12", "icmp6 or tcp", "src host 172.16.16.10"} {
			t.Run(expr, func(t *testing.T) {
				d := c.traced(t, []string{expr, "--sample=1/2", "--rate=200"}, func() {
					for _, l := range loads {
						if !strings.HasPrefix(l.name, "tcp") {
							l.send(t, c, l.to)
						}
					}
				})
				d.checkWhole(t, routes...)
				d.checkRate(t, 200)
				if l := d.ledger; l.Filtered == 0 || l.SampledOut < l.Seen/3 || l.Paths != uint64(len(d.paths)) {
					t.Errorf("%d paths printed, the ledger is %+v", len(d.paths), l)
				}
			})
		}
	})
}

// A ring that is too small loses events, says how many, and --strict fails for that.
func TestTinyRingIsStrict(t *testing.T) {
	eachSampled(t, func(t *testing.T, c *course, loads []burden, _ [][]string) {
		b := startTrace(t, "trace", c.name, "--json", "--strict", "--ring=4")
		for _, l := range loads {
			l.send(t, c, l.to)
		}
		c.settle(t)
		if err := b.cmd.Process.Signal(os.Interrupt); err != nil {
			t.Fatal(err)
		}
		talk, _ := io.ReadAll(b.stderr)
		err := b.cmd.Wait()
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.ExitCode() != 1 || !strings.Contains(string(talk), " events were lost (") {
			t.Errorf("trace --strict: %v, %s", err, talk)
		}
		d := readDocument(t, b.stdout.Bytes())
		if d.ledger.Lost == 0 {
			t.Errorf("nothing was lost: %+v", d.ledger)
		}
		t.Logf("%+v", d.ledger.hopLine)
	})
}
