package partition

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"time"

	"github.com/accrue/accrue/aggregator/internal/idempotency"
	"github.com/accrue/accrue/pkg/checkpoint"
	"github.com/accrue/accrue/pkg/increment"
	"github.com/accrue/accrue/pkg/message"
	"github.com/accrue/accrue/pkg/store"
)

// After PARTITIONS has changed, or while instances of ingest differ in it, a key can be known in another partition: where its
// tag or contributor belongs by the other number. So a Commit with keys also relies on those partitions: it learns their
// keys, and is in conflict if one of them has changed meanwhile. Both sides know of each other, since a number of partitions
// is in the Layouts before it is used, and a Commit that relies on a partition makes sure that the partition's later Commits
// know as many of them: see store.Related.

const (
	// noteUse is how often the use of a number of partitions is noted. One whose use was not noted for longer than noteUse
	// and a margin counts as new, so that every partition learns of it again.
	noteUse     = time.Hour
	noteMargin  = time.Hour
	keepLayouts = 40 * 24 * time.Hour // longer than a horizon and than messages wait
	maxRelated  = 256                 // partitions that one Commit relies on, but for those of its first message
)

// layouts are the Layouts as a partition has read them, after its checkpoint.
type layouts struct {
	checkpoint.Layouts
	revision store.Revision
	readAt   time.Time // zero if they are to be read
}

// readLayouts reads the Layouts, unless they were read since the checkpoint and not too long ago.
func (p *partition) readLayouts(ctx context.Context) error {
	if !p.layouts.readAt.IsZero() && time.Since(p.layouts.readAt) < noteUse {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, commitTimeout)
	defer cancel()
	readAt := time.Now()
	read, revision, err := p.ledger.Layouts(ctx)
	if err != nil {
		p.failed(err)
		return err
	}
	p.layouts = layouts{read, revision, readAt}
	return nil
}

// others returns the other numbers of partitions by which an entry of b can have been settled within the horizon.
func (p *partition) others(b *message.Batch) (others []uint32) {
	for partitions, used := range p.layouts.Used {
		if partitions != b.Partitions && used.Add(noteUse+noteMargin+p.settings.Horizon+idempotency.Slack).After(b.AcceptedAt) {
			others = append(others, partitions)
		}
	}
	slices.Sort(others)
	return others
}

// relate learns the keys that b's entries may repeat and that other partitions have. It reports whether the draft takes b:
// not if it would rely on too many partitions.
func (p *partition) relate(ctx context.Context, d *draft, b *message.Batch) (fits bool, err error) {
	if err := p.readLayouts(ctx); err != nil {
		return false, err
	}
	others := p.others(b)
	d.claim.Others = nil
	if len(others) == 0 {
		p.forgetOthers()
		return true, nil
	}
	needed := make(map[uint32]bool)
	need := func(name string) {
		for _, partitions := range others {
			if other := increment.Partition(name, partitions); other != p.no {
				needed[other] = true
			}
		}
	}
	for i := range b.Increments {
		if b.Increments[i].Key != (message.Key{}) {
			need(b.Increments[i].Tag)
		}
	}
	for i := range b.Contributions {
		if b.Contributions[i].Key != (message.Key{}) {
			need(b.Contributions[i].Contributor)
		}
	}
	var fresh []uint32
	for other := range needed {
		if _, known := d.related[other]; !known {
			fresh = append(fresh, other)
		}
	}
	if len(d.messages) > 0 && len(d.related)+len(fresh) > maxRelated {
		return false, nil
	}
	if err := p.peek(ctx, d, fresh); err != nil {
		return false, err
	}
	for _, other := range slices.Sorted(maps.Keys(needed)) {
		index := p.elsewhere[other]
		if index == nil {
			index = idempotency.New(other, p.settings.Horizon, p.keys)
			p.elsewhere[other] = index
		}
		if err := p.learn(ctx, index, other, b.AcceptedAt, d.related[other].Commit); err != nil {
			return false, err
		}
		index.Forget(b.AcceptedAt)
	}
	for _, partitions := range others {
		d.claim.Others = append(d.claim.Others, idempotency.Layout{Partitions: partitions, Indexes: p.elsewhere})
	}
	return true, nil
}

// peek notes of which revision the partitions are that the draft relies on.
func (p *partition) peek(ctx context.Context, d *draft, partitions []uint32) error {
	if len(partitions) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, commitTimeout)
	defer cancel()
	all, err := p.ledger.Peek(ctx, partitions)
	if err != nil {
		p.failed(err)
		return err
	}
	for _, peeked := range all {
		d.related[peeked.Partition] = peeked
	}
	return nil
}

// forgetOthers forgets the keys of other partitions.
func (p *partition) forgetOthers() {
	for other, index := range p.elsewhere {
		index.Clear()
		delete(p.elsewhere, other)
	}
}

// rely makes a Commit rely on the partitions that its draft has learned from, and notes the numbers of partitions that it
// uses.
func (p *partition) rely(d *draft, commit *store.Commit) {
	if len(d.uses) == 0 && len(d.related) == 0 {
		return
	}
	now, known := commit.Next.UpdatedAt, &p.layouts.Layouts
	next := checkpoint.Layouts{Version: known.Version, Used: make(map[uint32]time.Time)}
	for partitions, used := range known.Used {
		if now.Sub(used) < keepLayouts {
			next.Used[partitions] = used
		}
	}
	noted, added := false, false
	for partitions := range d.uses {
		used, known := known.Used[partitions]
		noted = noted || now.Sub(used) > noteUse
		added = added || !known || now.Sub(used) > noteUse+noteMargin
		next.Used[partitions] = now
	}
	if added {
		next.Version++
	}
	if noted {
		commit.Layouts = &store.LayoutsChange{Revision: p.layouts.revision, Next: next}
		p.layouts.readAt = time.Time{}
	}
	commit.Next.Layouts = max(commit.Next.Layouts, next.Version)
	for _, peeked := range d.related {
		commit.Related = append(commit.Related, store.Related{
			Partition: peeked.Partition, Revision: peeked.Revision, Layouts: max(peeked.Layouts, next.Version),
		})
	}
	slices.SortFunc(commit.Related, func(a, b store.Related) int { return cmp.Compare(a.Partition, b.Partition) })
}
