package checkpoint_test

import (
	"math"
	"testing"

	"pgregory.net/rapid"

	"github.com/accrue/accrue/pkg/checkpoint"
)

func TestIntervalsBehaveLikeASet(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		// A narrow range makes neighbours, joins and repeats likely; its ends are where arithmetic overflows.
		base := rapid.SampledFrom([]uint64{1, 1000, math.MaxUint64 - 40}).Draw(t, "base")
		var s checkpoint.Intervals
		set := make(map[uint64]bool)
		for _, offset := range rapid.SliceOfN(rapid.Uint64Range(0, 40), 0, 60).Draw(t, "offsets") {
			s = s.Add(base + offset)
			set[base+offset] = true
		}
		for offset := range uint64(41) {
			if got := s.Contains(base + offset); got != set[base+offset] {
				t.Fatalf("%v.Contains(%d) = %v", s, base+offset, got)
			}
		}
		for i, iv := range s {
			if iv.First > iv.Last || (i > 0 && iv.First-s[i-1].Last < 2) {
				t.Fatalf("%v is not sorted, disjoint and joined", s)
			}
		}
	})
}

func TestConsecutiveSequencesBecomeOneInterval(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		order := rapid.Permutation([]uint64{1, 2, 3, 4, 5, 6, 7, 8, 9}).Draw(t, "order")
		var s checkpoint.Intervals
		for _, n := range order {
			s = s.Add(n)
		}
		if len(s) != 1 || s[0] != (checkpoint.Interval{First: 1, Last: 9}) {
			t.Fatalf("added %v: %v, want [{1 9}]", order, s)
		}
	})
}
