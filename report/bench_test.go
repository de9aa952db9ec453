package report

import (
	"io"
	"testing"
	"time"

	"github.com/nsbpf/nsbpf/bench/compare"
	"github.com/nsbpf/nsbpf/bench/result"
)

// benchResult is of two variants, the second slower by a factor.
func benchResult(slower float64) *result.Document {
	series := func(median float64) []float64 {
		xs := make([]float64, 23)
		for i := range xs {
			xs[i] = median * (1 + 0.002*float64((i*7)%23-11))
		}
		xs[4] *= 3 // the machine stalled
		return xs
	}
	d := &result.Document{
		Schema: result.Schema, Version: "1.0", TimeNS: 1, Args: []string{"bench"}, Lab: "bridge", From: "left", To: "right",
		Environment: result.Environment{Kernel: "6.18", CPU: "c", CPUs: 2}, Rounds: 23, Duration: time.Second,
		Notes: []string{"gro was switched on at right-veth"},
	}
	for i, name := range []string{"hook=none", "hook=tcx"} {
		f := 1 + (slower-1)*float64(i)
		d.Variants = append(d.Variants, result.Variant{Name: name, Metrics: []result.Metric{
			result.NewMetric("cpu", "ns/packet", result.Lower, true, series(191*f)),
			result.NewMetric("rate", "pps", result.Higher, false, series(5.2e6/f)),
		}})
	}
	v := &d.Variants[1]
	v.Account = result.Account{Sent: 1000, Received: 960, Lost: []result.Loss{{Place: "backlog", Count: 30}}}
	v.Hops = []result.HopCost{{Hop: "left:left-veth out", NSPerPacket: 80, Share: 0.4}, {Hop: "host:br0 in", NSPerPacket: 120, Share: 0.6, Dropped: 30}}
	v.Bottleneck = "host:br0 takes 60 % of the time"
	v.Latency = &result.Histogram{Count: 1, P50: 13 * time.Microsecond, P90: 20 * time.Microsecond, P99: 42 * time.Microsecond,
		P999: 90 * time.Microsecond, Max: time.Millisecond}
	v.Limited = "the generator took all of CPU 0"
	d.Noise = result.NewNoise(&d.Variants[0], &d.Variants[0])
	return d
}

func TestBenchTable(t *testing.T) {
	golden(t, "bench.txt", func(w io.Writer) error { return BenchTable(w, benchResult(1.1), Style{}) })
	d := benchResult(1.1)
	d.Interrupted = true
	golden(t, "bench-colour.txt", func(w io.Writer) error { return BenchTable(w, d, Colour) })
	golden(t, "bench-none.txt", func(w io.Writer) error { return BenchTable(w, &result.Document{}, Style{}) })
}

func TestBenchCompare(t *testing.T) {
	was, is := benchResult(1.1), benchResult(1.3)
	was.Variants[1].Limited, is.Variants[1].Limited = "", ""
	is.Environment.Go = "go1.27"
	c := compare.Compare(was, is, compare.Options{})
	golden(t, "bench-compare.txt", func(w io.Writer) error { return BenchCompareTable(w, c, Style{}) })
	golden(t, "bench-compare-colour.txt", func(w io.Writer) error { return BenchCompareTable(w, c, Colour) })
	goldenJSON(t, "bench-compare.json", "nsbpf.compare/1", func(w io.Writer) error { return BenchCompareJSON(w, c) })
	is.Environment.Kernel = "6.19"
	is.Variants = is.Variants[:1]
	doubted := compare.Compare(was, is, compare.Options{})
	golden(t, "bench-doubt.txt", func(w io.Writer) error { return BenchCompareTable(w, doubted, Style{}) })
	// What was 0 has no ratio, and is no JSON.
	was.Variants[0].Metrics[0].Samples = make([]float64, 23)
	goldenJSON(t, "bench-zero.json", "nsbpf.compare/1", func(w io.Writer) error {
		return BenchCompareJSON(w, compare.Compare(was, was, compare.Options{}))
	})
}
