package committer_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/accrue/accrue/aggregator/internal/committer"
	"github.com/accrue/accrue/pkg/broker"
	brokermemory "github.com/accrue/accrue/pkg/broker/memory"
	"github.com/accrue/accrue/pkg/checkpoint"
	"github.com/accrue/accrue/pkg/message"
	"github.com/accrue/accrue/pkg/store"
	"github.com/accrue/accrue/pkg/store/memory"
)

const ackDeadline = time.Minute

// rig is a committer with everything around it, in one process and, in a synctest bubble, with a stepped clock.
type rig struct {
	topic        *brokermemory.Topic
	subscription *brokermemory.Subscription
	dead         *brokermemory.Topic
	deadLetters  *brokermemory.Subscription
	store        *memory.Store
	settings     committer.Settings
	sequences    map[uint32]uint64
	want         map[string]int64
}

func newRig() *rig {
	r := &rig{
		topic: brokermemory.NewTopic(), dead: brokermemory.NewTopic(), store: memory.New(),
		settings: committer.Settings{
			Window: time.Second, Documents: 1000, BufferBytes: 1 << 20,
			AckDeadline: ackDeadline, Retention: 8 * 24 * time.Hour, Drain: 6 * time.Second,
			Horizon: 15 * time.Minute, Keys: 1 << 20,
		},
		sequences: make(map[uint32]uint64), want: make(map[string]int64),
	}
	r.subscription = r.topic.Subscribe(ackDeadline)
	r.deadLetters = r.dead.Subscribe(ackDeadline)
	return r
}

// start runs a committer on the rig and returns the function that stops it and waits for it.
func (r *rig) start(t *testing.T, source committer.Source, ledger committer.Ledger) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() {
		done <- committer.New(r.settings, source, ledger, r.dead, zerolog.Nop()).Run(ctx)
	}()
	return sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run() = %v", err)
		}
	})
}

// publish publishes one message with the given tags, value 1 each, in the partition.
func (r *rig) publish(t *testing.T, partition uint32, tags ...string) {
	t.Helper()
	r.sequences[partition]++
	b := &message.Batch{Publisher: message.Publisher{1}, Partition: partition, Sequence: r.sequences[partition], AcceptedAt: time.Now()}
	for _, tag := range tags {
		b.Increments = append(b.Increments, message.Increment{Tag: tag, Value: 1})
		r.want[tag]++
	}
	data, err := b.Encode()
	if err != nil {
		t.Fatal(err)
	}
	r.publishRaw(t, data)
}

// post publishes one message of the partition that adds a keyed increment of value 1 to a tag, and says whether it is
// the key's first.
func (r *rig) post(t *testing.T, partition uint32, tag, key string, first bool) {
	t.Helper()
	r.sequences[partition]++
	b := &message.Batch{
		Publisher: message.Publisher{1}, Partition: partition, Sequence: r.sequences[partition], AcceptedAt: time.Now(),
		Increments: []message.Increment{{Tag: tag, Value: 1, Key: message.KeyOf(key)}},
	}
	if first {
		r.want[tag]++
	}
	data, err := b.Encode()
	if err != nil {
		t.Fatal(err)
	}
	r.publishRaw(t, data)
}

func (r *rig) publishRaw(t *testing.T, data []byte) {
	t.Helper()
	if err := r.topic.Publish(t.Context(), []broker.Message{{Data: data}}); err != nil {
		t.Fatal(err)
	}
}

// verify compares the tags' documents and the checkpoints' totals with what was published.
func (r *rig) verify(t *testing.T) {
	t.Helper()
	got := make(map[string]int64)
	tags, err := r.store.Tags(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, tag := range tags {
		got[tag.Name] = tag.Total
	}
	if diff := difference(got, r.want); diff != "" {
		t.Errorf("documents differ from what was published: %s", diff)
	}
	totals, _, err := r.store.Totals(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	sums := make(map[string]int64)
	for _, partition := range totals {
		for _, total := range partition.Totals {
			sums[total.Name] += total.Total
		}
	}
	if diff := difference(sums, got); diff != "" {
		t.Errorf("checkpoints differ from the documents: %s", diff)
	}
}

// history sums the periods that are over and the open ones of all partitions, by tag.
func (r *rig) history(t *testing.T, resolution checkpoint.Resolution, since time.Time) map[string]int64 {
	t.Helper()
	sums := make(map[string]int64)
	totals, _, err := r.store.Totals(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, partition := range totals {
		for _, total := range partition.Totals {
			sums[total.Name] += total.Open(resolution)
		}
		periods, err := r.store.History(t.Context(), partition.Partition, resolution, resolution.Begin(since), time.Now().Add(time.Hour))
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range periods {
			changes, err := checkpoint.UnpackChanges(p.Changes)
			if err != nil {
				t.Fatal(err)
			}
			for _, c := range changes {
				sums[c.Name] += c.Change
			}
		}
	}
	return sums
}

func difference(got, want map[string]int64) (diff string) {
	for tag, n := range want {
		if got[tag] != n {
			diff += fmt.Sprintf("%s is %d, want %d; ", tag, got[tag], n)
		}
	}
	for tag, n := range got {
		if _, ok := want[tag]; !ok {
			diff += fmt.Sprintf("%s is %d, want none; ", tag, n)
		}
	}
	return diff
}

var errLost = errors.New("the reply was lost")

// countingLedger counts the Commits that went through, and what they changed.
type countingLedger struct {
	committer.Ledger
	commits, documents, most atomic.Int64
}

func (l *countingLedger) Commit(ctx context.Context, c store.Commit) (store.Revision, error) {
	revision, err := l.Ledger.Commit(ctx, c)
	if err == nil {
		l.commits.Add(1)
		l.documents.Add(int64(c.Documents()))
		l.most.Store(max(l.most.Load(), int64(c.Documents())))
	}
	return revision, err
}

// stallingLedger answers nothing until release is closed.
type stallingLedger struct {
	committer.Ledger
	release chan struct{}
}

func (l *stallingLedger) Commit(ctx context.Context, c store.Commit) (store.Revision, error) {
	select {
	case <-l.release:
		return l.Ledger.Commit(ctx, c)
	case <-ctx.Done():
		return store.Revision{}, ctx.Err()
	}
}

// refusingLedger refuses every Commit that changes the tag; all with an empty one.
type refusingLedger struct {
	committer.Ledger
	tag string
}

func (l *refusingLedger) Commit(ctx context.Context, c store.Commit) (store.Revision, error) {
	for _, d := range c.Tags {
		if d.Name == l.tag {
			return store.Revision{}, store.ErrRefused
		}
	}
	if l.tag == "" {
		return store.Revision{}, store.ErrRefused
	}
	return l.Ledger.Commit(ctx, c)
}

// chaoticLedger loses requests and replies, and delays, at random; seldom enough that work gets done.
type chaoticLedger struct{ committer.Ledger }

func (l *chaoticLedger) Load(ctx context.Context, partition uint32) (store.State, error) {
	if rand.N(10) == 0 {
		return store.State{}, errLost
	}
	return l.Ledger.Load(ctx, partition)
}

func (l *chaoticLedger) Keys(ctx context.Context, partition uint32, first, last uint64) ([]store.CommitKeys, error) {
	if rand.N(10) == 0 {
		return nil, errLost
	}
	return l.Ledger.Keys(ctx, partition, first, last)
}

func (l *chaoticLedger) Commit(ctx context.Context, c store.Commit) (store.Revision, error) {
	switch rand.N(4) {
	case 0: // the request is lost
		return store.Revision{}, errLost
	case 1: // the reply is lost
		_, _ = l.Ledger.Commit(ctx, c)
		return store.Revision{}, errLost
	case 2: // the request comes in later, while its sender has given up on it
		go func() {
			time.Sleep(rand.N(50 * time.Millisecond))
			_, _ = l.Ledger.Commit(context.WithoutCancel(ctx), c)
		}()
		return store.Revision{}, context.DeadlineExceeded
	default:
		time.Sleep(rand.N(50 * time.Millisecond))
		return l.Ledger.Commit(ctx, c)
	}
}

// chaoticSource delivers twice and loses acknowledgements, at random.
type chaoticSource struct {
	*brokermemory.Subscription
	mu    sync.Mutex
	again []broker.Delivery
}

func (s *chaoticSource) Pull(ctx context.Context, limit int) ([]broker.Delivery, error) {
	if rand.N(10) == 0 {
		return nil, errLost
	}
	deliveries, err := s.Subscription.Pull(ctx, rand.N(limit)+1)
	s.mu.Lock()
	defer s.mu.Unlock()
	again := s.again
	s.again = nil
	for _, d := range deliveries {
		switch rand.N(3) {
		case 0:
			again = append(again, d)
		case 1:
			s.again = append(s.again, d)
		}
	}
	return append(deliveries, again...), err
}

func (s *chaoticSource) Acknowledge(ctx context.Context, receipts []string) error {
	if rand.N(3) == 0 {
		return errLost
	}
	return s.Subscription.Acknowledge(ctx, receipts)
}

// recordingSource records what is acknowledged and extended, and how often it is pulled.
type recordingSource struct {
	*brokermemory.Subscription
	pulls, acknowledged, extended, released atomic.Int64
}

func (s *recordingSource) Pull(ctx context.Context, limit int) ([]broker.Delivery, error) {
	deliveries, err := s.Subscription.Pull(ctx, limit)
	s.pulls.Add(int64(len(deliveries)))
	return deliveries, err
}

func (s *recordingSource) Acknowledge(ctx context.Context, receipts []string) error {
	s.acknowledged.Add(int64(len(receipts)))
	return s.Subscription.Acknowledge(ctx, receipts)
}

func (s *recordingSource) Extend(ctx context.Context, receipts []string, d time.Duration) error {
	if d == 0 {
		s.released.Add(int64(len(receipts)))
	} else {
		s.extended.Add(int64(len(receipts)))
	}
	return s.Subscription.Extend(ctx, receipts, d)
}
