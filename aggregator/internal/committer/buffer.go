package committer

import (
	"context"
	"sync"
)

// buffer counts the bytes that are held, and lets pullers wait while they are too many.
type buffer struct {
	limit int64

	mu    sync.Mutex
	bytes int64
	room  chan struct{} // closed while bytes are below the limit
}

func newBuffer(limit int64) *buffer {
	b := &buffer{limit: limit, room: make(chan struct{})}
	close(b.room)
	return b
}

// wait returns when there is room, or ctx's error.
func (b *buffer) wait(ctx context.Context) error {
	b.mu.Lock()
	room := b.room
	b.mu.Unlock()
	select {
	case <-room:
		return ctx.Err()
	case <-ctx.Done():
		return ctx.Err()
	}
}

// add counts n bytes more, or fewer if n is negative.
func (b *buffer) add(n int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	wasFull := b.bytes >= b.limit
	b.bytes += n
	switch isFull := b.bytes >= b.limit; {
	case isFull && !wasFull:
		b.room = make(chan struct{})
	case wasFull && !isFull:
		close(b.room)
	}
}

// held returns the bytes that are held.
func (b *buffer) held() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.bytes
}
