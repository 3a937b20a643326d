package batching

import (
	"sync/atomic"
	"time"
)

const (
	// maxAge is how old a group may be when its publish ends before fewer entries are admitted. Half of it leaves room for more.
	maxAge = time.Second
	// minWindow is the least that a window admits, in bytes: what a slow broker takes in a second. It begins with firstWindow.
	minWindow, firstWindow = 256 << 10, 4 << 20
)

// window bounds the bytes of entries that wait or are being published to what the broker takes within maxAge: what waits longer than
// PublishTimeout is published in vain, and everything behind it waits with it. It grows while it is used and publishes are quick,
// and shrinks when they are not. It is safe for concurrent use, but for ended.
type window struct {
	most       int64
	held, size atomic.Int64

	// quick is when the youngest group was opened that was published in time. That older ones are slow is not for want of room.
	quick time.Time
}

// newWindow returns a window that never exceeds most.
func newWindow(most int) *window {
	w := &window{most: int64(most)}
	w.size.Store(min(w.most, firstWindow))
	return w
}

// reserve reserves n bytes and reports whether they are within the window. An empty window admits anything.
func (w *window) reserve(n int) bool {
	for {
		held := w.held.Load()
		if held > 0 && held+int64(n) > w.size.Load() {
			return false
		}
		if w.held.CompareAndSwap(held, held+int64(n)) {
			return true
		}
	}
}

func (w *window) release(n int) { w.held.Add(int64(-n)) }

// full reports whether nothing would be admitted.
func (w *window) full() bool { return w.held.Load() >= w.size.Load() }

// ended adapts the window to a publish of n bytes that has ended, well or not, before they are released.
func (w *window) ended(openedAt time.Time, n int, ok bool) {
	age, held, size := time.Since(openedAt), w.held.Load(), w.size.Load()
	switch {
	case age <= maxAge:
		if openedAt.After(w.quick) {
			w.quick = openedAt
		}
		if ok && age <= maxAge/2 && held > size/2 {
			w.size.Store(min(w.most, size+int64(n)))
		}
	case openedAt.Before(w.quick):
	default:
		// The broker took what was held in this time.
		w.size.Store(max(minWindow, min(size, held)*int64(maxAge*3/4/time.Millisecond)/int64(age/time.Millisecond)))
	}
}
