package main

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/nsbpf/nsbpf/internal/testenv"
)

// BenchmarkUpPing measures whole processes: from the start of `nsbpf up` to the
// first reply of a ping, and `nsbpf down`; and in the same run the same network
// made by the printed commands, one process each. ratio is how many times as long
// those take up to their first reply.
func BenchmarkUpPing(b *testing.B) {
	testenv.Root(b)
	nsbpf := filepath.Join(b.TempDir(), "nsbpf") // the test binary takes longer to start
	testenv.Run(b, "env", "CGO_ENABLED=0", "go", "build", "-ldflags=-s -w", "-o", nsbpf, ".")
	for _, args := range [][]string{{"pair"}, {"bridge", "--isolated"}, {"nat", "--wan"}} {
		b.Run(args[0], func(b *testing.B) {
			script := filepath.Join(b.TempDir(), "up.sh")
			text := testenv.Run(b, nsbpf, append([]string{"up", "--dry-run"}, args...)...)
			if err := os.WriteFile(script, []byte(text), 0o600); err != nil {
				b.Fatal(err)
			}
			up := append([]string{"up"}, args...)
			testenv.Run(b, nsbpf, up...) // warms up
			testenv.Run(b, nsbpf, "down")
			var upTime, downTime, scriptTime time.Duration
			for b.Loop() {
				upTime += timed(func() {
					testenv.Run(b, nsbpf, up...)
					firstReply(b)
				})
				downTime += timed(func() { testenv.Run(b, nsbpf, "down") })
				scriptTime += timed(func() {
					testenv.Run(b, "sh", script)
					firstReply(b)
				})
				testenv.Run(b, "sh", "-c", `for n in $(ip netns list | cut -d' ' -f1); do ip netns del $n; done
					umount /run/netns; rmdir /run/netns
					while ip -o link | grep -q veth; do :; done`)
			}
			n := float64(b.N)
			b.ReportMetric(0, "ns/op") // three things in one
			b.ReportMetric(1e3*upTime.Seconds()/n, "ms-up")
			b.ReportMetric(1e3*downTime.Seconds()/n, "ms-down")
			b.ReportMetric(1e3*scriptTime.Seconds()/n, "ms-script")
			b.ReportMetric(scriptTime.Seconds()/upTime.Seconds(), "ratio")
		})
	}
}

func timed(f func()) time.Duration {
	start := time.Now()
	f()
	return time.Since(start)
}

// firstReply waits for right to answer left.
func firstReply(b *testing.B) {
	b.Helper()
	testenv.Run(b, "ip", "netns", "exec", "left", "ping", "-nqc1", "-i0.01", "-W5", "172.16.16.20")
}
