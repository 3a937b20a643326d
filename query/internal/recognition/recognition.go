// Package recognition finds contributors who have reached a tier, records that, once for each of them and tier, and
// publishes an event of it (design section 6). It is level-triggered: it looks at what is, again and again, and does what
// is missing. Whatever instance is killed, and wherever, another one finds what it has left. Any number of instances may
// work on one store.
package recognition

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"github.com/accrue/accrue/pkg/broker"
	"github.com/accrue/accrue/pkg/logging"
	"github.com/accrue/accrue/pkg/service"
	"github.com/accrue/accrue/pkg/store"
)

// Ledger is where contributors and their recognitions are kept.
type Ledger interface {
	// Due returns up to limit contributors whose recognized tier is recognized and who have tier or more contributions.
	Due(ctx context.Context, recognized, tier int64, limit int) ([]store.Contributor, error)
	// Recognize makes a recognition, pending, and raises the recognized tier, all or nothing. The errors are
	// store.ErrExists, store.ErrNotFound if there is no such contributor, and others, after which the outcome is unknown.
	Recognize(ctx context.Context, r store.Recognition) error
	// Raise raises the recognized tier to that of a recognition that exists; otherwise it is store.ErrNotFound.
	Raise(ctx context.Context, contributor string, tier int64) error
}

// Outbox are the recognitions whose events are not known to be published.
type Outbox interface {
	// Pending returns a page of them, and the time of the read by the store's clock.
	Pending(ctx context.Context, after store.Recognition, limit int) ([]store.PendingRecognition, time.Time, error)
	// Claim returns those of them that nobody has claimed or marked since they were read, and makes them as if just made.
	Claim(ctx context.Context, pending []store.PendingRecognition) ([]store.PendingRecognition, error)
	// MarkSent takes recognitions out.
	MarkSent(ctx context.Context, sent []store.Recognition) error
}

// Census tells what recognitions there are, and who lacks one.
type Census interface {
	// RecognizedTiers returns the recognized tiers that any contributor has.
	RecognizedTiers(ctx context.Context) ([]int64, error)
	// CountRecognized counts the contributors whose recognized tier is tier or above, and the recognitions of tier.
	CountRecognized(ctx context.Context, tier int64) (contributors, recognitions int64, err error)
	// Unrecognized returns those of a page of such contributors who have no recognition of tier, and the page's last
	// contributor, zero if it was empty.
	Unrecognized(ctx context.Context, tier int64, after store.Contributor, limit int) (missing []store.Contributor, last store.Contributor, err error)
}

// Store is a store that is all of these.
type Store interface {
	Ledger
	Outbox
	Census
}

// Publisher is the topic of events.
type Publisher interface {
	// Publish returns nil when all messages are durable. After an error that is not known of any.
	Publish(ctx context.Context, messages []broker.Message) error
}

const (
	// interval is from the beginning of one look for contributors to the next, while anything is being counted.
	interval = time.Second
	// idleInterval takes its place when nothing was counted for quietAfter: the longest that REFRESH can be, and the
	// same again, since what is being counted is seen when the checkpoints are read.
	idleInterval = 5 * time.Second
	quietAfter   = 2 * time.Minute
	// sweepInterval is the time between two looks for events that somebody left unpublished.
	sweepInterval = 5 * time.Second
	// lateAfter is how long an event is left to whoever made or claimed its recognition: longer than handling, so that
	// nobody publishes what another one is about to. The difference is for what a call that was given up may still do.
	lateAfter = 10 * time.Second
	// handling bounds the time from the first recognition of a page, or the claim of one, to the end of their publishing.
	handling = 7 * time.Second
	// making is how long of that recognitions are begun.
	making = time.Second
	// auditInterval is the time between two audits, about.
	auditInterval = time.Hour

	// page is the most contributors, or recognitions, that are handled at once.
	page = 250
	// workers is how many recognitions are made at the same time.
	workers = 50
	// callTimeout bounds one call to the store, countTimeout one that counts.
	callTimeout  = 3 * time.Second
	countTimeout = time.Minute
	// maxBackoff is the longest wait after a failure, maxAuditBackoff that of the audit.
	maxBackoff      = 10 * time.Second
	maxAuditBackoff = 5 * time.Minute
	// maxUnmarked bounds the events that were published and could not be marked. While there are as many, nobody is
	// recognized.
	maxUnmarked = 10 * page
	// drain bounds how long a stop waits for what was begun.
	drain = 2 * time.Second
)

// Parts are what a Recognizer works on.
type Parts struct {
	Ledger    Ledger
	Outbox    Outbox
	Census    Census
	Publisher Publisher
	// Moved gives a token when something was counted. Nil means that nobody knows.
	Moved <-chan struct{}
	Log   zerolog.Logger
}

// Recognizer recognizes contributors. Run starts it.
type Recognizer struct {
	tiers []int64
	parts Parts
	guard *service.Guard // Run's

	// steps are what is looked at for contributors who are due.
	steps         atomic.Pointer[[]step]
	oldestPending atomic.Int64 // a duration
	recognized    atomic.Int64
	published     atomic.Int64
	takenOver     atomic.Int64

	// publishing is the state of the topic.
	publishing *logging.Outage
	// observe is told of what was recognized.
	observe func(Pass)

	mu sync.Mutex
	// unmarked are recognitions, by document id, whose events this process has published and could not mark.
	unmarked map[string]store.Recognition
}

// New makes a Recognizer of valid tiers.
func New(tiers []int64, parts Parts) *Recognizer {
	r := &Recognizer{
		tiers: tiers, parts: parts, unmarked: make(map[string]store.Recognition),
		publishing: logging.NewOutage(parts.Log, zerolog.WarnLevel, "publish recognitions"),
		observe:    func(Pass) {},
	}
	r.setSteps(nil)
	return r
}

func (r *Recognizer) setSteps(earlier []int64) {
	all := steps(r.tiers, earlier)
	r.steps.Store(&all)
}

// Counts are what a Recognizer has done since its start: recognitions made, events published, and those among them that
// others had left.
type Counts struct{ Recognized, Published, TakenOver int64 }

// Counts returns the present ones.
func (r *Recognizer) Counts() Counts {
	return Counts{Recognized: r.recognized.Load(), Published: r.published.Load(), TakenOver: r.takenOver.Load()}
}

// Pass is one go at a page of contributors who were due, which has ended.
type Pass struct {
	Began, Ended time.Time
	Tier         int64
	// Made is how many recognitions it made, and Published whether the events of all of them are published.
	Made      int
	Published bool
	// Err is the first thing that failed, beside the publishing.
	Err error
}

// Observe has observe told of every pass, from several goroutines. It may be called once, before Run.
func (r *Recognizer) Observe(observe func(Pass)) { r.observe = observe }

// OldestPending is the age of the oldest recognition whose event was not published when that was last looked for, zero if
// there was none: seconds at most unless publishing fails.
func (r *Recognizer) OldestPending() time.Duration { return time.Duration(r.oldestPending.Load()) }

// Run recognizes until ctx ends, then begins nothing more, finishes what it has begun, and returns within 2 s. What it
// could not finish by then another instance does, or its own next life. It may be called once. A panic in one of its
// goroutines ends it in the same way, and is its error.
func (r *Recognizer) Run(ctx context.Context) error {
	ctx, r.guard = service.NewGuard(ctx)
	// What was begun to be written outlives ctx by the drain. Reads end with ctx.
	work, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	var running sync.WaitGroup
	for _, loop := range []func(ctx, work context.Context){r.find, r.sweep, r.audit} {
		running.Go(r.guard.Of(func() { loop(ctx, work) }))
	}
	<-ctx.Done()
	deadline := time.AfterFunc(drain, cancel)
	defer deadline.Stop()
	running.Wait()
	r.parts.Log.Info().Int64("recognized", r.recognized.Load()).Int64("published", r.published.Load()).
		Int64("taken_over", r.takenOver.Load()).Msg("recognition stopped")
	return r.guard.End()
}

// find looks for contributors who are due: every second while anything is being counted, less often otherwise.
func (r *Recognizer) find(ctx, work context.Context) {
	next := time.NewTimer(0)
	defer next.Stop()
	f := finder{r: r}
	retries := r.retrying("recognize contributors", maxBackoff)
	var began time.Time
	busy := time.Now() // when anything was last seen to happen
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.parts.Moved:
			busy = time.Now()
			if !retries.outage.Lasts() {
				next.Reset(max(0, interval-time.Since(began)))
			}
			continue
		case <-next.C:
		}
		began = time.Now()
		found, more, err := f.pass(ctx, work)
		if ctx.Err() != nil {
			return
		}
		if found {
			busy = time.Now()
		}
		switch wait, failed := retries.note(err); {
		case failed:
			next.Reset(wait)
		case more:
			next.Reset(0)
		case time.Since(busy) < quietAfter:
			next.Reset(max(0, interval-time.Since(began)))
		default:
			next.Reset(idleInterval)
		}
	}
}

// finder is find's memory.
type finder struct {
	r *Recognizer
	// existed are the recognitions, by document id, that existed already when the last pass wanted to make them.
	existed map[string]bool
}

var errUnmarked = errors.New("too many published events could not be marked")

// pass takes each step once, the lowest first, so that a contributor is recognized for one tier after the other. It
// says whether it found anybody, and whether there may be more.
func (f *finder) pass(ctx, work context.Context) (found, more bool, err error) {
	if f.r.unmarkedCount() >= maxUnmarked {
		return false, false, errUnmarked // the sweep tries to mark them
	}
	existed := make(map[string]bool)
	defer func() { f.existed = existed }()
	for _, step := range *f.r.steps.Load() {
		if ctx.Err() != nil {
			return found, more, nil
		}
		due, err := f.r.due(ctx, step)
		if err != nil {
			return found, more, err
		}
		if len(due) == 0 {
			continue
		}
		// Another instance has found the same. In another order the two do not meet at every single one.
		rand.Shuffle(len(due), func(i, j int) { due[i], due[j] = due[j], due[i] }) //nolint:gosec // no secret
		done, err := f.r.recognize(ctx, work, due, step.to, f.existed)
		found, more = true, more || len(due) == page
		for _, id := range done.existed {
			existed[id] = true
		}
		if err != nil {
			return found, more, err
		}
	}
	return found, more, nil
}

func (r *Recognizer) due(ctx context.Context, step step) ([]store.Contributor, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return r.parts.Ledger.Due(ctx, step.from, step.to, page) //nolint:wrapcheck // says what it did
}

// outcome is that of a page of contributors.
type outcome struct {
	// existed are the recognitions, by document id, that existed already.
	existed []string
	// left are the contributors for whom there was no time.
	left []store.Contributor
	// published says that the events of all that were made are published.
	published bool

	mu   sync.Mutex
	made []store.Recognition
	err  error // the first one of those that failed
}

// recognize makes the recognitions of a page of contributors for a tier, as many as a second allows, and publishes the
// events of those that it made. Once ctx ends it makes no more, and publishes those.
//
// A recognition that exists already, and existed before, has a contributor whose recognized tier does not say so:
// something brought back an earlier state of it. It is raised, or it would be found for ever.
func (r *Recognizer) recognize(
	ctx, work context.Context, contributors []store.Contributor, tier int64, existedBefore map[string]bool,
) (done *outcome, err error) {
	handle, cancel := context.WithTimeout(work, handling)
	defer cancel()
	enough, stopMaking := context.WithTimeout(ctx, making)
	defer stopMaking()

	var o outcome
	pass := Pass{Began: time.Now(), Tier: tier}
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
	r.recognized.Add(int64(len(o.made)))
	o.published, err = r.deliver(handle, work, o.made)
	err = errors.Join(o.err, err)
	pass.Ended, pass.Made, pass.Published, pass.Err = time.Now(), len(o.made), o.published, err
	r.observe(pass)
	return &o, err
}

func (r *Recognizer) recognizeOne(
	handle context.Context, c store.Contributor, tier int64, existedBefore map[string]bool, o *outcome,
) {
	ctx, cancel := context.WithTimeout(handle, callTimeout)
	defer cancel()
	recognition := store.Recognition{
		Contributor: c.ID, Tier: tier, Contributions: c.Contributions, RecognizedAt: eventTime(time.Now()),
	}
	id := store.RecognitionID(c.ID, tier)
	err := r.parts.Ledger.Recognize(ctx, recognition)
	existed := errors.Is(err, store.ErrExists)
	if existed {
		err = nil
		if existedBefore[id] {
			err = r.parts.Ledger.Raise(ctx, c.ID, tier)
		}
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case errors.Is(err, store.ErrNotFound): // removed since it was found: there is nobody to recognize
	case err != nil && o.err == nil:
		o.err = err
	case err != nil:
	case existed:
		o.existed = append(o.existed, id)
	default:
		o.made = append(o.made, recognition)
	}
}

// deliver publishes the events of recognitions, unless handle has ended, and marks them sent. It is for one who has just
// made or claimed them. What it could not publish is no error: it is for the sweep, of whatever instance.
func (r *Recognizer) deliver(handle, work context.Context, recognitions []store.Recognition) (published bool, err error) {
	if len(recognitions) == 0 {
		return true, nil
	}
	messages := make([]broker.Message, len(recognitions))
	for i, recognition := range recognitions {
		if messages[i], err = event(recognition); err != nil {
			return false, err
		}
	}
	if err = handle.Err(); err == nil {
		err = r.parts.Publisher.Publish(handle, messages)
	}
	if err != nil {
		if work.Err() == nil { // else it is the stop's
			r.publishing.Failed(err, nil)
		}
		return false, nil
	}
	r.publishing.Succeeded()
	r.published.Add(int64(len(messages)))
	r.parts.Log.Debug().Int("events", len(messages)).Msg("published recognitions")
	return true, r.markSent(work, recognitions)
}

// markSent marks recognitions whose events are published. Those that it cannot mark are remembered, so that this process,
// at least, does not publish them again.
func (r *Recognizer) markSent(work context.Context, recognitions []store.Recognition) error {
	ctx, cancel := context.WithTimeout(work, callTimeout)
	defer cancel()
	err := r.parts.Outbox.MarkSent(ctx, recognitions)
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, recognition := range recognitions {
		if id := store.RecognitionID(recognition.Contributor, recognition.Tier); err != nil {
			r.unmarked[id] = recognition
		} else {
			delete(r.unmarked, id)
		}
	}
	return err //nolint:wrapcheck // says what it did
}

func (r *Recognizer) unmarkedCount() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.unmarked)
}
