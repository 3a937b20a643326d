package load

import (
	"math"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestQuantileEqualsSortedDurationsWithin2Percent(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		all := rapid.SliceOfN(rapid.Int64Range(0, math.MaxInt64), 1, 200).Draw(t, "durations")
		q := rapid.Float64Range(0, 1).Draw(t, "q")
		half := rapid.IntRange(0, len(all)).Draw(t, "split")
		var h, other histogram
		for i, d := range all {
			if i < half {
				h.record(time.Duration(d))
			} else {
				other.record(time.Duration(d))
			}
		}
		h.add(&other)
		slices.Sort(all)
		rank := min(max(int(q*float64(len(all))+0.5), 1), len(all))
		want, got := all[rank-1], int64(h.quantile(q))
		if got < want || float64(got-want) > float64(want)/64 {
			t.Errorf("quantile(%v) = %d, want %d", q, got, want)
		}
		if h.max != time.Duration(all[len(all)-1]) || h.count != uint64(len(all)) {
			t.Errorf("max %d of %d", h.max, h.count)
		}
	})
}

func TestQuantileWithoutDurations(t *testing.T) {
	t.Parallel()
	var h histogram
	if got := h.quantile(0.5); got != 0 {
		t.Errorf("quantile() = %v", got)
	}
	h.record(-time.Second)
	if got := h.quantile(1); got != 0 {
		t.Errorf("quantile() of a duration below nothing = %v", got)
	}
}

func TestBucketsAreContiguous(t *testing.T) {
	t.Parallel()
	for b := range len(histogram{}.buckets) - 1 {
		last := top(b)
		if bucket(last) != b || bucket(last+1) != b+1 {
			t.Fatalf("bucket %d ends at %d, which is in %d, and the next number in %d", b, last, bucket(last), bucket(last+1))
		}
	}
}
