package recognition

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/accrue/accrue/pkg/store"
)

// auditInterval is the longest time between two audits. The first ones come sooner: until an instance of earlier settings
// has ended, it may recognize contributors for a tier that this instance does not know, or skip one that it knows.
const auditInterval = time.Hour

// fullAuditEvery is how many audits apart the contributors themselves are compared, not only their number.
const fullAuditEvery = 24

// audit looks for what the search misses: recognized tiers of earlier settings, and contributors without the recognition
// of a tier below their own. The former appear after a change of the tiers, the latter when a tier is inserted.
func (r *Recognizer) audit(ctx context.Context) {
	audits := 0
	r.newRetry("audit recognitions", maxAuditBackoff).repeat(ctx, func(ctx context.Context) (time.Duration, error) {
		if err := r.auditOnce(ctx, audits%fullAuditEvery == 0); err != nil {
			return 0, err
		}
		audits++
		switch audits {
		case 1:
			return time.Minute, nil
		case 2:
			return 4 * time.Minute, nil
		}
		// Several instances should not audit at the same moment.
		return auditInterval - rand.N(auditInterval/8), nil //nolint:gosec // not security-sensitive
	})
}

// auditOnce audits all tiers. Counting costs a read per 1,000 documents, but a recognition whose contributor is gone
// hides one that is missing. A full audit compares the contributors, at two reads for each who is past a tier.
func (r *Recognizer) auditOnce(ctx context.Context, full bool) error {
	found, err := r.recognizedTiers(ctx)
	if err != nil {
		return err
	}
	r.setSteps(found)
	var faults []error
	for _, tier := range r.tiers {
		if err := r.auditTier(ctx, tier, full); err != nil {
			faults = append(faults, err)
		}
	}
	return errors.Join(faults...)
}

func (r *Recognizer) auditTier(ctx context.Context, tier int64, full bool) error {
	if !full {
		// The recognitions are counted last, so that one that is created meanwhile does not seem to be missing.
		contributors, recognitions, err := r.countRecognized(ctx, tier)
		if err != nil || recognitions >= contributors {
			return err
		}
	}
	made, err := r.walk(ctx, tier)
	if made > 0 {
		r.parts.Log.Info().Int64("tier", tier).Int("contributors", made).Msg("recognized contributors who had skipped a tier")
	}
	return err
}

var errNotPublished = errors.New("cannot publish")

// walk recognizes for a tier all contributors who have a higher one and lack it, and returns their number. One that fails
// does not keep the others from it.
func (r *Recognizer) walk(ctx context.Context, tier int64) (made int, err error) {
	var faults []error
	for last := (store.Contributor{}); ctx.Err() == nil; {
		missing, next, err := r.unrecognized(ctx, tier, last)
		if err != nil {
			return made, errors.Join(append(faults, err)...)
		}
		for len(missing) > 0 && ctx.Err() == nil {
			done, err := r.recognize(ctx, missing, tier, nil)
			made += len(done.created)
			if !done.published {
				return made, errors.Join(append(faults, err, errNotPublished)...) // nor would the next page be
			}
			if err != nil && len(faults) == 0 {
				faults = append(faults, err)
			}
			missing = done.left
		}
		if next.ID == "" {
			break
		}
		last = next
	}
	return made, errors.Join(faults...)
}

func (r *Recognizer) recognizedTiers(ctx context.Context) ([]int64, error) {
	ctx, cancel := context.WithTimeout(ctx, countTimeout)
	defer cancel()
	return r.parts.Store.RecognizedTiers(ctx)
}

func (r *Recognizer) countRecognized(ctx context.Context, tier int64) (contributors, recognitions int64, err error) {
	ctx, cancel := context.WithTimeout(ctx, countTimeout)
	defer cancel()
	return r.parts.Store.CountRecognized(ctx, tier)
}

func (r *Recognizer) unrecognized(
	ctx context.Context, tier int64, after store.Contributor,
) (missing []store.Contributor, last store.Contributor, err error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return r.parts.Store.Unrecognized(ctx, tier, after, page)
}
