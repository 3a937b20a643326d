package load

import (
	"math/bits"
	"time"
)

// precision is the number of bits of a duration that a histogram keeps: it is wrong by 1/64, or 1.6 %, at most.
const precision = 6

// histogram counts durations in buckets that grow with them. The zero value is empty. It is not safe for concurrent use; add
// merges several.
type histogram struct {
	buckets [(64 - precision + 1) << precision]uint32
	count   uint64
	max     time.Duration
}

// record counts d. A negative duration counts as 0.
func (h *histogram) record(d time.Duration) {
	d = max(0, d)
	h.buckets[bucket(uint64(d))]++
	h.count++
	h.max = max(h.max, d)
}

// bucket returns the bucket of n: small numbers have a bucket each, larger ones share it with those of the same first bits.
func bucket(n uint64) int {
	exponent := max(0, bits.Len64(n)-precision-1)
	return exponent<<precision + int(n>>exponent) //nolint:gosec // n>>exponent has precision+1 bits
}

// top is the largest number in a bucket.
func top(bucket int) uint64 {
	exponent := max(0, bucket>>precision-1)
	mantissa := uint64(bucket - exponent<<precision) //nolint:gosec // not negative
	return (mantissa+1)<<exponent - 1
}

// add adds the counts of other to h.
func (h *histogram) add(other *histogram) {
	for i, n := range other.buckets {
		h.buckets[i] += n
	}
	h.count += other.count
	h.max = max(h.max, other.max)
}

// quantile returns a duration that the share q of all do not exceed, at most 1.6 % too long. It is 0 without durations.
func (h *histogram) quantile(q float64) time.Duration {
	rank := min(max(uint64(q*float64(h.count)+0.5), 1), h.count)
	var seen uint64
	for i, n := range h.buckets {
		if seen += uint64(n); seen >= rank && n > 0 {
			return min(time.Duration(top(i)), h.max) //nolint:gosec // it was a duration
		}
	}
	return 0
}
