package recognition

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/accrue/accrue/pkg/broker"
	"github.com/accrue/accrue/pkg/store"
)

// outcome is what came of a page of contributors.
type outcome struct {
	// existed are the recognitions, by document id, that existed already.
	existed []string
	// left are the contributors for whom there was no time.
	left []store.Contributor
	// published is set when the events of all created recognitions are published.
	published bool

	mu      sync.Mutex
	created []store.Recognition
	err     error // the first failure
}

// recognize creates the recognitions of a page of contributors for a tier, as many as a second allows, and publishes
// their events. Once ctx ends it creates no more, and publishes those that it has created.
//
// A recognition that exists, and existed before the last pass, belongs to a contributor whose recognized tier is too
// low: an earlier state of it was restored. The tier is raised; otherwise every pass would find the contributor.
func (r *Recognizer) recognize(
	ctx context.Context, contributors []store.Contributor, tier int64, existedBefore map[string]bool,
) (*outcome, error) {
	enough, stopMaking := context.WithTimeout(ctx, making)
	defer stopMaking()
	work, cancel := finishing(ctx)
	defer cancel()
	handle, cancelHandle := context.WithTimeout(work, handling)
	defer cancelHandle()

	var o outcome
	queue := make(chan store.Contributor)
	var makers sync.WaitGroup
	for range min(workers, len(contributors)) {
		makers.Go(r.guard.Of(func() {
			for c := range queue {
				r.recognizeOne(handle, c, tier, existedBefore, &o)
			}
		}))
	}
	begun := 0
	for begun < len(contributors) && enough.Err() == nil {
		select {
		case queue <- contributors[begun]:
			begun++
		case <-enough.Done():
		}
	}
	o.left = contributors[begun:]
	close(queue)
	makers.Wait()
	r.created.Add(int64(len(o.created)))
	o.published = r.publish(handle, o.created)
	if !o.published {
		return &o, o.err
	}
	return &o, errors.Join(o.err, r.markSent(work, o.created))
}

func (r *Recognizer) recognizeOne(ctx context.Context, c store.Contributor, tier int64, existedBefore map[string]bool, o *outcome) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	recognition := store.Recognition{
		Contributor: c.ID, Tier: tier, Contributions: c.Contributions, RecognizedAt: eventTime(time.Now()),
	}
	id := store.RecognitionID(c.ID, tier)
	err := r.parts.Store.Recognize(ctx, recognition)
	existed := errors.Is(err, store.ErrExists)
	if existed {
		err = nil
		if existedBefore[id] {
			err = r.parts.Store.Raise(ctx, c.ID, tier)
		}
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case errors.Is(err, store.ErrNotFound): // the contributor was deleted since
	case errors.Is(err, store.ErrRefused): // permanent for this contributor, and no reason for the others to wait
		r.refusing.Failed(err, func(e *zerolog.Event) { e.Int64("tier", tier) })
	case err != nil:
		if o.err == nil {
			o.err = err
		}
	case existed:
		o.existed = append(o.existed, id)
	default:
		o.created = append(o.created, recognition)
	}
}

// publish publishes the events of recognitions that this instance has just created or claimed, unless ctx has ended, and
// reports whether all are published. A failure is logged: the sweep of any instance takes them up.
func (r *Recognizer) publish(ctx context.Context, recognitions []store.Recognition) bool {
	if len(recognitions) == 0 {
		return true
	}
	messages := make([]broker.Message, len(recognitions))
	for i, recognition := range recognitions {
		messages[i] = event(recognition)
	}
	err := ctx.Err()
	if err == nil {
		err = r.parts.Publisher.Publish(ctx, messages)
	}
	if err != nil {
		if !errors.Is(ctx.Err(), context.Canceled) { // canceled by a stop
			r.publishing.Failed(err, nil)
		}
		return false
	}
	r.publishing.Succeeded()
	r.published.Add(int64(len(messages)))
	r.parts.Log.Debug().Int("events", len(messages)).Msg("published recognitions")
	return true
}

// markSent marks recognitions whose events are published. Those that it cannot mark are remembered, so that at least
// this process does not publish them again.
func (r *Recognizer) markSent(ctx context.Context, recognitions []store.Recognition) error {
	if len(recognitions) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	err := r.parts.Store.MarkSent(ctx, recognitions)
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, recognition := range recognitions {
		if id := store.RecognitionID(recognition.Contributor, recognition.Tier); err != nil {
			r.unmarked[id] = recognition
		} else {
			delete(r.unmarked, id)
		}
	}
	return err
}

func (r *Recognizer) unmarkedCount() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.unmarked)
}
