package partition

import (
	"context"
	"errors"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/accrue/accrue/pkg/checkpoint"
	"github.com/accrue/accrue/pkg/store"
)

// With TAG_DOCUMENTS, Commits do not write the documents of tags: their checkpoint owes the documents what they lack, and a Commit of
// its own pays it later, when the first of it is as old as the setting says. That Commit replaces the checkpoint with the same
// precondition as any other, so what is owed is written once, whichever aggregator pays it and after any number of attempts.
//
// What is owed also takes room in the checkpoint, which new tags and publishers may need. Then some of it is paid early.

const (
	// sweepEvery is how often partitions are looked for that owe something and get no messages: a process that is gone had
	// them, or they are left from another number of partitions.
	sweepEvery = 5 * time.Minute
	// sweepAgain is the pause after a sweep that failed.
	sweepAgain = 10 * time.Second
	// sweepMargin is how much longer than TAG_DOCUMENTS a partition owes something before another process pays it.
	sweepMargin = 10 * time.Second
	// refusedPause is how long documents are left alone that the store refuses.
	refusedPause = 10 * time.Minute
)

// Off is the value of Settings.TagDocuments for which documents of tags are not written.
const Off time.Duration = -1

// owing is what a partition knows of the payments of what its checkpoint owes. All but swept belongs to run.
type owing struct {
	// swept says that the checkpoint is to be loaded, since it may owe something. The partition's mutex guards it.
	swept bool
	// unloaded says the same: a payment failed.
	unloaded bool
	// after is when the next payment may be tried, by this machine's clock.
	after time.Time
	// most is the number of documents of one payment, and refused are those that the store refuses, since a time.
	most         int
	refused      map[string]bool
	refusedSince time.Time
}

// sweep wakes the partitions that have owed something for too long, until ctx ends.
func (s *Partitions) sweep(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for first := true; ; {
		select {
		case <-timer.C:
		case <-ctx.Done():
			return
		}
		later, err := s.sweepOnce(ctx)
		switch {
		case err != nil:
			s.failed(err)
			timer.Reset(sweepAgain)
		case first && later > 0: // left by a process before this one
			first = false
			timer.Reset(min(later, sweepEvery))
		default:
			first = false
			timer.Reset(sweepEvery)
		}
	}
}

// sweepOnce also returns how long it is until all others that owe something have owed it for too long.
func (s *Partitions) sweepOnce(ctx context.Context) (later time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, commitTimeout)
	defer cancel()
	owing, at, err := s.ledger.Owing(ctx)
	if err != nil {
		return 0, err
	}
	for _, o := range owing {
		due := o.Since.Add(s.settings.TagDocuments + sweepMargin).Sub(at)
		if due <= 0 {
			s.partition(o.Partition).sweep()
		}
		later = max(later, due)
	}
	return later, nil
}

func (p *partition) sweep() {
	p.mu.Lock()
	p.owing.swept = true
	p.mu.Unlock()
	p.wakeUp()
}

// payIn returns how long it is until something that the checkpoint owes is to be paid, and whether it owes anything.
func (p *partition) payIn() (left time.Duration, owes bool) {
	p.mu.Lock()
	swept := p.owing.swept
	p.owing.swept = false
	p.mu.Unlock()
	if swept {
		p.owing.unloaded = true
		// If what is loaded owes nothing, another aggregator has replaced the checkpoint since.
		p.loaded = p.loaded && len(p.state.Checkpoint.Owed) > 0
	}
	switch {
	case !p.loaded:
		return max(0, time.Until(p.owing.after)), p.owing.unloaded
	case len(p.state.Checkpoint.Owed) == 0 || p.settings.TagDocuments == Off:
		return 0, false
	}
	left = p.state.Checkpoint.OwedSince.Add(p.settings.TagDocuments).Sub(p.clock.now())
	return max(0, left, time.Until(p.owing.after)), true
}

// pay pays some of what is owed, or loads the checkpoint to see what that is.
func (p *partition) pay(ctx context.Context) {
	var err error
	if p.loaded {
		err = p.payOnce(ctx)
	} else {
		err = p.load(ctx)
	}
	if err != nil {
		p.owing.after = time.Now().Add(p.payPause.NextBackOff())
		return
	}
	p.payPause.Reset()
}

// payable returns what is owed to documents that the store has not refused, limit of them at most.
func (p *partition) payable(limit int) []checkpoint.Delta {
	owed := p.state.Checkpoint.Owed
	if len(p.owing.refused) == 0 {
		return owed[:min(limit, len(owed))]
	}
	var payable []checkpoint.Delta
	for _, d := range owed {
		if len(payable) == limit {
			break
		}
		if !p.owing.refused[d.Name] {
			payable = append(payable, d)
		}
	}
	return payable
}

// payOnce writes what is owed to some documents. The checkpoint is loaded.
func (p *partition) payOnce(ctx context.Context) error {
	if p.owing.most == 0 {
		p.owing.most = p.settings.Documents
	}
	paid := p.payable(p.owing.most)
	if len(paid) == 0 { // all that is left is refused
		p.owing.after = time.Now().Add(max(p.settings.TagDocuments, time.Second))
		if time.Since(p.owing.refusedSince) > refusedPause {
			p.owing.refused = nil
		}
		return nil
	}
	commit := p.next(nil, nil)
	commit.Tags = paid
	commit.Next.Pay(paid)
	err := p.checkPaid(&commit)
	if err == nil {
		err = p.write(ctx, &commit, p.index.Claim(), p.size)
	}
	p.metrics.paid(&commit, err)
	switch {
	case err == nil:
		p.commits.committed()
		if len(p.owing.refused) == 0 {
			p.outages.owed.Succeeded()
		}
		p.owing.most = min(2*p.owing.most, p.settings.Documents)
	case errors.Is(err, store.ErrRefused) && len(paid) > 1:
		p.owing.most = len(paid) / 2
		return nil
	case errors.Is(err, store.ErrRefused):
		if p.owing.refused == nil {
			p.owing.refused, p.owing.refusedSince = make(map[string]bool), time.Now()
		}
		p.outages.owed.Failed(err, nil)
		p.owing.refused[paid[0].Name] = true
		return nil
	default:
		p.loaded, p.owing.unloaded = false, true
	}
	return err
}

// totalsRoom is what the checkpoint's totals may take beside what it owes.
func (p *partition) totalsRoom() int { return p.room - p.owed }

// settleTags decides whether a Commit writes the changes of tags to their documents, or its checkpoint owes them.
func (p *partition) settleTags(commit *store.Commit, deltas []checkpoint.Delta, size int) {
	if p.settings.TagDocuments != 0 {
		before, since := commit.Next.Owed, commit.Next.OwedSince
		commit.Next.Owe(deltas)
		if commit.Next.OwedSize()+size <= p.room {
			return
		}
		commit.Next.Owed, commit.Next.OwedSince = before, since
	}
	commit.Tags = deltas
}

// paid measures a payment.
func (m *metrics) paid(commit *store.Commit, err error) {
	ctx := context.Background()
	m.commits.Add(ctx, 1, metric.WithAttributes(attribute.String("trigger", string(byTagDocuments)), attribute.String("result", resultOf(err))))
	if err == nil {
		m.documents.Record(ctx, float64(commit.Documents()))
		m.drained.documents.Add(int64(commit.Documents()))
	}
}
