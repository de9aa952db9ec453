package load

import (
	"context"
	"encoding/json"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nsbpf/nsbpf/internal/testenv"
)

const (
	short = 100 * time.Millisecond
	// others is how many packets that are not of a load, such as neighbour
	// messages, pass meanwhile at most.
	others = 20
)

// run is Run of a short load that must work.
func run(t testing.TB, s Spec) Outcome {
	t.Helper()
	if s.Duration == 0 {
		s.Duration = short
	}
	o, err := Run(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	if o.Received.Packets == 0 || o.Received.Bytes == 0 || o.Elapsed <= 0 || o.SenderCPU <= 0 {
		t.Errorf("%s carried nothing: %+v", s.Mode, o)
	}
	return o
}

// arrived returns what `ip -s link` says that a device has received.
func arrived(t testing.TB, node, device string) (rx Tally) {
	t.Helper()
	args := []string{"-j", "-s", "link", "show", device}
	if node != "host" {
		args = append([]string{"-n", node}, args...)
	}
	var links []struct {
		Stats struct{ Rx Tally } `json:"stats64"`
	}
	if err := json.Unmarshal([]byte(testenv.Run(t, "ip", args...)), &links); err != nil {
		t.Fatal(err)
	}
	return links[0].Stats.Rx
}

// Frames that arrived are those that the receiver's device counted; a few are
// others', such as neighbour messages.
func TestFramesAreThoseOfTheDevice(t *testing.T) {
	l := newLab(t)
	through := []Place{l.port("left-br"), l.port("right-br")}
	v6 := func(p Place, addr string) Place { p.Addr = netip.MustParseAddr(addr); return p }
	left6, right6 := v6(l.left, "fd09::1"), v6(l.right, "fd09::2")
	for name, s := range map[string]Spec{
		"pps":           {Mode: PPS, From: l.left, To: l.port("left-br")},
		"pps, mixed":    {Mode: PPS, From: l.left, To: l.port("left-br"), IMIX: true, Flows: 16384},
		"pps, paced":    {Mode: PPS, From: l.left, To: l.port("left-br"), Rate: 10000, Size: 1514},
		"pps, threads":  {Mode: PPS, From: l.left, To: l.port("left-br"), Threads: 2, Flows: 3},
		"pps, bridged":  {Mode: PPS, From: l.left, Via: through, To: l.right, Rate: 50000},
		"pps 6":         {Mode: PPS, From: left6, Via: through, To: right6, Rate: 50000},
		"skb":           {Mode: SKB, From: l.left, Via: through, To: l.right},
		"skb 6, mixed":  {Mode: SKB, From: left6, Via: through, To: right6, IMIX: true},
		"udp":           {Mode: UDP, From: l.left, To: l.right, Rate: 5000, Flows: 100, Threads: 2},
		"udp 6, mixed":  {Mode: UDP, From: left6, To: right6, Rate: 5000, IMIX: true},
		"udp, in bits":  {Mode: UDP, From: l.left, To: l.right, Bits: 50e6, Size: 1250},
		"udp, one port": {Mode: UDP, From: l.left, To: l.right, Rate: 1000, Port: 5001},
	} {
		t.Run(name, func(t *testing.T) {
			node, device := s.To.Node, s.To.Device
			before := arrived(t, node, device)
			o := run(t, s)
			after := arrived(t, node, device)
			if n := after.Packets - before.Packets; n < o.Received.Packets || n > o.Received.Packets+others {
				t.Errorf("%d packets arrived, but the device counted %d", o.Received.Packets, n)
			}
			if sum := o.Received.Packets + o.LostPackets(); sum != o.Sent.Packets {
				t.Errorf("%d sent, but %d received or lost", o.Sent.Packets, sum)
			}
			if s.Rate > 0 && o.LostPackets() > 0 {
				t.Errorf("lost at a low rate: %+v", o.Lost)
			}
			if limit := s.packetRate() * short.Seconds() * 1.05; s.packetRate() > 0 && float64(o.Sent.Packets) > limit+burst {
				t.Errorf("%d packets sent (want at most %.0f)", o.Sent.Packets, limit)
			}
		})
	}
}

// What is lost is lost where another counter says so.
func TestLossesByPlace(t *testing.T) {
	l := newLab(t)
	in := func(node string, args ...string) string {
		t.Helper()
		return testenv.Run(t, "ip", append([]string{"netns", "exec", node}, args...)...)
	}
	lost := func(o Outcome, place, node string) (n uint64) {
		for _, loss := range o.Lost {
			if loss.Place == place && loss.Node == node {
				n += loss.Packets
			}
		}
		return n
	}
	udp := Spec{Mode: UDP, From: l.left, To: l.right}
	t.Run("qdisc", func(t *testing.T) {
		in("left", "tc", "qdisc", "add", "dev", "eth0", "root", "tbf", "rate", "1mbit", "burst", "2kb", "limit", "3kb")
		defer in("left", "tc", "qdisc", "del", "dev", "eth0", "root")
		o := run(t, udp)
		var qdiscs []struct{ Drops uint64 }
		if err := json.Unmarshal([]byte(in("left", "tc", "-j", "-s", "qdisc", "show", "dev", "eth0")), &qdiscs); err != nil {
			t.Fatal(err)
		}
		if n := lost(o, "qdisc", "left"); n == 0 || n > qdiscs[0].Drops || n+others < qdiscs[0].Drops {
			t.Errorf("lost %+v, but tc says %d", o.Lost, qdiscs[0].Drops)
		}
	})
	t.Run("netfilter", func(t *testing.T) {
		in("right", "nft", "add table ip t; add chain ip t in { type filter hook input priority 0; }; add rule ip t in udp dport 7777 numgen inc mod 3 0 counter drop")
		defer in("right", "nft", "delete table ip t")
		s := udp
		s.Port, s.Rate = 7777, 5000
		o := run(t, s)
		rules := in("right", "nft", "list", "table", "ip", "t")
		_, text, _ := strings.Cut(rules, "counter packets ")
		want, err := strconv.ParseUint(strings.Fields(text + " x")[0], 10, 64)
		if n := lost(o, "netfilter", "right"); err != nil || n != want || n < o.Sent.Packets/3 {
			t.Errorf("of %d lost %+v, but nft says:\n%s", o.Sent.Packets, o.Lost, rules)
		}
	})
	t.Run("socket", func(t *testing.T) {
		s := udp
		s.CPUs, s.Duration = []int{0}, 3*short // the receiver gets what the sender leaves
		o := run(t, s)
		fields := strings.Fields(in("right", "nstat", "-asz", "UdpRcvbufErrors"))
		want, err := strconv.ParseUint(fields[slices.Index(fields, "UdpRcvbufErrors")+1], 10, 64)
		if n := lost(o, "socket", "right"); err != nil || n == 0 || n != want {
			t.Errorf("lost %+v, but nstat says %v", o.Lost, fields)
		}
	})
	t.Run("bridge", func(t *testing.T) {
		o := run(t, Spec{Mode: PPS, From: l.left, Via: []Place{l.port("left-br"), l.port("right-br")}, To: l.right, Threads: 2})
		if o.LostPackets() != o.Sent.Packets-o.Received.Packets {
			t.Errorf("%d sent, %d received, lost %+v", o.Sent.Packets, o.Received.Packets, o.Lost)
		}
	})
}

func TestRefused(t *testing.T) {
	l := newLab(t)
	down := func() { testenv.Run(t, "ip", "link", "set", "right-br", "down") }
	up := func() { testenv.Run(t, "ip", "link", "set", "right-br", "up") }
	deaf := l.right
	deaf.Addr = netip.MustParseAddr("10.9.0.99")
	for name, c := range map[string]struct {
		spec          Spec
		before, after func()
		says          string
	}{
		"no pair":    {spec: Spec{Mode: PPS, From: l.left, To: l.right}, says: "left:eth0 is no veth end whose peer is right:eth0"},
		"no device":  {spec: Spec{Mode: PPS, From: l.left, To: l.port("eth9")}, says: `host has no device "eth9"`},
		"down":       {Spec{Mode: SKB, From: l.left, Via: []Place{l.port("left-br")}, To: l.right}, down, up, "right:eth0 is not up"},
		"nobody":     {spec: Spec{Mode: TCP, From: l.left, To: deaf}, says: "bind to 10.9.0.99"},
		"CPU":        {spec: Spec{Mode: TCP, From: l.left, To: l.right, CPUs: []int{999}}, says: "CPU 999"},
		"congestion": {spec: Spec{Mode: TCP, From: l.left, To: l.right, Congestion: "none"}, says: `congestion control "none"`},
	} {
		t.Run(name, func(t *testing.T) {
			if c.before != nil {
				c.before()
				defer c.after()
			}
			if _, err := Run(t.Context(), c.spec); err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("error %v, want one that says %q", err, c.says)
			}
		})
	}
	t.Run("nothing arrives", func(t *testing.T) {
		testenv.Run(t, "nft", "add table bridge t; add chain bridge t f { type filter hook forward priority 0; policy drop; }")
		defer testenv.Run(t, "nft", "delete table bridge t")
		_, err := Run(t.Context(), Spec{Mode: SKB, From: l.left, Via: []Place{l.port("left-br")}, To: l.right})
		if err == nil || !strings.Contains(err.Error(), "came to right:eth0: dropped by netfilter in host (NETFILTER_DROP)") {
			t.Errorf("error %v", err)
		}
	})
}

// A transaction takes as long as in a plain loop, and none is lost.
func TestTransactions(t *testing.T) {
	l := newLab(t)
	for name, s := range map[string]Spec{
		"tcp":        {Mode: RR, From: l.left, To: l.right},
		"udp":        {Mode: RR, From: l.left, To: l.right, OverUDP: true, Flows: 3, Threads: 2},
		"paced":      {Mode: RR, From: l.left, To: l.right, Rate: 500, Size: 4000},
		"crr":        {Mode: CRR, From: l.left, To: l.right, Flows: 2},
		"crr, reset": {Mode: CRR, From: l.left, To: l.right, Reset: true},
	} {
		t.Run(name, func(t *testing.T) {
			o := run(t, s)
			n := o.Latency.TotalCount()
			if n == 0 || uint64(n) != o.Received.Packets || o.Sent != o.Received || len(o.Lost) > 0 {
				t.Errorf("%d latencies of %+v", n, o)
			}
			if s.Rate > 0 && float64(n) > s.Rate*short.Seconds()+2 {
				t.Errorf("%d transactions at %v a second", n, s.Rate)
			}
		})
	}
	t.Run("plain loop", func(t *testing.T) {
		ours := run(t, Spec{Mode: RR, From: l.left, To: l.right, CPUs: []int{0}, Duration: 5 * short}).Latency.ValueAtQuantile(50)
		plain := pingPong(t, l)
		if ratio := float64(ours) / float64(plain); ratio < 0.3 || ratio > 3 {
			t.Errorf("p50 %d ns, of a plain loop %d ns", ours, plain)
		}
	})
}

// After a load, and after one that was interrupted, everything is as before.
func TestNothingIsLeft(t *testing.T) {
	l := newLab(t)
	through := []Place{l.port("left-br"), l.port("right-br")}
	_ = run(t, Spec{Mode: TCP, From: l.left, To: l.right}) // opens what stays open, such as the poller
	for name, s := range map[string]Spec{
		"tcp": {Mode: TCP, From: l.left, To: l.right, Flows: 4},
		"udp": {Mode: UDP, From: l.left, To: l.right},
		"rr":  {Mode: RR, From: l.left, To: l.right},
		"crr": {Mode: CRR, From: l.left, To: l.right},
		"pps": {Mode: PPS, From: l.left, Via: through, To: l.right},
		"skb": {Mode: SKB, From: l.left, Via: through, To: l.right, Rate: 1000},
	} {
		t.Run(name, func(t *testing.T) {
			before := remains(t)
			s.Duration = time.Minute
			ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
			defer cancel()
			start := time.Now()
			o, err := Run(ctx, s)
			if !errors.Is(err, context.DeadlineExceeded) || o.Received.Packets == 0 {
				t.Errorf("%v, %+v", err, o)
			}
			if took := time.Since(start); took > 5*time.Second {
				t.Errorf("it took %s to end", took)
			}
			if diff := cmp.Diff(before, remains(t)); diff != "" {
				t.Errorf("what there is before and after:\n%s", diff)
			}
		})
	}
}

// remains lists open files, namespaces of threads, sockets of nodes and programs.
func remains(t testing.TB) []string {
	t.Helper()
	var all []string
	for _, pattern := range []string{"/proc/self/fd/*", "/proc/self/task/*/ns/net"} {
		paths, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range paths {
			if to, err := os.Readlink(p); err == nil && !strings.HasPrefix(to, "/proc/") {
				all = append(all, filepath.Dir(pattern)+" "+to)
			}
		}
	}
	for _, n := range []string{"left", "right"} {
		all = append(all, testenv.Run(t, "ip", "netns", "exec", n, "ss", "-Hntu"), testenv.Run(t, "ip", "netns", "exec", n, "bpftool", "net"))
	}
	all = append(all, testenv.Run(t, "bpftool", "net"))
	slices.Sort(all)
	return slices.Compact(all)
}
