package collector

import (
	"math"
	"time"

	"github.com/nsbpf/nsbpf/bpf"
)

// HistogramError bounds the relative error of [Histogram.Quantile]: half the
// width of a bucket by the least it holds.
const HistogramError = 1.0 / (2 << bpf.SubBits)

// Histogram counts durations in the log-linear buckets of [bpf.BucketOf], as
// G. Tene's HdrHistogram does. The zero value is empty.
type Histogram struct {
	count  uint64
	max    time.Duration
	counts [bpf.Buckets]uint64
}

// Record counts d; below 0 it counts as 0.
func (h *Histogram) Record(d time.Duration) {
	d = max(d, 0)
	h.counts[bpf.BucketOf(uint64(d))]++
	h.count++
	h.max = max(h.max, d)
}

// Merge adds what o counted.
func (h *Histogram) Merge(o *Histogram) {
	for i, n := range o.counts {
		h.counts[i] += n
	}
	h.count += o.count
	h.max = max(h.max, o.max)
}

// mergeKernel adds what a latency program counted on one CPU.
func (h *Histogram) mergeKernel(o *bpf.Histogram) {
	for i, n := range o.Counts {
		h.counts[i] += n
		h.count += n
	}
	h.max = max(h.max, time.Duration(o.MaxNS))
}

// Count returns how many durations were recorded.
func (h *Histogram) Count() uint64 { return h.count }

// Max returns the longest duration recorded, exactly; 0 if there is none.
func (h *Histogram) Max() time.Duration { return h.max }

// Quantile returns the shortest duration that at least a share q of all do not
// exceed, q in 0…1: exactly below 64 ns, within [HistogramError] up to 67 s, and
// the longest recorded beyond that. It is 0 if there is none.
func (h *Histogram) Quantile(q float64) time.Duration {
	rank := min(max(uint64(math.Ceil(q*float64(h.count))), 1), h.count)
	var upTo uint64
	for i, n := range h.counts {
		upTo += n
		if n == 0 || upTo < rank {
			continue
		}
		if i == bpf.Buckets-1 {
			return h.max
		}
		low, high := bpf.BucketBounds(i)
		return min(time.Duration(low+(high-low)/2), h.max)
	}
	return 0
}
