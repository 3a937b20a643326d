package recognition_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"github.com/accrue/accrue/pkg/broker"
	"github.com/accrue/accrue/pkg/database/databasetest"
	"github.com/accrue/accrue/pkg/store"
	storeembedded "github.com/accrue/accrue/pkg/store/embedded"
	"github.com/accrue/accrue/query/internal/recognition"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var errDown = errors.New("down")

// steeredStore is a store whose calls the test can fail or delay. It counts them.
type steeredStore struct {
	*storeembedded.Store
	mu    sync.Mutex
	calls map[string]int
	// before is called with the name of each call, which it can fail.
	before func(ctx context.Context, call string) error
	// after is called with the name of each call that succeeded, whose reply it can lose.
	after func(call string) error
}

func newStore(t *testing.T) *steeredStore {
	return &steeredStore{Store: databasetest.Store(t), calls: make(map[string]int)}
}

// steer sets before and after.
func (s *steeredStore) steer(before func(ctx context.Context, call string) error, after func(call string) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.before, s.after = before, after
}

// count returns the number of calls since it was last called.
func (s *steeredStore) count(call string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.calls[call]
	s.calls[call] = 0
	return n
}

func (s *steeredStore) do(ctx context.Context, call string, it func() error) error {
	s.mu.Lock()
	s.calls[call]++
	before, after := s.before, s.after
	s.mu.Unlock()
	if before != nil {
		if err := before(ctx, call); err != nil {
			return err
		}
	}
	err := it()
	if err == nil && after != nil {
		err = after(call)
	}
	return err
}

func (s *steeredStore) Due(ctx context.Context, recognized, tier int64, limit int) (all []store.Contributor, err error) {
	err = s.do(ctx, "Due", func() error { all, err = s.Store.Due(ctx, recognized, tier, limit); return err })
	return all, err
}

func (s *steeredStore) Recognize(ctx context.Context, r store.Recognition) error {
	return s.do(ctx, "Recognize", func() error { return s.Store.Recognize(ctx, r) })
}

func (s *steeredStore) Raise(ctx context.Context, contributor string, tier int64) error {
	return s.do(ctx, "Raise", func() error { return s.Store.Raise(ctx, contributor, tier) })
}

func (s *steeredStore) Pending(
	ctx context.Context, after store.Recognition, limit int,
) (all []store.PendingRecognition, asOf time.Time, err error) {
	err = s.do(ctx, "Pending", func() error { all, asOf, err = s.Store.Pending(ctx, after, limit); return err })
	return all, asOf, err
}

func (s *steeredStore) Claim(ctx context.Context, pending []store.PendingRecognition) (all []store.PendingRecognition, err error) {
	err = s.do(ctx, "Claim", func() error { all, err = s.Store.Claim(ctx, pending); return err })
	return all, err
}

func (s *steeredStore) MarkSent(ctx context.Context, sent []store.Recognition) error {
	return s.do(ctx, "MarkSent", func() error { return s.Store.MarkSent(ctx, sent) })
}

func (s *steeredStore) RecognizedTiers(ctx context.Context) (all []int64, err error) {
	err = s.do(ctx, "RecognizedTiers", func() error { all, err = s.Store.RecognizedTiers(ctx); return err })
	return all, err
}

func (s *steeredStore) CountRecognized(ctx context.Context, tier int64) (contributors, recognitions int64, err error) {
	err = s.do(ctx, "CountRecognized", func() error {
		contributors, recognitions, err = s.Store.CountRecognized(ctx, tier)
		return err
	})
	return contributors, recognitions, err
}

// failing returns a function that fails the named calls.
func failing(calls ...string) func(context.Context, string) error {
	return func(_ context.Context, call string) error {
		if slices.Contains(calls, call) {
			return errDown
		}
		return nil
	}
}

// hanging returns a function that blocks the named calls until their context ends.
func hanging(calls ...string) func(context.Context, string) error {
	return func(ctx context.Context, call string) error {
		if slices.Contains(calls, call) {
			<-ctx.Done()
			return ctx.Err()
		}
		return nil
	}
}

// contribute adds n contributions to each of the contributors.
func (s *steeredStore) contribute(t *testing.T, n int64, contributors ...string) {
	t.Helper()
	state, err := s.Load(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	commit := store.Commit{Revision: state.Revision, Next: state.Checkpoint.Next(time.Now(), time.Hour, nil, nil)}
	for _, c := range contributors {
		commit.Contributors = append(commit.Contributors, store.Contributions{Contributor: c, Contributions: n})
	}
	if _, err := s.Commit(t.Context(), commit); err != nil {
		t.Fatal(err)
	}
}

// pendingCount returns the number of recognitions that are not marked sent.
func (s *steeredStore) pendingCount(t *testing.T) int {
	t.Helper()
	all, _, err := s.Store.Pending(t.Context(), store.Recognition{}, 1_000_000)
	if err != nil {
		t.Fatal(err)
	}
	return len(all)
}

// reached is a contributor at a tier.
type reached struct {
	Contributor string `json:"contributor"`
	Tier        int64  `json:"tier"`
}

// recordingPublisher keeps what is published. The test can fail or delay its calls.
type recordingPublisher struct {
	mu       sync.Mutex
	events   []reached
	messages []broker.Message
	requests int
	before   func(context.Context) error
	after    func() error
}

func (p *recordingPublisher) Publish(ctx context.Context, messages []broker.Message) error {
	p.mu.Lock()
	before, after := p.before, p.after
	p.requests++
	p.mu.Unlock()
	if before != nil {
		if err := before(ctx); err != nil {
			return err
		}
	}
	p.mu.Lock()
	for _, m := range messages {
		var r reached
		if err := json.Unmarshal(m.Data, &r); err != nil {
			panic(err)
		}
		p.events = append(p.events, r)
	}
	p.messages = append(p.messages, messages...)
	p.mu.Unlock()
	if after != nil {
		return after()
	}
	return nil
}

func (p *recordingPublisher) steer(before func(context.Context) error, after func() error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.before, p.after = before, after
}

// take returns the events since it was last called.
func (p *recordingPublisher) take() []reached {
	p.mu.Lock()
	defer p.mu.Unlock()
	events := p.events
	p.events = nil
	return events
}

// world is a store and a topic in a bubble.
type world struct {
	t       *testing.T
	store   *steeredStore
	events  *recordingPublisher
	changes chan struct{}
	log     *syncBuffer
}

// bubble runs a test in a synctest bubble, where time.Sleep advances a fake clock.
func bubble(t *testing.T, test func(w *world)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		test(&world{t: t, store: newStore(t), events: &recordingPublisher{}, changes: make(chan struct{}, 1), log: &syncBuffer{}})
	})
}

// start runs a recognizer. Stop stops it and returns how long that took.
func (w *world) start(tiers ...int64) (r *recognition.Recognizer, stop func() time.Duration) {
	w.t.Helper()
	return w.startOn(w.store, tiers...)
}

func (w *world) startOn(s recognition.Store, tiers ...int64) (r *recognition.Recognizer, stop func() time.Duration) {
	w.t.Helper()
	r = w.recognizer(s, tiers...)
	ctx, cancel := context.WithCancel(context.WithoutCancel(w.t.Context()))
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	stop = sync.OnceValue(func() time.Duration {
		began := time.Now()
		cancel()
		if err := <-done; err != nil {
			w.t.Errorf("Run() = %v", err)
		}
		return time.Since(began)
	})
	w.t.Cleanup(func() { stop() })
	return r, stop
}

func (w *world) recognizer(s recognition.Store, tiers ...int64) *recognition.Recognizer {
	w.t.Helper()
	r, err := recognition.New(tiers, recognition.Parts{Store: s, Publisher: w.events, Changes: w.changes, Log: zerolog.New(w.log)})
	if err != nil {
		w.t.Fatal(err)
	}
	return r
}

// after sleeps and checks what was published meanwhile, in order.
func (w *world) after(d time.Duration, want ...reached) {
	w.t.Helper()
	time.Sleep(d)
	synctest.Wait()
	if got := w.events.take(); !slices.Equal(got, want) {
		w.t.Errorf("published %v, want %v", got, want)
	}
}

// settled checks that every recognition is sent.
func (w *world) settled() {
	w.t.Helper()
	if n := w.store.pendingCount(w.t); n != 0 {
		w.t.Errorf("%d recognitions are pending", n)
	}
}

// syncBuffer is a buffer that is safe for concurrent use.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

// lines returns what was logged at a level since it was last called.
func (b *syncBuffer) lines(level string) []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	var lines []string
	for line := range bytes.Lines(b.b.Bytes()) {
		if bytes.Contains(line, []byte(level)) {
			lines = append(lines, string(line))
		}
	}
	b.b.Reset()
	return lines
}
