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
	// pullWait is how long a Pull waits for a first message before it returns none.
	pullWait = 500 * time.Millisecond
	// maxPullBytes is the size of the messages at which a Pull takes no more.
	maxPullBytes = 16 << 20
	// retention is Pub/Sub's default.
	retention = 7 * 24 * time.Hour
)

// Subscription delivers messages until they are acknowledged. A delivery whose lease ends is delivered again.
//
// No timer runs for a lease: that it has ended matters only to the next Pull, which looks. Until then, a late
// acknowledgement still counts, as it may with Pub/Sub.
type Subscription struct {
	database    *database.Database
	name        []byte // of its bucket
	ackDeadline time.Duration

	mu       sync.Mutex
	next     uint64            // the least sequence number that was not delivered since the start
	drained  bool              // nothing was published from next on, so that a Pull need not look
	released []released        // those to deliver again, the first to be released first
	leased   map[string]*lease // by receipt
	ends     leases            // the same leases, the first to end at the top
	receipts uint64
	changed  chan struct{} // closed, and made anew, when a Pull that waits must look again
}

// lease is a delivery that is neither acknowledged nor released.
type lease struct {
	sequence uint64
	receipt  string
	ends     time.Time
	index    int // its place in the heap
}

// released is a message whose lease has ended.
type released struct {
	sequence uint64
	at       time.Time
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

// Pull leases up to limit messages, at most broker.MaxPull, and fewer when they are large. It waits half a second for a
// first one, and returns none when none comes.
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

// take leases up to limit messages at the time now. When there are none it returns what to wait for: a channel that is
// closed when something changes, and the time until the next lease ends.
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

// read returns up to limit messages and their sequence numbers, and takes them off what is to be delivered. A message that
// was released comes after all that were published before: what a consumer cannot settle does not hold up the rest.
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
				if value := bucket.Get(key); value != nil { // an acknowledgement that failed may have been kept
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
		s.released = nil // let go of the array
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

// published makes every Pull that waits look for what was published.
func (s *Subscription) published() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.drained = false
	s.wake()
}

// wake makes every Pull that waits look again.
func (s *Subscription) wake() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// Acknowledge removes the messages of deliveries, and returns nil when that is on the disk. Receipts whose messages have
// been delivered again are passed over. After an error the messages are delivered again.
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

// Extend lets the leases end after d from now, at most broker.MaxExtension; zero ends them at once. Receipts whose
// messages have been delivered again are passed over.
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

// Check returns nil when messages can be pulled and acknowledged, and else why not.
func (s *Subscription) Check(ctx context.Context) error {
	if err := s.database.Check(ctx); err != nil {
		return fmt.Errorf("check the broker: %w", err)
	}
	return nil
}

// Describe returns the ack deadline that Subscribe was given, and how long messages are kept: Pub/Sub's week, and as much
// longer as the oldest one that waits is old. The process may have been stopped for years.
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

// Held counts the messages that are not acknowledged yet, leased or not.
func (s *Subscription) Held(ctx context.Context) (int, error) {
	n := 0
	err := s.database.View(ctx, func(tx *bolt.Tx) error {
		n = held(tx.Bucket(counts), s.name)
		return nil
	})
	return n, err
}
