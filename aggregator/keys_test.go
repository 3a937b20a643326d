package aggregator

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/accrue/accrue/aggregator/internal/idempotency"
	"github.com/accrue/accrue/aggregator/internal/partition"
	"github.com/accrue/accrue/pkg/database/databasetest"
	"github.com/accrue/accrue/pkg/increment"
	"github.com/accrue/accrue/pkg/message"
	"github.com/accrue/accrue/pkg/store"
)

// producer publishes as an instance of ingest does that divides entries among a number of partitions.
type producer struct {
	rig        *rig
	partitions uint32
	publisher  message.Publisher
	sequences  map[uint32]uint64
}

func (r *rig) producer(partitions uint32) *producer {
	return &producer{r, partitions, message.NewPublisher(), make(map[uint32]uint64)}
}

// post publishes increments that were accepted at a time, in messages of at most so many.
func (p *producer) post(t *testing.T, at time.Time, most int, increments ...message.Increment) {
	t.Helper()
	parts := make(map[uint32][]message.Increment)
	for _, inc := range increments {
		n := increment.Partition(inc.Tag, p.partitions)
		parts[n] = append(parts[n], inc)
	}
	for n, part := range parts {
		for len(part) > 0 {
			size := min(most, len(part))
			p.sequences[n]++
			b := &message.Batch{
				Publisher: p.publisher, Partition: n, Partitions: p.partitions, Sequence: p.sequences[n], AcceptedAt: at, Increments: part[:size],
			}
			part = part[size:]
			data, err := b.Encode()
			if err != nil {
				t.Fatal(err)
			}
			p.rig.publishRaw(t, data)
		}
	}
}

// keyed is an increment of 1 with a key of its own.
func keyed(tag, key string) message.Increment {
	return message.Increment{Tag: tag, Value: 1, Key: message.KeyOf(key)}
}

// A retry that was accepted ten minutes after its first attempt is delivered to an aggregator that has counted something newer
// before, as a backlog may.
func TestARetryThatComesAfterNewerMessagesIsCountedOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		p, begun := r.producer(1), time.Now()
		run := r.start(t, r.subscription, r.store)
		p.post(t, begun, 1, keyed("foo", "order-1"))
		time.Sleep(5 * time.Minute)
		p.post(t, time.Now(), 1, keyed("zoo", "order-2"))
		time.Sleep(2 * time.Second)
		run.stop(t)
		time.Sleep(30 * time.Minute)
		run = r.start(t, r.subscription, r.store)
		p.post(t, time.Now(), 1, keyed("zoo", "order-3"))
		time.Sleep(2 * time.Second)
		p.post(t, begun.Add(10*time.Minute), 1, keyed("foo", "order-1"))
		time.Sleep(2 * time.Second)
		run.stop(t)
		r.want["foo"], r.want["zoo"] = 1, 2
		r.verify(t)
	})
}

// PARTITIONS changes between a post and its retry, and back, also to numbers that are no multiples.
func TestARetryAcrossAChangeOfPartitionsIsCountedOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		var all []message.Increment
		for i := range 50 {
			all = append(all, keyed(name(i), fmt.Sprint(i)))
			r.want[name(i)] = 1
		}
		var run *running
		for i, partitions := range []uint32{16, 64, 24, 16, 1} {
			if i == 0 || i == 2 { // a deployment
				if run != nil {
					run.stop(t)
				}
				run = r.start(t, r.subscription, r.store)
			}
			r.producer(partitions).post(t, time.Now(), 10, all...)
			time.Sleep(2 * time.Second)
		}
		run.stop(t)
		r.verify(t)
	})
}

// Once a number of partitions has not been used for a horizon and the time that its use is noted for, nothing relies on its
// partitions any more.
func TestOtherPartitionsAreForgottenAfterTheHorizon(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		ledger := &relyingLedger{Ledger: r.store}
		run := r.start(t, r.subscription, ledger)
		r.producer(16).post(t, time.Now(), 10, keyed("foo", "first"))
		p := r.producer(64)
		for i := range 20 {
			time.Sleep(10 * time.Minute)
			ledger.related.Store(0)
			p.post(t, time.Now(), 10, keyed("foo", fmt.Sprint(i)))
			time.Sleep(2 * time.Second)
			since := time.Duration(i+1) * 10 * time.Minute
			if relies := ledger.related.Load() > 0; relies != (since < r.config.Horizon+2*time.Hour+time.Minute) {
				t.Errorf("after %v: relies on other partitions: %v", since, relies)
			}
		}
		run.stop(t)
		r.want["foo"] = 21
		r.verify(t)
	})
}

// Batches are posted repeatedly and concurrently, through instances of ingest that differ in PARTITIONS and split them into
// different messages, while aggregators start and stop and requests and replies are lost. Each item counts once.
func TestEachItemOfABatchIsCountedOnceThroughFaults(t *testing.T) {
	t.Parallel()
	for range heavy(10) {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t)
			var runs []*running
			begin := func() *running {
				return r.start(t, &chaoticSource{Subscription: r.subscription}, &chaoticLedger{r.store})
			}
			for range 3 {
				runs = append(runs, begin())
			}
			producers := []*producer{r.producer(2), r.producer(3), r.producer(8)}
			for n := range 20 {
				key := message.KeyOfBatch(fmt.Sprint(n))
				all := make([]message.Increment, 1+rand.N(40))
				for i := range all {
					all[i] = message.Increment{Tag: "tag_" + string(rune('a'+rand.N(26))), Value: 1, Key: key}
					r.want[all[i].Tag]++
					key = key.Next()
				}
				for range 1 + rand.N(4) {
					producers[rand.N(len(producers))].post(t, time.Now(), 1+rand.N(20), all...)
					time.Sleep(rand.N(500 * time.Millisecond))
				}
				if n%3 == 0 {
					i := rand.N(len(runs))
					runs[i].stop(t)
					runs[i] = begin()
				}
			}
			for databasetest.Held(t, r.subscription) > 0 {
				time.Sleep(AckDeadline)
			}
			for _, one := range runs {
				one.stop(t)
			}
			time.Sleep(time.Second)
			r.verify(t)
		})
	}
}

// After a day with a Commit a second that has keys, an aggregator that starts counts within seconds, and knows all of them.
func TestAnAggregatorStartsAgainAfterADayOfKeys(t *testing.T) {
	t.Parallel()
	if short() {
		t.Skip("makes 86,400 commits")
	}
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.config.Horizon = 24 * time.Hour
		const commits = 86_400
		index := idempotency.New(0, r.config.Horizon, idempotency.NewBudget(2*commits))
		var state store.State
		begun := time.Now()
		for n := range commits {
			next := state.Checkpoint.Next(time.Now(), 8*24*time.Hour, nil, nil)
			claim := index.Claim()
			claim.Begin(time.Now(), 1)
			inc := keyed("foo", fmt.Sprint(n))
			claim.Increment(&inc)
			commit := store.Commit{Revision: state.Revision, Next: next, Keys: claim.Ranges, KeepKeys: 25 * time.Hour, Fold: index.Fold()}
			revision, err := r.store.Commit(t.Context(), commit)
			if err != nil {
				t.Fatal(err)
			}
			if commit.Fold != nil {
				index.Folded(commit.Fold)
			}
			index.Confirm(claim, store.KeysPosition{At: next.UpdatedAt, Commit: next.Commit})
			state = store.State{Checkpoint: next, Revision: revision}
			time.Sleep(time.Second)
		}
		p, ledger := r.producer(1), &slowLedger{Ledger: r.store}
		run := r.start(t, r.subscription, ledger)
		r.want["foo"] = 1
		// Keys from the beginning, the middle and the end repeat; one is new.
		p.post(t, begun.Add(24*time.Hour), 10, keyed("foo", "new"), keyed("foo", "1"), keyed("foo", "300"), keyed("foo", "43000"), keyed("foo", fmt.Sprint(commits-1)))
		time.Sleep(10 * time.Second)
		r.verify(t)
		if repeated := run.metric(t, "accrue_keys_repeated_total"); repeated != 4 {
			t.Errorf("%v keys repeated, want 4", repeated)
		}
		t.Logf("read %d documents of keys", ledger.documents.Load())
		run.stop(t)
	})
}

// An aggregator that starts learns all keys, whether or not they are folded, and whichever process folded them.
func TestFoldedKeysAreKnown(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.config.Horizon = 24 * time.Hour
		p := r.producer(1)
		const posts = 1500
		runs := []*running{r.start(t, r.subscription, r.store), r.start(t, r.subscription, r.store)}
		for n := range posts {
			p.post(t, time.Now(), 10, keyed("foo", fmt.Sprint(n)))
			time.Sleep(1100 * time.Millisecond)
			if n%200 == 199 {
				i := n / 200 % len(runs)
				runs[i].stop(t)
				runs[i] = r.start(t, r.subscription, r.store)
			}
		}
		for _, run := range runs {
			run.stop(t)
		}
		if folds, err := r.store.Folds(t.Context(), 0, store.KeysPosition{}, 100); err != nil || len(folds) < 3 {
			t.Errorf("%d folds, %v, want some", len(folds), err)
		}
		run := r.start(t, r.subscription, r.store)
		for n := range posts {
			p.post(t, time.Now(), 10, keyed("foo", fmt.Sprint(n)))
		}
		time.Sleep(10 * time.Second)
		run.stop(t)
		r.want["foo"] = posts
		r.verify(t)
	})
}

// slowLedger answers requests for keys as slowly as the emulator does.
type slowLedger struct {
	partition.Ledger
	documents atomic.Int64
}

func (l *slowLedger) wait(ctx context.Context, documents int, each time.Duration) error {
	l.documents.Add(int64(documents))
	select {
	case <-time.After(20*time.Millisecond + time.Duration(documents)*each):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (l *slowLedger) Keys(ctx context.Context, partition uint32, after store.KeysPosition, limit int) ([]store.CommitKeys, error) {
	page, err := l.Ledger.Keys(ctx, partition, after, limit)
	return page, errors.Join(err, l.wait(ctx, len(page), 300*time.Microsecond))
}

func (l *slowLedger) Folds(ctx context.Context, partition uint32, after store.KeysPosition, limit int) ([]store.Fold, error) {
	folds, err := l.Ledger.Folds(ctx, partition, after, limit)
	return folds, errors.Join(err, l.wait(ctx, len(folds), 5*time.Millisecond))
}

// relyingLedger counts the partitions that Commits rely on.
type relyingLedger struct {
	partition.Ledger
	related atomic.Int64
}

func (l *relyingLedger) Commit(ctx context.Context, commit store.Commit) (store.Revision, error) {
	l.related.Add(int64(len(commit.Related)))
	return l.Ledger.Commit(ctx, commit)
}
