package logging

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
)

// Outage logs repeated failures of one operation. The first failure is logged at once, then at most one line per
// SummaryInterval says how many there were, and a last one says that the operation works again. A flapping dependency
// logs at most one failure per SummaryInterval. An Outage is safe for concurrent use; a success costs one atomic load
// while nothing fails.
type Outage struct {
	log   zerolog.Logger
	level zerolog.Level
	what  string

	failing  atomic.Bool
	mu       sync.Mutex
	since    time.Time // of the first failure since the last success
	count    int64     // failures since the last success
	logged   bool      // whether any of them was logged
	failures limit
}

// NewOutage returns an Outage of an operation, named as in "cannot commit" without the "cannot". Failures are logged at level.
func NewOutage(log zerolog.Logger, level zerolog.Level, what string) *Outage {
	return &Outage{log: log, level: level, what: what}
}

// Failed counts a failure and logs it unless it is too early for another line. It reports whether it is the first failure
// since the last success. More, which may be nil, adds fields to the line.
func (o *Outage) Failed(err error, more func(*zerolog.Event)) (first bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	now := time.Now()
	if first = !o.failing.Load(); first {
		o.failing.Store(true)
		o.since, o.count = now, 0
	}
	o.count++
	failures := o.failures.occurred(now)
	if failures == 0 {
		return first
	}
	event := o.log.WithLevel(o.level).Err(err).Int64("failures", failures).Dur("failed_ms", now.Sub(o.since))
	if more != nil {
		more(event)
	}
	event.Msg("cannot " + o.what)
	o.logged = true
	return first
}

// Succeeded ends the outage, and logs that if a failure was logged.
func (o *Outage) Succeeded() {
	if !o.failing.Load() {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.failing.Load() {
		return
	}
	o.failing.Store(false)
	if o.logged {
		o.log.Info().Int64("failures", o.count).Dur("failed_ms", time.Since(o.since)).Msg("works again: " + o.what)
		o.logged, o.failures.suppressed = false, 0
	}
}

// Failing reports whether the last attempt failed.
func (o *Outage) Failing() bool { return o.failing.Load() }
