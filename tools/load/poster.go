package load

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/accrue/accrue/pkg/problem"
)

const (
	// pause is the time between two tries where the answer names none.
	pause = time.Second
	// patience bounds how long one batch is tried again.
	patience = time.Minute
)

// errRefused is an answer that retrying does not change: the request or the address is wrong.
var errRefused = errors.New("refused")

// outcome is what an answer, or none, means for the increments that were posted.
type outcome int

const (
	accepted  outcome = iota // must be counted
	uncounted                // certainly not counted, and can be posted again
	unknown                  // possibly counted, and must not be posted again
	refused                  // certainly not counted, and posting again would not help
)

// counts are the results of posting, for the progress and the report.
type counts struct {
	// Accepted, Unknown and Lost are increments: answered 202; perhaps counted; not counted, though tried again.
	Accepted, Unknown, Lost atomic.Int64
	// Posts are requests that were answered 202. Retries are those that certainly counted nothing and were made again.
	Posts, Retries atomic.Int64
}

// server takes one post at a time.
type server interface {
	// post returns the answer. Its error is errNotSent if the server cannot know of the request; after any other it may.
	post(body []byte) (answer, error)
}

// poster posts batches and records their outcomes. It is not safe for concurrent use.
type poster struct {
	server  server
	counts  *counts
	latency histogram
	// cause is set to the error of each request that never arrived.
	cause *atomic.Pointer[error]
}

// post sends a batch until it is accepted or nothing more can be done, and enters it in the tallies. A request under way
// is ended by its answer, never by ctx: it would be unknown. The error is errRefused, and then the run is over.
func (p *poster) post(ctx context.Context, b *batch, due time.Time) error {
	n := int64(len(b.entries))
	for giveUp := time.Now().Add(patience); ; p.counts.Retries.Add(1) {
		result, wait, err := p.try(b.body)
		switch result {
		case accepted:
			p.latency.record(time.Since(due))
			p.counts.Posts.Add(1)
			p.counts.Accepted.Add(n)
			for _, e := range b.entries {
				e.tally.accepted.Add(int64(e.value))
			}
			return nil
		case unknown:
			p.counts.Unknown.Add(n)
			for _, e := range b.entries {
				e.tally.unknown.Add(int64(e.value))
			}
			sleep(ctx, wait)
			return nil
		case uncounted:
			if sleep(ctx, wait); ctx.Err() != nil || time.Now().After(giveUp) {
				p.counts.Lost.Add(n)
				return nil //nolint:nilerr // the end of a run is no fault of it
			}
		case refused:
			p.counts.Lost.Add(n)
			return err
		}
	}
}

// try sends a body once. The time is how long to wait before the next post.
func (p *poster) try(body []byte) (outcome, time.Duration, error) {
	a, err := p.server.post(body)
	switch {
	case errors.Is(err, errNotSent):
		p.cause.Store(&err)
		return uncounted, pause, nil
	case a.status == http.StatusAccepted: // even if the body is missing
		return accepted, 0, nil
	case err != nil:
		return unknown, 0, nil //nolint:nilerr // the outcome says it
	case a.status >= http.StatusInternalServerError || a.status == http.StatusTooManyRequests:
		wait := pause
		if a.retryAfter >= 0 {
			wait = min(a.retryAfter, patience)
		}
		// A retry is safe only where ingest says so: without a key, what was published without our knowing would count
		// twice.
		if bytes.Contains(a.body, []byte(problem.NothingCounted)) {
			return uncounted, wait, nil
		}
		return unknown, wait, nil
	default:
		return refused, 0, fmt.Errorf("%w: %d %s: %s", errRefused, a.status, http.StatusText(a.status), a.body)
	}
}

// sleep returns after d, or when ctx ends.
func sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
