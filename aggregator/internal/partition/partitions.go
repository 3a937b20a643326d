// Package partition counts: it holds the messages of each partition for a window, commits them with the partition's
// checkpoint in one atomic Commit, and only then settles them (docs/design/protocol.md). Whatever is killed, redelivered or
// retried, an increment is in the store exactly once: the checkpoint changes in the same Commit as the sums, and it alone
// says what has been counted.
//
// Each partition has a goroutine of its own, a share of the buffer, and a slot only while its Commit is under way, so a
// partition that cannot commit takes nothing that another needs.
package partition

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	"github.com/accrue/accrue/aggregator/internal/delivery"
	"github.com/accrue/accrue/aggregator/internal/idempotency"
	"github.com/accrue/accrue/pkg/checkpoint"
	"github.com/accrue/accrue/pkg/service"
	"github.com/accrue/accrue/pkg/store"
)

// Ledger is where the partitions are kept.
type Ledger interface {
	// Load returns a partition's checkpoint.
	Load(ctx context.Context, partition uint32) (store.State, error)
	// Keys returns the idempotency keys of the Commits after a position, limit Commits at most, in order.
	Keys(ctx context.Context, partition uint32, after store.KeysPosition, limit int) ([]store.CommitKeys, error)
	// ReleasedKeys returns the keys of Commits that version 0.1 made, from a number on, limit Commits at most, in order.
	ReleasedKeys(ctx context.Context, partition uint32, first uint64, limit int) ([]store.CommitKeys, error)
	// Folds returns folds of those keys whose ends are after a position, limit at most, in order.
	Folds(ctx context.Context, partition uint32, after store.KeysPosition, limit int) ([]store.Fold, error)
	// Peek returns the revisions and versions of partitions, which show whether they have new keys.
	Peek(ctx context.Context, partitions []uint32) ([]store.Peeked, error)
	// Owing returns the partitions that owe something to the documents of tags, and the time of the read by the store's clock.
	Owing(ctx context.Context) ([]store.Owing, time.Time, error)
	// Layouts returns the numbers of partitions that ingest uses.
	Layouts(ctx context.Context) (checkpoint.Layouts, store.Revision, error)
	// TagsNamed returns the documents of some tags, without those that do not exist.
	TagsNamed(ctx context.Context, names []string) ([]store.Tag, error)
	// Commit replaces a checkpoint and changes the documents that belong to it, all or nothing. The errors are
	// store.ErrConflict, store.ErrRefused, and others, after which the outcome is unknown.
	Commit(ctx context.Context, commit store.Commit) (store.Revision, error)
}

// Settler ends deliveries. Its methods return at once.
type Settler interface {
	// Settled acknowledges messages whose entries are counted or rejected.
	Settled(deliveries []*delivery.Delivery)
	// Release gives messages back, to be delivered again after a pause.
	Release(deliveries []*delivery.Delivery, pause time.Duration)
}

// Settings are the bounds. All but TagDocuments are positive.
type Settings struct {
	// Window is how long a partition sums before it commits.
	Window time.Duration
	// TagDocuments is how long what a tag's document lacks may wait in the checkpoint, 0 to write the documents with each Commit, or
	// Off.
	TagDocuments time.Duration
	// Documents is the most documents that one Commit changes, beside the checkpoint. A message is never divided, so one
	// that alone changes more is committed alone.
	Documents int
	// Commits is the most Commits that are under way at once.
	Commits int
	// BufferBytes is the size of the buffer that all partitions share.
	BufferBytes int64
	// Retention returns how long after its publication a message can still be delivered, plus a margin. Publishers that
	// were silent for longer leave the checkpoint.
	Retention func() time.Duration
	// Horizon is for how long after its acceptance an idempotency key is known.
	Horizon time.Duration
	// Keys bounds the idempotency keys in memory.
	Keys int
}

// Telemetry is what the partitions are measured with. Nil members measure nothing.
type Telemetry struct {
	Meter  metric.Meter
	Tracer trace.Tracer
}

// shared is what the partitions have in common.
type shared struct {
	settings Settings
	ledger   Ledger
	settler  Settler
	log      zerolog.Logger
	metrics  *metrics
	tracer   trace.Tracer
	outages  outages

	slots chan struct{} // holds a token for each Commit that is under way
	keys  *idempotency.Budget
	// number counts the partitions, failing those whose last attempt failed, and lagging those that lag.
	number, failing, lagging atomic.Int64
	evicting                 sync.Once
	commits                  *commits
	sampler                  *sampler
}

// commits is what partitions know of each other's attempts. It is safe for concurrent use.
type commits struct {
	mu        sync.Mutex
	last      time.Time     // when an attempt of any partition last went through
	recovered chan struct{} // closed, and made anew, by the first after a time without any
}

// committed notes that an attempt went through. After a time without any, it ends the pauses of all partitions that failed.
func (c *commits) committed() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if time.Since(c.last) >= lagAfter {
		close(c.recovered)
		c.recovered = make(chan struct{})
	}
	c.last = time.Now()
}

// recovery returns a channel that is closed when attempts go through again.
func (c *commits) recovery() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.recovered
}

func (c *commits) lastCommit() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.last
}

// Partitions are all partitions that messages came for.
type Partitions struct {
	*shared
	created chan *partition
	ended   chan struct{} // closed when no new partition is started any more

	mu       sync.Mutex
	byNumber map[uint32]*partition
	probed   time.Time
}

// New returns Partitions without any. Run starts them.
func New(settings Settings, ledger Ledger, settler Settler, telemetry Telemetry, log zerolog.Logger) (*Partitions, error) {
	s := &Partitions{
		shared: &shared{
			settings: settings, ledger: ledger, settler: settler, log: log, tracer: telemetry.Tracer, outages: newOutages(log),
			slots: make(chan struct{}, settings.Commits), keys: idempotency.NewBudget(settings.Keys),
			commits: &commits{recovered: make(chan struct{})},
		},
		created: make(chan *partition), ended: make(chan struct{}), byNumber: make(map[uint32]*partition), probed: time.Now(),
	}
	s.sampler = newSampler(s.shared)
	var err error
	s.metrics, err = newMetrics(telemetry.Meter, s)
	return s, err
}

// Run counts until ctx ends. Then it commits what is held, without waiting for windows, until until ends; what is left by
// then stays with the Settler. It is called once. A panic in a partition ends it at once and is its error.
func (s *Partitions) Run(ctx, until context.Context) error {
	ctx, guard := service.NewGuard(ctx)
	work, cancel := context.WithCancel(until)
	defer cancel()
	var running sync.WaitGroup
	running.Go(guard.Of(func() { s.sampler.run(ctx) }))
	if s.settings.TagDocuments != Off {
		running.Go(guard.Of(func() { s.sweep(ctx) }))
	}
	for {
		select {
		case p := <-s.created:
			running.Go(guard.Of(func() { p.run(work, ctx.Done()) }))
		case <-ctx.Done():
			close(s.ended)
			running.Wait()
			s.metrics.drained.log(s.log)
			return guard.End()
		}
	}
}

// Add hands deliveries of one partition over, and returns how many were taken. The others are released: the partition
// cannot commit and holds its share of the buffer.
func (s *Partitions) Add(number uint32, deliveries []*delivery.Delivery) (taken int) {
	p := s.partition(number)
	taken = p.add(deliveries)
	if refused := deliveries[taken:]; len(refused) > 0 {
		s.release(refused, p.pause())
	}
	return taken
}

// Flush ends all windows, since the buffer is full. Partitions that lag keep only their shares. While no partition can commit, all
// make some room from time to time, since the messages of a partition that can may not have been pulled yet.
func (s *Partitions) Flush() {
	probe := s.probe()
	for _, p := range s.all() {
		p.flush()
		p.yield()
		if probe {
			p.makeRoom(probedPart)
		}
	}
}

// probe reports whether room is to be made although no partition can commit.
func (s *Partitions) probe() bool {
	last := s.commits.lastCommit()
	s.mu.Lock()
	defer s.mu.Unlock()
	if time.Since(last) < probeEvery || time.Since(s.probed) < probeEvery {
		return false
	}
	s.probed = time.Now()
	return true
}

// partition returns the partition of a number, started if it is new.
func (s *Partitions) partition(number uint32) *partition {
	s.mu.Lock()
	p, known := s.byNumber[number]
	if !known {
		p = newPartition(s.shared, number)
		s.number.Add(1)
		s.byNumber[number] = p
	}
	s.mu.Unlock()
	if !known {
		select {
		case s.created <- p:
		case <-s.ended:
		}
	}
	return p
}

func (s *Partitions) all() []*partition {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]*partition, 0, len(s.byNumber))
	for _, p := range s.byNumber {
		all = append(all, p)
	}
	return all
}

const (
	// laggingShare is the part of the buffer that the partitions that lag may hold together, and few the least number of
	// them that it is divided by.
	laggingShare, few = 2, 4
	// While no partition can commit and the buffer is full, each releases one of probedPart parts every probeEvery.
	probedPart, probeEvery = 16, 2 * time.Minute
)

// share is what a partition that lags may hold, in bytes.
func (s *shared) share() int64 {
	return s.settings.BufferBytes / laggingShare / max(min(few, s.number.Load()), s.lagging.Load())
}

func (s *shared) release(deliveries []*delivery.Delivery, pause time.Duration) {
	s.metrics.released.Add(context.Background(), int64(len(deliveries)))
	s.settler.Release(deliveries, pause)
}
