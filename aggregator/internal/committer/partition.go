package committer

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/accrue/accrue/aggregator/internal/idempotency"
	"github.com/accrue/accrue/aggregator/internal/window"
	"github.com/accrue/accrue/pkg/broker"
	"github.com/accrue/accrue/pkg/checkpoint"
	"github.com/accrue/accrue/pkg/message"
	"github.com/accrue/accrue/pkg/store"
)

// held is a message that was pulled and is not yet committed.
type held struct {
	batch    *message.Batch
	message  broker.Message
	receipts []string // more than one if it was delivered again meanwhile
	leasedAt time.Time
	bytes    int64
}

func (h *held) identity() checkpoint.Message {
	return checkpoint.Message{Publisher: h.batch.Publisher, Sequence: h.batch.Sequence}
}

// trigger says why a window was committed.
type trigger string

const (
	byAge   trigger = "age"
	bySize  trigger = "size"
	byDrain trigger = "drain"
)

// partition sums and commits the windows of one partition, one after the other, in a goroutine of its own. While one
// window is being committed the next one fills.
type partition struct {
	c      *Committer
	number uint32
	// sizeLimit is how many bytes end a window early, so that no partition fills the buffer alone.
	sizeLimit int64
	added     chan struct{} // holds a token when open has changed

	mu         sync.Mutex
	open       []*held // the window that fills
	openBytes  int64
	openedAt   time.Time
	committing []*held   // the window that was detached, less what is settled
	dueAt      time.Time // when it was to be committed
	// weight is what is known of the checkpoint; nil before it is first loaded.
	weight atomic.Pointer[weight]

	// Below belongs to run alone.

	state  store.State
	loaded bool // state is the present one, as far as we know
	// keysOf is the last Commit whose idempotency keys are known.
	keysOf uint64
	// recent are the followed traces of the latest commits.
	recent []committedTrace
}

func newPartition(c *Committer, number uint32) *partition {
	return &partition{c: c, number: number, sizeLimit: max(1, c.settings.BufferBytes/16), added: make(chan struct{}, 1)}
}

// add puts messages into the open window.
func (p *partition) add(messages []*held) {
	p.mu.Lock()
	if len(p.open) == 0 {
		p.openedAt = time.Now()
	}
	p.open = append(p.open, messages...)
	for _, h := range messages {
		p.openBytes += h.bytes
	}
	p.mu.Unlock()
	select {
	case p.added <- struct{}{}:
	default: // a token is there already
	}
}

// held returns everything that is not settled.
func (p *partition) held() []*held {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append(append([]*held(nil), p.committing...), p.open...)
}

// renew returns the receipts of what was leased before late, as leased anew.
func (p *partition) renew(late time.Time) []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	var receipts []string
	for _, window := range [][]*held{p.committing, p.open} {
		for _, h := range window {
			if h.leasedAt.Before(late) {
				h.leasedAt = now
				receipts = append(receipts, h.receipts...)
			}
		}
	}
	return receipts
}

// run commits windows until drain is closed and nothing is left, or ctx ends.
func (p *partition) run(ctx context.Context, drain <-chan struct{}) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for ctx.Err() == nil {
		due, full, empty := p.due()
		why := byAge
		switch {
		case full:
			why = bySize
		default:
			timer.Reset(due)
			var age <-chan time.Time
			if !empty {
				age = timer.C
			}
			select {
			case <-p.added:
				continue
			case <-age:
			case <-drain:
				if empty {
					return
				}
				why = byDrain
			case <-ctx.Done():
				return
			}
		}
		p.detach()
		p.commit(ctx, why)
	}
}

// due returns how long the open window still has, whether it is full, and whether it is empty.
func (p *partition) due() (left time.Duration, full, empty bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return time.Until(p.openedAt.Add(p.c.settings.Window)), p.openBytes >= p.sizeLimit, len(p.open) == 0
}

// detach makes the open window the one that is committed, so that no lock is held while it is.
func (p *partition) detach() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.committing, p.open, p.openBytes = p.open, nil, 0
	if p.dueAt = p.openedAt.Add(p.c.settings.Window); time.Now().Before(p.dueAt) {
		p.dueAt = time.Now() // by size or by the drain: it is due now
	}
}

// commit counts the detached window: it drops what the checkpoint has, sums the rest, and commits it in as few Commits
// as the limit of documents allows. It tries until everything is settled (counted by us, known to be counted by
// another, or dead-lettered) or ctx ends.
func (p *partition) commit(ctx context.Context, why trigger) {
	select {
	case p.c.slots <- struct{}{}:
		defer func() { <-p.c.slots }()
	case <-ctx.Done():
		return
	}
	pause := newBackOff()
	most := len(p.committing) // how many messages one Commit may hold: fewer while a message at fault is looked for
	for len(p.committing) > 0 && ctx.Err() == nil {
		if !p.loaded && !p.load(ctx) {
			sleep(ctx, pause.NextBackOff())
			continue
		}
		p.dropCounted(ctx)
		p.rejectWhatDoesNotFit(ctx)
		if len(p.committing) == 0 {
			return
		}
		batches := make([]*message.Batch, min(most, len(p.committing)))
		for i := range batches {
			batches[i] = p.committing[i].batch
		}
		batches = batches[:window.Cut(batches, p.c.settings.Documents)]
		batches = batches[:idempotency.Cut(batches)]
		switch err := p.commitOnce(ctx, batches, why); {
		case err == nil:
			p.settle(ctx, len(batches))
			most *= 2
			pause.Reset()
		case errors.Is(err, store.ErrRefused) && len(batches) > 1:
			most = len(batches) / 2
		case errors.Is(err, store.ErrRefused) && p.commitNothing(ctx):
			// The same Commit without the message went through: the message is at fault.
			p.rejectFirst(ctx, err)
		default:
			p.loaded = false
			sleep(ctx, pause.NextBackOff())
		}
	}
}

// load reads the checkpoint and says whether it could.
func (p *partition) load(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, commitTimeout)
	defer cancel()
	state, err := p.c.ledger.Load(ctx, p.number)
	if err != nil {
		p.c.counts.failed(p.c.outages.commit, err)
		return false
	}
	if err := p.learnKeys(ctx, &state.Checkpoint); err != nil {
		p.c.counts.failed(p.c.outages.commit, err)
		return false
	}
	p.state, p.loaded = state, true
	p.weigh()
	return true
}

// learnKeys reads the idempotency keys that somebody else has counted, or an earlier life of ours: those of Commits that
// we have not seen, as far back as the messages that wait can repeat one.
func (p *partition) learnKeys(ctx context.Context, c *checkpoint.Checkpoint) error {
	oldest := time.Now()
	for _, h := range p.committing {
		if h.batch.AcceptedAt.Before(oldest) {
			oldest = h.batch.AcceptedAt
		}
	}
	since := oldest.Add(-p.c.settings.Horizon - keySlack)
	first, ok := c.KeysSince(since)
	if first = max(first, p.keysOf+1); !ok || first > c.Commit {
		p.keysOf = c.Commit
		return nil
	}
	keys, err := p.c.ledger.Keys(ctx, p.number, first, c.Commit)
	if err != nil {
		return err
	}
	if since.Before(c.UpdatedAt.Add(-p.c.settings.Horizon - keepKeysFor)) {
		since = c.Keys[0].At // what was before may have expired
	}
	p.c.counts.forgotten(p.c.log, p.c.keys.Learn(p.number, since, keys))
	p.keysOf = c.Commit
	return nil
}

// dropCounted acknowledges the messages that the checkpoint has, and joins the deliveries of one message into one.
func (p *partition) dropCounted(ctx context.Context) {
	var receipts []string
	first := make(map[checkpoint.Message]*held, len(p.committing))
	p.remove(func(h *held) bool {
		if p.state.Checkpoint.Contains(h.identity()) {
			receipts = append(receipts, h.receipts...)
			return true
		}
		if f, again := first[h.identity()]; again {
			f.receipts = append(f.receipts, h.receipts...)
			return true
		}
		first[h.identity()] = h
		return false
	})
	if len(receipts) > 0 {
		p.c.counts.duplicates.Add(int64(len(receipts)))
		p.c.acknowledge(ctx, receipts)
	}
}

// errFull is the reason of a message with tags for which the checkpoint has no room. Redriving it after PARTITIONS was
// raised counts it: it is not in the checkpoint.
var errFull = errors.New("the partition's checkpoint is full and takes no new tags: raise PARTITIONS, then redrive")

// rejectWhatDoesNotFit dead-letters the messages whose new tags would bring the checkpoint above its limit. Messages
// with known tags alone go on.
func (p *partition) rejectWhatDoesNotFit(ctx context.Context) {
	size, entries := p.state.Checkpoint.Size(), 0
	for _, h := range p.committing {
		entries += len(h.batch.Increments)
	}
	if size+entries*checkpoint.TagSize(longestName) <= checkpoint.MaxSize { // no need to look at each
		return
	}
	let := make(map[string]bool) // the new tags that were let in
	var rejected []rejection
	p.remove(func(h *held) bool {
		grown := size
		fresh := make(map[string]bool)
		for _, inc := range h.batch.Increments {
			if !let[inc.Tag] && !fresh[inc.Tag] && !p.state.Checkpoint.Has(inc.Tag) {
				fresh[inc.Tag] = true
				grown += checkpoint.TagSize(inc.Tag)
			}
		}
		if len(fresh) > 0 && grown > checkpoint.MaxSize {
			rejected = append(rejected, rejection{message: h.message, receipts: h.receipts, reason: errFull})
			return true
		}
		for tag := range fresh {
			let[tag] = true
		}
		size = grown
		return false
	})
	if len(rejected) > 0 {
		p.c.reject(ctx, rejected)
	}
}

// longestName stands for the longest name that a tag may have.
const longestName = "_______________"

// commitOnce tries one Commit of the first messages, and takes its state over if it is in.
func (p *partition) commitOnce(ctx context.Context, batches []*message.Batch, why trigger) error {
	claim := p.c.keys.Claim(p.number, batches)
	sums := window.Sum(claim.Batches)
	messages := make([]checkpoint.Message, len(batches))
	for i, b := range batches {
		messages[i] = checkpoint.Message{Publisher: b.Publisher, Sequence: b.Sequence}
	}
	commit := p.commitOf(messages, sums, claim.Keys)
	commit.AcceptedAt = oldest(batches)
	ctx, done := p.observe(ctx, &commit, batches, why)
	err := p.write(ctx, commit)
	if done(err); err != nil {
		p.c.keys.Release(claim)
		return err
	}
	p.c.counts.forgotten(p.c.log, p.c.keys.Confirm(claim, commit.Next.UpdatedAt))
	p.c.counts.committed(claim, commit.Documents(), why)
	return nil
}

// commitOf makes the Commit that counts messages, which add sums and bring keys.
func (p *partition) commitOf(messages []checkpoint.Message, sums window.Sums, keys []checkpoint.SeenKey) store.Commit {
	next := p.state.Checkpoint.Next(time.Now(), p.c.settings.Retention, messages, sums.Tags)
	keep := p.c.settings.Horizon + keepKeysFor
	if len(keys) > 0 {
		next.MarkKeys(keep)
	}
	return store.Commit{
		Partition: p.number, Revision: p.state.Revision, Next: next,
		Tags: sums.Tags, Contributors: sums.Contributors,
		Keys: keys, KeepKeys: keep, Closed: p.state.Checkpoint.Closed(&next),
	}
}

// commitNothing commits the checkpoint as it is, and says whether that went through: whether a refusal was the fault of
// what was to be counted.
func (p *partition) commitNothing(ctx context.Context) bool {
	return p.write(ctx, p.commitOf(nil, window.Sums{}, nil)) == nil
}

func (p *partition) write(ctx context.Context, commit store.Commit) error {
	ctx, cancel := context.WithTimeout(ctx, commitTimeout)
	defer cancel()
	revision, err := p.c.ledger.Commit(ctx, commit)
	if err != nil {
		p.c.counts.failed(p.c.outages.commit, err)
		return err
	}
	p.c.outages.commit.Succeeded()
	p.state, p.keysOf = store.State{Checkpoint: commit.Next, Revision: revision}, commit.Next.Commit
	p.weigh()
	return nil
}

// settle acknowledges the first n messages, which are counted.
func (p *partition) settle(ctx context.Context, n int) {
	var receipts []string
	p.remove(func(h *held) bool {
		if n--; n < 0 {
			return false
		}
		receipts = append(receipts, h.receipts...)
		return true
	})
	p.c.acknowledge(ctx, receipts)
}

// rejectFirst dead-letters the first message, which the store refuses.
func (p *partition) rejectFirst(ctx context.Context, reason error) {
	h := p.committing[0]
	p.remove(func(other *held) bool { return other == h })
	p.c.reject(ctx, []rejection{{message: h.message, receipts: h.receipts, reason: reason}})
}

// remove takes the messages that are settled off the committing window and out of the buffer.
func (p *partition) remove(settled func(*held) bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var bytes int64
	kept := make([]*held, 0, len(p.committing))
	for _, h := range p.committing {
		if settled(h) {
			bytes += h.bytes
		} else {
			kept = append(kept, h)
		}
	}
	p.committing = kept
	p.c.buffer.add(-bytes)
}
