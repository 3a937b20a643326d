package recognition

import (
	"cmp"
	"context"
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/rs/zerolog"

	"github.com/accrue/accrue/pkg/logging"
	"github.com/accrue/accrue/pkg/store"
)

// sweep looks, again and again, for recognitions whose events were not published by whoever made them, and publishes
// them.
func (r *Recognizer) sweep(ctx, work context.Context) {
	retries := r.retrying("sweep pending recognitions", maxBackoff)
	retries.repeat(ctx, func() time.Duration { return sweepInterval }, func() error { return r.sweepOnce(ctx, work) })
}

// sweepOnce goes through everything that is pending. What is fresh is left to whoever is at it.
func (r *Recognizer) sweepOnce(ctx, work context.Context) error {
	if left := r.left(); len(left) > 0 {
		if err := r.markSent(work, left); err != nil {
			return err
		}
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

// left returns what this process has published and not marked.
func (r *Recognizer) left() []store.Recognition {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Collect(maps.Values(r.unmarked))
}

func (r *Recognizer) pending(ctx context.Context, after store.Recognition) ([]store.PendingRecognition, time.Time, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return r.parts.Outbox.Pending(ctx, after, page) //nolint:wrapcheck // says what it did
}

// takeOver publishes what others have left, as far as no other instance was faster to claim it.
func (r *Recognizer) takeOver(work context.Context, late []store.PendingRecognition) (published bool, err error) {
	if len(late) == 0 {
		return true, nil
	}
	handle, cancel := context.WithTimeout(work, handling)
	defer cancel()
	ctx, cancelClaim := context.WithTimeout(handle, callTimeout)
	defer cancelClaim()
	claimed, err := r.parts.Outbox.Claim(ctx, late)
	if err != nil {
		return false, err //nolint:wrapcheck // says what it did
	}
	recognitions := make([]store.Recognition, len(claimed))
	for i, c := range claimed {
		recognitions[i] = c.Recognition
	}
	// In the order in which they would have been made.
	slices.SortFunc(recognitions, func(a, b store.Recognition) int {
		return cmp.Or(cmp.Compare(a.Tier, b.Tier), a.RecognizedAt.Compare(b.RecognizedAt))
	})
	published, err = r.deliver(handle, work, recognitions)
	if published && len(recognitions) > 0 {
		r.takenOver.Add(int64(len(recognitions)))
		r.parts.Log.Info().Int("events", len(recognitions)).Msg("published recognitions that somebody had left")
	}
	return published, err
}

// retries are the attempts at something. They belong to one goroutine.
type retries struct {
	outage  *logging.Outage
	most    time.Duration // between two attempts
	backoff time.Duration
}

// retrying makes the retries of what, as in "cannot" do it.
func (r *Recognizer) retrying(what string, most time.Duration) retries {
	return retries{outage: logging.NewOutage(r.parts.Log, zerolog.WarnLevel, what), most: most}
}

// note is told how an attempt went. It says whether it failed, and then how long to wait for the next: twice as long each
// time, and from half of that to all of it.
func (r *retries) note(err error) (wait time.Duration, failed bool) {
	if err == nil {
		r.outage.Succeeded()
		return 0, false
	}
	if r.outage.Failed(err, nil) {
		r.backoff = interval
	} else {
		r.backoff = min(2*r.backoff, r.most)
	}
	return r.backoff/2 + rand.N(r.backoff/2+1), true //nolint:gosec // no secret
}

// repeat does something again and again until ctx ends: after a pause, or when it failed, after a longer one each time.
func (r *retries) repeat(ctx context.Context, pause func() time.Duration, do func() error) {
	next := time.NewTimer(0)
	defer next.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-next.C:
		}
		err := do()
		if ctx.Err() != nil { // an error may be of that
			return
		}
		wait, failed := r.note(err)
		if !failed {
			wait = pause()
		}
		next.Reset(wait)
	}
}
