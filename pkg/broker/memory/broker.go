// Package memory is a broker within one process: topics, subscriptions and leases with the behaviour of Pub/Sub, and
// nothing kept once it is acknowledged. It serves `make run` and tests. Messages are lost with the process, so no
// deployment uses it.
package memory

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/accrue/accrue/pkg/broker"
)

// pullWait is how long a Pull waits for a first message before it returns none.
const pullWait = 500 * time.Millisecond

// Topic delivers what is published to it to every subscription that it has at that time.
type Topic struct {
	mu            sync.Mutex
	published     uint64
	subscriptions []*Subscription
}

// NewTopic makes a topic without subscriptions.
func NewTopic() *Topic { return &Topic{} }

// Publish hands messages to every subscription, or, when ctx has ended or a message is too large, none to any.
func (t *Topic) Publish(ctx context.Context, messages []broker.Message) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("publish: %w", err)
	}
	for _, m := range messages {
		if len(m.Data) > broker.MaxMessageBytes {
			return fmt.Errorf("publish: %w: %d bytes", broker.ErrMessageSize, len(m.Data))
		}
	}
	now := time.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	deliveries := make([]broker.Delivery, len(messages))
	for i, m := range messages {
		t.published++
		deliveries[i] = broker.Delivery{Message: m, ID: strconv.FormatUint(t.published, 10), PublishedAt: now}
	}
	for _, s := range t.subscriptions {
		s.add(deliveries)
	}
	return nil
}

// Check reports that the topic can be published to: always.
func (t *Topic) Check(context.Context) error { return nil }

// Subscribe adds a subscription whose leases last ackDeadline.
func (t *Topic) Subscribe(ackDeadline time.Duration) *Subscription {
	s := &Subscription{ackDeadline: ackDeadline, leased: make(map[string]*lease), arrived: make(chan struct{})}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.subscriptions = append(t.subscriptions, s)
	return s
}

// Subscription holds the messages that were not acknowledged yet. A delivery whose lease ends is delivered again.
type Subscription struct {
	ackDeadline time.Duration

	mu       sync.Mutex
	waiting  []broker.Delivery
	leased   map[string]*lease
	receipts uint64
	arrived  chan struct{} // closed, and made anew, when waiting grows
}

type lease struct {
	delivery broker.Delivery
	ends     *time.Timer
}

func (s *Subscription) add(deliveries []broker.Delivery) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.waiting = append(s.waiting, deliveries...)
	close(s.arrived)
	s.arrived = make(chan struct{})
}

// AckDeadline is how long a lease lasts unless it is extended.
func (s *Subscription) AckDeadline() time.Duration { return s.ackDeadline }

// Retention is how long an unacknowledged message is kept: without end here, which a caller may take as one day, the
// most that a process of this kind should live.
func (s *Subscription) Retention() time.Duration { return 24 * time.Hour }

// Pull leases up to limit messages. It waits a moment for a first one, and returns none when none comes.
func (s *Subscription) Pull(ctx context.Context, limit int) ([]broker.Delivery, error) {
	wait := time.NewTimer(pullWait)
	defer wait.Stop()
	for {
		s.mu.Lock()
		pulled, arrived := s.take(min(limit, broker.MaxPull)), s.arrived
		s.mu.Unlock()
		if len(pulled) > 0 {
			return pulled, nil
		}
		select {
		case <-arrived:
		case <-wait.C:
			return nil, nil
		case <-ctx.Done():
			return nil, fmt.Errorf("pull: %w", ctx.Err())
		}
	}
}

func (s *Subscription) take(limit int) []broker.Delivery {
	n := min(limit, len(s.waiting))
	pulled := make([]broker.Delivery, n)
	for i := range pulled {
		d := s.waiting[i]
		s.waiting[i] = broker.Delivery{} // let go of its bytes
		s.receipts++
		d.Receipt = strconv.FormatUint(s.receipts, 10)
		pulled[i] = d
		s.leased[d.Receipt] = &lease{d, time.AfterFunc(s.ackDeadline, func() { s.release(d.Receipt) })}
	}
	if s.waiting = s.waiting[n:]; len(s.waiting) == 0 {
		s.waiting = nil // the array too
	}
	return pulled
}

// release makes a leased message available again.
func (s *Subscription) release(receipt string) {
	s.mu.Lock()
	l, ok := s.leased[receipt]
	delete(s.leased, receipt)
	s.mu.Unlock()
	if ok {
		l.ends.Stop()
		s.add([]broker.Delivery{l.delivery})
	}
}

// Acknowledge ends the deliveries for good. Receipts whose lease has ended are passed over: their messages come again.
func (s *Subscription) Acknowledge(_ context.Context, receipts []string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, receipt := range receipts {
		if l, ok := s.leased[receipt]; ok {
			l.ends.Stop()
			delete(s.leased, receipt)
		}
	}
	return nil
}

// Extend lets the leases end after d from now; zero ends them at once. Receipts whose lease has ended are passed over.
func (s *Subscription) Extend(_ context.Context, receipts []string, d time.Duration) error {
	for _, receipt := range receipts {
		if d <= 0 {
			s.release(receipt)
			continue
		}
		s.mu.Lock()
		if l, ok := s.leased[receipt]; ok {
			l.ends.Reset(d)
		}
		s.mu.Unlock()
	}
	return nil
}

// Check reports that the subscription can be pulled from: always.
func (s *Subscription) Check(context.Context) error { return nil }

// Held counts the messages that were not acknowledged yet, leased or not.
func (s *Subscription) Held() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.waiting) + len(s.leased)
}
