package collector

import (
	"encoding/binary"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nsbpf/nsbpf/bpf"
)

func histogramOf(ds ...time.Duration) *Histogram {
	h := &Histogram{}
	for _, d := range ds {
		h.Record(d)
	}
	return h
}

func TestHistogram(t *testing.T) {
	for _, c := range []struct {
		name          string
		ds            []time.Duration
		p50, p99, max time.Duration
	}{
		{"none", nil, 0, 0, 0},
		{"never beyond the maximum", []time.Duration{1220}, 1220, 1220, 1220},
		{"small ones are exact", []time.Duration{1, 2, 3, 62, 63}, 3, 63, 63},
		{"below zero", []time.Duration{-5}, 0, 0, 0},
		{"the middle of a bucket", []time.Duration{1000, 1007, 2015}, 999, 1999, 2015},
		{"beyond the last bucket", []time.Duration{time.Hour, 2 * time.Hour}, 2 * time.Hour, 2 * time.Hour, 2 * time.Hour},
		{"the longest there is", []time.Duration{math.MaxInt64}, math.MaxInt64, math.MaxInt64, math.MaxInt64},
	} {
		h := histogramOf(c.ds...)
		got := []time.Duration{h.Quantile(0.5), h.Quantile(0.99), h.Max()}
		if diff := cmp.Diff([]time.Duration{c.p50, c.p99, c.max}, got); diff != "" || h.Count() != uint64(len(c.ds)) {
			t.Errorf("%s: count %d, p50, p99, max (-want +got):\n%s", c.name, h.Count(), diff)
		}
	}
}

func TestHistogramMerge(t *testing.T) {
	a, b := histogramOf(1, 100, 10_000), histogramOf(70, 5_000_000_000)
	both := histogramOf(1, 100, 10_000, 70, 5_000_000_000)
	a.Merge(b)
	if *a != *both {
		t.Error("merged is not what was recorded in one")
	}
	a.Merge(&Histogram{})
	if *a != *both {
		t.Error("merging nothing changes something")
	}
}

// What the kernel counted on one CPU is what Go would have.
func TestHistogramMergeKernel(t *testing.T) {
	ds := []time.Duration{3, 900, 901, 77_000, 3_000_000_000}
	var k bpf.Histogram
	for _, d := range ds {
		k.Counts[bpf.BucketOf(uint64(d))]++
		k.MaxNS = max(k.MaxNS, uint64(d))
	}
	var got Histogram
	got.mergeKernel(&k)
	if want := histogramOf(ds...); got != *want {
		t.Errorf("count %d, max %v", got.Count(), got.Max())
	}
}

func TestHistogramRecordAllocatesNothing(t *testing.T) {
	h, o := histogramOf(5), histogramOf(7)
	n := testing.AllocsPerRun(100, func() {
		h.Record(1234 * time.Microsecond)
		h.Merge(o)
		h.Quantile(0.99)
	})
	if n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// FuzzHistogram compares quantiles with those of the sorted durations.
func FuzzHistogram(f *testing.F) {
	seed := func(q float64, ds ...uint64) {
		var b []byte
		for _, d := range ds {
			b = binary.LittleEndian.AppendUint64(b, d)
		}
		f.Add(q, b)
	}
	seed(0.5, 1, 2, 3)
	seed(0.99, 63, 64, 65, 127, 128, 1<<20, 1<<36-1)
	seed(0, 1<<36, 1<<62)
	seed(1, 1000, 1000, 1000)
	f.Fuzz(func(t *testing.T, q float64, b []byte) {
		if !(q >= 0 && q <= 1) {
			t.Skip()
		}
		var ds []time.Duration
		for ; len(b) >= 8; b = b[8:] {
			ds = append(ds, time.Duration(binary.LittleEndian.Uint64(b)>>1))
		}
		if len(ds) == 0 {
			t.Skip()
		}
		h := histogramOf(ds...)
		slices.Sort(ds)
		exact := ds[max(int(math.Ceil(q*float64(len(ds)))), 1)-1]
		got := h.Quantile(q)
		if off := math.Abs(float64(got - exact)); exact < 63<<30 && off > HistogramError*float64(exact) {
			t.Errorf("quantile %v is %d, of %d durations exactly %d: off by %.3f", q, got, len(ds), exact, off/float64(exact))
		}
		if got > h.Max() || h.Max() != ds[len(ds)-1] {
			t.Errorf("quantile %v is %d, max %d, exactly %d", q, got, h.Max(), ds[len(ds)-1])
		}
	})
}

func BenchmarkHistogramRecord(b *testing.B) {
	var h Histogram
	for i := range b.N {
		h.Record(time.Duration(i) * 17)
	}
}
