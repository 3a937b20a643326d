package consumer

import (
	"context"
	"errors"
	"sync"
)

var errQueueFull = errors.New("the queue is full")

// queue is a first-in, first-out queue of bounded size. What it holds, and what was taken and is not done yet, is held in
// the buffer. It is safe for concurrent use.
type queue[T any] struct {
	buffer *buffer
	limit  int64
	cost   func(T) int64

	mu      sync.Mutex
	items   []T
	size    int64
	closed  bool
	changed signal
}

// newQueue returns a queue whose items cost limit together, in bytes, or a first item, whatever that costs.
func newQueue[T any](b *buffer, limit int64, cost func(T) int64) *queue[T] {
	return &queue[T]{buffer: b, limit: limit, cost: cost}
}

// put appends what there is room for, and returns how many items were dropped.
func (q *queue[T]) put(items []T) (dropped int) {
	var held int64
	q.mu.Lock()
	for dropped = len(items); dropped > 0; dropped-- {
		item := items[len(items)-dropped]
		cost := q.cost(item)
		if len(q.items) > 0 && q.size+cost > q.limit {
			break
		}
		q.items = append(q.items, item)
		q.size += cost
		held += cost
	}
	q.buffer.hold(held)
	q.mu.Unlock()
	q.changed.notify()
	return dropped
}

// take waits for items, and returns the first one with those after it, as long as more says that the next goes with those
// that are taken. It returns none when the queue is closed and empty, or ctx has ended.
func (q *queue[T]) take(ctx context.Context, more func(taken []T, next T) bool) []T {
	for ctx.Err() == nil {
		changed := q.changed.channel()
		if some, closed := q.first(more); len(some) > 0 || closed {
			return some
		}
		select {
		case <-changed:
		case <-ctx.Done():
		}
	}
	return nil
}

func (q *queue[T]) first(more func(taken []T, next T) bool) (some []T, closed bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	n := 0
	for n < len(q.items) && (n == 0 || more(q.items[:n], q.items[n])) {
		q.size -= q.cost(q.items[n])
		n++
	}
	if some = q.items[:n:n]; n == len(q.items) {
		q.items = nil
	} else {
		q.items = q.items[n:]
	}
	return some, q.closed
}

// done frees what items that were taken cost.
func (q *queue[T]) done(items []T) {
	var cost int64
	for _, item := range items {
		cost += q.cost(item)
	}
	q.buffer.free(cost)
}

// close lets take return none when all is taken.
func (q *queue[T]) close() {
	q.mu.Lock()
	q.closed = true
	q.mu.Unlock()
	q.changed.notify()
}

// signal wakes all goroutines that wait for a change. The zero value is ready. It is safe for concurrent use.
type signal struct {
	mu sync.Mutex
	ch chan struct{}
}

// channel returns a channel that the next notify closes. Take it before looking at what may change.
func (s *signal) channel() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ch == nil {
		s.ch = make(chan struct{})
	}
	return s.ch
}

func (s *signal) notify() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ch != nil {
		close(s.ch)
		s.ch = nil
	}
}
