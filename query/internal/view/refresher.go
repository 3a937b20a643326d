package view

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/rs/zerolog"
	"go.opentelemetry.io/otel/metric"

	"github.com/accrue/accrue/pkg/logging"
	"github.com/accrue/accrue/pkg/store"
)

const (
	// quietAfter is how long there must be neither a change nor a request before reads become less frequent.
	quietAfter = time.Minute
	// maxQuietInterval bounds the time between two reads in quiet times.
	maxQuietInterval = 10 * time.Second
	// maxBackoff bounds the wait after a failed read.
	maxBackoff = 5 * time.Second
	// minReadTimeout is the timeout of one read, or longer if refreshes are rarer.
	minReadTimeout = 2 * time.Second
	// maxWait bounds how long a request waits for a read that it caused.
	maxWait = time.Second
	// staleAfter is the number of missed refreshes after which the service is not ready.
	staleAfter = 4
)

// Reader reads the partitions.
type Reader interface {
	// Totals returns every partition's totals, each partition once, and the time of this read by the store's clock,
	// which does not go back. It returns soon after its context ends. The result is not modified later.
	Totals(context.Context) ([]store.PartitionTotals, time.Time, error)
}

// Refresher keeps the latest view. It reads at a steady rate, which depends neither on the number of requests nor on
// the number of tags; without requests and changes it reads less often. It is safe for concurrent use.
type Refresher struct {
	reader Reader
	every  time.Duration
	outage *logging.Outage
	// unreadable is the outage of single partitions.
	unreadable *logging.Outage
	started    time.Time
	metrics    *metrics
	// requested is when a view was last requested, as the time since started.
	requested atomic.Int64
	latest    atomic.Pointer[reading]
	// wake asks for a read at once. One token serves all waiting requests.
	wake chan struct{}
	// changes holds a token after a read that found a changed partition.
	changes chan struct{}
}

// reading is the outcome of the latest read. It is immutable once stored.
type reading struct {
	view *View
	// began is when the read behind view began, by this process's clock: nothing committed before it is missing.
	began time.Time
	// err is why the latest read failed, or nil if view is of the latest read.
	err error
	// failing is when the first of the consecutive failed reads began.
	failing time.Time
	// quiet is set when the next read comes later than usual.
	quiet bool
	// replaced is closed when there is a later reading.
	replaced chan struct{}
}

// NewRefresher returns a refresher that reads once per interval while it runs. A nil meter measures nothing; a meter may
// be given to one refresher.
func NewRefresher(reader Reader, interval time.Duration, meter metric.Meter, log zerolog.Logger) (*Refresher, error) {
	r := &Refresher{
		reader: reader, every: interval, outage: logging.NewOutage(log, zerolog.WarnLevel, "read the totals"),
		unreadable: logging.NewOutage(log, zerolog.ErrorLevel, "read a checkpoint"), started: time.Now(), wake: make(chan struct{}, 1), changes: make(chan struct{}, 1),
	}
	r.latest.Store(&reading{view: new(View), replaced: make(chan struct{})})
	var err error
	if r.metrics, err = newMetrics(meter, r.age, func() int { return len(r.latest.Load().view.Unreadable()) }); err != nil {
		return nil, fmt.Errorf("view: %w", err)
	}
	return r, nil
}

// View returns the latest view, of version 0 before the first read. It never reads by itself and usually does not wait.
// Only in quiet times, when the latest view may be older than two refreshes, it wakes the refresher and waits for that
// read, which all waiting requests share: for up to a second, or until ctx ends. Then it returns the latest view.
func (r *Refresher) View(ctx context.Context) *View {
	r.requested.Store(int64(time.Since(r.started)))
	latest := r.latest.Load()
	if !latest.quiet || time.Since(latest.began) <= 2*r.every {
		return latest.view
	}
	select {
	case r.wake <- struct{}{}:
	default: // already requested
	}
	wait := time.NewTimer(maxWait)
	defer wait.Stop()
	select {
	case <-latest.replaced:
	case <-wait.C:
	case <-ctx.Done():
	}
	return r.latest.Load().view
}

// Watch returns the latest view, of version 0 before the first read, and a channel that is closed after the next read,
// failed ones included. It neither waits nor causes a read, but it counts as a request: as long as Watch is called again
// after each read, reads do not become less frequent.
func (r *Refresher) Watch() (*View, <-chan struct{}) {
	r.requested.Store(int64(time.Since(r.started)))
	latest := r.latest.Load()
	return latest.view, latest.replaced
}

// Complete returns an error that names the partitions that the latest read could not read, or nil if there were none.
func (r *Refresher) Complete(context.Context) error {
	unreadable := r.latest.Load().view.Unreadable()
	faults := make([]error, 0, len(unreadable))
	for _, p := range unreadable {
		faults = append(faults, fmt.Errorf("partition %d: %w", p.Partition, p.Err))
	}
	return errors.Join(faults...)
}

// Changes returns a channel that receives a token after a read that found a new or changed partition. Tokens do not
// pile up. There may be one receiver.
func (r *Refresher) Changes() <-chan struct{} { return r.changes }

var errNoView = errors.New("the totals have not been read yet")

// Check returns why the view is not to be relied on: there is none yet, or reads fail and the view is older than a few
// refreshes. It reads nothing and does not count as a request. A view that is old for lack of requests is fine: the next
// request refreshes it.
func (r *Refresher) Check(context.Context) error {
	latest := r.latest.Load()
	switch age := time.Since(latest.began); {
	case latest.view.Version() == 0 && latest.err == nil:
		return errNoView
	case latest.view.Version() == 0:
		return fmt.Errorf("%w: %w", errNoView, latest.err)
	case latest.err != nil && age > staleAfter*r.every:
		return fmt.Errorf("the view is %v old, reads have failed for %v: %w",
			age.Round(time.Millisecond), time.Since(latest.failing).Round(time.Millisecond), latest.err)
	}
	return nil
}

// age returns the time since the read behind the view began, or since the start before the first read.
func (r *Refresher) age() time.Duration {
	latest := r.latest.Load()
	if latest.view.Version() == 0 {
		return time.Since(r.started)
	}
	return time.Since(latest.began)
}

// Run refreshes the view until ctx ends, and returns nil. A failed read leaves the view as it is and is retried.
func (r *Refresher) Run(ctx context.Context) error {
	next := time.NewTimer(0)
	defer next.Stop()
	pace := pace{every: r.every, interval: r.every, changed: r.started, backoff: backoff.ExponentialBackOff{
		// From half of the wait to all of it, so that instances do not return at the same moment.
		InitialInterval: 3 * r.every / 4, RandomizationFactor: 1. / 3, Multiplier: 2, MaxInterval: 3 * max(maxBackoff, r.every) / 4,
	}}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-next.C:
		case <-r.wake:
		}
		wait := r.refresh(ctx, &pace)
		if ctx.Err() != nil {
			return nil
		}
		next.Reset(wait)
	}
}

// refresh reads once, stores the outcome and returns the time to wait before the next read.
func (r *Refresher) refresh(ctx context.Context, pace *pace) time.Duration {
	last, began := r.latest.Load(), time.Now()
	readCtx, cancel := context.WithTimeout(ctx, max(staleAfter*r.every, minReadTimeout))
	defer cancel()
	partitions, asOf, err := r.reader.Totals(readCtx)
	if ctx.Err() != nil {
		return 0 // the end of the run is not a failure
	}

	current := &reading{view: last.view, began: last.began, err: err, replaced: make(chan struct{})}
	var wait time.Duration
	if err != nil {
		if current.failing = last.failing; last.err == nil {
			current.failing = began
		}
		r.outage.Failed(err, func(e *zerolog.Event) { e.Time("as_of", last.view.AsOf()) })
		wait = pace.backoff.NextBackOff()
	} else {
		current.view, current.began = last.view.Next(partitions, asOf), began
		r.outage.Succeeded()
		if bad := current.view.Unreadable(); len(bad) == 0 {
			r.unreadable.Succeeded()
		} else {
			r.unreadable.Failed(bad[0].Err, func(e *zerolog.Event) { e.Uint32("partition", bad[0].Partition).Int("partitions", len(bad)) })
		}
		wait = pace.read(began, r.started.Add(time.Duration(r.requested.Load())), current.view.Version() != last.view.Version())
		current.quiet = pace.quiet()
	}
	// This outcome serves all requests that have woken the refresher so far. The token is taken before the outcome is
	// visible, so that it is never the token of a request that finds even this outcome too old.
	select {
	case <-r.wake:
	default:
	}
	r.latest.Store(current)
	close(last.replaced)
	r.metrics.read(began, last.view, current)
	if err == nil && len(current.view.changed) > 0 {
		select {
		case r.changes <- struct{}{}:
		default: // already signaled
		}
	}
	return wait
}

// pace decides when the next read is due. It belongs to the goroutine of Run.
type pace struct {
	every    time.Duration
	interval time.Duration // between the beginnings of two reads
	changed  time.Time     // when the last read that found a change began
	backoff  backoff.ExponentialBackOff
}

// read returns the time to wait after a successful read, given when it began, when a view was last requested, and
// whether it found a change. Reads begin an interval apart, however long each takes.
func (p *pace) read(began, requested time.Time, changed bool) time.Duration {
	p.backoff.Reset()
	if changed {
		p.changed = began
	}
	if began.Sub(p.changed) >= quietAfter && began.Sub(requested) >= quietAfter {
		p.interval = min(2*p.interval, max(maxQuietInterval, p.every))
	} else {
		p.interval = p.every
	}
	return max(0, p.interval-time.Since(began))
}

func (p *pace) quiet() bool { return p.interval > p.every }
