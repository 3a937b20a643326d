// Package batching is the group commit of ingest (design section 2): what many requests add is collected by partition,
// and one publisher loop sends all of it in one Publish request while the next group fills. A request waits until what
// it added is published, so that its answer can promise it (P1).
package batching

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/time/rate"

	"github.com/accrue/accrue/pkg/broker"
	"github.com/accrue/accrue/pkg/increment"
	"github.com/accrue/accrue/pkg/logging"
	"github.com/accrue/accrue/pkg/message"
	"github.com/accrue/accrue/pkg/tracecontext"
)

const (
	// PublishTimeout bounds one publish, whatever the client library retries underneath.
	PublishTimeout = 5 * time.Second
	// StopTimeout bounds how long Run goes on publishing after its context ends.
	StopTimeout = 2 * time.Second
	// MaxAdd is more, in bytes, than the largest Add can take: a bound on pending bytes below it could refuse an Add for
	// good.
	MaxAdd = 1 << 20

	// spacing is the least time between the beginnings of two publishes. A publish in the cloud takes ten times as long, so
	// it shows only where the broker is near, as an emulator on the same machine is: there it keeps groups from being so
	// small that each increment has a message of its own. After a pause the first publish begins at once.
	spacing = 2 * time.Millisecond

	// maxGroupBytes bounds the entries of one group. With the headers of maxMessages messages it is well within the
	// 10 MB that one Publish may have.
	maxGroupBytes = 8_000_000
	// maxMessages is the most messages that one Publish takes (https://cloud.google.com/pubsub/quotas).
	maxMessages = 1000
	// maxSpare bounds, in bytes, the memory that is kept from one group for the next.
	maxSpare = 2 * maxGroupBytes
)

var (
	// ErrFull is the case of an Add that would exceed the bound on pending bytes. Nothing was added.
	ErrFull = errors.New("as much is waiting to be published as may wait")
	// ErrPublish is the case of an Add whose publish failed, or was cut off by a stop. It may have been published all
	// the same: what is not known to be durable is not promised.
	ErrPublish = errors.New("publishing failed")
	// ErrStopped is the case of an Add after the end of Run's context. Nothing was added.
	ErrStopped = errors.New("publishing has stopped")
)

// Publisher puts messages on the increments topic.
type Publisher interface {
	// Publish returns nil when all messages are durable. An error leaves open which of them are. It returns soon after
	// its context ends. The messages are what one Publish request of Pub/Sub may carry, 1,000 and less than 10 MB; only
	// a single Add that touches more partitions than that is given whole all the same.
	Publish(ctx context.Context, messages []broker.Message) error
}

// Entry is what one item of a request counts: an increment (Tag and Value), a contribution (Contributor), or an increment
// that is its contributor's contribution as well (all three). Its values keep the rules of package increment.
type Entry struct {
	Tag         string
	Contributor string
	Value       uint8
	// Key is the idempotency key of both; zero is none.
	Key message.Key
}

// size is the number of bytes that the entry takes in messages.
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

// Batcher collects entries and publishes them. Add may be called from many goroutines; Run is the one publisher loop.
type Batcher struct {
	publisher  Publisher
	identity   message.Publisher
	partitions int
	limit      int
	log        zerolog.Logger
	outage     *logging.Outage
	observer   Observer

	// traced bounds the lines that follow traces.
	traced *rate.Limiter

	// Below is Run's alone.

	// sequences holds, by partition, the number of the last message.
	sequences []uint64
	account   account

	mu sync.Mutex
	// waiting are the groups that Run has not taken yet, the oldest first. The last one fills.
	waiting []*group
	// spare is the group that was published last, emptied, for its memory.
	spare *group
	// held is the number of bytes in waiting and in the group that is being published.
	held    int
	stopped bool

	// added tells Run that waiting has a first group.
	added chan struct{}
}

// New makes a Batcher that spreads entries over partitions, 1 to increment.MaxPartitions, and holds at most limit bytes
// pending or being published, at least MaxAdd. It is a publisher of its own: one life, one random identity.
func New(publisher Publisher, partitions, limit int, log zerolog.Logger) *Batcher {
	return &Batcher{
		publisher:  publisher,
		identity:   message.NewPublisher(),
		partitions: partitions,
		limit:      limit,
		log:        log,
		outage:     logging.NewOutage(log, zerolog.ErrorLevel, "publish"),
		observer:   unobserved{},
		traced:     rate.NewLimiter(tracesASecond, tracesASecond),
		sequences:  make([]uint64, partitions),
		account:    newAccount(log),
		added:      make(chan struct{}, 1),
	}
}

// Add adds all entries or none, and returns nil when they are published. It copies them. The errors are ErrFull and
// ErrStopped, when nothing was added, ErrPublish, and the context's own: a caller that stops waiting takes nothing back,
// what it added is published all the same.
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
	published, err := b.add(entries, size, parts, tracecontext.From(ctx))
	if err != nil {
		return err
	}
	select {
	case <-published.done:
		return published.err
	case <-ctx.Done():
		return fmt.Errorf("wait for the publish: %w", ctx.Err())
	}
}

// add puts entries, which take size bytes and come to as many increments and contributions as parts says, into the group
// that fills. The messages that take them belong to trace, if it is followed.
func (b *Batcher) add(entries []Entry, size, parts int, trace tracecontext.Trace) (*outcome, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.stopped {
		return nil, ErrStopped
	}
	if b.held+size > b.limit {
		return nil, ErrFull
	}
	b.held += size
	// The most messages that can be opened for these: one for each, or each partition's and those that are cut.
	messages := min(parts, b.partitions+parts/message.MaxEntries)
	last := len(b.waiting) - 1
	if last < 0 || !b.waiting[last].fits(size, messages) {
		b.waiting = append(b.waiting, b.fresh())
		if last++; last == 0 {
			select {
			case b.added <- struct{}{}:
			default: // Run has yet to look
			}
		}
	}
	g := b.waiting[last]
	g.add(entries, size, trace)
	return g.published, nil
}

// fresh returns an empty group.
func (b *Batcher) fresh() *group {
	g := b.spare
	if b.spare = nil; g == nil {
		g = &group{open: make([]int32, b.partitions)}
	}
	g.published = &outcome{done: make(chan struct{})}
	return g
}

// Run publishes until ctx ends, and then what is left, for at most StopTimeout. It always returns nil: what could not be
// published was answered with an error.
func (b *Batcher) Run(ctx context.Context) error {
	life, end := outlast(ctx, StopTimeout)
	defer end()
	var last time.Time
	for ctx.Err() == nil {
		pause(ctx, time.Until(last.Add(spacing)))
		if g := b.take(); g != nil {
			last = time.Now()
			b.publish(life, g)
			continue
		}
		select {
		case <-b.added:
		case <-b.account.untold():
			b.account.tell()
		case <-ctx.Done():
		}
	}
	b.mu.Lock()
	b.stopped = true
	b.mu.Unlock()
	for g := b.take(); g != nil; g = b.take() {
		b.publish(life, g)
	}
	b.account.tell()
	return nil
}

// pause waits for d or until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	if d <= 0 {
		return
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// outlast returns a context that ends d after ctx does.
func outlast(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	life, end := context.WithCancel(context.WithoutCancel(ctx))
	unregister := context.AfterFunc(ctx, func() {
		timer := time.AfterFunc(d, end)
		context.AfterFunc(life, func() { timer.Stop() })
	})
	return life, func() {
		unregister()
		end()
	}
}

// take returns the oldest group and leaves the next one to fill, or nil when there is none.
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

// publish sends one group and tells everybody who waits for it.
func (b *Batcher) publish(ctx context.Context, g *group) {
	ctx, done := b.observer.Publishing(ctx, g.publishing())
	messages := b.encode(g, tracecontext.From(ctx))
	ctx, cancel := context.WithTimeout(ctx, PublishTimeout)
	defer cancel()
	err := b.publisher.Publish(ctx, messages)
	done(err)
	if err != nil {
		b.outage.Failed(err, func(e *zerolog.Event) { e.Int("messages", len(messages)).Int("bytes", g.size) })
		g.published.err = fmt.Errorf("%w: %w", ErrPublish, err)
	} else {
		b.outage.Succeeded()
		b.report(ctx, g, messages)
	}
	published := g.published
	b.release(g)
	close(published.done)
}

// release gives back the room that a published group took, before anybody who waited for it adds more.
func (b *Batcher) release(g *group) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.held -= g.size
	if g.reset(); g.capacity() <= maxSpare {
		b.spare = g
	}
}

// encode turns a group into messages and gives each its sequence. A sequence is used up by the attempt: a publish that
// failed may have landed, and two messages must never share a number. A message that belongs to the trace of the publish
// comes from that span of it.
func (b *Batcher) encode(g *group, publish tracecontext.Trace) []broker.Message {
	messages := make([]broker.Message, len(g.batches))
	for i := range messages {
		batch := &g.batches[i]
		b.sequences[batch.partition]++
		batch.sequence = b.sequences[batch.partition]
		messages[i].Data = batch.entries.Encode(b.identity, batch.partition, batch.sequence, batch.acceptedAt)
		for j := range batch.traces {
			if batch.traces[j].ID == publish.ID {
				batch.traces[j] = publish
			}
		}
		messages[i].Attributes = tracecontext.Attributes(batch.traces)
	}
	return messages
}

// group is what one publish carries. A group never grows once Run has taken it.
type group struct {
	batches []batch
	// open holds, by partition, the number of the batch that takes entries, counted from 1; 0 for none.
	open []int32
	// size is the number of bytes of all entries.
	size      int
	published *outcome
	// traces are the followed ones among those of the batches.
	traces []tracecontext.Trace
}

// batch is one message in the making.
type batch struct {
	partition uint32
	// acceptedAt is the time of the first entry.
	acceptedAt time.Time
	entries    message.Builder
	// sequence is given when the group is encoded.
	sequence uint64
	// sum is that of the values of all increments.
	sum int
	// traces are the followed ones that the entries came with.
	traces []tracecontext.Trace
}

// outcome is what the requests of one group wait for. Err is set before done is closed, and never after.
type outcome struct {
	done chan struct{}
	err  error
}

// fits says whether the group has room for size bytes in at most so many more messages. An empty group takes anything.
func (g *group) fits(size, messages int) bool {
	return len(g.batches) == 0 || g.size+size <= maxGroupBytes && len(g.batches)+messages <= maxMessages
}

func (g *group) add(entries []Entry, size int, trace tracecontext.Trace) {
	g.size += size
	g.traces = tracecontext.Add(g.traces, trace)
	for i := range entries {
		if e := &entries[i]; e.Tag != "" {
			b := g.batch(e.Tag, trace)
			b.entries.AddIncrement(e.Tag, e.Value, e.Key)
			b.sum += int(e.Value)
		}
		if e := &entries[i]; e.Contributor != "" {
			g.batch(e.Contributor, trace).entries.AddContribution(e.Contributor, e.Key)
		}
	}
}

// batch returns the batch that takes the next entry of key's partition, which came with trace.
func (g *group) batch(key string, trace tracecontext.Trace) *batch {
	b := g.opened(key)
	b.traces = tracecontext.Add(b.traces, trace)
	return b
}

// opened returns the batch of key's partition, a new one if the last is full. MaxEntries is the only bound that it needs:
// so many of the largest entries come to some 520 KB.
func (g *group) opened(key string) *batch {
	partition := increment.Partition(key, uint32(len(g.open))) //nolint:gosec // at most increment.MaxPartitions
	if i := g.open[partition]; i > 0 && g.batches[i-1].entries.Entries() < message.MaxEntries {
		return &g.batches[i-1]
	}
	n := len(g.batches)
	if n == cap(g.batches) {
		g.batches = append(g.batches, batch{})
	} else {
		g.batches = g.batches[:n+1] // with the memory that reset left
	}
	g.open[partition] = int32(n + 1) //nolint:gosec // two messages for each entry of one Add at the most
	g.batches[n].partition, g.batches[n].acceptedAt = partition, time.Now()
	return &g.batches[n]
}

// reset empties the group and keeps its memory.
func (g *group) reset() {
	for i := range g.batches {
		g.open[g.batches[i].partition] = 0
		b := &g.batches[i]
		b.entries.Reset()
		b.sum, b.traces = 0, nil
	}
	g.batches, g.size, g.published, g.traces = g.batches[:0], 0, nil, nil
}

// capacity is the memory, in bytes, that an empty group holds.
func (g *group) capacity() int {
	n := 0
	for i := range g.batches[:cap(g.batches)] {
		n += g.batches[:cap(g.batches)][i].entries.Capacity()
	}
	return n
}
