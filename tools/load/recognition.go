package load

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/accrue/accrue/pkg/broker/pubsub"
	"github.com/accrue/accrue/tools/recognitions/consumer"
)

const (
	// contributionsEach is how many contributions bring a new contributor to the first tier, by default.
	contributionsEach = 3
	// recognizeEvery is the time between two new contributors, so that they come at every phase of the window.
	recognizeEvery = 53 * time.Millisecond
	// recognitionPatience bounds the wait for the last events. It is longer than an ack deadline, after which events that another
	// process pulled and did not acknowledge are redelivered.
	recognitionPatience = 75 * time.Second
	// recognitionDeadline is the lease of the subscription that is made against an emulator.
	recognitionDeadline = 10 * time.Second
)

var (
	errNotAccepted   = errors.New("a contribution was not answered 202")
	errNotRecognized = errors.New("not every contributor was recognized")
)

// recognizing measures how long after the third 202 of a new contributor the event of their recognition is pulled.
type recognizing struct {
	ingest *url.URL
	events consumer.Source
	people int

	mu sync.Mutex
	// accepted has the time of the third 202 of contributors who wait for their event.
	accepted map[string]time.Time
	// early has contributors whose event arrived before their third 202 was recorded here.
	early map[string]time.Time
	times histogram
	all   chan struct{} // closed when all are recognized
}

func newRecognizing(ingest *url.URL, events consumer.Source, people int) *recognizing {
	return &recognizing{
		ingest: ingest, events: events, people: people,
		accepted: make(map[string]time.Time), early: make(map[string]time.Time), all: make(chan struct{}),
	}
}

// run posts the contributions of all, and returns when all events have come. An error is a post that was refused, or
// errNotRecognized.
func (r *recognizing) run(ctx context.Context) error {
	consuming, stop := context.WithCancel(ctx)
	var fault error
	events := consumer.New(r.events, 2*r.people, r.recognized, func(error) {}) // what fails is delivered again
	var group sync.WaitGroup
	group.Go(func() { _ = events.Run(consuming) }) // returns nil
	if fault = r.post(ctx); fault == nil {
		patience := time.NewTimer(recognitionPatience)
		defer patience.Stop()
		select {
		case <-r.all:
		case <-patience.C:
			fault = r.missing()
		case <-ctx.Done():
			fault = ctx.Err()
		}
	}
	stop()
	group.Wait()
	return fault
}

func (r *recognizing) missing() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return fmt.Errorf("%w: %d of %d were not, within %v", errNotRecognized, uint64(r.people)-r.times.count, r.people, recognitionPatience) //nolint:gosec // not negative
}

// post posts three contributions of each of so many new contributors.
func (r *recognizing) post(ctx context.Context) error {
	client := &http.Client{Timeout: responseTimeout, Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	run := "load-" + strings.ToLower(rand.Text()[:12])
	ticker := time.NewTicker(recognizeEvery)
	defer ticker.Stop()
	for n := range r.people {
		contributor := fmt.Sprintf("%s-%d", run, n)
		for range contributionsEach {
			if err := r.contribute(ctx, client, contributor); err != nil {
				return err
			}
		}
		r.settle(contributor, time.Now(), r.accepted, r.early)
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

func (r *recognizing) contribute(ctx context.Context, client *http.Client, contributor string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, r.ingest.JoinPath("contributions").String(),
		strings.NewReader(`{"contributor":"`+contributor+`"}`))
	if err != nil {
		return fmt.Errorf("post a contribution: %w", err)
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := client.Do(request)
	if err != nil {
		return fmt.Errorf("post a contribution: %w", err)
	}
	defer response.Body.Close() //nolint:errcheck // nothing in it matters
	if response.StatusCode != http.StatusAccepted {
		return fmt.Errorf("%w: %d", errNotAccepted, response.StatusCode)
	}
	return nil
}

// recognized handles an event. It ignores those of other contributors.
func (r *recognizing) recognized(event consumer.Recognition) error {
	r.settle(event.Contributor, time.Now(), r.early, r.accepted)
	return nil
}

// settle stores one of the two times of a contributor, and records their difference if the other is known.
func (r *recognizing) settle(contributor string, now time.Time, own, other map[string]time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	then, known := other[contributor]
	if !known {
		own[contributor] = now
		return
	}
	delete(other, contributor)
	r.times.record(now.Sub(then).Abs())
	if r.times.count == uint64(r.people) { //nolint:gosec // positive
		close(r.all)
	}
}

// subscribe opens the subscription of recognitions that the environment names, made if that is an emulator's. The function
// that it returns closes it.
func subscribe(ctx context.Context, variables map[string]string) (events consumer.Source, closing func(), err error) {
	project, topic := variables["GOOGLE_CLOUD_PROJECT"], cmp.Or(variables["RECOGNITIONS_TOPIC"], "recognitions")
	client, err := pubsub.Connect(ctx, project, variables["PUBSUB_EMULATOR_HOST"])
	if err != nil {
		return nil, nil, fmt.Errorf("connect: %w", err)
	}
	closing = func() { _ = client.Close() } // the process ends
	const subscription = "recognitions-load"
	if err := errors.Join(client.EnsureTopic(ctx, topic), client.EnsureSubscription(ctx, subscription, topic, recognitionDeadline)); err != nil {
		closing()
		return nil, nil, fmt.Errorf("prepare: %w", err)
	}
	return client.Subscription(subscription), closing, nil
}
