package recognition

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/accrue/accrue/pkg/store"
)

// find searches for contributors who are due: every second while anything is being counted, less often otherwise.
func (r *Recognizer) find(ctx context.Context) {
	next := time.NewTimer(0)
	defer next.Stop()
	f := finder{Recognizer: r}
	retry := r.newRetry("recognize contributors", maxBackoff)
	var began time.Time
	busy := time.Now() // when something last happened
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.parts.Changes:
			busy = time.Now()
			if !retry.failing {
				next.Reset(max(0, interval-time.Since(began)))
			}
			continue
		case <-next.C:
		}
		began = time.Now()
		found, more, err := f.pass(ctx)
		if ctx.Err() != nil {
			return
		}
		if found {
			busy = time.Now()
		}
		pause := idleInterval
		switch {
		case more:
			pause = 0
		case time.Since(busy) < quietAfter:
			pause = max(0, interval-time.Since(began))
		}
		next.Reset(retry.after(err, pause))
	}
}

// finder is the state of find.
type finder struct {
	*Recognizer
	// existed are the recognitions, by document id, that the last pass meant to create and found to exist.
	existed map[string]bool
}

var errUnmarked = errors.New("too many published events could not be marked")

// pass takes each step once, the lowest first, so that a contributor is recognized for one tier after the other. A
// failure of one step does not keep the others from being taken. pass reports whether it found a contributor, and
// whether there may be more.
func (f *finder) pass(ctx context.Context) (found, more bool, err error) {
	if f.unmarkedCount() >= maxUnmarked {
		return false, false, errUnmarked // the sweep tries to mark them
	}
	existed := make(map[string]bool)
	var faults []error
	for _, step := range *f.steps.Load() {
		if ctx.Err() != nil {
			break
		}
		due, err := f.due(ctx, step)
		if err != nil {
			faults = append(faults, err)
			continue
		}
		if len(due) == 0 {
			continue
		}
		// Another instance finds the same contributors. In a different order the two seldom collide.
		rand.Shuffle(len(due), func(i, j int) { due[i], due[j] = due[j], due[i] }) //nolint:gosec // not security-sensitive
		done, err := f.recognize(ctx, due, step.to, f.existed)
		found = true
		more = more || len(due) == page && len(done.created)+len(done.existed) > 0
		for _, id := range done.existed {
			existed[id] = true
		}
		faults = append(faults, err)
	}
	f.existed = existed
	return found, more, errors.Join(faults...)
}

func (r *Recognizer) due(ctx context.Context, step step) ([]store.Contributor, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return r.parts.Store.Due(ctx, step.from, step.to, page)
}
