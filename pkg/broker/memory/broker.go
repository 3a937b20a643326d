// Package memory is a broker within one process: topics, subscriptions and leases with the behaviour of Pub/Sub, and
// nothing kept once it is acknowledged. It serves `make run` and tests. Messages are lost with the process, so no
// deployment uses it.
package memory

import (
	"container/heap"
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/accrue/accrue/pkg/broker"
)

const (
	// MaxHeldBytes bounds what one subscription holds unacknowledged, so that a process whose aggregator stands still
	// refuses to publish and does not grow.
	MaxHeldBytes = 256 << 20
	// overhead is what holding a message costs beside its Size, about.
	overhead = 256
	// pullWait is how long a Pull waits for a first message before it returns none.
	pullWait = 500 * time.Millisecond
	// retention is Pub/Sub's default. Messages are in fact kept until they are acknowledged; a process of this kind
	// lives for less.
	retention = 7 * 24 * time.Hour
)

// Topic delivers what is published to it to every subscription that it has at that time. What nobody subscribes to is
// dropped. Its methods may be called at the same time, and so may those of its subscriptions.
type Topic struct {
	mu            sync.Mutex // guards the topic and all its subscriptions, so that a publish reaches all of them or none
	published     uint64
	subscriptions []*Subscription
}

// NewTopic makes a topic without subscriptions.
func NewTopic() *Topic { return &Topic{} }

// Publish hands copies of messages to every subscription, or none to any: when ctx has ended, when a message is too large
// (broker.ErrMessageSize), and when a subscription would hold more than MaxHeldBytes (broker.ErrFull).
func (t *Topic) Publish(ctx context.Context, messages []broker.Message) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("publish: %w", err)
	}
	size := 0
	for i := range messages {
		n := messages[i].Size()
		if n > broker.MaxMessageBytes {
			return fmt.Errorf("publish: %w: %d bytes", broker.ErrMessageSize, n)
		}
		size += n + overhead
	}
	now := time.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, s := range t.subscriptions {
		if s.heldBytes+size > MaxHeldBytes {
			return fmt.Errorf("publish: %w: %d bytes are not acknowledged", broker.ErrFull, s.heldBytes)
		}
	}
	if len(t.subscriptions) == 0 {
		return nil
	}
	deliveries := make([]broker.Delivery, len(messages))
	for i, m := range messages {
		t.published++
		m = broker.Message{Data: slices.Clone(m.Data), Attributes: maps.Clone(m.Attributes)}
		deliveries[i] = broker.Delivery{Message: m, ID: strconv.FormatUint(t.published, 10), PublishedAt: now}
	}
	for _, s := range t.subscriptions {
		s.heldBytes += size
		s.waiting = append(s.waiting, deliveries...)
		s.wake()
	}
	return nil
}

// Check reports that the topic can be published to: always.
func (t *Topic) Check(context.Context) error { return nil }

// Subscribe adds a subscription whose leases last ackDeadline.
func (t *Topic) Subscribe(ackDeadline time.Duration) *Subscription {
	s := &Subscription{topic: t, ackDeadline: ackDeadline, leased: make(map[string]*lease), changed: make(chan struct{})}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.subscriptions = append(t.subscriptions, s)
	return s
}

// Subscription holds the messages that were not acknowledged yet. A delivery whose lease ends is delivered again.
//
// No timer runs for a lease: that it has ended matters to nobody but the next Pull, which looks. Until then, a late
// acknowledgement still counts, as it does with Pub/Sub when luck will have it.
type Subscription struct {
	topic       *Topic
	ackDeadline time.Duration

	// The rest is guarded by topic.mu.
	waiting   []broker.Delivery // oldest first; their receipts mean nothing
	leased    map[string]*lease // by receipt
	ends      leases            // the same leases, the first to end at the top
	heldBytes int
	receipts  uint64
	changed   chan struct{} // closed, and made anew, when a Pull that waits must look again
}

// lease is a delivery that somebody has pulled.
type lease struct {
	delivery broker.Delivery
	ends     time.Time
	index    int // its place in the heap
}

// leases is a heap for container/heap, by the time at which they end.
type leases []*lease

func (l leases) Len() int           { return len(l) }
func (l leases) Less(i, j int) bool { return l[i].ends.Before(l[j].ends) }
func (l leases) Swap(i, j int) {
	l[i], l[j] = l[j], l[i]
	l[i].index, l[j].index = i, j
}

func (l *leases) Push(x any) {
	added := x.(*lease) //nolint:forcetypeassert // heap.Push is called with leases alone
	added.index = len(*l)
	*l = append(*l, added)
}

func (l *leases) Pop() any {
	last := len(*l) - 1
	removed := (*l)[last]
	(*l)[last] = nil
	*l = (*l)[:last]
	return removed
}

// Pull leases up to limit messages, at most broker.MaxPull. It waits half a second for a first one, and returns none when
// none comes.
func (s *Subscription) Pull(ctx context.Context, limit int) ([]broker.Delivery, error) {
	deadline := time.Now().Add(pullWait)
	for {
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("pull: %w", err)
		}
		now := time.Now()
		pulled, changed, wait := s.take(now, min(limit, broker.MaxPull))
		if len(pulled) > 0 || !now.Before(deadline) {
			return pulled, nil
		}
		timer := time.NewTimer(min(wait, deadline.Sub(now)))
		select {
		case <-changed:
		case <-timer.C:
		case <-ctx.Done():
		}
		timer.Stop()
	}
}

// take leases up to limit messages at the time now. When there are none it returns what to wait for: a channel that is
// closed when something changes, and the time until the next lease ends.
func (s *Subscription) take(now time.Time, limit int) ([]broker.Delivery, <-chan struct{}, time.Duration) {
	s.topic.mu.Lock()
	defer s.topic.mu.Unlock()
	for len(s.ends) > 0 && !now.Before(s.ends[0].ends) {
		s.release(s.ends[0])
	}
	n := min(limit, len(s.waiting))
	if n <= 0 {
		wait := pullWait
		if len(s.ends) > 0 {
			wait = s.ends[0].ends.Sub(now)
		}
		return nil, s.changed, wait
	}
	pulled := make([]broker.Delivery, n)
	for i := range pulled {
		s.receipts++
		pulled[i] = s.waiting[i]
		pulled[i].Receipt = strconv.FormatUint(s.receipts, 10)
		l := &lease{delivery: pulled[i], ends: now.Add(s.ackDeadline)}
		s.leased[pulled[i].Receipt] = l
		heap.Push(&s.ends, l)
	}
	clear(s.waiting[:n]) // let go of their bytes
	if s.waiting = s.waiting[n:]; len(s.waiting) == 0 {
		s.waiting = nil // and of the array
	}
	return pulled, nil, 0
}

// release makes a leased message available again.
func (s *Subscription) release(l *lease) {
	s.remove(l)
	s.waiting = append(s.waiting, l.delivery)
}

// remove ends a lease.
func (s *Subscription) remove(l *lease) {
	delete(s.leased, l.delivery.Receipt)
	heap.Remove(&s.ends, l.index)
}

// wake makes every Pull that waits look again.
func (s *Subscription) wake() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// Acknowledge ends the deliveries for good. Receipts whose messages have been delivered again are passed over.
func (s *Subscription) Acknowledge(ctx context.Context, receipts []string) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("acknowledge: %w", err)
	}
	s.topic.mu.Lock()
	defer s.topic.mu.Unlock()
	for _, receipt := range receipts {
		if l, ok := s.leased[receipt]; ok {
			s.remove(l)
			s.heldBytes -= l.delivery.Size() + overhead
		}
	}
	return nil
}

// Extend lets the leases end after d from now, at most broker.MaxExtension; zero ends them at once. Receipts whose
// messages have been delivered again are passed over.
func (s *Subscription) Extend(ctx context.Context, receipts []string, d time.Duration) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("extend: %w", err)
	}
	ends := time.Now().Add(min(d, broker.MaxExtension))
	s.topic.mu.Lock()
	defer s.topic.mu.Unlock()
	for _, receipt := range receipts {
		l, ok := s.leased[receipt]
		switch {
		case !ok:
		case d <= 0:
			s.release(l)
		default:
			l.ends = ends
			heap.Fix(&s.ends, l.index)
		}
	}
	s.wake()
	return nil
}

// Check reports that the subscription can be pulled from: always.
func (s *Subscription) Check(context.Context) error { return nil }

// Describe returns the ack deadline that Subscribe was given, and Pub/Sub's default retention, one week.
func (s *Subscription) Describe(context.Context) (broker.SubscriptionInfo, error) {
	return broker.SubscriptionInfo{AckDeadline: s.ackDeadline, Retention: retention}, nil
}

// Held counts the messages that were not acknowledged yet, leased or not.
func (s *Subscription) Held() int {
	s.topic.mu.Lock()
	defer s.topic.mu.Unlock()
	return len(s.waiting) + len(s.leased)
}

// HeldBytes is what Held comes to in memory, in bytes, about: what MaxHeldBytes bounds.
func (s *Subscription) HeldBytes() int {
	s.topic.mu.Lock()
	defer s.topic.mu.Unlock()
	return s.heldBytes
}
