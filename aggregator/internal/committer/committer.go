// Package committer is the way from the subscription to the store: it pulls batch messages, holds them by partition for
// a window, commits each partition's window at once, and only then acknowledges (design section 4). Whatever is killed,
// redelivered or retried underneath, a message's increments are in the store exactly once: the checkpoint, which changes
// in the same Commit as the sums, is the one judge of what has been counted.
package committer

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/accrue/accrue/aggregator/internal/idempotency"
	"github.com/accrue/accrue/pkg/broker"
	"github.com/accrue/accrue/pkg/message"
	"github.com/accrue/accrue/pkg/service"
	"github.com/accrue/accrue/pkg/store"
)

// Source is the subscription that messages are pulled from.
type Source interface {
	// Pull leases up to limit messages; none, after a while, if there are none.
	Pull(ctx context.Context, limit int) ([]broker.Delivery, error)
	// Acknowledge ends deliveries for good.
	Acknowledge(ctx context.Context, receipts []string) error
	// Extend lets leases end after d from now; zero gives the messages back at once.
	Extend(ctx context.Context, receipts []string, d time.Duration) error
}

// Ledger is where the partitions are kept.
type Ledger interface {
	// Load returns a partition's checkpoint.
	Load(ctx context.Context, partition uint32) (store.State, error)
	// Keys returns the idempotency keys of a partition's Commits from the first to the last of these numbers, as far as they
	// are kept.
	Keys(ctx context.Context, partition uint32, first, last uint64) ([]store.CommitKeys, error)
	// Commit replaces it and changes the documents that belong to it, all or nothing. The errors are
	// store.ErrConflict, store.ErrRefused, and others, after which the outcome is unknown.
	Commit(ctx context.Context, commit store.Commit) (store.Revision, error)
}

// DeadLetters is the topic of messages that cannot be applied.
type DeadLetters interface {
	Publish(ctx context.Context, messages []broker.Message) error
}

// Settings are the committer's bounds. All are positive.
type Settings struct {
	// Window is the time for which a partition sums before it commits.
	Window time.Duration
	// Documents is the most documents that one Commit changes, beside the checkpoint.
	Documents int
	// BufferBytes bounds what is held in memory. While more is held nothing is pulled: that is the back-pressure. A few
	// pulls that were under way can exceed it by what they bring.
	BufferBytes int64
	// AckDeadline is how long the subscription leases a message.
	AckDeadline time.Duration
	// Retention is how long after its publication a message can still be delivered, plus a margin. Publishers that were
	// silent for longer leave the checkpoint.
	Retention time.Duration
	// Horizon is for how long after its acceptance an idempotency key is known.
	Horizon time.Duration
	// Keys bounds the idempotency keys that are held in memory: beyond it the oldest are forgotten before their time.
	Keys int
	// Drain bounds the last flush after the stop.
	Drain time.Duration
	// Observer, unless it is nil, is told of each Commit.
	Observer Observer
}

const (
	// pulls is how many Pull calls are under way at once: enough that one decodes while another waits.
	pulls = 4
	// pullsPerWindow is how often each of them pulls while it finds few messages. What arrives waits for the window's end
	// anyhow, and each call has its price, in the cloud and on a small machine: docs/measured.md.
	pullsPerWindow = 20
	// pullMoment is how long, after the stop, a Pull that is under way may still bring messages: longer than one waits
	// for a first message (broker/pubsub), so that it ends by itself.
	pullMoment = 2200 * time.Millisecond
	// commitTimeout bounds one call to the store; its outcome is unknown after that.
	commitTimeout = 10 * time.Second
	// callTimeout bounds one call to the broker.
	callTimeout = 5 * time.Second
	// keepKeysFor is how much longer than the horizon idempotency keys are kept in the store: messages that waited for so
	// long, while no aggregator ran, are still told from repeats.
	keepKeysFor = time.Hour
	// keySlack is for clocks that differ.
	keySlack = time.Minute
	// commitsUnderWay bounds how many partitions commit at the same time.
	commitsUnderWay = 64
)

// Committer counts what one subscription delivers. Any number of them may work on the same subscription and store.
type Committer struct {
	settings    Settings
	source      Source
	ledger      Ledger
	deadLetters DeadLetters
	log         zerolog.Logger
	outages     outages
	told        told
	buffer      *buffer
	slots       chan struct{}
	counts      counts
	keys        *idempotency.Index

	mu         sync.Mutex
	partitions map[uint32]*partition
}

// New makes a committer. Run starts it.
func New(settings Settings, source Source, ledger Ledger, deadLetters DeadLetters, log zerolog.Logger) *Committer {
	return &Committer{
		settings: settings, source: source, ledger: ledger, deadLetters: deadLetters, log: log,
		outages: newOutages(log), told: newTold(),
		buffer:     newBuffer(settings.BufferBytes),
		keys:       idempotency.NewIndex(settings.Horizon, settings.Keys),
		slots:      make(chan struct{}, commitsUnderWay),
		partitions: make(map[uint32]*partition),
	}
}

// Run pulls and commits until ctx ends. Then it pulls no more, commits what it holds, and gives back what it could not
// commit within Settings.Drain. It may be called once. A panic in one of its goroutines ends it in the same way, and is
// its error.
func (c *Committer) Run(ctx context.Context) error {
	ctx, guard := service.NewGuard(ctx)
	// Commits outlive ctx by the drain: they are what the drain is for.
	commits, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	drain := make(chan struct{})

	var pullers, partitions, leases sync.WaitGroup
	start := func(p *partition) {
		partitions.Go(guard.Of(func() { p.run(commits, drain) }))
	}
	// A pull that is cut off loses what it would have brought until the leases end, so those under way get a moment.
	pulling, stopPulling := context.WithCancel(context.WithoutCancel(ctx))
	defer stopPulling()
	for range pulls {
		pullers.Go(guard.Of(func() { c.pull(ctx, pulling, start) }))
	}
	leases.Go(guard.Of(func() { c.keepLeases(commits) }))

	<-ctx.Done()
	moment := time.AfterFunc(pullMoment, stopPulling)
	defer moment.Stop()
	pullers.Wait() // from here on nothing is added to a partition
	deadline := time.AfterFunc(c.settings.Drain, cancel)
	defer deadline.Stop()
	close(drain)
	partitions.Wait()
	cancel()
	leases.Wait()
	c.release(context.WithoutCancel(ctx))
	c.counts.report(c.log)
	return guard.End()
}

// release gives back what was not committed, so that another aggregator has it at once and not when the leases end.
func (c *Committer) release(ctx context.Context) {
	var receipts []string
	for _, p := range c.all() {
		for _, h := range p.held() {
			receipts = append(receipts, h.receipts...)
		}
	}
	if len(receipts) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	err := c.source.Extend(ctx, receipts, 0)
	c.log.Warn().Err(err).Int("messages", len(receipts)).Msg("stopped before everything was committed; the rest was given back")
}

// all returns the partitions that there are.
func (c *Committer) all() []*partition {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := make([]*partition, 0, len(c.partitions))
	for _, p := range c.partitions {
		all = append(all, p)
	}
	return all
}

// partition returns the partition of a number, made and started if it is new.
func (c *Committer) partition(number uint32, start func(*partition)) *partition {
	c.mu.Lock()
	defer c.mu.Unlock()
	p, ok := c.partitions[number]
	if !ok {
		p = newPartition(c, number)
		c.partitions[number] = p
		start(p)
	}
	return p
}

// reject hands messages that cannot be applied to the dead-letter topic, each with its reason, and acknowledges them.
// If that fails they are left alone: their leases end, they are delivered again, and it is tried again.
func (c *Committer) reject(ctx context.Context, rejected []rejection) {
	messages := make([]broker.Message, len(rejected))
	var receipts []string
	for i, r := range rejected {
		attributes := make(map[string]string, len(r.message.Attributes)+1)
		for name, value := range r.message.Attributes {
			attributes[name] = value
		}
		attributes[message.ReasonAttribute] = reasonText(r.reason)
		messages[i] = broker.Message{Data: r.message.Data, Attributes: attributes}
		receipts = append(receipts, r.receipts...)
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if err := c.deadLetters.Publish(ctx, messages); err != nil {
		c.outages.deadLetter.Failed(err, nil) // the messages come again
		return
	}
	c.outages.deadLetter.Succeeded()
	total := c.counts.deadLettered.Add(int64(len(messages)))
	c.outages.apply.Failed(rejected[0].reason, func(e *zerolog.Event) {
		e.Int("messages", len(messages)).Int64("dead_lettered", total) // these, and since the start
	})
	c.acknowledge(ctx, receipts)
}

// reasonText is a reason cut to what Pub/Sub takes in an attribute: 1,024 bytes of UTF-8.
func reasonText(reason error) string {
	const limit = 1000
	text := reason.Error()
	if len(text) > limit {
		text = text[:limit]
	}
	return string([]rune(text)) // a character that the cut, or the message, broke becomes U+FFFD
}

// rejection is a message that cannot be applied.
type rejection struct {
	message  broker.Message
	receipts []string
	reason   error
}

// acknowledge ends deliveries whose messages are counted or dead-lettered. A failure costs a second delivery, which the
// checkpoint drops.
func (c *Committer) acknowledge(ctx context.Context, receipts []string) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	switch err := c.source.Acknowledge(ctx, receipts); {
	case err == nil:
		c.outages.acknowledge.Succeeded()
	case !errors.Is(err, context.Canceled):
		c.outages.acknowledge.Failed(err, nil) // the messages come again and are dropped
	}
}

// keepLeases extends the leases of what is held for half the ack deadline or longer, which happens only when a commit
// is late, until ctx ends.
func (c *Committer) keepLeases(ctx context.Context) {
	ticker := time.NewTicker(c.settings.AckDeadline / 6)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		late := time.Now().Add(-c.settings.AckDeadline / 2)
		var receipts []string
		for _, p := range c.all() {
			receipts = append(receipts, p.renew(late)...)
		}
		if len(receipts) == 0 {
			continue
		}
		switch err := c.extend(ctx, receipts); {
		case err == nil:
			c.outages.extend.Succeeded()
		case ctx.Err() == nil:
			c.outages.extend.Failed(err, nil) // the messages may come again and be dropped
		}
	}
}

func (c *Committer) extend(ctx context.Context, receipts []string) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if err := c.source.Extend(ctx, receipts, c.settings.AckDeadline); err != nil {
		return fmt.Errorf("extend leases: %w", err)
	}
	return nil
}
