// Package recognition finds contributors who have reached a tier, records that once per contributor and tier, and
// publishes an event of it (docs/design/protocol.md). It is level-triggered: it repeatedly compares what is stored with
// what should be, and does what is missing. When an instance is killed, another one finishes its work. Any number of
// instances may work on one store.
package recognition

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
	"go.opentelemetry.io/otel/metric"

	"github.com/accrue/accrue/pkg/broker"
	"github.com/accrue/accrue/pkg/logging"
	"github.com/accrue/accrue/pkg/service"
	"github.com/accrue/accrue/pkg/store"
)

// Ledger keeps contributors and their recognitions.
type Ledger interface {
	// Due returns up to limit contributors whose recognized tier is recognized and who have tier or more contributions.
	Due(ctx context.Context, recognized, tier int64, limit int) ([]store.Contributor, error)
	// Recognize creates a recognition, pending, and raises the recognized tier, atomically. It returns store.ErrExists,
	// store.ErrNotFound if there is no such contributor, or another error, after which the outcome is unknown.
	Recognize(ctx context.Context, r store.Recognition) error
	// Raise raises the recognized tier to that of an existing recognition; without one it returns store.ErrNotFound.
	Raise(ctx context.Context, contributor string, tier int64) error
}

// Outbox keeps the recognitions whose events are not known to be published.
type Outbox interface {
	// Pending returns a page of them, and the time of the read by the store's clock.
	Pending(ctx context.Context, after store.Recognition, limit int) ([]store.PendingRecognition, time.Time, error)
	// Claim returns those that have been neither claimed nor marked since they were read, and renews their time.
	Claim(ctx context.Context, pending []store.PendingRecognition) ([]store.PendingRecognition, error)
	// MarkSent removes recognitions from the outbox.
	MarkSent(ctx context.Context, sent []store.Recognition) error
}

// Census reports which recognitions exist and which are missing.
type Census interface {
	// RecognizedTiers returns the recognized tiers that any contributor has.
	RecognizedTiers(ctx context.Context) ([]int64, error)
	// CountRecognized counts the contributors whose recognized tier is tier or above, and the recognitions of tier.
	CountRecognized(ctx context.Context, tier int64) (contributors, recognitions int64, err error)
	// Unrecognized returns those of a page of such contributors who have no recognition of tier, and the page's last
	// contributor, zero if the page was empty.
	Unrecognized(ctx context.Context, tier int64, after store.Contributor, limit int) (missing []store.Contributor, last store.Contributor, err error)
}

// Store is a Ledger, an Outbox and a Census of the same data.
type Store interface {
	Ledger
	Outbox
	Census
}

// Publisher is the topic of events.
type Publisher interface {
	// Publish returns nil when all messages are durable. After an error, any of them may be.
	Publish(ctx context.Context, messages []broker.Message) error
}

const (
	// interval is the time between the beginnings of two searches for contributors, while anything is being counted.
	interval = time.Second
	// idleInterval replaces it when nothing was counted for quietAfter, which is twice the longest REFRESH: changes are
	// noticed when the checkpoints are read.
	idleInterval = 5 * time.Second
	quietAfter   = 2 * time.Minute
	// sweepInterval is the time between two searches for abandoned events.
	sweepInterval = 5 * time.Second
	// lateAfter is how long an event is left to the instance that created or claimed its recognition. It is longer than
	// handling, so that no other instance publishes it meanwhile; the difference allows for a call that has timed out
	// but still takes effect.
	lateAfter = 10 * time.Second
	// handling bounds the time from the first recognition of a page, or its claim, to the end of their publishing.
	handling = 7 * time.Second
	// making is how long of that recognitions are begun.
	making = time.Second

	// page bounds the contributors, or recognitions, that are handled together.
	page = 250
	// workers bounds the recognitions that are created concurrently.
	workers = 50
	// callTimeout bounds one call to the store, countTimeout one that counts.
	callTimeout  = 3 * time.Second
	countTimeout = time.Minute
	// maxBackoff bounds the wait after a failure, maxAuditBackoff that of the audit.
	maxBackoff      = 10 * time.Second
	maxAuditBackoff = 5 * time.Minute
	// maxUnmarked bounds the events that were published and could not be marked. Beyond it, recognition pauses.
	maxUnmarked = 10 * page
	// drain bounds how long a stop waits for work that has begun.
	drain = 2 * time.Second
)

// Parts are the dependencies of a Recognizer.
type Parts struct {
	Store     Store
	Publisher Publisher
	// Changes receives a token after something was counted. It may be nil.
	Changes <-chan struct{}
	// Meter may be given to one Recognizer. Nil measures nothing.
	Meter metric.Meter
	Log   zerolog.Logger
}

// Recognizer recognizes contributors while it runs.
type Recognizer struct {
	tiers []int64
	parts Parts
	guard *service.Guard // set by Run

	// steps are what contributors are searched for.
	steps         atomic.Pointer[[]step]
	oldestPending atomic.Int64 // a duration
	created       atomic.Int64 // recognitions
	published     atomic.Int64 // events

	publishing, refusing *logging.Outage

	mu sync.Mutex
	// unmarked are recognitions, by document id, whose events this process has published but could not mark.
	unmarked map[string]store.Recognition
}

// New returns a Recognizer of valid tiers.
func New(tiers []int64, parts Parts) (*Recognizer, error) {
	r := &Recognizer{
		tiers: tiers, parts: parts, unmarked: make(map[string]store.Recognition),
		publishing: logging.NewOutage(parts.Log, zerolog.WarnLevel, "publish recognitions"),
		refusing:   logging.NewOutage(parts.Log, zerolog.WarnLevel, "recognize a contributor"),
	}
	r.setSteps(nil)
	return r, r.measure(parts.Meter)
}

func (r *Recognizer) setSteps(earlier []int64) {
	all := steps(r.tiers, earlier)
	r.steps.Store(&all)
}

// OldestPending returns the age of the oldest recognition whose event was not published at the last sweep, zero if there
// was none. It stays within seconds unless publishing fails.
func (r *Recognizer) OldestPending() time.Duration { return time.Duration(r.oldestPending.Load()) }

// Run recognizes contributors until ctx ends, finishes what it has begun, and returns nil within 2 s. What is unfinished
// by then is left to another instance or the next run. Run may be called once. A panic in one of its goroutines ends it in
// the same way, and is returned as an error.
func (r *Recognizer) Run(ctx context.Context) error {
	ctx, r.guard = service.NewGuard(ctx)
	var running sync.WaitGroup
	for _, loop := range []func(context.Context){r.find, r.sweep, r.audit} {
		running.Go(r.guard.Of(func() { loop(ctx) }))
	}
	running.Wait()
	r.parts.Log.Info().Int64("recognized", r.created.Load()).Int64("published", r.published.Load()).Msg("recognition stopped")
	return r.guard.End()
}

// finishing returns a context for writes, which outlives ctx by the drain: work that has begun is finished although no
// more is begun.
func finishing(ctx context.Context) (context.Context, context.CancelFunc) {
	work, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(drain, cancel) })
	return work, func() {
		stop()
		cancel()
	}
}
