package aggregator

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/accrue/accrue/aggregator/internal/partition"
	"github.com/accrue/accrue/pkg/broker"
	"github.com/accrue/accrue/pkg/broker/brokertest"
	"github.com/accrue/accrue/pkg/checkpoint"
	"github.com/accrue/accrue/pkg/database/databasetest"
	"github.com/accrue/accrue/pkg/faults"
	"github.com/accrue/accrue/pkg/message"
	"github.com/accrue/accrue/pkg/store"
)

// latencies are what requests take in the tests of liveness, about as long as in the cloud.
var latencies = map[string]time.Duration{
	"Pull": 5 * time.Millisecond, "Acknowledge": 20 * time.Millisecond, "Extend": 20 * time.Millisecond,
	"Publish": 10 * time.Millisecond, "Load": 20 * time.Millisecond, "Keys": 20 * time.Millisecond, "Commit": 50 * time.Millisecond,
}

// distant is a rule that delays requests by their latency, unless rule has a fault for them. A nil rule has none.
func distant(rule faults.Rule) faults.Rule {
	return func(call faults.Call) faults.Fault {
		if rule != nil {
			if fault := rule(call); fault != nil {
				return fault
			}
		}
		return faults.Delay(latencies[call.Method])
	}
}

// startFar runs a pipeline that has the limits of the cloud and the latencies of a network, and that follows rule, between
// itself and a subscription.
func (r *rig) startFar(t *testing.T, subscription brokertest.Subscription, rule faults.Rule) *far {
	t.Helper()
	f := faults.New(distant(rule))
	ages := &ages{Ledger: f.Store(r.store)}
	run := r.startWith(t, Parts{Source: f.Subscription(subscription), Ledger: ages, DeadLetters: f.Topic(r.dead)})
	return &far{running: run, faults: f, ages: ages}
}

// far is a pipeline with faults.
type far struct {
	*running
	faults *faults.Faults
	ages   *ages
}

// ages is a ledger that notes how old the oldest message of a Commit was when the Commit was in, by partition, and counts
// conflicts.
type ages struct {
	partition.Ledger
	mu        sync.Mutex
	oldest    map[uint32]time.Duration
	conflicts int
}

func (l *ages) Commit(ctx context.Context, c store.Commit) (store.Revision, error) {
	revision, err := l.Ledger.Commit(ctx, c)
	l.mu.Lock()
	defer l.mu.Unlock()
	if errors.Is(err, store.ErrConflict) {
		l.conflicts++
	}
	if err == nil && !c.AcceptedAt.IsZero() {
		if l.oldest == nil {
			l.oldest = make(map[uint32]time.Duration)
		}
		l.oldest[c.Partition] = max(l.oldest[c.Partition], time.Since(c.AcceptedAt))
	}
	return revision, err
}

// of returns the age of a partition's oldest increment, and whether any was committed.
func (l *ages) of(partition uint32) (oldest time.Duration, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	oldest, ok = l.oldest[partition]
	return oldest, ok
}

// publishAll publishes messages that have no increments in r.want.
func (r *rig) publishAll(t *testing.T, batches []*message.Batch) {
	t.Helper()
	messages := make([]broker.Message, len(batches))
	for i, b := range batches {
		messages[i] = broker.Message{Data: encode(b), Attributes: message.ShardAttributes(b.Partition)}
	}
	for begin := 0; begin < len(messages); begin += 1000 {
		if err := r.topic.Publish(t.Context(), messages[begin:min(begin+1000, len(messages))]); err != nil {
			t.Fatal(err)
		}
	}
}

// single is a message with one increment.
func single(partition uint32, sequence int, tag string) *message.Batch {
	return &message.Batch{
		Publisher: message.Publisher{1}, Partition: partition, Sequence: uint64(sequence), AcceptedAt: time.Now(),
		Increments: []message.Increment{{Tag: tag, Value: 1}},
	}
}

// awaitDrained waits until every message is settled, and returns how long that took.
func (r *rig) awaitDrained(t *testing.T, within time.Duration) time.Duration {
	t.Helper()
	began := time.Now()
	for databasetest.Held(t, r.subscription) > 0 {
		if time.Since(began) > within {
			t.Fatalf("%d messages are not settled after %v", databasetest.Held(t, r.subscription), within)
		}
		time.Sleep(100 * time.Millisecond)
	}
	return time.Since(began)
}

// inBubble runs a subtest in a bubble of its own.
func inBubble(t *testing.T, name string, f func(*testing.T)) {
	t.Run(name, func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, f)
	})
}

// short reports whether the run is short, or has the race detector: races show in a part of the work, and make test repeats
// all of it without.
func short() bool { return testing.Short() || raced }

// heavy returns n, or a tenth of it in a short run.
func heavy(n int) int {
	if short() {
		return n / 10
	}
	return n
}

func TestAWindowOfManyCommitsIsCounted(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.config.CommitDocuments = 10
		tags := manyTags(800)
		for i := range 80 {
			r.publish(t, 1, tags[10*i:10*i+10]...)
		}
		run := r.startFar(t, r.subscription, nil)
		r.awaitDrained(t, 10*time.Second) // 80 Commits of 50 ms each
		run.stop(t)
		r.verify(t)
	})
}

// A backlog of single contributions by as many people, all of one partition, is drained as fast as its Commits go.
func TestABacklogOfContributorsIsCounted(t *testing.T) {
	t.Parallel()
	people := heavy(120_000)
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		backlog := make([]*message.Batch, people)
		for n := range backlog {
			backlog[n] = &message.Batch{
				Publisher: message.Publisher{1}, Partition: 1, Sequence: uint64(n + 1), AcceptedAt: time.Now(),
				Contributions: []message.Contribution{{Contributor: fmt.Sprintf("person-%07d", n)}},
			}
		}
		r.publishAll(t, backlog)
		run := r.startFar(t, r.subscription, nil)
		commits := time.Duration(people/r.config.CommitDocuments) * latencies["Commit"]
		if took := r.awaitDrained(t, time.Minute); took > 2*commits+3*time.Second {
			t.Errorf("%d contributions took %v, and their Commits %v", people, took, commits)
		}
		run.stop(t)
		if got := run.metric(t, "accrue_messages_pulled_total"); got > 1.01*float64(people) {
			t.Errorf("%d messages were delivered %v times", people, got)
		}
		contributors, _, err := r.store.Contributors(t.Context(), store.ByContributions, store.Contributor{}, 10)
		if err != nil || len(contributors) != 10 || contributors[0].Contributions != 1 {
			t.Errorf("contributors = %v, %v", contributors, err)
		}
	})
}

// A backlog is drained at the same rate whatever the window is.
func TestBacklogDrainsAtFullSpeed(t *testing.T) {
	t.Parallel()
	messages := heavy(300_000)
	const aim = 15_000 // messages per second, of which a Pull brings a hundred in 5 ms
	for _, window := range []time.Duration{50 * time.Millisecond, time.Second, 10 * time.Second, 20 * time.Second} {
		inBubble(t, "WINDOW="+window.String(), func(t *testing.T) {
			r := newRig(t)
			r.config.Window = window
			r.config.BufferBytes = 128 << 20
			backlog := make([]*message.Batch, messages)
			for n := range backlog {
				backlog[n] = single(uint32(n%16), n+1, "foo")
			}
			r.publishAll(t, backlog)
			r.want["foo"] = int64(messages)
			run := r.startFar(t, r.subscription, nil)
			began := time.Now()
			for run.metric(t, "accrue_messages_decoded_total") < float64(messages) && time.Since(began) < time.Hour {
				time.Sleep(50 * time.Millisecond)
			}
			if rate := float64(messages) / time.Since(began).Seconds(); rate < aim {
				t.Errorf("%.0f messages/s are taken at WINDOW=%v, want %d", rate, window, aim)
			}
			r.awaitDrained(t, window+5*time.Second)
			run.stop(t)
			r.verify(t)
		})
	}
}

// A backlog comes in no order, as Pub/Sub may deliver it. Its gaps are many more than a checkpoint has room for. Every
// message is counted, and none is dead-lettered or rejected.
func TestUnorderedBacklogIsCounted(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		messages := heavy(400_000)
		r := newRig(t)
		backlog := make([]*message.Batch, messages)
		for i, n := range rand.New(rand.NewPCG(1, 2)).Perm(messages) {
			tag := "foo"
			if n%200 == 0 { // 2,001 tags, a tenth of what a checkpoint holds
				tag = name(n / 200)
			}
			backlog[i] = single(1, n+1, tag)
			r.want[tag]++
		}
		r.publishAll(t, backlog)
		run := r.startFar(t, r.subscription, nil)
		took := r.awaitDrained(t, time.Hour)
		t.Logf("%d messages in no order took %v, %v were delivered, %v released", messages, took,
			run.metric(t, "accrue_messages_pulled_total"), run.metric(t, "accrue_messages_released_total"))
		run.stop(t)
		r.verify(t)
		if letters, entries := deadLetters(t, r), rejected(t, r); len(letters) > 0 || len(entries) > 0 {
			t.Errorf("%d dead letters and %d rejected entries", len(letters), len(entries))
		}
	})
}

// A partition that is full of tags, and of gaps in the sequences of a publisher, goes on counting the tags that it knows
// while producers send new ones all the time.
func TestAFullPartitionGoesOnCountingKnownTags(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		fillCheckpoint(t, r, 1)
		state, err := r.store.Load(t.Context(), 1)
		if err != nil {
			t.Fatal(err)
		}
		gaps := make(checkpoint.Intervals, 50_000)
		for i := range gaps {
			gaps[i] = checkpoint.Interval{First: uint64(2*i + 1), Last: uint64(2*i + 1)}
		}
		next := state.Checkpoint.Next(time.Now(), 8*24*time.Hour, nil, nil)
		next.Publishers[message.Publisher{1}] = checkpoint.Counted{Sequences: gaps, LastSeen: time.Now()}
		commit := store.Commit{Partition: 1, Revision: state.Revision, Next: next}
		if err := commit.CheckLimits(); err != nil {
			t.Fatal(err) // no aggregator could have written it
		}
		if _, err := r.store.Commit(t.Context(), commit); err != nil {
			t.Fatal(err)
		}
		r.sequences[1] = 2*uint64(len(gaps)) - 1
		run := r.startFar(t, r.subscription, nil)
		for range 200 {
			r.publish(t, 1, "aaaaaaa")
			r.publish(t, 1, "brand_new")
			delete(r.want, "brand_new")
			time.Sleep(100 * time.Millisecond)
		}
		r.awaitDrained(t, 5*time.Second)
		time.Sleep(2 * time.Hour)
		r.publish(t, 1, "aaaaaaa")
		r.awaitDrained(t, 5*time.Second)
		run.stop(t)
		r.verify(t)
		if entries := rejected(t, r); len(entries) != 200 {
			t.Errorf("%d entries are rejected, want 200", len(entries))
		}
		if oldest, _ := run.ages.of(1); oldest > 2*r.config.Window {
			t.Errorf("an increment was %v old when it was in", oldest)
		}
	})
}

// A checkpoint that holds many gaps takes fewer tags, so that it stays below the size that Firestore takes, also when the
// ages of its tags take more bytes.
func TestManyGapsLeaveLessRoomForTags(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		gaps := make(checkpoint.Intervals, 260_000)
		for i := range gaps {
			gaps[i] = checkpoint.Interval{First: uint64(2*i + 2), Last: uint64(2*i + 2)}
		}
		random := rand.New(rand.NewPCG(1, 2))
		var state store.State
		for state.Checkpoint.TotalsSize() < 480<<10 {
			names := make(map[string]bool)
			for len(names) < 250 {
				letters := make([]byte, 15)
				for i := range letters {
					letters[i] = byte('a' + random.IntN(26))
				}
				names[string(letters)] = true
			}
			var tags []checkpoint.Delta
			for _, name := range slices.Sorted(maps.Keys(names)) {
				tags = append(tags, checkpoint.Delta{Name: name, Value: 1 << 34, Increments: 1 << 48}) // as large as they get
			}
			next := state.Checkpoint.Next(time.Now(), time.Hour, nil, tags)
			next.Publishers[message.Publisher{2}] = checkpoint.Counted{Sequences: gaps, LastSeen: time.Now()}
			revision, err := r.store.Commit(t.Context(), store.Commit{Partition: 1, Revision: state.Revision, Next: next})
			if err != nil {
				t.Fatal(err)
			}
			state = store.State{Checkpoint: next, Revision: revision}
		}
		run := r.startFar(t, r.subscription, nil)
		r.publish(t, 1, "aaaaaaa")
		for n := range 25 {
			r.publish(t, 1, manyTags(1000 * (n + 1))[1000*n:]...)
		}
		r.awaitDrained(t, 20*time.Second)
		time.Sleep(2 * time.Hour)
		r.publish(t, 1, "aaaaaaa")
		r.awaitDrained(t, 5*time.Second)
		run.stop(t)
		tags, err := r.store.Tags(t.Context()) // those that were added
		if err != nil || tags[0].Name != "aaaaaaa" || tags[0].Total != 3 {
			t.Fatalf("%d tags, the first is %v, %v, want a total of 3", len(tags), tags[0], err)
		}
		entries := rejected(t, r)
		if sum := len(tags) + len(entries); len(entries) == 0 || sum != 25_000 {
			t.Errorf("%d tags and %d rejected entries, want 25,000", len(tags), len(entries))
		}
	})
}
