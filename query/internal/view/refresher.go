package view

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"github.com/accrue/accrue/pkg/logging"
	"github.com/accrue/accrue/pkg/store"
)

const (
	// quietAfter is how long nothing changes and nobody asks before the reads become less frequent.
	quietAfter = time.Minute
	// maxQuietInterval is the longest that the time between two reads grows to in quiet times.
	maxQuietInterval = 10 * time.Second
	// maxBackoff is the longest wait after a read that failed.
	maxBackoff = 5 * time.Second
	// minReadTimeout is the least that one read may take before it is given up; slower refreshing allows more.
	minReadTimeout = 2 * time.Second
	// maxWait bounds how long a request waits for a read that it woke.
	maxWait = time.Second
	// staleAfter is how many missed refreshes make the service unready.
	staleAfter = 4
)

// Reader reads the partitions.
type Reader interface {
	// Totals returns every partition's totals, each partition once, and the time of this read by the store's clock,
	// which does not go back. It returns soon after its context ends. What it returned is not changed later.
	Totals(context.Context) ([]store.PartitionTotals, time.Time, error)
}

// Refresher keeps the latest view. It reads at a steady rate, which depends neither on how many requests there are nor
// on how many tags; when nobody asks and nothing changes, it reads less often. Its methods may be called at the same
// time.
type Refresher struct {
	reader  Reader
	every   time.Duration
	outage  *logging.Outage
	started time.Time
	// observe is told of each read.
	observe func(Read)
	// asked is when a view was last asked for, as the time since started.
	asked  atomic.Int64
	latest atomic.Pointer[reading]
	// wake asks for a read at once. One token is enough for all who wait.
	wake chan struct{}
}

// reading is the outcome of the latest read. It does not change once it is stored.
type reading struct {
	view *View
	// began is when the read that view is of began, by this process's clock: nothing committed before it is missing.
	began time.Time
	// err is why the latest read failed, or nil when view is of the latest read.
	err error
	// failing is when the first of the reads that failed in a row began.
	failing time.Time
	// quiet says that the next read comes later than usual.
	quiet bool
	// replaced is closed when there is a later reading.
	replaced chan struct{}
}

// NewRefresher makes a refresher that reads as often as every says once it runs.
func NewRefresher(reader Reader, every time.Duration, log zerolog.Logger) *Refresher {
	r := &Refresher{
		reader: reader, every: every, outage: logging.NewOutage(log, zerolog.WarnLevel, "read the totals"),
		started: time.Now(), wake: make(chan struct{}, 1), observe: func(Read) {},
	}
	r.latest.Store(&reading{view: new(View), replaced: make(chan struct{})})
	return r
}

// View returns the latest view, of version 0 before the first read. It never reads by itself and as a rule does not wait.
// Only in quiet times, when the latest view may be older than two refreshes, it wakes the refresher and waits for that
// one read together with everybody else who asks: for a second at most, or until ctx ends, and then the latest view
// has to do.
func (r *Refresher) View(ctx context.Context) *View {
	r.asked.Store(int64(time.Since(r.started)))
	latest := r.latest.Load()
	if !latest.quiet || time.Since(latest.began) <= 2*r.every {
		return latest.view
	}
	select {
	case r.wake <- struct{}{}:
	default: // somebody else has asked
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

// Watch returns the latest view, of version 0 before the first read, and a channel that is closed when the next read has
// come back, whatever it found. It neither waits nor causes a read; but somebody who watches is somebody who asks: as long
// as Watch is called again after each read, the reads do not become less frequent.
func (r *Refresher) Watch() (*View, <-chan struct{}) {
	r.asked.Store(int64(time.Since(r.started)))
	latest := r.latest.Load()
	return latest.view, latest.replaced
}

// errNoView is the case of a refresher whose first read has not come back yet.
var errNoView = errors.New("the totals have not been read yet")

// Check returns why the view cannot be relied on: there is none yet, or the reads have been failing and it is older than
// a few refreshes. It asks nobody and does not count as a request. A view that is old because nobody asked for it is
// well: it is refreshed when somebody does.
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

// Read is a read of the partitions that has come back.
type Read struct {
	Began      time.Time
	Partitions []store.PartitionTotals
	Err        error
}

// Observe has observe told of every read once its outcome is served. It may be called once, before Run.
func (r *Refresher) Observe(observe func(Read)) { r.observe = observe }

// Age is how old the view is: the time since the read that it is of began, or since the start before the first.
func (r *Refresher) Age() time.Duration {
	latest := r.latest.Load()
	if latest.view.Version() == 0 {
		return time.Since(r.started)
	}
	return time.Since(latest.began)
}

// Run refreshes the view until ctx ends. A read that fails leaves the view as it is; Run tries again, and never gives up.
func (r *Refresher) Run(ctx context.Context) error {
	next := time.NewTimer(0)
	defer next.Stop()
	pace := pace{every: r.every, interval: r.every, backoff: r.every, changed: r.started}
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

// refresh reads once, stores the outcome and returns how long to wait for the next read.
func (r *Refresher) refresh(ctx context.Context, pace *pace) time.Duration {
	last, began := r.latest.Load(), time.Now()
	readCtx, cancel := context.WithTimeout(ctx, max(staleAfter*r.every, minReadTimeout))
	defer cancel()
	partitions, asOf, err := r.reader.Totals(readCtx)
	if ctx.Err() != nil {
		return 0 // the end of the run is no failure
	}

	current := &reading{view: last.view, began: last.began, err: err, replaced: make(chan struct{})}
	var wait time.Duration
	if err != nil {
		if current.failing = last.failing; last.err == nil {
			current.failing = began
		}
		r.outage.Failed(err, func(e *zerolog.Event) { e.Time("as_of", last.view.AsOf()) })
		wait = pace.failed()
	} else {
		current.view, current.began = last.view.Next(partitions, asOf), began
		r.outage.Succeeded()
		wait = pace.read(began, r.started.Add(time.Duration(r.asked.Load())), current.view.Version() != last.view.Version())
		current.quiet = pace.quiet()
	}
	// Whoever has woken the refresher so far is served by this outcome. The token is taken before the outcome can be
	// seen, so that it is never that of a request that finds even this one too old.
	select {
	case <-r.wake:
	default:
	}
	r.latest.Store(current)
	close(last.replaced)
	r.observe(Read{Began: began, Partitions: partitions, Err: err})
	return wait
}

// pace decides when the next read is due. It belongs to the goroutine that reads.
type pace struct {
	every    time.Duration
	interval time.Duration // between the beginnings of two reads
	backoff  time.Duration // after the next failure, at most
	changed  time.Time     // when a read that found a change began
}

// read is told of a read that succeeded: when it began, when a view was last asked for, and whether it found a change.
// It returns how long to wait now. Reads begin an interval apart, however long each takes.
func (p *pace) read(began, asked time.Time, changed bool) time.Duration {
	p.backoff = p.every
	if changed {
		p.changed = began
	}
	if began.Sub(p.changed) >= quietAfter && began.Sub(asked) >= quietAfter {
		p.interval = min(2*p.interval, max(maxQuietInterval, p.every))
	} else {
		p.interval = p.every
	}
	return max(0, p.interval-time.Since(began))
}

// failed is told of a read that failed and returns how long to wait: twice as long each time, and from half of that to
// all of it, so that many instances do not come back at the same moment.
func (p *pace) failed() time.Duration {
	wait := p.backoff
	p.backoff = min(2*p.backoff, max(maxBackoff, p.every))
	return wait/2 + rand.N(wait/2+1) //nolint:gosec // no secret
}

func (p *pace) quiet() bool { return p.interval > p.every }
