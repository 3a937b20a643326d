package partition

import (
	"context"
	"errors"
	"time"

	"github.com/accrue/accrue/aggregator/internal/delivery"
	"github.com/accrue/accrue/aggregator/internal/idempotency"
	"github.com/accrue/accrue/aggregator/internal/window"
	"github.com/accrue/accrue/pkg/checkpoint"
	"github.com/accrue/accrue/pkg/message"
	"github.com/accrue/accrue/pkg/store"
)

const (
	// keepKeysFor is how much longer than the horizon idempotency keys are kept in the store, so that repeats are recognized in
	// messages that waited as long while no aggregator ran.
	keepKeysFor = time.Hour
	// keysPage is how many Commits' keys are read at once.
	keysPage = 300
	// foldsPage is how many folds are read at once: each can be nearly 1 MiB.
	foldsPage = 8
)

// The reasons of rejected entries.
const (
	reasonFull    = "the partition's checkpoint is full and takes no new tags"
	reasonRefused = "the store refuses the document"
)

// draft is a Commit in the making.
type draft struct {
	// deliveries are the first of the pending ones, all that the Commit settles. Counted of them are in the checkpoint
	// already, or again in the draft.
	deliveries []*delivery.Delivery
	counted    int
	// fresh are the others, each of another message, in the order of messages.
	fresh    []*delivery.Delivery
	messages []checkpoint.Message
	sums     *window.Sums
	claim    *idempotency.Claim
	rejected []checkpoint.Rejected
	// crowded says that an entry was rejected for room that is taken by what is owed.
	crowded bool
	// uses are the numbers of partitions of the messages with keys, and related the other partitions that may have their
	// keys.
	uses    map[uint32]bool
	related map[uint32]store.Peeked
	// rejectedSize bounds rejected, packed. size is that of the totals after the Commit.
	rejectedSize, size int
	entries            int
}

// step settles some of the pending messages, and returns an error if it could not.
func (p *partition) step(ctx context.Context) error {
	if !p.loaded {
		if err := p.load(ctx); err != nil {
			return err
		}
	}
	d, err := p.draft(ctx)
	if err != nil {
		return err
	}
	if len(d.messages) == 0 { // all are in the checkpoint
		p.done(d)
		return nil
	}
	commit := p.commitOf(d)
	switch fits := p.sequencesFit(&commit.Next, d.size+commit.Next.OwedSize()); {
	case (d.crowded || !fits) && len(p.payable(1)) > 0:
		return p.payOnce(ctx)
	case !fits:
		return p.joinFirst(d)
	case len(commit.Tags) > p.settings.Documents && len(d.deliveries) > 1 && d.sums.TagsOwed: // there is no room to owe them
		p.most = len(d.deliveries) / 2
		return nil
	}
	if err := p.check(d, &commit); err != nil {
		p.loaded = false
		return err
	}
	err = p.commit(ctx, d, &commit)
	switch {
	case err == nil:
		p.done(d)
		p.most = min(2*p.most, maxMessages)
		return nil
	case errors.Is(err, store.ErrRefused):
		return p.findRefused(ctx, d, &commit, err)
	case errors.Is(err, context.DeadlineExceeded):
		p.most = max(1, len(d.deliveries)/2)
	}
	p.loaded = false
	return err
}

// load reads the checkpoint.
func (p *partition) load(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, commitTimeout)
	defer cancel()
	state, err := p.ledger.Load(ctx, p.no)
	if err != nil {
		p.failed(err)
		return err
	}
	p.replace(state, clockAt(state.ReadAt), state.Checkpoint.TotalsSize())
	p.loaded, p.layouts.readAt, p.owing.unloaded = true, time.Time{}, false
	p.sampler.loaded(p.no, &p.state.Checkpoint)
	return nil
}

// replace makes a state the present one, whose totals have a size.
func (p *partition) replace(state store.State, answered clock, size int) {
	p.state, p.clock, p.size, p.room = state, answered, size, state.Checkpoint.TotalsRoom()
	p.owed = state.Checkpoint.OwedSize()
	p.weigh()
}

// draft makes a Commit of as many pending messages as its bounds allow.
func (p *partition) draft(ctx context.Context) (*draft, error) {
	d := &draft{sums: window.NewSums(), claim: p.index.Claim(), size: p.size, uses: make(map[uint32]bool), related: make(map[uint32]store.Peeked)}
	d.sums.TagsOwed = p.settings.TagDocuments != 0
	for i, next := range p.pending {
		b := next.Batch
		if i >= p.most || d.entries > 0 && d.entries+b.Entries() > maxEntries ||
			len(d.claim.Ranges) > 0 && len(d.claim.Ranges)+b.Entries() > checkpoint.MaxKeyRanges || !d.sums.Fits(b, p.settings.Documents) {
			break
		}
		id := next.Identity()
		if p.state.Checkpoint.Contains(id) || len(d.messages) > 0 && d.messages[len(d.messages)-1] == id {
			d.counted++
			d.deliveries = p.pending[:i+1]
			continue
		}
		if d.rejectedSize > 0 && d.rejectedSize+worstRejected(b) > checkpoint.MaxRejected {
			break
		}
		if idempotency.HasKeys(b) {
			if err := p.learnReleased(ctx); err != nil {
				return nil, err
			}
			if i > 0 && p.index.Missing(b.AcceptedAt, p.state.Checkpoint.Commit) {
				break // what is before it can be committed
			}
			if err := p.learn(ctx, p.index, p.no, b.AcceptedAt, p.state.Checkpoint.Commit); err != nil {
				return nil, err
			}
			fits, err := p.relate(ctx, d, b)
			if err != nil {
				return nil, err
			}
			if !fits {
				break
			}
			d.claim.Begin(b.AcceptedAt, b.Partitions)
			if b.Partitions > 0 {
				d.uses[b.Partitions] = true
			}
		}
		d.deliveries, d.messages, d.fresh = p.pending[:i+1], append(d.messages, id), append(d.fresh, next)
		d.entries += b.Entries()
		p.sum(d, b)
	}
	return d, nil
}

// sum adds the entries of b to the draft: those that repeat a key are left out, and those that cannot be counted are
// rejected.
func (p *partition) sum(d *draft, b *message.Batch) {
	for i := range b.Increments {
		inc := &b.Increments[i]
		if !d.claim.Increment(inc) {
			continue
		}
		tag, fresh := d.sums.Tag(inc.Tag)
		if fresh {
			tag.Rejected = p.judge(d, inc.Tag)
		}
		if tag.Rejected == "" {
			tag.Add(int64(inc.Value))
		} else {
			d.reject(checkpoint.Rejected{Tag: inc.Tag, Value: inc.Value, Key: inc.Key, Reason: tag.Rejected})
		}
	}
	for i := range b.Contributions {
		c := &b.Contributions[i]
		if !d.claim.Contribution(c) {
			continue
		}
		contributor, fresh := d.sums.Contributor(c.Contributor)
		if fresh {
			contributor.Rejected = p.refused[document{contributor: c.Contributor}]
		}
		if contributor.Rejected == "" {
			contributor.Add(1)
		} else {
			d.reject(checkpoint.Rejected{Contributor: c.Contributor, Key: c.Key, Reason: contributor.Rejected})
		}
	}
}

// judge returns why no increment of a tag can be counted, or "" and makes room for the tag if it is new.
func (p *partition) judge(d *draft, tag string) string {
	if reason := p.refused[document{tag: tag}]; reason != "" {
		return reason
	}
	if p.state.Checkpoint.Has(tag) {
		return ""
	}
	if d.size+checkpoint.TagSize(tag) > p.totalsRoom() {
		d.crowded = d.crowded || d.size+checkpoint.TagSize(tag) <= p.room
		return reasonFull
	}
	d.size += checkpoint.TagSize(tag)
	return ""
}

func (d *draft) reject(entry checkpoint.Rejected) {
	d.rejected = append(d.rejected, entry)
	d.rejectedSize += entry.Size()
}

// worstRejected is the size of b's entries if all of them are rejected.
func worstRejected(b *message.Batch) (size int) {
	for i := range b.Increments {
		size += (&checkpoint.Rejected{Tag: b.Increments[i].Tag, Key: b.Increments[i].Key}).Size()
	}
	for i := range b.Contributions {
		size += (&checkpoint.Rejected{Contributor: b.Contributions[i].Contributor, Key: b.Contributions[i].Key}).Size()
	}
	return size
}

// learn reads into the index of a partition the idempotency keys that must be known to count a message that was accepted at a
// time, and that others have settled up to a Commit, or an earlier life of this process. What was read is kept if a later page
// fails.
func (p *partition) learn(ctx context.Context, index *idempotency.Index, of uint32, acceptedAt time.Time, commit uint64) error {
	for index.Missing(acceptedAt, commit) {
		after := index.Next()
		folds, page, last, err := p.keysAfter(ctx, of, after, commit)
		if err != nil {
			p.failed(err)
			return err
		}
		if len(folds) > 0 {
			p.forgotten(index.LearnFolds(after, folds))
		} else {
			p.forgotten(index.Learn(after, page, last, commit))
		}
	}
	return nil
}

// learnReleased reads the keys that version 0.1 has settled, once: there are some for a day after an upgrade.
func (p *partition) learnReleased(ctx context.Context) error {
	if p.released || len(p.state.Checkpoint.Released) == 0 {
		return nil
	}
	first, err := p.state.Checkpoint.Released.First()
	for more := true; more && err == nil; {
		var page []store.CommitKeys
		if page, err = p.releasedPage(ctx, first); err == nil {
			if more = len(page) == keysPage; more {
				first = page[len(page)-1].Commit + 1
			}
			p.forgotten(p.index.LearnReleased(page))
		}
	}
	if err != nil {
		p.failed(err)
		return err
	}
	p.released = true
	return nil
}

func (p *partition) releasedPage(ctx context.Context, first uint64) ([]store.CommitKeys, error) {
	ctx, cancel := context.WithTimeout(ctx, commitTimeout)
	defer cancel()
	return p.ledger.ReleasedKeys(ctx, p.no, first, keysPage)
}

// keysAfter returns the keys of some Commits of a partition after a position: in folds, if there are any and many are to be
// read, and else Commit by Commit. Last says that no more follow.
func (p *partition) keysAfter(
	ctx context.Context, of uint32, after store.KeysPosition, commit uint64,
) (folds []store.Fold, page []store.CommitKeys, last bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, commitTimeout)
	defer cancel()
	if after.Commit+idempotency.FoldCommits < commit {
		if folds, err = p.ledger.Folds(ctx, of, after, foldsPage); err != nil {
			return nil, nil, false, err
		}
	}
	if len(folds) > 0 && !after.Before(folds[0].After) {
		for i := range folds[1:] {
			if folds[i].Before(folds[i+1].After) {
				return folds[:i+1], nil, false, nil
			}
		}
		return folds, nil, false, nil
	}
	if page, err = p.ledger.Keys(ctx, of, after, keysPage); err != nil || len(folds) == 0 {
		return nil, page, len(page) < keysPage, err
	}
	// The first fold begins later: what is between comes first.
	for i := range page {
		if folds[0].After.Before(page[i].KeysPosition) {
			page = page[:i]
			break
		}
	}
	if len(page) == 0 {
		return folds[:1], nil, false, nil
	}
	return nil, page, false, nil
}

// commitOf makes the Commit of a draft.
func (p *partition) commitOf(d *draft) store.Commit {
	deltas := d.sums.Deltas()
	commit := p.next(d.messages, deltas)
	p.settleTags(&commit, deltas, d.size)
	commit.Contributors, commit.Keys, commit.Rejected = d.sums.Contributions(), d.claim.Ranges, d.rejected
	commit.AcceptedAt = d.fresh[0].Batch.AcceptedAt
	for _, held := range d.fresh[1:] {
		if held.Batch.AcceptedAt.Before(commit.AcceptedAt) {
			commit.AcceptedAt = held.Batch.AcceptedAt
		}
	}
	p.rely(d, &commit)
	if len(commit.Keys) > 0 {
		commit.Fold = p.index.Fold()
	}
	return commit
}

// next makes a Commit that settles messages, which add deltas. It writes no documents of tags yet.
func (p *partition) next(messages []checkpoint.Message, deltas []checkpoint.Delta) store.Commit {
	next := p.state.Checkpoint.Next(p.clock.now(), p.settings.Retention(), messages, deltas)
	return store.Commit{
		Partition: p.no, Revision: p.state.Revision, Next: next,
		KeepKeys: p.settings.Horizon + keepKeysFor, Closed: p.state.Checkpoint.Closed(&next),
	}
}

// write sends a Commit, and takes its state over if it is in.
func (p *partition) write(ctx context.Context, commit *store.Commit, claim *idempotency.Claim, size int) error {
	select {
	case p.slots <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	ctx, cancel := context.WithTimeout(ctx, commitTimeout)
	revision, err := p.ledger.Commit(ctx, *commit)
	cancel()
	<-p.slots
	if err != nil {
		p.failed(err)
		return err
	}
	p.outages.commit.Succeeded()
	p.replace(store.State{Checkpoint: commit.Next, Revision: revision}, clockAt(revision.UpdateTime), size)
	if commit.Fold != nil {
		p.index.Folded(commit.Fold)
	}
	p.forgotten(p.index.Confirm(claim, store.KeysPosition{At: commit.Next.UpdatedAt, Commit: commit.Next.Commit}))
	return nil
}

// done settles the deliveries of a draft, which are in the checkpoint.
func (p *partition) done(d *draft) {
	p.metrics.duplicates.Add(context.Background(), int64(d.counted))
	p.settler.Settled(d.deliveries)
	p.forget(d.deliveries)
	p.pending = p.pending[len(d.deliveries):]
}
