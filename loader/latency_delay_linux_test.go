package loader

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nsbpf/nsbpf/collector"
	"github.com/nsbpf/nsbpf/topology"
	"github.com/nsbpf/nsbpf/trace"
)

// TestLatencyKnownDelay delays packets by steps that are known: of a burst through
// a token bucket, each waits for those before it. The histogram agrees with what
// is known, and with the paths that a trace joins of the same packets, up to the
// width of a bucket and what lies between the two programs at a hop.
func TestLatencyKnownDelay(t *testing.T) {
	const (
		n      = 33
		size   = 1000             // bytes with the Ethernet header
		step   = time.Millisecond // that a packet takes at 8 Mbit/s
		credit = 4                // packets that go at once
	)
	for family, c := range map[string]struct {
		to      string
		headers int
	}{"IPv4": {"172.16.16.20", 14 + 20 + 8}, "IPv6": {"fd16::20", 14 + 40 + 8}} {
		t.Run(family, func(t *testing.T) {
			lab := up(t, preset(t, "pair"))
			ping(t, lab, c.to)
			apart := programsApart(t, lab, c.to)
			in(t, lab, "left", "tc", "qdisc", "add", "dev", "left-veth", "root", "tbf",
				"rate", "8mbit", "burst", fmt.Sprint(credit*size), "limit", "1mb")
			var wrong []string
			for range 3 { // an interrupt between the two programs is met once, not always
				h, paths, sent := bothWays(t, lab, c.to, n, size-c.headers)
				wrong = disagree(h, paths, bucketWaits(sent, step, credit), step, apart)
				if len(wrong) == 0 {
					return
				}
			}
			t.Errorf("each time, the last time:\n%s", strings.Join(wrong, "\n"))
		})
	}
}

// disagree says where the histogram is not what the paths say, or not what the
// bucket makes of packets that take a step each. All but h is sorted.
func disagree(h *collector.Histogram, paths, waits []time.Duration, step, apart time.Duration) (wrong []string) {
	n := len(paths)
	if longest := paths[n-1]; (h.Max() - longest).Abs() > apart {
		wrong = append(wrong, fmt.Sprintf("max %v, of paths %v", h.Max(), longest))
	}
	// Timers are late on a machine that is emulated.
	punctual := paths[n-1] < waits[n-1]+5*step
	for _, q := range []float64{0.5, 0.9, 0.99} {
		rank := int(math.Ceil(q*float64(n))) - 1
		got, joined, known := h.Quantile(q), paths[rank], waits[rank]
		if bound := time.Duration(collector.HistogramError*float64(joined)) + apart; (got - joined).Abs() > bound {
			wrong = append(wrong, fmt.Sprintf("p%v is %v, of paths %v: more than %v apart", 100*q, got, joined, bound))
		}
		if got < known-2*step || punctual && got > known+known/4+5*step {
			wrong = append(wrong, fmt.Sprintf("p%v is %v, the bucket's delay %v", 100*q, got, known))
		}
	}
	return wrong
}

// programsApart returns what the times of both programs may differ by: ten times
// the difference where nothing delays packets, measured 0.01 to 0.03 µs, and 50 µs.
func programsApart(t *testing.T, lab *topology.Lab, to string) time.Duration {
	t.Helper()
	h, paths, _ := bothWays(t, lab, to, 33, 18)
	return 10*(h.Quantile(0.5)-paths[16]).Abs() + 50*time.Microsecond
}

// bucketWaits returns, sorted, how long packets wait in a token bucket that has
// room for credit of them and is filled by one each step.
func bucketWaits(sent []time.Time, step time.Duration, credit int) []time.Duration {
	full := step * time.Duration(credit)
	tokens, last := full, sent[0]
	var waits []time.Duration
	for _, at := range sent {
		gone := at
		if gone.Before(last) {
			gone = last
		}
		tokens = min(tokens+gone.Sub(last), full)
		late := max(step-tokens, 0)
		tokens, last = tokens+late-step, gone.Add(late)
		waits = append(waits, last.Sub(at))
	}
	slices.Sort(waits)
	return waits
}

// bothWays measures how long n datagrams take from left to right by histogram and
// by paths, at a time when no other packet came, and when they were sent.
func bothWays(t *testing.T, lab *topology.Lab, to string, n, payload int) (h *collector.Histogram, paths []time.Duration, sent []time.Time) {
	t.Helper()
	for range 5 {
		tr := startTrace(t, lab, TraceOptions{Match: compile(t, "udp port 9")})
		m := startLatency(t, lab, LatencyOptions{})
		sent = sendBurst(t, lab, to, n, payload)
		wait(t, "all packets are seen at both hops", func() bool {
			l, err := collector.ReadLedgers(tr.Ledgers, tr.Hops)
			return err == nil && l.Total.Traced == 2*uint64(n)
		})
		paths = edgeTimes(t, lab, tr)
		times, _ := measured(t, m)
		h = times["left:left-veth out > right:right-veth in"]
		if h == nil || h.Count() < uint64(n) || h.Count() > uint64(n)+some || len(paths) != n {
			t.Fatalf("%d paths and %v, want %d times on the wire", len(paths), times, n)
		}
		if err := tr.Close(); err != nil {
			t.Error(err)
		}
		if h.Count() == uint64(n) {
			slices.Sort(paths)
			return h, paths, sent
		}
	}
	t.Fatal("there were other packets each time")
	return nil, nil, nil
}

// edgeTimes reads the trace's ring and returns how long the paths in it took from
// hop to hop.
func edgeTimes(tb testing.TB, lab *topology.Lab, tr *Trace) []time.Duration {
	tb.Helper()
	ring, err := collector.OpenRing(tr.Ring, tr.Sweep)
	if err != nil {
		tb.Fatal(err)
	}
	defer ring.Close()
	var times []time.Duration
	joiner, err := trace.NewJoiner(trace.Config{Hops: tr.Hops, Edges: lab.Topology.Edges(tr.Hops)}, func(p *trace.Path) {
		for _, s := range p.Steps[1:] {
			times = append(times, s.Delta)
		}
	})
	if err != nil {
		tb.Fatal(err)
	}
	err = ring.Drain(func(batch *collector.Batch, until uint64) error {
		joiner.Add(trace.Input{Runs: batch.Runs, Until: until})
		return nil
	})
	if err != nil {
		tb.Fatal(err)
	}
	joiner.Add(trace.Input{Until: collector.Now() + uint64(time.Second)}) // nothing more will come
	joiner.Flush()
	return times
}
