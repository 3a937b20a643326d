package embedded

import (
	"container/heap"
	"context"
	"encoding/binary"
	"fmt"
	"strconv"
	"sync"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/accrue/accrue/pkg/broker"
	"github.com/accrue/accrue/pkg/database"
)

const (
	// pullWait bounds the time that a Pull waits for a first message.
	pullWait = 500 * time.Millisecond
	// maxPullBytes is the total size of messages at which a Pull stops adding more.
	maxPullBytes = 16 << 20
	// retention is the default of Pub/Sub.
	retention = 7 * 24 * time.Hour
)

// Subscription delivers messages until they are acknowledged. A message whose lease ends is delivered again.
//
// Leases have no timers. The next Pull finds the leases that have ended. Until then a late acknowledgement still succeeds, as it
// may with Pub/Sub.
type Subscription struct {
	database    *database.Database
	name        []byte // of its bucket
	ackDeadline time.Duration

	mu       sync.Mutex
	next     uint64            // the smallest sequence number not delivered since the start
	drained  bool              // there are no messages from next on
	released []released        // messages to deliver again, in the order of their release
	leased   map[string]*lease // by receipt
	ends     leases            // the same leases as a heap
	receipts uint64
	changed  chan struct{} // closed and replaced when waiting Pulls must look for messages
}

// lease is a delivery that is neither acknowledged nor released.
type lease struct {
	sequence uint64
	receipt  string
	ends     time.Time
	index    int // in the heap
}

// released is a message whose lease has ended.
type released struct {
	sequence uint64
	at       time.Time
}

// leases is a heap of leases ordered by their ends.
type leases []*lease

func (l leases) Len() int           { return len(l) }
func (l leases) Less(i, j int) bool { return l[i].ends.Before(l[j].ends) }
func (l leases) Swap(i, j int) {
	l[i], l[j] = l[j], l[i]
	l[i].index, l[j].index = i, j
}

func (l *leases) Push(x any) {
	added := x.(*lease) //nolint:forcetypeassert // heap.Push is only called with leases
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

// Pull leases up to limit messages, at most broker.MaxPull, and fewer if they are large. It waits up to half a second for a first
// message.
func (s *Subscription) Pull(ctx context.Context, limit int) ([]broker.Delivery, error) {
	deadline := time.Now().Add(pullWait)
	for {
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("pull: %w", err)
		}
		now := time.Now()
		pulled, changed, wait, err := s.take(ctx, now, min(limit, broker.MaxPull))
		if err != nil {
			return nil, fmt.Errorf("pull: %w", err)
		}
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

// take leases up to limit messages at the time now. It also returns what to wait for if there are none: a channel that is closed
// on changes, and the time until the next lease ends.
func (s *Subscription) take(ctx context.Context, now time.Time, limit int) ([]broker.Delivery, <-chan struct{}, time.Duration, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.ends) > 0 && !now.Before(s.ends[0].ends) {
		s.release(s.ends[0])
	}
	pulled, sequences, err := s.read(ctx, limit)
	if err != nil {
		return nil, nil, 0, err
	}
	for i := range pulled {
		l := &lease{sequence: sequences[i], receipt: pulled[i].Receipt, ends: now.Add(s.ackDeadline)}
		s.leased[l.receipt] = l
		heap.Push(&s.ends, l)
	}
	wait := pullWait
	if len(s.ends) > 0 {
		wait = s.ends[0].ends.Sub(now)
	}
	return pulled, s.changed, wait, nil
}

// read returns up to limit messages and their sequence numbers, and marks them as delivered. A released message comes after all
// messages that were published before its release, so messages that a consumer cannot settle do not hold up others.
func (s *Subscription) read(ctx context.Context, limit int) (pulled []broker.Delivery, sequences []uint64, err error) {
	next, drained, again, size := s.next, s.drained, s.released, 0
	if drained && len(again) == 0 {
		return nil, nil, nil
	}
	add := func(key, value []byte) error {
		d, err := unpack(value)
		if err != nil {
			return err
		}
		sequence := binary.BigEndian.Uint64(key)
		s.receipts++
		d.ID, d.Receipt = strconv.FormatUint(sequence, 10), strconv.FormatUint(s.receipts, 10)
		pulled, sequences = append(pulled, d), append(sequences, sequence)
		size += len(value)
		return nil
	}
	err = s.database.View(ctx, func(tx *bolt.Tx) error {
		bucket := tx.Bucket(s.name)
		cursor := bucket.Cursor()
		key, value := cursor.Seek(binary.BigEndian.AppendUint64(nil, next))
		for len(pulled) < limit && size < maxPullBytes {
			switch {
			case len(again) > 0 && (key == nil || again[0].at.Before(database.Read(value).Time())):
				key := binary.BigEndian.AppendUint64(nil, again[0].sequence)
				again = again[1:]
				if value := bucket.Get(key); value != nil { // a failed acknowledgement may have been written
					if err := add(key, value); err != nil {
						return err
					}
				}
			case key != nil:
				if err := add(key, value); err != nil {
					return err
				}
				next = binary.BigEndian.Uint64(key) + 1
				key, value = cursor.Next()
			default:
				drained = true
				return nil
			}
		}
		return nil
	})
	if err != nil {
		return nil, nil, err
	}
	if s.next, s.drained, s.released = next, drained, again; len(again) == 0 {
		s.released = nil // frees the array
	}
	return pulled, sequences, nil
}

// release makes a leased message available again.
func (s *Subscription) release(l *lease) {
	s.remove(l)
	s.released = append(s.released, released{l.sequence, time.Now()})
}

// remove ends a lease.
func (s *Subscription) remove(l *lease) {
	delete(s.leased, l.receipt)
	heap.Remove(&s.ends, l.index)
}

// published makes waiting Pulls look for new messages.
func (s *Subscription) published() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.drained = false
	s.wake()
}

// wake makes waiting Pulls look for messages.
func (s *Subscription) wake() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// Acknowledge deletes the messages of deliveries, and returns nil when that is on disk. Receipts of messages that have been
// delivered again are ignored. After an error the messages may be delivered again.
func (s *Subscription) Acknowledge(ctx context.Context, receipts []string) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("acknowledge: %w", err)
	}
	var ended []*lease
	s.mu.Lock()
	for _, receipt := range receipts {
		if l, ok := s.leased[receipt]; ok {
			s.remove(l)
			ended = append(ended, l)
		}
	}
	s.mu.Unlock()
	if len(ended) == 0 {
		return nil
	}
	err := s.database.Update(ctx, 32*len(ended), func(tx *bolt.Tx) error {
		bucket, n := tx.Bucket(s.name), 0
		for _, l := range ended {
			key := binary.BigEndian.AppendUint64(nil, l.sequence)
			if bucket.Get(key) == nil {
				continue
			}
			if err := bucket.Delete(key); err != nil {
				return err
			}
			n++
		}
		return count(tx, s.name, -n)
	}, func(err error) {
		if err == nil {
			return
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, l := range ended {
			s.leased[l.receipt] = l
			heap.Push(&s.ends, l)
		}
	})
	if err != nil {
		return fmt.Errorf("acknowledge: %w", err)
	}
	return nil
}

// Extend sets the ends of leases to d from now, at most broker.MaxExtension. If d is zero it releases the messages. Receipts of
// messages that have been delivered again are ignored.
func (s *Subscription) Extend(ctx context.Context, receipts []string, d time.Duration) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("extend: %w", err)
	}
	ends := time.Now().Add(min(d, broker.MaxExtension))
	s.mu.Lock()
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
	s.mu.Unlock()
	return nil
}

// Check returns an error if messages cannot be pulled and acknowledged.
func (s *Subscription) Check(ctx context.Context) error {
	if err := s.database.Check(ctx); err != nil {
		return fmt.Errorf("check the broker: %w", err)
	}
	return nil
}

// Describe returns the configuration of the subscription. Since the process may have been stopped for a long time, the retention
// is seven days plus the age of the oldest message.
func (s *Subscription) Describe(ctx context.Context) (broker.SubscriptionInfo, error) {
	info := broker.SubscriptionInfo{AckDeadline: s.ackDeadline, Retention: retention}
	err := s.database.View(ctx, func(tx *bolt.Tx) error {
		_, oldest := tx.Bucket(s.name).Cursor().First()
		if oldest == nil {
			return nil
		}
		d, err := unpack(oldest)
		info.Retention += max(0, s.database.Now().Sub(d.PublishedAt))
		return err
	})
	if err != nil {
		return info, fmt.Errorf("describe the subscription: %w", err)
	}
	return info, nil
}

// Held returns the number of unacknowledged messages, leased or not.
func (s *Subscription) Held(ctx context.Context) (int, error) {
	n := 0
	err := s.database.View(ctx, func(tx *bolt.Tx) error {
		n = held(tx.Bucket(counts), s.name)
		return nil
	})
	return n, err
}
