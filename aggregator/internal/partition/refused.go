package partition

import (
	"context"
	"errors"
	"slices"

	"github.com/accrue/accrue/aggregator/internal/delivery"
	"github.com/accrue/accrue/pkg/checkpoint"
	"github.com/accrue/accrue/pkg/store"
)

// document names the document of a tag or of a contributor.
type document struct{ tag, contributor string }

// findRefused finds the documents that made the store refuse a Commit: their entries are rejected with the next. It returns
// the cause if no document is at fault.
func (p *partition) findRefused(ctx context.Context, d *draft, commit *store.Commit, cause error) error {
	if err := p.probe(ctx, nil); err != nil { // nothing can be committed, whatever it is
		p.loaded = false
		return cause
	}
	var documents []document
	for _, delta := range commit.Tags {
		documents = append(documents, document{tag: delta.Name})
	}
	for _, c := range commit.Contributors {
		documents = append(documents, document{contributor: c.Contributor})
	}
	refused, err := p.search(ctx, documents)
	switch {
	case err != nil:
		p.loaded = false
		return err
	case len(refused) > 0:
		if p.refused == nil {
			p.refused = make(map[document]string)
		}
		for _, one := range refused {
			p.refused[one] = reasonRefused
		}
		return nil
	case len(d.deliveries) > 1: // all of them together are too much
		p.most = len(d.deliveries) / 2
		return nil
	}
	return cause
}

// search returns the documents that the store refuses.
func (p *partition) search(ctx context.Context, among []document) ([]document, error) {
	err := p.probe(ctx, among)
	if err == nil || !errors.Is(err, store.ErrRefused) {
		return nil, err
	}
	if len(among) == 1 {
		return among, nil
	}
	half := len(among) / 2
	first, err := p.search(ctx, among[:half])
	if err != nil {
		return nil, err
	}
	second, err := p.search(ctx, among[half:])
	return append(first, second...), err
}

// probe commits the checkpoint as it is, and adds nothing to documents.
func (p *partition) probe(ctx context.Context, documents []document) error {
	commit := p.next(nil, nil)
	for _, d := range documents {
		if d.tag != "" {
			commit.Tags = append(commit.Tags, checkpoint.Delta{Name: d.tag})
		} else {
			commit.Contributors = append(commit.Contributors, store.Contributions{Contributor: d.contributor})
		}
	}
	return p.write(ctx, &commit, p.index.Claim(), p.size)
}

// sequencesFit says whether a next checkpoint, with totals of a size, has room for its publishers and intervals: it does if
// there are no more of them than in the present one.
func (p *partition) sequencesFit(next *checkpoint.Checkpoint, totals int) bool {
	size := next.PublishersSize()
	return size <= checkpoint.MaxPublishers || intervals(next) <= intervals(&p.state.Checkpoint) ||
		size+totals <= checkpoint.MaxSize
}

// intervals counts the intervals of a checkpoint.
func intervals(c *checkpoint.Checkpoint) (n int) {
	for _, settled := range c.Publishers {
		n += len(settled.Sequences)
	}
	return n
}

// joinFirst makes room for a draft whose intervals do not fit: the messages that join an interval come first, since they
// add none. If there are none, fewer are tried, and in the end they are released: others that fill the gaps before them
// are still to come.
func (p *partition) joinFirst(d *draft) error {
	var joining, others []*delivery.Delivery
	for rest := p.pending; len(rest) > 0; {
		first, last := rest[0].Identity(), rest[0].Identity()
		end := 1
		for ; end < len(rest); end++ {
			next := rest[end].Identity()
			if next.Publisher != last.Publisher || next.Sequence-last.Sequence > 1 {
				break
			}
			last = next
		}
		run := rest[:end]
		rest = rest[end:]
		first.Sequence--
		last.Sequence++
		switch {
		case p.state.Checkpoint.Contains(first):
			joining = append(joining, run...)
		case p.state.Checkpoint.Contains(last): // from its end, so that whatever part is committed joins
			for i := len(run) - 1; i >= 0; i-- {
				joining = append(joining, run[i])
			}
		default:
			others = append(others, run...)
		}
	}
	switch {
	case len(joining) > 0:
		p.most = len(joining)
		p.pending = slices.Concat(joining, others)
	case len(d.deliveries) > 1:
		p.most = len(d.deliveries) / 2
	default:
		p.outages.crowded.Failed(errCrowded, nil)
		p.forget(p.pending)
		p.release(p.pending, minPause)
		p.pending = nil
	}
	return nil
}

var errCrowded = errors.New("the partition's checkpoint has no room for more gaps in its sequences")
