package logging

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
)

// Outage is something that fails again and again. The first failure is logged at once, then at most one line in
// SummaryInterval says how many there were, and one says when it works again. What fails and works in turns is not told
// in pairs of lines: a failure less than SummaryInterval after a line is counted, and told with the next. Its methods may
// be called at the same time; a success costs a load while nothing fails.
type Outage struct {
	log   zerolog.Logger
	level zerolog.Level
	what  string

	failing  atomic.Bool
	mu       sync.Mutex
	since    time.Time // of the first failure of this row
	row      int64     // failures of this row
	told     bool      // this row has had a line
	failures summary
}

// NewOutage makes an Outage of what, as in "cannot commit" without the "cannot". Failures are logged at level.
func NewOutage(log zerolog.Logger, level zerolog.Level, what string) *Outage {
	return &Outage{log: log, level: level, what: what}
}

// Failed counts a failure, and logs it if it is time. It says whether it was the first of a row. More, which may be nil,
// adds to the line, if there is one, what is known of this failure.
func (o *Outage) Failed(err error, more func(*zerolog.Event)) (first bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	now := time.Now()
	if first = !o.failing.Load(); first {
		o.failing.Store(true)
		o.since, o.row = now, 0
	}
	o.row++
	failures := o.failures.occurred(now)
	if failures == 0 {
		return first
	}
	event := o.log.WithLevel(o.level).Err(err).Int64("failures", failures).Dur("failed_ms", now.Sub(o.since))
	if more != nil {
		more(event)
	}
	event.Msg("cannot " + o.what)
	o.told = true
	return first
}

// Succeeded says that it works again, if it had not and that was told.
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
	if o.told {
		o.log.Info().Int64("failures", o.row).Dur("failed_ms", time.Since(o.since)).Msg("works again: " + o.what)
		o.told, o.failures.untold = false, 0
	}
}

// Lasts says whether the last attempt failed.
func (o *Outage) Lasts() bool { return o.failing.Load() }
