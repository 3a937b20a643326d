// Package batching is the group commit of ingest. Entries of many requests are collected by partition, and all of them are
// published in one request while the next group fills. A request waits until its entries are published, so that its
// answer can promise it. docs/design/architecture.md shows where this stands.
package batching

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/rs/zerolog"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
	"golang.org/x/time/rate"

	"github.com/accrue/accrue/pkg/broker"
	"github.com/accrue/accrue/pkg/logging"
	"github.com/accrue/accrue/pkg/message"
	"github.com/accrue/accrue/pkg/service"
	"github.com/accrue/accrue/pkg/telemetry"
	"github.com/accrue/accrue/pkg/tracing"
)

const (
	// PublishTimeout bounds one publish, including the retries of the client library.
	PublishTimeout = 5 * time.Second
	// DrainTimeout bounds how long publishes go on after Drain, or after the end of Run's context.
	DrainTimeout = 4 * time.Second
	// MinLimit is the least limit on memory that New takes, in bytes: with less, one large request could never be read.
	MinLimit = 8 << 20

	// maxWait bounds how long a group waits while maxPublishes publishes are in progress. After it, the group is refused: a
	// request is answered within maxWait and PublishTimeout.
	maxWait = time.Second
	// maxPublishes bounds the publishes that are in progress at once.
	maxPublishes = 64
	// A publish begins at least a pause after the one before: latency/pauseShare, but at least minPause and at most maxPause.
	// So a request waits for one publish and half a pause, some pauseShare publishes are in progress, and groups are as
	// large as that allows. minPause matters where the broker is near, as an emulator is: shorter pauses make groups of one
	// entry.
	pauseShare = 8
	minPause   = 2 * time.Millisecond
	maxPause   = 10 * time.Millisecond
	// latencyShare is the weight of the latest publish in the mean latency: 1/latencyShare.
	latencyShare = 16

	// maxFailures is after how many failed publishes the batcher takes a new publisher id. Each failed publish may leave a
	// gap in the sequences of its partitions, which checkpoints remember for as long as the publisher lives.
	maxFailures = 8

	// maxGroupBytes bounds the entries of one group. With the headers of maxMessages messages they stay well within the
	// 10 MB of one Publish request.
	maxGroupBytes = 8_000_000
	// maxMessages is the maximum number of messages in one Publish request (https://cloud.google.com/pubsub/quotas).
	maxMessages = 1000
	// maxSpare bounds, in bytes, the memory that is kept from published groups for the next ones.
	maxSpare = 2 * maxGroupBytes

	// largeReservation is the size from which a reservation may fill only half of the limit: many slow uploads of large
	// bodies leave room for small requests.
	largeReservation = 32 << 10
)

var (
	// ErrFull is returned when the limit on memory would be exceeded, or when Pub/Sub does not keep up. Nothing was added.
	ErrFull = errors.New("publish queue full")
	// ErrPublish is returned by Add when its publish failed or was cut off by a stop. Its entries may have been published
	// all the same.
	ErrPublish = errors.New("publish failed")
	// ErrRefused is returned by Add when the broker refused its publish as a whole. Nothing was added.
	ErrRefused = errors.New("publish refused")
	// ErrStopped is returned by Add when the batcher has stopped. Nothing was added.
	ErrStopped = errors.New("batcher stopped")
)

// Publisher publishes messages to the increments topic.
type Publisher interface {
	// Publish returns nil when all messages are durable. After broker.ErrRefused none of them is; after any other error,
	// some may be. It returns soon after its context ends, and is safe for concurrent use. The messages fit in one Publish
	// request of Pub/Sub, 1,000 messages and less than 10 MB, except those of a single Add that touches more partitions.
	Publish(ctx context.Context, messages []broker.Message) error
}

// Entry is one item of a request: an increment (Tag and Value), a contribution (Contributor), or an increment that is a
// contribution as well (all three). Its values follow the rules of package increment.
type Entry struct {
	Tag         string
	Contributor string
	Value       uint8
	// Key is the idempotency key of both; zero means none.
	Key message.Key
}

// size returns the most bytes that the entry can take in messages.
func (e *Entry) size() int {
	n := 0
	if e.Tag != "" {
		n += message.IncrementSize(e.Tag, e.Key)
	}
	if e.Contributor != "" {
		n += message.ContributionSize(e.Contributor, e.Key)
	}
	return n
}

// Batcher collects entries and publishes them. It is safe for concurrent use.
type Batcher struct {
	publisher  Publisher
	partitions int
	log        zerolog.Logger
	outage     *logging.Outage
	metrics    metrics
	tracer     trace.Tracer
	budget     budget
	window     *window
	// attributes holds the attributes of an untraced message, by shard.
	attributes []map[string]string

	// The fields down to mu are used by Run only.

	identity message.Publisher
	// failures counts the failed publishes of identity.
	failures int
	// sequences holds the number of the last message of identity, by partition.
	sequences  []uint64
	publishLog publishLog
	// traced limits the log lines of sampled traces.
	traced *rate.Limiter
	// latency is the mean duration of the publishes that succeeded.
	latency time.Duration

	mu sync.Mutex
	// waiting holds the groups that Run has not taken yet, the oldest first. The last one fills.
	waiting []*group
	// spares are empty groups, kept for their memory; spareBytes is how much that is.
	spares     []*group
	spareBytes int
	stopped    bool

	// added has a token when a first group waits.
	added chan struct{}
	// published receives the groups whose publish has ended.
	published chan *group
	drain     chan struct{}
	drainOnce sync.Once
}

// New returns a Batcher that spreads entries over partitions, 1 to increment.MaxPartitions. Limit, at least MinLimit, bounds
// the bytes of bodies, and of entries that wait or are being published. Telemetry may be nil.
func New(publisher Publisher, partitions, limit int, log zerolog.Logger, t *telemetry.Telemetry) (*Batcher, error) {
	b := &Batcher{
		publisher:  publisher,
		identity:   message.NewPublisher(),
		partitions: partitions,
		budget:     budget{limit: int64(limit)},
		window:     newWindow(limit),
		log:        log,
		outage:     logging.NewOutage(log, zerolog.ErrorLevel, "publish"),
		tracer:     t.Tracer(),
		attributes: make([]map[string]string, message.Shards),
		sequences:  make([]uint64, partitions),
		publishLog: newPublishLog(log),
		traced:     rate.NewLimiter(tracesPerSecond, tracesPerSecond),
		added:      make(chan struct{}, 1),
		published:  make(chan *group, maxPublishes),
		drain:      make(chan struct{}),
	}
	for shard := range b.attributes {
		b.attributes[shard] = message.ShardAttributes(uint32(shard))
	}
	var err error
	b.metrics, err = newMetrics(t.Meter(), &b.budget, b.window)
	return b, err
}

// Reserve reserves n bytes for a body, and reports whether they are within the limit, and whether its entries may be admitted.
// Release gives them back.
func (b *Batcher) Reserve(n int) bool { return !b.window.full() && b.budget.reserve(n) }

// Release gives back n reserved bytes.
func (b *Batcher) Release(n int) { b.budget.release(n) }

// Add adds all entries or none, and returns nil when they are published. It copies them before it waits. It waits until the
// outcome is known, at most for maxWait and PublishTimeout, even if ctx ends. The errors are ErrFull, ErrStopped and
// ErrRefused, after which nothing is published, and ErrPublish.
func (b *Batcher) Add(ctx context.Context, entries []Entry) error {
	if len(entries) == 0 {
		return nil
	}
	size, parts := 0, 0
	for i := range entries {
		size += entries[i].size()
		if parts++; entries[i].Tag != "" && entries[i].Contributor != "" {
			parts++
		}
	}
	if !b.budget.reserveEntries(size) {
		return ErrFull
	}
	if !b.window.reserve(size) {
		b.budget.release(size)
		return ErrFull
	}
	outcome := b.add(entries, size, parts, trace.SpanContextFromContext(ctx))
	if outcome == nil {
		b.window.release(size)
		b.budget.release(size)
		return ErrStopped
	}
	<-outcome.done
	return outcome.err
}

// add puts entries of size bytes, which are so many increments and contributions as parts says, into the group that fills.
// Their messages belong to trace, if it is sampled. It returns nil if the batcher has stopped.
func (b *Batcher) add(entries []Entry, size, parts int, trace trace.SpanContext) *outcome {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.stopped {
		return nil
	}
	// The maximum number of messages for these: one for each, or one for each partition and those that are full.
	messages := min(parts, b.partitions+parts/message.MaxEntries)
	last := len(b.waiting) - 1
	if last < 0 || !b.waiting[last].fits(size, messages) {
		b.waiting = append(b.waiting, b.newGroup())
		if last++; last == 0 {
			select {
			case b.added <- struct{}{}:
			default: // Run has not looked yet
			}
		}
	}
	g := b.waiting[last]
	g.add(entries, size, trace)
	return g.outcome
}

// newGroup returns an empty group.
func (b *Batcher) newGroup() *group {
	var g *group
	if n := len(b.spares); n > 0 {
		g = b.spares[n-1]
		b.spares = b.spares[:n-1]
		b.spareBytes -= g.capacity()
	} else {
		g = &group{open: make([]int32, b.partitions)}
	}
	g.openedAt = time.Now()
	g.outcome = &outcome{done: make(chan struct{})}
	return g
}

// Drain bounds what is left to DrainTimeout: entries that are not published by then are answered with an error, and so is
// every later Add. With it, a server that stops answers all its requests in time. Run drains when its context ends.
func (b *Batcher) Drain() { b.drainOnce.Do(func() { close(b.drain) }) }

// Run publishes until ctx ends, and then what is left, for at most DrainTimeout. Entries that could not be published are
// answered with an error; Run itself returns one only if a publish panics.
func (b *Batcher) Run(ctx context.Context) error {
	ctx, guard := service.NewGuard(ctx)
	life, cut := context.WithCancel(context.WithoutCancel(ctx))
	defer cut()
	var (
		stop, drain = ctx.Done(), b.drain // nil once they are closed
		deadline    <-chan time.Time      // of the drain
		begun       time.Time             // when the last publish began
		inProgress  int
		timer       = time.NewTimer(0)
	)
	defer timer.Stop()
	for {
		openedAt, waits := b.oldest()
		switch pause := time.Until(begun.Add(b.pause())); {
		case !waits:
			if inProgress == 0 && stop == nil {
				b.publishLog.flush()
				return guard.End()
			}
		case inProgress == maxPublishes:
			wait := time.Until(openedAt.Add(maxWait))
			if wait <= 0 {
				b.settle(b.take(), ErrFull)
				continue
			}
			timer.Reset(wait)
		case pause <= 0:
			begun = time.Now()
			inProgress++
			b.begin(life, guard, b.take())
			continue
		default:
			timer.Reset(pause)
		}
		select {
		case g := <-b.published:
			inProgress--
			b.finish(g)
		case <-b.added:
		case <-timer.C:
		case <-b.publishLog.flushTimer():
			b.publishLog.flush()
		case <-stop:
			stop = nil
			b.refuseAdds()
			b.Drain()
		case <-drain:
			drain = nil
			deadline = time.After(DrainTimeout)
		case <-deadline:
			b.refuseAdds()
			for g := b.take(); g != nil; g = b.take() {
				b.settle(g, ErrStopped)
			}
			cut()
		}
	}
}

// pause returns the time between the beginnings of two publishes.
func (b *Batcher) pause() time.Duration {
	return min(max(b.latency/pauseShare, minPause), maxPause)
}

// oldest returns when the oldest waiting group was opened, and whether there is one.
func (b *Batcher) oldest() (openedAt time.Time, waits bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.waiting) == 0 {
		return time.Time{}, false
	}
	return b.waiting[0].openedAt, true
}

// take returns the oldest waiting group, or nil.
func (b *Batcher) take() *group {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.waiting) == 0 {
		return nil
	}
	g := b.waiting[0]
	b.waiting = slices.Delete(b.waiting, 0, 1)
	return g
}

func (b *Batcher) refuseAdds() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.stopped = true
}

// begin publishes a group in its own goroutine. The end of life cuts the publish off. The group comes back on b.published.
func (b *Batcher) begin(life context.Context, guard *service.Guard, g *group) {
	ctx := b.startSpan(life, g)
	messages := b.encode(g)
	began := time.Now()
	g.err = errPanic // unless Publish returns
	go guard.Of(func() {
		defer func() {
			g.latency = time.Since(began)
			b.published <- g
		}()
		ctx, cancel := context.WithTimeout(ctx, PublishTimeout)
		defer cancel()
		g.err = b.publisher.Publish(ctx, messages)
	})()
}

// errPanic is the error of a publish that panicked.
var errPanic = errors.New("panic")

// startSpan starts a span for the publish of a group, in the trace of its first sampled request and linked to those of the
// others. Without sampled requests it returns ctx.
func (b *Batcher) startSpan(ctx context.Context, g *group) context.Context {
	if len(g.traces) == 0 {
		return ctx
	}
	ctx, g.span = b.tracer.Start(trace.ContextWithRemoteSpanContext(ctx, g.traces[0]), "publish", trace.WithSpanKind(trace.SpanKindProducer),
		trace.WithLinks(tracing.Links(g.traces[1:])...), trace.WithAttributes(attribute.Int("accrue.messages", len(g.drafts))))
	return ctx
}

// encode turns a group into messages and numbers them. A number is used up even if the publish fails: the message may be in
// the topic, and two messages must never share a number. Messages in the trace of the publish continue from its span.
func (b *Batcher) encode(g *group) []broker.Message {
	g.publisher = b.identity
	messages := make([]broker.Message, len(g.drafts))
	for i := range messages {
		d := &g.drafts[i]
		b.sequences[d.partition]++
		d.sequence = b.sequences[d.partition]
		messages[i].Data = d.entries.Encode(b.identity, d.partition, d.sequence, d.acceptedAt)
		d.bytes = len(messages[i].Data)
		messages[i].Attributes = b.attributes[d.partition%message.Shards]
		if len(d.traces) == 0 {
			continue
		}
		for j := range d.traces {
			if span := g.span.SpanContext(); d.traces[j].TraceID() == span.TraceID() {
				d.traces[j] = span
			}
		}
		attributes := tracing.Attributes(d.traces)
		maps.Copy(attributes, messages[i].Attributes)
		messages[i].Attributes = attributes
	}
	return messages
}

// finish accounts for a group whose publish has ended, and answers its requests.
func (b *Batcher) finish(g *group) {
	b.metrics.published(g)
	b.window.ended(g.openedAt, g.size, g.err == nil)
	if g.span != nil {
		if g.err != nil {
			g.span.SetStatus(codes.Error, "publish failed")
		}
		g.span.End()
	}
	if g.err == nil {
		b.latency += (g.latency - b.latency) / latencyShare
		b.outage.Succeeded()
		b.logPublished(g)
		b.settle(g, nil)
		return
	}
	b.outage.Failed(g.err, func(e *zerolog.Event) { e.Int("messages", len(g.drafts)).Int("bytes", g.size) })
	if g.publisher == b.identity {
		if b.failures++; b.failures == maxFailures {
			b.identity, b.failures = message.NewPublisher(), 0
			clear(b.sequences)
		}
	}
	result := ErrPublish
	if errors.Is(g.err, broker.ErrRefused) {
		result = ErrRefused
	}
	b.settle(g, fmt.Errorf("%w: %w", result, g.err))
}

// settle gives back the memory of a group, so that its requests find room for more, and then answers them.
func (b *Batcher) settle(g *group, err error) {
	b.window.release(g.size)
	b.budget.release(g.size)
	outcome := g.outcome
	b.recycle(g)
	outcome.err = err
	close(outcome.done)
}

// recycle keeps a group for its memory, unless enough is kept.
func (b *Batcher) recycle(g *group) {
	b.mu.Lock()
	defer b.mu.Unlock()
	g.reset()
	if n := g.capacity(); b.spareBytes+n <= maxSpare {
		b.spares = append(b.spares, g)
		b.spareBytes += n
	}
}
