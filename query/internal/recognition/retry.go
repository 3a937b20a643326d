package recognition

import (
	"context"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/rs/zerolog"

	"github.com/accrue/accrue/pkg/logging"
)

// retry paces the attempts of one goroutine.
type retry struct {
	outage  *logging.Outage
	backoff backoff.ExponentialBackOff
	failing bool // the last attempt failed
}

// newRetry returns the retry of what is done, as in "cannot" do it, that waits for longest at most.
func (r *Recognizer) newRetry(what string, longest time.Duration) *retry {
	return &retry{
		outage: logging.NewOutage(r.parts.Log, zerolog.WarnLevel, what),
		// From half of the wait to all of it, so that instances do not return at the same moment.
		backoff: backoff.ExponentialBackOff{
			InitialInterval: 3 * interval / 4, RandomizationFactor: 1. / 3, Multiplier: 2, MaxInterval: 3 * longest / 4,
		},
	}
}

// after returns how long to wait after an attempt: pause if it succeeded, and longer with each failure in a row.
func (r *retry) after(err error, pause time.Duration) time.Duration {
	if r.failing = err != nil; r.failing {
		r.outage.Failed(err, nil)
		return r.backoff.NextBackOff()
	}
	r.outage.Succeeded()
	r.backoff.Reset()
	return pause
}

// repeat calls do until ctx ends: after the pause that it returns or, when it fails, after the backoff.
func (r *retry) repeat(ctx context.Context, do func(context.Context) (pause time.Duration, err error)) {
	next := time.NewTimer(0)
	defer next.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-next.C:
		}
		pause, err := do(ctx)
		if ctx.Err() != nil { // the cause of the error, perhaps
			return
		}
		next.Reset(r.after(err, pause))
	}
}
