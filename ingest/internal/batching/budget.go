package batching

import "sync/atomic"

// budget bounds the memory for bodies, and for entries that wait or are being published. It is safe for concurrent use.
type budget struct {
	limit int64
	held  atomic.Int64
}

// reserve reserves n bytes for a body and reports whether they are within the limit. A large reservation may only fill the
// first half of it.
func (b *budget) reserve(n int) bool {
	limit := b.limit
	if n >= largeReservation {
		limit /= 2
	}
	return b.take(int64(n), limit)
}

// reserveEntries reserves n bytes for entries.
func (b *budget) reserveEntries(n int) bool { return b.take(int64(n), b.limit) }

func (b *budget) take(n, limit int64) bool {
	for {
		held := b.held.Load()
		if held+n > limit {
			return false
		}
		if b.held.CompareAndSwap(held, held+n) {
			return true
		}
	}
}

func (b *budget) release(n int) { b.held.Add(int64(-n)) }
