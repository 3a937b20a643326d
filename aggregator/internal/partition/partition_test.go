package partition

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"github.com/accrue/accrue/aggregator/internal/delivery"
	"github.com/accrue/accrue/pkg/broker"
	"github.com/accrue/accrue/pkg/checkpoint"
	"github.com/accrue/accrue/pkg/message"
	"github.com/accrue/accrue/pkg/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// ledger keeps the checkpoints of partitions. What fails is decided by fail, which may be nil.
type ledger struct {
	Ledger
	fail func(ctx context.Context, commit store.Commit) error

	mu      sync.Mutex
	states  map[uint32]store.State
	commits []store.Commit
	short   int64
}

func (l *ledger) Load(_ context.Context, partition uint32) (store.State, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	state := l.states[partition]
	state.ReadAt = time.Now()
	return state, nil
}

func (l *ledger) Owing(context.Context) ([]store.Owing, time.Time, error) {
	return nil, time.Now(), nil
}

func (l *ledger) Commit(ctx context.Context, commit store.Commit) (store.Revision, error) {
	if l.fail != nil {
		if err := l.fail(ctx, commit); err != nil {
			return store.Revision{}, err
		}
	}
	if err := commit.CheckLimits(); err != nil {
		return store.Revision{}, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.states == nil {
		l.states = make(map[uint32]store.State)
	}
	if l.states[commit.Partition].Revision != commit.Revision {
		return store.Revision{}, store.ErrConflict
	}
	revision := store.Revision{UpdateTime: time.Now().Add(time.Duration(commit.Next.Commit))}
	l.states[commit.Partition] = store.State{Checkpoint: commit.Next, Revision: revision}
	commit.Next.Totals = nil
	l.commits = append(l.commits, commit)
	return revision, nil
}

// TagsNamed returns documents as the checkpoints have them, less what short says.
func (l *ledger) TagsNamed(_ context.Context, names []string) (found []store.Tag, _ error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, state := range l.states {
		for _, total := range state.Checkpoint.Documented(names) {
			found = append(found, store.Tag{Name: total.Name, Total: total.Total - l.short, Increments: total.Increments})
		}
	}
	return found, nil
}

// settler collects what is settled and released.
type settler struct {
	mu                sync.Mutex
	settled, released []*delivery.Delivery
	pauses            []time.Duration
}

func (s *settler) Settled(some []*delivery.Delivery) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.settled = append(s.settled, some...)
}

func (s *settler) Release(some []*delivery.Delivery, pause time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.released = append(s.released, some...)
	s.pauses = append(s.pauses, pause)
}

func (s *settler) counts() (settled, released int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.settled), len(s.released)
}

// start runs Partitions until the test ends.
func start(t *testing.T, l *ledger, s *settler, bufferBytes int64) *Partitions {
	t.Helper()
	all, err := New(Settings{
		Window: time.Second, Documents: 1000, Commits: 256, BufferBytes: bufferBytes, Retention: func() time.Duration { return 24 * time.Hour },
		Horizon: time.Minute, Keys: 1000,
	}, l, s, Telemetry{}, zerolog.New(zerolog.NewTestWriter(t)))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- all.Run(ctx, ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return all
}

// messages returns deliveries of a partition, each with one increment.
func messages(t *testing.T, partition uint32, tag string, sequences ...uint64) (all []*delivery.Delivery) {
	t.Helper()
	for _, sequence := range sequences {
		var b message.Builder
		b.AddIncrement(tag, 1, message.Key{})
		d, err := delivery.Decode(&broker.Delivery{Message: broker.Message{Data: b.Encode(message.Publisher{1}, partition, sequence, time.Now())}})
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, d)
	}
	return all
}

// from returns n sequences from first.
func from(first uint64, n int) (all []uint64) {
	for i := range uint64(n) {
		all = append(all, first+i)
	}
	return all
}

func TestAWindowIsCutToItsBounds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l, s := &ledger{}, &settler{}
		all := start(t, l, s, 1<<30)
		all.Add(1, messages(t, 1, "foo", from(1, 25_000)...))
		time.Sleep(time.Second)
		synctest.Wait()
		var sizes []int64
		for _, commit := range l.commits {
			sizes = append(sizes, commit.Tags[0].Increments)
		}
		if !slices.Equal(sizes, []int64{maxMessages, maxMessages, 5000}) {
			t.Errorf("Commits of %v messages", sizes)
		}
	})
}

// A partition lags when it settles nothing for two seconds while others do, and not when nothing commits anywhere.
func TestAPartitionThatLagsYieldsAllButItsShare(t *testing.T) {
	t.Parallel()
	const buffer = 1 << 20
	sick := func(ctx context.Context, commit store.Commit) error {
		if commit.Partition == 1 {
			<-ctx.Done()
			return ctx.Err()
		}
		return nil
	}
	everything := func(ctx context.Context, _ store.Commit) error {
		<-ctx.Done()
		return ctx.Err()
	}
	for name, test := range map[string]struct {
		fail   func(context.Context, store.Commit) error
		after  time.Duration
		yields bool
	}{
		"others commit":              {sick, 5 * time.Second, true},
		"others commit, for a while": {sick, 1700 * time.Millisecond, false},
		"nothing commits":            {everything, 50 * time.Second, false},
		"everything commits":         {nil, 5 * time.Second, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				l, s := &ledger{fail: test.fail}, &settler{}
				all := start(t, l, s, buffer)
				began := time.Now()
				first := messages(t, 1, "foo", from(1, 2000)...) // about the buffer
				all.Add(1, first)
				for n := uint64(1); time.Since(began) < test.after; n++ {
					all.Add(2, messages(t, 2, "bar", n))
					all.Flush() // the buffer is full
					time.Sleep(250 * time.Millisecond)
				}
				_, released := s.counts()
				if (released > 0) != test.yields {
					t.Errorf("%d messages are released after %v", released, test.after)
				}
				if test.yields {
					var held int64
					for _, d := range first[:len(first)-released] {
						held += d.Cost
					}
					if held > buffer/laggingShare/2+first[0].Cost { // half of the half: there are two partitions
						t.Errorf("the partition holds %d bytes of %d", held, buffer)
					}
					if taken := all.Add(1, messages(t, 1, "foo", 5000)); taken != 0 {
						t.Error("a partition that lags and holds its share takes a message")
					}
					for _, pause := range s.pauses {
						if pause < minPause || pause > maxPause {
							t.Errorf("released for %v", pause)
						}
					}
				}
			})
		})
	}
}

// A partition that is slow, but commits, lags too, and one that has caught up does not any more.
func TestASlowPartitionLagsUntilItIsFast(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		slow := true
		l, s := &ledger{}, &settler{}
		l.fail = func(_ context.Context, commit store.Commit) error {
			l.mu.Lock()
			delay := slow && commit.Partition == 1
			l.mu.Unlock()
			if delay {
				time.Sleep(5 * time.Second)
			}
			return nil
		}
		all := start(t, l, s, 1<<20)
		sequence := uint64(0)
		run := func(d time.Duration) (refused int) {
			for range d / (250 * time.Millisecond) {
				sequence += 20
				refused += 20 - all.Add(1, messages(t, 1, "foo", from(sequence, 20)...))
				all.Add(2, messages(t, 2, "bar", sequence))
				all.Flush()
				time.Sleep(250 * time.Millisecond)
			}
			return refused
		}
		if refused := run(2 * time.Minute); refused == 0 {
			t.Error("a slow partition takes everything")
		}
		l.mu.Lock()
		slow = false
		l.mu.Unlock()
		run(30 * time.Second)
		if refused := run(time.Minute); refused > 0 {
			t.Errorf("a partition that has caught up refuses %d messages", refused)
		}
		if all.lagging.Load() != 0 {
			t.Errorf("%d partitions lag", all.lagging.Load())
		}
	})
}

// While no partition can commit and the buffer is full, each releases some messages from time to time, since the messages of a
// healthy partition may not have been pulled yet.
func TestSickPartitionsMakeRoomPeriodically(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := &ledger{fail: func(ctx context.Context, _ store.Commit) error {
			<-ctx.Done()
			return ctx.Err()
		}}
		s := &settler{}
		all := start(t, l, s, 1<<20)
		all.Add(1, messages(t, 1, "foo", from(1, 2000)...))
		for range 10 * time.Minute / fullEvery {
			all.Flush()
			time.Sleep(fullEvery)
		}
		_, released := s.counts()
		if released < 4*2000/probedPart*3/4 || released > 6*2000/probedPart {
			t.Errorf("%d of 2000 messages are released in ten minutes", released)
		}
	})
}

const fullEvery = 250 * time.Millisecond

// When a first Commit goes through after an outage, the others do not wait for their pauses to end.
func TestPartitionsRecoverTogether(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		outage := true
		l, s := &ledger{}, &settler{}
		l.fail = func(context.Context, store.Commit) error {
			l.mu.Lock()
			defer l.mu.Unlock()
			if outage {
				return context.DeadlineExceeded
			}
			return nil
		}
		all := start(t, l, s, 1<<20)
		const partitions = 64
		for p := range uint32(partitions) {
			all.Add(p, messages(t, p, "foo", 1))
		}
		time.Sleep(time.Minute)
		l.mu.Lock()
		outage = false
		l.mu.Unlock()
		for settled := 0; settled == 0; settled, _ = s.counts() {
			time.Sleep(time.Millisecond)
		}
		time.Sleep(100 * time.Millisecond)
		if settled, _ := s.counts(); settled != partitions {
			t.Errorf("%d of %d partitions have committed 100 ms after the first", settled, partitions)
		}
	})
}

// A Commit that times out is tried again with fewer messages.
func TestACommitThatTimesOutIsTriedWithFewerMessages(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l, s := &ledger{}, &settler{}
		l.fail = func(_ context.Context, commit store.Commit) error {
			if commit.Tags[0].Increments > 100 {
				return context.DeadlineExceeded
			}
			return nil
		}
		all := start(t, l, s, 1<<30)
		all.Add(1, messages(t, 1, "foo", from(1, 1000)...))
		time.Sleep(time.Minute)
		if settled, released := s.counts(); settled != 1000 || released > 0 {
			t.Errorf("%d messages settled, %d released, want 1000 and none", settled, released)
		}
	})
}

// name is the i-th name of a tag, in order.
func name(i int) string {
	return strings.Map(func(r rune) rune { return r - '0' + 'a' }, fmt.Sprintf("%07d", i))
}

// With more gaps than a checkpoint has room for, what joins intervals is committed first, and what only adds gaps is
// released until others have filled them. Nothing is rejected.
func TestGapsBeyondTheRoomWait(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l, s := &ledger{}, &settler{}
		var gaps checkpoint.Intervals
		next := checkpoint.Checkpoint{UpdatedAt: time.Now(), Publishers: make(map[message.Publisher]checkpoint.Counted)}
		for size := 0; size < checkpoint.MaxPublishers; size = next.PublishersSize() {
			for range 1000 {
				n := uint64(2*len(gaps) + 2)
				gaps = append(gaps, checkpoint.Interval{First: n, Last: n})
			}
			next.Publishers[message.Publisher{1}] = checkpoint.Counted{Sequences: gaps, LastSeen: time.Now()}
		}
		for next.TotalsSize() < next.TotalsRoom()-1000 { // and the totals leave nothing free
			for range 20 {
				next.Totals = append(next.Totals, checkpoint.Total{Name: name(len(next.Totals)), Total: 1 << 40, Increments: 1 << 40, UpdatedAt: next.UpdatedAt})
			}
		}
		l.states = map[uint32]store.State{1: {Checkpoint: next, Revision: store.Revision{UpdateTime: time.Now()}}}
		all := start(t, l, s, 1<<30)
		l.fail = func(context.Context, store.Commit) error { return nil }
		fills := []uint64{1, 3, 5, 7, 9}
		adds := from(uint64(10*len(gaps)), 1)
		all.Add(1, messages(t, 1, name(0), append(slices.Clone(adds), fills...)...))
		time.Sleep(5 * time.Second)
		settled, released := s.counts()
		if settled+released != 6 || settled < 5 {
			t.Errorf("%d messages are settled and %d released", settled, released)
		}
		for _, d := range s.released {
			if slices.Contains(fills, d.Identity().Sequence) {
				t.Errorf("a message that fills a gap is released")
			}
		}
	})
}
