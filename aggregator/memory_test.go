package aggregator

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/accrue/accrue/aggregator/internal/partition"
	"github.com/accrue/accrue/pkg/broker"
	"github.com/accrue/accrue/pkg/message"
	"github.com/accrue/accrue/pkg/store"
)

// Whatever messages come while nothing can be committed, the live heap stays within 1.3 times BUFFER_BYTES and a
// constant, and the buffer is used.
func TestBufferBoundsMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("fills a buffer a dozen times")
	}
	const limit, constant = 8 << 20, 2 << 20
	increments := func(n int, key message.Key) *message.Batch {
		b := &message.Batch{}
		for i := range n {
			b.Increments = append(b.Increments, message.Increment{Tag: name(i), Value: 1, Key: key})
		}
		return b
	}
	contributions := func(n int) *message.Batch {
		b := &message.Batch{}
		for i := range n {
			b.Contributions = append(b.Contributions, message.Contribution{Contributor: fmt.Sprintf("%08x-0000-4000-8000-%012x", i, i), Key: message.KeyOf(fmt.Sprint(i))})
		}
		return b
	}
	for what, source := range map[string]*endless{
		"increments, short receipts":       {batch: increments(1, message.Key{}), receipt: 60},
		"increments, receipts of Pub/Sub":  {batch: increments(1, message.Key{}), receipt: 180},
		"increments with keys":             {batch: increments(1, message.KeyOf("order")), receipt: 180},
		"batches":                          {batch: increments(60, message.KeyOf("order")), receipt: 180},
		"large batches":                    {batch: increments(1000, message.Key{}), receipt: 180},
		"batches of contributions":         {batch: contributions(500), receipt: 180},
		"small ones, then large ones":      {batch: increments(1, message.Key{}), then: contributions(1000), receipt: 180},
		"garbage, with attributes":         {garbage: make([]byte, 100), receipt: 180},
		"large garbage":                    {garbage: make([]byte, 100_000), receipt: 180},
		"acknowledgements that hang":       {batch: increments(1, message.Key{}), receipt: 180, settled: true},
		"increments from many partitions":  {batch: increments(1, message.Key{}), receipt: 180, partitions: 1024},
		"all at once in full Pulls of one": {batch: increments(5, message.Key{}), receipt: 180, partitions: 1},
	} {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t)
				r.config.BufferBytes = limit
				r.config.Window = 20 * time.Second
				var ledger partition.Ledger = &stallingLedger{r.store, make(chan struct{})}
				if source.settled {
					ledger, r.config.Window = anything{}, 50*time.Millisecond
				}
				before := heap()
				run := r.startWith(t, Parts{
					Source: described{source, broker.SubscriptionInfo{AckDeadline: AckDeadline, Retention: time.Hour}}, Ledger: ledger,
					DeadLetters: hangingTopic{},
				})
				time.Sleep(6 * time.Second) // until the buffer is full
				if source.settled {         // what is settled goes on, and the queue of acknowledgements is full
					time.Sleep(15 * time.Second)
					given := source.given.Load()
					if time.Sleep(5 * time.Second); source.given.Load() < given+10_000 {
						t.Errorf("%d messages are pulled in 5 s while acknowledgements hang", source.given.Load()-given)
					}
				}
				held, grown := run.metric(t, "accrue_held_bytes"), heap()-before
				t.Logf("%d messages, %.1f MB held, the heap grew by %.1f MB", source.given.Load(), held/1e6, float64(grown)/1e6)
				if grown > limit*13/10+constant {
					t.Errorf("the heap grew by %d bytes with BUFFER_BYTES=%d", grown, limit)
				}
				if source.garbage == nil && !source.settled && held < 0.9*limit {
					t.Errorf("%v bytes are held with BUFFER_BYTES=%d", held, limit)
				}
				run.cancel()
				run.done <- <-run.done
				runtime.KeepAlive(r)
			})
		})
	}
}

// heap returns the bytes that are live.
func heap() int64 {
	runtime.GC()
	runtime.GC() // what was in pools goes with the second
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// endless brings messages without end, and its requests other than Pull hang.
type endless struct {
	batch      *message.Batch
	then       *message.Batch // after some thousand
	garbage    []byte
	partitions int
	receipt    int
	settled    bool
	given      atomic.Int64
}

func (s *endless) Pull(ctx context.Context, limit int) ([]broker.Delivery, error) {
	select {
	case <-time.After(20 * time.Millisecond):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	all := make([]broker.Delivery, limit)
	for i := range all {
		n := s.given.Add(1)
		all[i].Receipt = fmt.Sprintf("%s%08d", strings.Repeat("x", s.receipt-8), n)
		if s.garbage != nil {
			all[i].Data = append([]byte(nil), s.garbage...)
			all[i].Attributes = message.ShardAttributes(0)
			continue
		}
		partitions := int64(max(s.partitions, 16))
		b := *s.batch
		if s.then != nil && n > 3000 {
			b = *s.then
		}
		b.Publisher, b.Partition, b.Sequence, b.AcceptedAt = message.Publisher{1}, uint32(n%partitions), uint64(n), time.Now()
		all[i].Data, all[i].Attributes = encode(&b), message.ShardAttributes(b.Partition)
	}
	return all, nil
}

func (s *endless) Acknowledge(ctx context.Context, _ []string) error { return hang(ctx) }

func (s *endless) Extend(ctx context.Context, _ []string, _ time.Duration) error { return hang(ctx) }

func hang(ctx context.Context) error {
	<-ctx.Done()
	return ctx.Err()
}

// anything is a ledger without keys that takes every Commit, keeps none, and owes nothing.
type anything struct{ partition.Ledger }

func (anything) Load(context.Context, uint32) (store.State, error) { return store.State{}, nil }

func (anything) Commit(context.Context, store.Commit) (store.Revision, error) {
	return store.Revision{}, nil
}

func (anything) Owing(context.Context) ([]store.Owing, time.Time, error) {
	return nil, time.Now(), nil
}

// hangingTopic answers nothing.
type hangingTopic struct{}

func (hangingTopic) Publish(ctx context.Context, _ []broker.Message) error { return hang(ctx) }
