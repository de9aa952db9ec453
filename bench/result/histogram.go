package result

import (
	"math"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Histogram counts durations in buckets, as far as there are any.
type Histogram struct {
	Count   uint64        `json:"count"`
	Min     time.Duration `json:"min_ns"`
	Max     time.Duration `json:"max_ns"`
	Mean    time.Duration `json:"mean_ns"`
	P50     time.Duration `json:"p50_ns"`
	P90     time.Duration `json:"p90_ns"`
	P99     time.Duration `json:"p99_ns"`
	P999    time.Duration `json:"p999_ns"`
	Buckets []Bucket      `json:"buckets"` // in rising order, none empty
}

// Bucket is how many durations were from Low to High, both included.
type Bucket struct {
	Low   time.Duration `json:"low_ns"`
	High  time.Duration `json:"high_ns"`
	Count uint64        `json:"count"`
}

// NewHistogram returns what h recorded, in ns; nil if that is nothing.
func NewHistogram(h *hdrhistogram.Histogram) *Histogram {
	if h == nil || h.TotalCount() == 0 {
		return nil
	}
	out := &Histogram{
		Count: uint64(h.TotalCount()),
		Min:   time.Duration(h.Min()), Max: time.Duration(h.Max()), Mean: time.Duration(h.Mean()),
	}
	for _, b := range h.Distribution() {
		if b.Count > 0 {
			out.Buckets = append(out.Buckets, Bucket{time.Duration(b.From), time.Duration(b.To), uint64(b.Count)})
		}
	}
	out.P50, out.P90, out.P99, out.P999 = out.Quantile(.5), out.Quantile(.9), out.Quantile(.99), out.Quantile(.999)
	return out
}

// Quantile returns the upper end of the bucket of the shortest duration that at
// least a share q of all do not exceed, q in 0…1, and never more than the longest.
func (h *Histogram) Quantile(q float64) time.Duration {
	rank := max(uint64(math.Ceil(q*float64(h.Count))), 1)
	var upTo uint64
	for _, b := range h.Buckets {
		if upTo += b.Count; upTo >= rank {
			return min(b.High, h.Max)
		}
	}
	return h.Max
}
