package recognition

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"time"

	"github.com/accrue/accrue/pkg/store"
)

// sweep searches for recognitions whose events were not published by the instance that created them, and publishes them.
func (r *Recognizer) sweep(ctx context.Context) {
	r.newRetry("sweep pending recognitions", maxBackoff).repeat(ctx, func(ctx context.Context) (time.Duration, error) {
		return sweepInterval, r.sweepOnce(ctx)
	})
}

// sweepOnce goes through all pending recognitions. It leaves recent ones to the instance that is handling them.
func (r *Recognizer) sweepOnce(ctx context.Context) error {
	work, cancel := finishing(ctx)
	defer cancel()
	if err := r.markSent(work, r.unmarkedRecognitions()); err != nil {
		return err
	}
	var oldest time.Duration
	defer func() { r.oldestPending.Store(int64(oldest)) }()
	for last := (store.Recognition{}); ctx.Err() == nil; {
		pending, asOf, err := r.pending(ctx, last)
		if err != nil {
			oldest = max(oldest, r.OldestPending()) // as far as is known
			return err
		}
		var late []store.PendingRecognition
		for _, p := range pending {
			oldest = max(oldest, asOf.Sub(p.CreatedAt))
			if asOf.Sub(p.Revision.UpdateTime) >= lateAfter {
				late = append(late, p)
			}
		}
		published, err := r.takeOver(work, late)
		if err != nil {
			return err
		}
		if !published || len(pending) < page {
			break
		}
		last = pending[len(pending)-1].Recognition
	}
	return nil
}

// unmarkedRecognitions returns those that this process has published and not marked.
func (r *Recognizer) unmarkedRecognitions() []store.Recognition {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Collect(maps.Values(r.unmarked))
}

func (r *Recognizer) pending(ctx context.Context, after store.Recognition) ([]store.PendingRecognition, time.Time, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return r.parts.Store.Pending(ctx, after, page)
}

// takeOver publishes abandoned recognitions, except for those that another instance claims first.
func (r *Recognizer) takeOver(work context.Context, late []store.PendingRecognition) (published bool, err error) {
	if len(late) == 0 {
		return true, nil
	}
	handle, cancel := context.WithTimeout(work, handling)
	defer cancel()
	claimed, err := r.claim(handle, late)
	if err != nil {
		return false, err
	}
	recognitions := make([]store.Recognition, len(claimed))
	for i, c := range claimed {
		recognitions[i] = c.Recognition
	}
	// In the order in which they would have been created.
	slices.SortFunc(recognitions, func(a, b store.Recognition) int {
		return cmp.Or(cmp.Compare(a.Tier, b.Tier), a.RecognizedAt.Compare(b.RecognizedAt))
	})
	if !r.publish(handle, recognitions) {
		return false, nil
	}
	if len(recognitions) > 0 {
		r.parts.Log.Info().Int("events", len(recognitions)).Msg("published recognitions abandoned by another instance")
	}
	return true, r.markSent(work, recognitions)
}

func (r *Recognizer) claim(ctx context.Context, late []store.PendingRecognition) ([]store.PendingRecognition, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return r.parts.Store.Claim(ctx, late)
}
