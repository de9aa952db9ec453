package loader

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/nsbpf/nsbpf/bpf"
)

// slowly keeps [rcu.Expedite] from turning the machine's knob: a record that
// cannot be locked, because it is a directory, stands in its way.
func slowly(b *testing.B) {
	const record = "/run/nsbpf.rcu_expedited"
	if err := os.Mkdir(record, 0o700); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { os.Remove(record) })
}

// eachWay runs fn for labs and hooks, with grace periods short and long.
func eachWay(b *testing.B, fn func(b *testing.B, lab string, hook Hook)) {
	for _, lab := range []string{"pair", "nat-wan"} {
		for _, hook := range []Hook{TCX, Clsact} {
			for _, expedite := range []bool{true, false} {
				b.Run(fmt.Sprintf("lab=%s/hook=%s/expedite=%t", strings.TrimSuffix(lab, "-wan"), hook, expedite), func(b *testing.B) {
					if !expedite {
						slowly(b)
					}
					fn(b, lab, hook)
				})
			}
		}
	}
}

// BenchmarkAttachCount reports the time of AttachCount, and that of Clean beside it.
func BenchmarkAttachCount(b *testing.B) {
	eachWay(b, func(b *testing.B, name string, hook Hook) {
		lab := up(b, preset(b, name))
		var cleaning time.Duration
		for b.Loop() {
			attachCount(b, lab, Hooks{TC: hook})
			b.StopTimer()
			start := time.Now()
			detachAll(b, lab)
			cleaning += time.Since(start)
			b.StartTimer()
		}
		b.ReportMetric(float64(cleaning.Nanoseconds())/float64(b.N), "clean-ns/op")
	})
}

// BenchmarkTraceAttach reports the time of Trace in a lab that is counted, and
// that of Close beside it.
func BenchmarkTraceAttach(b *testing.B) {
	eachWay(b, func(b *testing.B, name string, hook Hook) {
		lab := up(b, preset(b, name))
		attachCount(b, lab, Hooks{TC: hook})
		var closing time.Duration
		for b.Loop() {
			tr, err := Open(lab).Trace(ctx, TraceOptions{Hook: hook, Ring: 4096})
			if err != nil {
				b.Fatal(err)
			}
			b.StopTimer()
			start := time.Now()
			if err := tr.Close(); err != nil {
				b.Fatal(err)
			}
			closing += time.Since(start)
			b.StartTimer()
		}
		b.ReportMetric(float64(closing.Nanoseconds())/float64(b.N), "close-ns/op")
	})
}

// BenchmarkLatencyAttach reports the time of Latency, and that of Close beside it.
func BenchmarkLatencyAttach(b *testing.B) {
	eachWay(b, func(b *testing.B, name string, hook Hook) {
		lab := up(b, preset(b, name))
		var closing time.Duration
		for b.Loop() {
			m, err := Open(lab).Latency(ctx, LatencyOptions{Hook: hook})
			if err != nil {
				b.Fatal(err)
			}
			b.StopTimer()
			start := time.Now()
			if err := m.Close(); err != nil {
				b.Fatal(err)
			}
			closing += time.Since(start)
			b.StartTimer()
		}
		b.ReportMetric(float64(closing.Nanoseconds())/float64(b.N), "close-ns/op")
	})
}

// BenchmarkDrop reports what the program takes for a packet that the kernel drops,
// by the kernel's own statistics.
func BenchmarkDrop(b *testing.B) {
	for name, opts := range map[string]TraceOptions{
		"traced":    {Ring: 1 << 28},
		"full ring": {Ring: 4096},
		"filtered":  {Match: compile(b, "tcp")},
	} {
		b.Run(name, func(b *testing.B) {
			lab := up(b, preset(b, "pair"))
			in(b, lab, "left", "sh", "-ec", outputRule)
			tr := startTrace(b, lab, opts)
			stats, err := ebpf.EnableStats(unix.BPF_STATS_RUN_TIME)
			if err != nil {
				b.Fatal(err)
			}
			defer stats.Close()
			empty, err := emptyRun()
			if err != nil {
				b.Fatal(err)
			}
			b.ResetTimer()
			sendTo(b, lab, "left", "172.16.16.20:9", b.N)
			b.StopTimer()
			s, err := tr.programs.Programs[bpf.ProgDrop].Stats()
			if err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64((s.Runtime-empty*time.Duration(s.RunCount)).Nanoseconds())/float64(s.RunCount), "ns/drop")
			b.ReportMetric(float64(s.RecursionMisses), "missed")
		})
	}
}
