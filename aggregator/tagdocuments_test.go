package aggregator

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/accrue/accrue/aggregator/internal/partition"
	"github.com/accrue/accrue/pkg/broker"
	"github.com/accrue/accrue/pkg/checkpoint"
	"github.com/accrue/accrue/pkg/database/databasetest"
	"github.com/accrue/accrue/pkg/store"
)

// documents returns the totals in the documents of tags.
func (r *rig) documents(t *testing.T) map[string]int64 {
	t.Helper()
	got := make(map[string]int64)
	tags, err := r.store.Tags(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, tag := range tags {
		got[tag.Name] = tag.Total
	}
	return got
}

// owed returns what the checkpoints owe the documents of tags, by tag.
func (r *rig) owed(t *testing.T) map[string]int64 {
	t.Helper()
	owed := make(map[string]int64)
	partitions, _, err := r.store.Totals(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range partitions {
		state, err := r.store.Load(t.Context(), p.Partition)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range state.Checkpoint.Owed {
			owed[d.Name] += d.Value
		}
	}
	return owed
}

// verifyOwed compares the totals, and the documents with what they are owed, with what was published.
func (r *rig) verifyOwed(t *testing.T) {
	t.Helper()
	sums := r.owed(t)
	for name, total := range r.documents(t) {
		sums[name] += total
	}
	if diff := difference(sums, r.want); diff != "" {
		t.Errorf("documents and what they are owed differ from what was published: %s", diff)
	}
}

// Committers with all settings come and go on one subscription, through the faults of TestEachMessageCountsOnceThroughFaults, while PARTITIONS
// changes. Documents and what they are owed add up to what was published, and in the end nothing is owed, also by partitions that no message comes for any
// more. Taken out, one at a time, each guard makes this fail: without Pay in a payment, without Owe in a Commit, without the
// precondition, without the first sweep.
func TestTagDocumentsAreExactInEveryMode(t *testing.T) {
	t.Parallel()
	for range heavy(30) {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t)
			settings := []time.Duration{0, time.Second, 3 * time.Second, time.Minute, partition.Off}
			next := func() *running {
				r.config.TagDocuments = TagDocuments(settings[rand.N(len(settings))])
				r.config.CommitDocuments = 1 + rand.N(8)
				return r.start(t, &chaoticSource{Subscription: r.subscription}, &chaoticLedger{r.store})
			}
			stops := []*running{next(), next()}
			for n := range 200 {
				var tags []string
				for range 1 + rand.N(5) {
					tags = append(tags, "tag_"+string(rune('a'+rand.N(12))))
				}
				r.publish(t, rand.N(uint32(1+n/20)), tags...)
				time.Sleep(rand.N(300 * time.Millisecond))
				if n%20 == 0 {
					i := rand.N(len(stops))
					stops[i].stop(t)
					stops[i] = next()
				}
			}
			for databasetest.Held(t, r.subscription) > 0 {
				time.Sleep(AckDeadline)
			}
			for _, one := range stops {
				one.stop(t)
			}
			time.Sleep(time.Second) // Commits that were given up on come in
			r.verifyOwed(t)
			r.config.TagDocuments = TagDocuments(rand.N(2) * int(2*time.Second))
			last := r.start(t, r.subscription, &chaoticLedger{r.store})
			for waited := time.Duration(0); len(r.owed(t)) > 0; waited += time.Second {
				if waited > 10*time.Minute {
					t.Fatalf("still owed: %v", r.owed(t))
				}
				time.Sleep(time.Second)
			}
			last.stop(t)
			r.verify(t)
		})
	}
}

// An idle partition's documents are written once the setting's time is over, by the process that counted, or by the next one
// if that was killed. No document is written before.
func TestDocumentsOfAnIdlePartitionAreWrittenInTime(t *testing.T) {
	t.Parallel()
	for name, killed := range map[string]bool{"by the same process": false, "by the next process": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t)
				r.config.TagDocuments = TagDocuments(30 * time.Second)
				run := r.start(t, r.subscription, r.store)
				r.publish(t, 1, "foo", "bar")
				r.publish(t, 2, "foo")
				time.Sleep(5 * time.Second)
				if documents, owed := r.documents(t), r.owed(t); len(documents) != 0 || owed["foo"] != 2 || owed["bar"] != 1 {
					t.Errorf("documents have %v and are owed %v after 5 s, want nothing, and 2 of foo and 1 of bar", documents, owed)
				}
				late := 30 * time.Second
				if killed {
					run.stop(t)
					run = r.start(t, r.subscription, r.store)
					late += 10 * time.Second // it leaves the one before it time to do so
				}
				time.Sleep(late)
				r.verify(t)
				if owed := r.owed(t); len(owed) > 0 {
					t.Errorf("still owed: %v", owed)
				}
				run.stop(t)
			})
		})
	}
}

// closableSource is a subscription that brings nothing once it is closed.
type closableSource struct {
	source
	closed atomic.Bool
}

func (c *closableSource) Pull(ctx context.Context, limit int) ([]broker.Delivery, error) {
	if c.closed.Load() {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(time.Second):
			return nil, nil
		}
	}
	return c.source.Pull(ctx, limit)
}

// What an aggregator owed that is gone for good is paid by another one, also if that has counted in the partition before, and
// no message comes for it any more.
func TestWhatIsOwedByAnAggregatorThatIsGoneIsPaid(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.config.TagDocuments = TagDocuments(30 * time.Second)
		stays := &closableSource{source: r.subscription}
		first := r.start(t, stays, r.store)
		r.publish(t, 1, "foo")
		time.Sleep(40 * time.Second)
		r.verify(t)
		stays.closed.Store(true)
		time.Sleep(5 * time.Second)
		second := r.start(t, r.subscription, r.store)
		r.publish(t, 1, "foo", "bar")
		time.Sleep(5 * time.Second)
		second.stop(t)
		if owed := r.owed(t); owed["foo"] != 1 || owed["bar"] != 1 {
			t.Fatalf("owed are %v, want 1 of foo and 1 of bar", owed)
		}
		time.Sleep(6 * time.Minute) // a sweep every five
		if owed := r.owed(t); len(owed) > 0 {
			t.Errorf("still owed: %v", owed)
		}
		r.verify(t)
		first.stop(t)
	})
}

// With a duration the documents are written once for all windows within it, and with off never.
func TestTagDocumentsSaveWrites(t *testing.T) {
	t.Parallel()
	for setting, want := range map[time.Duration]int64{0: 100, 10 * time.Second: 10, partition.Off: 0} {
		t.Run(fmt.Sprint(setting), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t)
				r.config.TagDocuments = TagDocuments(setting)
				counting := &countingLedger{Ledger: r.store}
				run := r.start(t, r.subscription, counting)
				for range 100 { // a window each
					r.publish(t, 1, "foo", "foo", "foo")
					time.Sleep(1100 * time.Millisecond)
				}
				time.Sleep(15 * time.Second)
				if got := counting.documents.Load(); got > want || got < want*8/10 {
					t.Errorf("%d documents were written in 100 windows, want %d", got, want)
				}
				if got := counting.commits.Load(); got < 100 || got > 112 {
					t.Errorf("%d Commits of 100 windows", got)
				}
				run.stop(t)
				r.verifyOwed(t)
				if setting == partition.Off {
					r.config.TagDocuments = 0
					run := r.start(t, r.subscription, r.store)
					time.Sleep(time.Minute)
					run.stop(t)
				}
				r.verify(t)
			})
		})
	}
}

// What is owed is paid early where new tags need its room: none of them is rejected that has room without it, in any mode, and COMMIT_DOCUMENTS holds.
func TestWhatIsOwedMakesRoomForNewTags(t *testing.T) {
	t.Parallel()
	for name, setting := range map[string]time.Duration{"a duration": time.Hour, "off": partition.Off} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t)
				r.config.TagDocuments = TagDocuments(setting)
				counting := &countingLedger{Ledger: r.store}
				sized := &sizingLedger{Ledger: counting}
				run := r.start(t, r.subscription, sized)
				tags := manyTags(checkpoint.MaxTotals/checkpoint.TagSize("aaaaaaa") - 1)
				for len(tags) > 0 {
					n := min(500, len(tags))
					r.publish(t, 1, tags[:n]...)
					tags = tags[n:]
					time.Sleep(100 * time.Millisecond)
				}
				r.awaitDrained(t, time.Minute)
				run.stop(t)
				if entries := rejected(t, r); len(entries) > 0 {
					t.Errorf("%d entries are rejected", len(entries))
				}
				if size := sized.most.Load(); size > checkpoint.MaxTotals {
					t.Errorf("totals and what is owed may take %d bytes, over %d", size, checkpoint.MaxTotals)
				}
				if most := counting.most.Load(); most > int64(r.config.CommitDocuments) {
					t.Errorf("a Commit changed %d documents, over %d", most, r.config.CommitDocuments)
				}
				r.verifyOwed(t)
			})
		})
	}
}

// If the store refuses a document, the other documents are still written, and its tag is counted.
func TestARefusedDocumentIsOwedAlone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.config.TagDocuments = TagDocuments(10 * time.Second)
		run := r.start(t, r.subscription, &refusingLedger{r.store, "bad"})
		for range 50 {
			r.publish(t, 1, "aaa", "bad", "ccc", "ddd", "eee")
			time.Sleep(time.Second)
		}
		time.Sleep(20 * time.Second)
		if owed := r.owed(t); len(owed) != 1 || owed["bad"] != 50 {
			t.Errorf("owed: %v, want 50 of bad", owed)
		}
		run.stop(t)
		r.verifyOwed(t)
		run = r.start(t, r.subscription, r.store) // it takes the document now
		time.Sleep(30 * time.Second)
		run.stop(t)
		r.verify(t)
	})
}

// sizingLedger notes how large totals and what is owed can become.
type sizingLedger struct {
	partition.Ledger
	most atomic.Int64
}

func (l *sizingLedger) Commit(ctx context.Context, c store.Commit) (store.Revision, error) {
	l.most.Store(max(l.most.Load(), int64(c.Next.TotalsSize()+c.Next.OwedSize())))
	return l.Ledger.Commit(ctx, c)
}

// failingLedger fails every payment, and nothing else.
type failingLedger struct{ partition.Ledger }

func (l *failingLedger) Commit(ctx context.Context, c store.Commit) (store.Revision, error) {
	if len(c.Tags) > 0 {
		return store.Revision{}, errLost
	}
	return l.Ledger.Commit(ctx, c)
}

// Windows are committed in time while payments fail.
func TestPaymentsThatFailDelayNoWindow(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.config.TagDocuments = TagDocuments(2 * time.Second)
		run := r.start(t, r.subscription, &failingLedger{r.store})
		for range 60 {
			r.publish(t, 1, "foo")
			time.Sleep(time.Second)
		}
		time.Sleep(1500 * time.Millisecond)
		if held := databasetest.Held(t, r.subscription); held > 0 {
			t.Errorf("%d messages wait while payments fail", held)
		}
		run.stop(t)
		r.verifyOwed(t)
		if owed := r.owed(t)["foo"]; owed != 60 {
			t.Errorf("%d are owed, want 60", owed)
		}
	})
}
