// Package webhook posts recognition events to receivers over HTTP (docs/webhooks.md). Each receiver has its own subscription to the
// topic of events. An event is acknowledged when its receiver has answered 2xx; until then its lease is extended while it is tried
// again, so that another instance takes it over if this one is killed. Any number of instances may pull from one subscription.
package webhook

import (
	"context"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/rs/zerolog"
	"go.opentelemetry.io/otel/metric"

	"github.com/accrue/accrue/pkg/broker"
	"github.com/accrue/accrue/pkg/logging"
	"github.com/accrue/accrue/pkg/recent"
	"github.com/accrue/accrue/pkg/service"
)

// Source is a receiver's subscription to the events.
type Source interface {
	// Pull leases up to limit messages; none, after a while, if there are none.
	Pull(ctx context.Context, limit int) ([]broker.Delivery, error)
	// Extend sets the ends of leases to a time from now. Zero releases the messages.
	Extend(ctx context.Context, receipts []string, d time.Duration) error
	// Acknowledge ends deliveries for good.
	Acknowledge(ctx context.Context, receipts []string) error
}

const (
	// AckDeadline is the lease of a subscription: what an instance that is killed delays its events by.
	AckDeadline = 30 * time.Second
	// extendEvery is the time between two extensions of all leases.
	extendEvery = AckDeadline / 3
	// maxHeld bounds the events of one receiver that are in memory, of some kilobytes each. The others wait in the subscription.
	maxHeld = 250
	// maxReceipts bounds the copies of one event that are in memory.
	maxReceipts = 10
	// remembered is how many events of a receiver are remembered after they are done, so that their copies are dropped.
	remembered = 10_000
	// deadAfter is how long after its publication an event that fails is not tried again.
	deadAfter = 24 * time.Hour
	// firstBackoff and maxBackoff bound the wait after a failure: each is twice the one before, less up to a half by chance.
	firstBackoff, maxBackoff = time.Second, 5 * time.Minute
	// callTimeout bounds a call to the broker. A Pull ends by itself after 2 s.
	callTimeout = 3 * time.Second
	// callRetry is the wait after such a call that failed.
	callRetry = 2 * time.Second
	// drain bounds how long a stop waits for the receivers' answers.
	drain = 2 * time.Second
)

// Parts are the dependencies of Webhooks.
type Parts struct {
	// Sources are the subscriptions, by the receivers' names.
	Sources map[string]Source
	// Meter may be nil, which measures nothing.
	Meter metric.Meter
	Log   zerolog.Logger
}

// Webhooks post events to receivers while they run.
type Webhooks struct {
	senders []*sender
}

// New returns the webhooks of receivers.
func New(receivers []Receiver, parts Parts) (*Webhooks, error) {
	w := &Webhooks{senders: make([]*sender, len(receivers))}
	for i, r := range receivers {
		log := parts.Log.With().Str("receiver", r.Name).Logger()
		w.senders[i] = &sender{
			receiver: r, source: parts.Sources[r.Name], transport: r.transport(), log: log, slots: make(chan struct{}, atOnce),
			held: make(map[eventKey]*held), done: recent.New[eventKey](remembered), freed: make(chan struct{}, 1),
			pulling: logging.NewOutage(log, zerolog.WarnLevel, "pull recognitions for a webhook"),
			posting: logging.NewOutage(log, zerolog.WarnLevel, "post recognitions to a webhook"),
		}
	}
	return w, w.measure(parts.Meter)
}

// Run posts events until ctx ends, waits up to 2 s for the receivers' answers, releases the other events, and returns nil within 8 s.
// It may be called once. A panic in one of its goroutines ends it, and is returned as an error.
func (w *Webhooks) Run(ctx context.Context) error {
	ctx, guard := service.NewGuard(ctx)
	var running sync.WaitGroup
	for _, s := range w.senders {
		running.Go(guard.Of(func() { s.run(ctx, guard) }))
	}
	<-ctx.Done()
	running.Wait()
	return guard.End()
}

// eventKey identifies an event: two with the same source and id are copies.
type eventKey struct{ source, id string }

// held is an event that is being posted.
type held struct {
	event       event
	publishedAt time.Time
	// receipts are those of its messages, by their ids: a copy, or the same message again, is settled together with it.
	receipts map[string]string
}

// sender posts the events of one receiver.
type sender struct {
	receiver         Receiver
	source           Source
	transport        http.RoundTripper
	log              zerolog.Logger
	pulling, posting *logging.Outage
	slots            chan struct{} // holds a token for each request

	mu    sync.Mutex
	held  map[eventKey]*held
	done  *recent.Set[eventKey]
	freed chan struct{} // has a token after an event was settled

	delivered, failed, dead atomic.Int64
}

// run pulls and posts until ctx ends.
func (s *sender) run(ctx context.Context, guard *service.Guard) {
	defer (&http.Client{Transport: s.transport}).CloseIdleConnections()
	var posting, extending sync.WaitGroup
	leasing, stop := context.WithCancel(context.WithoutCancel(ctx)) // leases are kept until the last answer
	defer stop()
	extending.Go(guard.Of(func() { s.extend(leasing) }))
	for ctx.Err() == nil {
		for _, h := range s.pull(ctx) {
			posting.Go(guard.Of(func() { s.deliver(ctx, h) }))
		}
	}
	posting.Wait()
	stop()
	extending.Wait()
	s.release(context.WithoutCancel(ctx))
}

// pull returns the events of some messages to be posted. It waits until there is room for one, and after a failure.
func (s *sender) pull(ctx context.Context) []*held {
	room := s.room()
	if room == 0 {
		select {
		case <-s.freed:
		case <-ctx.Done():
		}
		return nil
	}
	call, cancel := context.WithTimeout(context.WithoutCancel(ctx), callTimeout) // one that is cut off leaves messages leased
	defer cancel()
	deliveries, err := s.source.Pull(call, min(room, broker.MaxPull))
	if err != nil {
		s.pulling.Failed(err, nil)
		wait(ctx, callRetry)
		return nil
	}
	s.pulling.Succeeded()
	var posts []*held
	var settled []string
	for _, d := range deliveries {
		h, drop := s.take(d)
		if h != nil {
			posts = append(posts, h)
		}
		if drop {
			settled = append(settled, d.Receipt)
		}
	}
	s.acknowledge(ctx, settled)
	return posts
}

func (s *sender) room() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maxHeld - len(s.held)
}

// take holds the event of a message, and returns it unless it is held already. It reports whether the message is to be dropped.
func (s *sender) take(d broker.Delivery) (posted *held, drop bool) {
	e, err := eventOf(d.Message)
	if err != nil {
		s.log.Warn().Err(err).Str("message", d.ID).Msg("dropped a message that is not a recognition")
		return nil, true
	}
	key := eventKey{e.Source, e.ID}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.done.Has(key) {
		return nil, true
	}
	if h := s.held[key]; h != nil {
		if _, again := h.receipts[d.ID]; again || len(h.receipts) < maxReceipts {
			h.receipts[d.ID] = d.Receipt
		}
		return nil, false
	}
	h := &held{event: e, publishedAt: d.PublishedAt, receipts: map[string]string{d.ID: d.Receipt}}
	s.held[key] = h
	return h, false
}

// deliver posts an event until its receiver has it, it is dead, or ctx ends.
func (s *sender) deliver(ctx context.Context, h *held) {
	answers, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(drain, cancel) })()
	// From half of the wait to all of it, so that events do not come back together.
	waits := backoff.ExponentialBackOff{
		InitialInterval: 3 * firstBackoff / 4, RandomizationFactor: 1. / 3, Multiplier: 2, MaxInterval: 3 * maxBackoff / 4,
	}
	waits.Reset()
	for attempts := 1; ; attempts++ {
		select {
		case s.slots <- struct{}{}:
		case <-ctx.Done():
			return
		}
		err := s.receiver.post(answers, s.transport, &h.event)
		<-s.slots
		if err == nil {
			s.posting.Succeeded()
			s.delivered.Add(1)
			s.settle(ctx, h)
			return
		}
		if ctx.Err() != nil { // the cause of the error, perhaps
			return
		}
		s.failed.Add(1)
		s.posting.Failed(err, nil)
		if age := time.Since(h.publishedAt); age >= deadAfter {
			s.dead.Add(1)
			s.log.Error().Err(err).Str("event", h.event.ID).Int("attempts", attempts).Dur("age_ms", age).
				Msg("gave up posting a recognition to a webhook")
			s.settle(ctx, h)
			return
		}
		wait(ctx, waits.NextBackOff())
	}
}

// settle lets go of an event for good.
func (s *sender) settle(ctx context.Context, h *held) {
	key := eventKey{h.event.Source, h.event.ID}
	s.mu.Lock()
	s.done.Add(key)
	delete(s.held, key)
	receipts := make([]string, 0, len(h.receipts))
	for _, receipt := range h.receipts {
		receipts = append(receipts, receipt)
	}
	s.mu.Unlock()
	select {
	case s.freed <- struct{}{}:
	default: // there is one
	}
	s.acknowledge(ctx, receipts)
}

// acknowledge settles messages. Those of a call that fails come again, and are remembered.
func (s *sender) acknowledge(ctx context.Context, receipts []string) {
	if len(receipts) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), callTimeout)
	defer cancel()
	if err := s.source.Acknowledge(ctx, receipts); err != nil {
		s.pulling.Failed(err, nil)
	}
}

// extend extends the leases of all that is held, until ctx ends. A message whose lease ends all the same comes again, and is
// joined with the event that is held.
func (s *sender) extend(ctx context.Context) {
	ticker := time.NewTicker(extendEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
		s.lease(ctx, AckDeadline)
	}
}

// release gives back all that is held.
func (s *sender) release(ctx context.Context) { s.lease(ctx, 0) }

func (s *sender) lease(ctx context.Context, d time.Duration) {
	s.mu.Lock()
	var receipts []string
	for _, h := range s.held {
		for _, receipt := range h.receipts {
			receipts = append(receipts, receipt)
		}
	}
	s.mu.Unlock()
	if len(receipts) == 0 {
		return
	}
	call, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if err := s.source.Extend(call, receipts, d); err != nil && ctx.Err() == nil {
		s.pulling.Failed(err, nil)
	}
}

// wait waits for d or until ctx ends.
func wait(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
