package recognition

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/accrue/accrue/pkg/store"
)

// audit looks, at the start and then about once an hour, for what the recognized tiers of contributors cannot tell: which
// of them there are, and whether anybody lacks the recognition of a tier below their own. The one happens after every
// change of the tiers, the other when a tier is put in between two others. Both are seen from counts, which cost a read
// for every 1,000 documents.
func (r *Recognizer) audit(ctx, work context.Context) {
	retries := r.retrying("audit recognitions", maxAuditBackoff)
	retries.repeat(ctx, func() time.Duration {
		return auditInterval - rand.N(auditInterval/8) //nolint:gosec // no secret: several instances need not come together
	}, func() error { return r.auditOnce(ctx, work) })
}

func (r *Recognizer) auditOnce(ctx, work context.Context) error {
	found, err := r.recognizedTiers(ctx)
	if err != nil {
		return err
	}
	r.setSteps(found)
	for _, tier := range r.tiers {
		if err := r.auditTier(ctx, work, tier); err != nil {
			return err
		}
	}
	return nil
}

func (r *Recognizer) auditTier(ctx, work context.Context, tier int64) error {
	// The recognitions are counted last, so that one that is made meanwhile does not seem to be missing.
	contributors, recognitions, err := r.countRecognized(ctx, tier)
	if err != nil || recognitions >= contributors {
		return err
	}
	r.parts.Log.Info().Int64("tier", tier).Int64("missing", contributors-recognitions).
		Msg("contributors have passed a tier without being recognized for it; going through them")
	return r.walk(ctx, work, tier)
}

var errNotPublished = errors.New("cannot publish")

// walk recognizes for a tier all those who have a higher one and lack it.
func (r *Recognizer) walk(ctx, work context.Context, tier int64) error {
	for last := (store.Contributor{}); ctx.Err() == nil; {
		missing, next, err := r.unrecognized(ctx, tier, last)
		if err != nil {
			return err
		}
		for len(missing) > 0 && ctx.Err() == nil {
			done, err := r.recognize(ctx, work, missing, tier, nil)
			if err != nil {
				return err
			}
			if !done.published {
				return errNotPublished // nor would the next page be
			}
			missing = done.left
		}
		if next.ID == "" {
			return nil
		}
		last = next
	}
	return nil
}

func (r *Recognizer) recognizedTiers(ctx context.Context) ([]int64, error) {
	ctx, cancel := context.WithTimeout(ctx, countTimeout)
	defer cancel()
	return r.parts.Census.RecognizedTiers(ctx) //nolint:wrapcheck // says what it did
}

func (r *Recognizer) countRecognized(ctx context.Context, tier int64) (contributors, recognitions int64, err error) {
	ctx, cancel := context.WithTimeout(ctx, countTimeout)
	defer cancel()
	return r.parts.Census.CountRecognized(ctx, tier) //nolint:wrapcheck // says what it did
}

func (r *Recognizer) unrecognized(
	ctx context.Context, tier int64, after store.Contributor,
) (missing []store.Contributor, last store.Contributor, err error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return r.parts.Census.Unrecognized(ctx, tier, after, page) //nolint:wrapcheck // says what it did
}
