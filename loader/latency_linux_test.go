package loader

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/nsbpf/nsbpf/collector"
	"github.com/nsbpf/nsbpf/topology"
)

// startLatency measures until the test's end.
func startLatency(tb testing.TB, lab *topology.Lab, opts LatencyOptions) *Latency {
	tb.Helper()
	m, err := Open(lab).Latency(ctx, opts)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := m.Close(); err != nil {
			tb.Error(err)
		}
	})
	return m
}

// measured stops the programs and returns the times by edge, as in
// "left:left-veth out > right:right-veth in", and what became of the packets.
func measured(tb testing.TB, m *Latency) (map[string]*collector.Histogram, collector.Timing) {
	tb.Helper()
	if err := m.Detach(); err != nil {
		tb.Fatal(err)
	}
	l, err := collector.ReadLatency(m.Histograms, m.Timings, m.Hops, m.Edges)
	if err != nil {
		tb.Fatal(err)
	}
	times := make(map[string]*collector.Histogram)
	for _, e := range l.Edges {
		if e.Times.Count() > 0 {
			times[fmt.Sprintf("%s > %s", m.Hops[e.Edge.From], m.Hops[e.Edge.To])] = e.Times
		}
	}
	return times, l.Total
}

// some is how many packets the kernel may send of its own meanwhile.
const some = 20

// TestLatency times echo requests and replies on each edge of their way, and
// counts on no other one.
func TestLatency(t *testing.T) {
	way := []string{
		"left:left-veth out > host:left-br0-veth in", "host:left-br0-veth in > host:br0 in",
		"host:br0 in > host:eth0 out", "host:eth0 out > wan:eth0 in",
		"wan:eth0 out > host:eth0 in", "host:eth0 in > host:br0 out",
		"host:br0 out > host:left-br0-veth out", "host:left-br0-veth out > left:left-veth in",
	}
	for _, hook := range []Hook{TCX, Clsact} {
		for _, to := range []string{"8.8.8.8", "2001:4860:4860::8888"} {
			t.Run(hook.String()+" to "+to, func(t *testing.T) {
				needs(t, hook)
				lab := up(t, preset(t, "nat-wan"))
				ping(t, lab, to) // neighbours are known from here on
				m := startLatency(t, lab, LatencyOptions{Hook: hook})
				const n = 40
				in(t, lab, "left", "ping", "-nq", "-c", fmt.Sprint(n), "-i", "0.002", to)
				times, total := measured(t, m)
				for edge, h := range times {
					want := uint64(0)
					if slices.Contains(way, edge) {
						want = n
					}
					if h.Count() < want || h.Count() > want+some || h.Quantile(0.5) <= 0 || h.Max() > time.Second {
						t.Errorf("%s: %d times, want %d; p50 %v, max %v", edge, h.Count(), want, h.Quantile(0.5), h.Max())
					}
				}
				for _, edge := range way {
					if times[edge] == nil {
						t.Errorf("%s: no times", edge)
					}
				}
				if total.Timed < uint64(n*len(way)) || total.Untimed() < 2*n || total.Crowded > 0 {
					t.Errorf("%+v", total)
				}
				if err := m.Close(); err != nil {
					t.Error(err)
				}
				checkStacks(t, lab, nothing)
			})
		}
	}
}

// sendBurst sends n equal datagrams from left as fast as it goes, and returns when.
func sendBurst(tb testing.TB, lab *topology.Lab, to string, n, payload int) (sent []time.Time) {
	tb.Helper()
	inside(tb, lab, "left", func() error {
		c, err := net.ListenPacket("udp", ":0")
		if err != nil {
			return err
		}
		defer c.Close()
		for range n {
			sent = append(sent, time.Now())
			if _, err := c.WriteTo(make([]byte, payload), net.UDPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(to), 9))); err != nil {
				return err
			}
		}
		return nil
	})
	return sent
}

// TestLatencyOfOwnPackets tells what a forwarding node sends from what it
// forwards: answers that are equal to the questions, in skbs that had the
// questions' addresses.
func TestLatencyOfOwnPackets(t *testing.T) {
	lab := up(t, preset(t, "nat-wan"))
	ping(t, lab, "fd16::1")
	m := startLatency(t, lab, LatencyOptions{})
	const n = 500
	echo(t, lab, n)
	times, total := measured(t, m)
	for edge, h := range times {
		if edge == "host:br0 in > host:br0 out" || edge == "host:br0 in > host:eth0 out" {
			t.Errorf("%s: %d times, p50 %v: nothing was forwarded", edge, h.Count(), h.Quantile(0.5))
		}
	}
	if total.Reused == 0 {
		t.Errorf("no address was used again, so that nothing was tested: %+v", total)
	}
}

// echo has left ask the host n times, which answers with what it was asked.
func echo(tb testing.TB, lab *topology.Lab, n int) {
	tb.Helper()
	var server, client net.PacketConn // by IPv6: no id tells packets apart
	at := net.UDPAddrFromAddrPort(netip.MustParseAddrPort("[fd16::1]:7"))
	inside(tb, lab, topology.HostNode, func() (err error) {
		server, err = net.ListenPacket("udp6", at.String())
		return err
	})
	defer server.Close()
	inside(tb, lab, "left", func() (err error) {
		client, err = net.ListenPacket("udp6", ":0")
		return err
	})
	defer client.Close()
	buf := make([]byte, 64)
	for range n {
		_, err := client.WriteTo([]byte("the same each time"), at)
		if err != nil {
			tb.Fatal(err)
		}
		k, from, err := server.ReadFrom(buf)
		if err != nil {
			tb.Fatal(err)
		}
		if _, err := server.WriteTo(buf[:k], from); err != nil {
			tb.Fatal(err)
		}
		if _, _, err := client.ReadFrom(buf); err != nil {
			tb.Fatal(err)
		}
	}
}

// TestLatencySample times the share that was asked for of one flow, whose skbs
// have few addresses.
func TestLatencySample(t *testing.T) {
	lab := up(t, preset(t, "pair"))
	ping(t, lab, "172.16.16.20")
	const n, oneOf = 4000, 8
	m := startLatency(t, lab, LatencyOptions{Sample: oneOf})
	sendBurst(t, lab, "172.16.16.20", n, 18)
	times, total := measured(t, m)
	h := times["left:left-veth out > right:right-veth in"]
	want := n / float64(oneOf)
	six := 6 * math.Sqrt(want/3)
	if h == nil || math.Abs(float64(h.Count())-want) > six {
		t.Errorf("times %v, want %v ± %.0f; %+v", times, want, six, total)
	}
}

// TestLatencyKilled kills measurements; the next one removes what they left, and
// nothing of one that lives or of a trace.
func TestLatencyKilled(t *testing.T) {
	needs(t, TCX)
	lab := up(t, preset(t, "pair"))
	at := findHop(t, lab, "right:right-veth", 0)
	check := func(when string, want ...string) {
		t.Helper()
		if got := strings.Join(stack(t, lab, at), ", "); got != strings.Join(want, ", ") {
			t.Errorf("%s: programs at %s are %s", when, at, got)
		}
	}
	killChild(t, command("latency", lab, TCX, 0))
	check("killed by tcx")
	killChild(t, command("latency", lab, Clsact, 0))
	check("killed by clsact", "clsact latency_tc")
	tr := startTrace(t, lab, TraceOptions{Hook: Clsact})
	check("a trace", "clsact trace_tc", "clsact latency_tc")
	live := startLatency(t, lab, LatencyOptions{Hook: Clsact})
	check("the next", "clsact latency_tc", "clsact trace_tc")
	if err := tr.Close(); err != nil {
		t.Error(err)
	}
	check("without the trace", "clsact latency_tc")
	if err := errors.Join(live.Close(), live.Close()); err != nil {
		t.Error(err)
	}
	check("closed")
	killChild(t, command("latency", lab, Clsact, 0))
	detachAll(t, lab)
	check("cleaned")
}

// TestLatencyOnOldKernel falls back to clsact, and does without BTF.
func TestLatencyOnOldKernel(t *testing.T) {
	lab := up(t, preset(t, "pair"))
	cmd := command("latency-old", lab, HookNone, 0)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS}
	runChild(t, cmd)
	checkStacks(t, lab, nothing)
}

// dieTiming is killed with its latency programs at all hops.
func dieTiming(lab *topology.Lab, hook Hook, _ int) error {
	m, err := Open(lab).Latency(ctx, LatencyOptions{Hook: hook})
	if err != nil {
		return err
	}
	_ = unix.Kill(os.Getpid(), unix.SIGKILL)
	return m.Close()
}

// timeOnOldKernel measures where there is neither tcx nor BTF.
func timeOnOldKernel(lab *topology.Lab, _ Hook, _ int) error {
	err := errors.Join(
		unix.Mount("none", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""),
		unix.Mount("none", "/sys/kernel/btf", "tmpfs", 0, ""),
		refuseLinks(),
	)
	if err != nil {
		return err
	}
	if _, err := Open(lab).Latency(ctx, LatencyOptions{Hook: TCX}); !errors.Is(err, ebpf.ErrNotSupported) {
		return fmt.Errorf("by tcx: %v", err)
	}
	m, err := Open(lab).Latency(ctx, LatencyOptions{})
	if err != nil {
		return err
	}
	if !m.clsact {
		return errors.New("not by clsact")
	}
	return m.Close()
}

// TestLatencyInterrupted leaves nothing.
func TestLatencyInterrupted(t *testing.T) {
	lab := up(t, preset(t, "pair"))
	for _, hook := range []Hook{TCX, Clsact} {
		canceled, cancel := context.WithCancel(ctx)
		cancel()
		if _, err := Open(lab).Latency(canceled, LatencyOptions{Hook: hook}); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: error %v", hook, err)
		}
		checkStacks(t, lab, nothing)
	}
}
