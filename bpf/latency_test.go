package bpf

import (
	"math"
	"testing"
)

// The buckets lie side by side from 0 on, each holds what it says, and none is
// wider than 1/32 of its least.
func TestBuckets(t *testing.T) {
	var next uint64
	for i := range Buckets {
		low, high := BucketBounds(i)
		if low != next || high < low {
			t.Fatalf("bucket %d from %d to %d, want it to begin at %d", i, low, high, next)
		}
		for _, v := range []uint64{low, low + (high-low)/2, high} {
			if got := BucketOf(v); got != i {
				t.Errorf("%d is in bucket %d, want %d", v, got, i)
			}
		}
		if width := high - low + 1; i < Buckets-1 && width > 1 && width*(1<<SubBits) > low {
			t.Errorf("bucket %d is %d wide from %d", i, width, low)
		}
		next = high + 1
	}
	if got := BucketOf(math.MaxUint64); got != Buckets-1 {
		t.Errorf("the greatest number is in bucket %d", got)
	}
}
