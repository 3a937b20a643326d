package consumer

import (
	"context"
	"sync"
	"time"

	"github.com/accrue/accrue/pkg/broker"
)

const (
	// largeMessage is what a message is expected to cost at least: one of a thousand entries costs up to 100 KB, and a Pull
	// that was sized for small ones may bring as many of these.
	largeMessage = 64 << 10
	// messagesPerBuffer is how many large messages fill a small buffer at least: it is not filled by a message at a time.
	messagesPerBuffer = 128
	// averageWeight is the weight of the last Pull in the average.
	averageWeight = 0.1
	// pullsPerBuffer is how many Pulls fill the buffer: the most that one of them asks for.
	pullsPerBuffer = 8
	// leastRoom is the part of the buffer that must be free before more is pulled, so that a full buffer is not filled by
	// a message at a time.
	leastRoom = 1.0 / 32
	// fullEvery is how often a puller that waits for room says so.
	fullEvery = 250 * time.Millisecond
)

// buffer counts the bytes that are held, and lets pullers wait while there is no room for more.
type buffer struct {
	limit int64

	mu       sync.Mutex
	held     int64
	reserved int64 // for what Pulls under way may bring
	average  float64
	room     signal
}

func newBuffer(limit int64) *buffer { return &buffer{limit: limit, average: largeMessage} }

// reserve waits until there is room, and returns how many messages may be pulled and the bytes reserved for them, which the
// caller must unreserve after the Pull. While it waits it calls full repeatedly.
func (b *buffer) reserve(ctx context.Context, full func()) (limit int, bytes int64, err error) {
	for ctx.Err() == nil {
		room := b.room.channel()
		if limit, bytes = b.try(); limit > 0 {
			return limit, bytes, nil
		}
		full()
		timer := time.NewTimer(fullEvery)
		select {
		case <-room:
		case <-timer.C:
		case <-ctx.Done():
		}
		timer.Stop()
	}
	return 0, 0, ctx.Err()
}

func (b *buffer) try() (limit int, bytes int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	taken := b.held + b.reserved
	room := b.limit - taken
	expected := max(b.average, float64(min(largeMessage, b.limit/messagesPerBuffer)))
	if taken > 0 && float64(room) < max(leastRoom*float64(b.limit), expected) {
		return 0, 0
	}
	limit = int(float64(min(room, b.limit/pullsPerBuffer)) / expected)
	limit = max(1, min(limit, broker.MaxPull))
	bytes = int64(float64(limit) * expected)
	b.reserved += bytes
	return limit, bytes
}

func (b *buffer) unreserve(bytes int64) {
	b.mu.Lock()
	b.reserved -= bytes
	b.mu.Unlock()
	b.room.notify()
}

// came notes what messages that have come cost. The average follows a larger one at once and a smaller one slowly.
func (b *buffer) came(bytes int64, messages int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	last := float64(bytes) / float64(messages)
	b.average = max(last, (1-averageWeight)*b.average+averageWeight*last)
}

// hold counts bytes as held.
func (b *buffer) hold(bytes int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.held += bytes
}

// free counts bytes as held no more.
func (b *buffer) free(bytes int64) {
	b.mu.Lock()
	b.held -= bytes
	b.mu.Unlock()
	if bytes > 0 {
		b.room.notify()
	}
}

// bytes returns how many are held.
func (b *buffer) bytes() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.held
}
