package aggregator

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/accrue/accrue/aggregator/internal/partition"
	"github.com/accrue/accrue/pkg/broker"
	brokerembedded "github.com/accrue/accrue/pkg/broker/embedded"
	"github.com/accrue/accrue/pkg/checkpoint"
	"github.com/accrue/accrue/pkg/database/databasetest"
	"github.com/accrue/accrue/pkg/message"
	"github.com/accrue/accrue/pkg/store"
	storeembedded "github.com/accrue/accrue/pkg/store/embedded"
	"github.com/accrue/accrue/pkg/telemetry"
)

// rig is a pipeline with everything around it, in one process and, in a synctest bubble, with a stepped clock.
type rig struct {
	topic        *databasetest.Topic
	subscription *brokerembedded.Subscription
	dead         *databasetest.Topic
	deadLetters  *brokerembedded.Subscription
	store        *storeembedded.Store
	config       Config
	log          zerolog.Logger
	sequences    map[uint32]uint64
	want         map[string]int64
}

func newRig(t *testing.T) *rig {
	r := &rig{
		topic: databasetest.NewTopic(t), dead: databasetest.NewTopic(t), store: databasetest.Store(t), log: zerolog.Nop(),
		config: Config{
			Window: time.Second, CommitDocuments: 1000, Commits: 256, BufferBytes: 16 << 20, Horizon: 15 * time.Minute, Keys: 1 << 20,
		},
		sequences: make(map[uint32]uint64), want: make(map[string]int64),
	}
	r.subscription = r.topic.Subscribe(AckDeadline)
	r.deadLetters = r.dead.Subscribe(AckDeadline)
	return r
}

// source is what a Source does beside Describe.
type source interface {
	Pull(ctx context.Context, limit int) ([]broker.Delivery, error)
	Acknowledge(ctx context.Context, receipts []string) error
	Extend(ctx context.Context, receipts []string, d time.Duration) error
}

// described is a source that knows the settings of a subscription.
type described struct {
	source
	info broker.SubscriptionInfo
}

func (d described) Describe(context.Context) (broker.SubscriptionInfo, error) { return d.info, nil }

// running is a pipeline that runs.
type running struct {
	*pipeline
	telemetry *telemetry.Telemetry
	cancel    context.CancelFunc
	done      chan error
}

// start runs a pipeline on the rig.
func (r *rig) start(t *testing.T, source source, ledger partition.Ledger) *running {
	t.Helper()
	return r.startWith(t, Parts{
		Source: described{source, broker.SubscriptionInfo{AckDeadline: r.config.lease(), Retention: 7 * 24 * time.Hour}}, Ledger: ledger, DeadLetters: r.dead,
	})
}

func (r *rig) startWith(t *testing.T, parts Parts) *running {
	t.Helper()
	measured, err := telemetry.New(t.Context(), "aggregator", telemetry.Settings{}, r.log)
	if err != nil {
		t.Fatal(err)
	}
	parts.Log, parts.Telemetry = r.log, measured
	p, err := newPipeline(r.config, parts)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	run := &running{p, measured, cancel, make(chan error, 1)}
	go func() { run.done <- p.Run(ctx) }()
	t.Cleanup(func() { // of a test that failed
		cancel()
		run.done <- <-run.done
	})
	return run
}

// stop stops the pipeline, if it runs, and waits for it.
func (r *running) stop(t *testing.T) {
	t.Helper()
	r.cancel()
	if err := <-r.done; err != nil {
		t.Errorf("Run() = %.300s", err)
	}
	r.done <- nil
}

// metric returns a metric's value, summed over its attributes.
func (r *running) metric(t *testing.T, name string) (sum float64) {
	t.Helper()
	answer := httptest.NewRecorder()
	r.telemetry.Handler().ServeHTTP(answer, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", http.NoBody))
	for line := range strings.Lines(answer.Body.String()) {
		sample, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		if base, _, _ := strings.Cut(sample, "{"); base == name {
			n, err := strconv.ParseFloat(value, 64)
			if err != nil {
				t.Fatalf("%s: %v", line, err)
			}
			sum += n
		}
	}
	return sum
}

// encode is the wire form of a message.
func encode(b *message.Batch) []byte {
	var w message.Builder
	for _, inc := range b.Increments {
		w.AddIncrement(inc.Tag, inc.Value, inc.Key)
	}
	for _, c := range b.Contributions {
		w.AddContribution(c.Contributor, c.Key)
	}
	return w.Encode(b.Publisher, b.Partition, b.Sequence, b.AcceptedAt)
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
	r.publishRaw(t, encode(b))
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
	r.publishRaw(t, encode(b))
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
	partition.Ledger
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
	partition.Ledger
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
	partition.Ledger
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
type chaoticLedger struct{ partition.Ledger }

func (l *chaoticLedger) Load(ctx context.Context, partition uint32) (store.State, error) {
	if rand.N(10) == 0 {
		return store.State{}, errLost
	}
	return l.Ledger.Load(ctx, partition)
}

func (l *chaoticLedger) Keys(ctx context.Context, partition uint32, after store.KeysPosition, limit int) ([]store.CommitKeys, error) {
	if rand.N(10) == 0 {
		return nil, errLost
	}
	return l.Ledger.Keys(ctx, partition, after, limit)
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
	*brokerembedded.Subscription
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
	*brokerembedded.Subscription
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
