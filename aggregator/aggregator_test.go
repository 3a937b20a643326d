package aggregator_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"github.com/accrue/accrue/aggregator"
	"github.com/accrue/accrue/pkg/broker"
	brokerembedded "github.com/accrue/accrue/pkg/broker/embedded"
	"github.com/accrue/accrue/pkg/database/databasetest"
	"github.com/accrue/accrue/pkg/message"
	"github.com/accrue/accrue/pkg/service"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// silentSubscription cannot say how it was set up, as one whose settings the service may not read.
type silentSubscription struct{ *brokerembedded.Subscription }

func (silentSubscription) Describe(context.Context) (broker.SubscriptionInfo, error) {
	return broker.SubscriptionInfo{}, errors.New("permission denied")
}

// notifyingSource calls pulled after each Pull that returns messages.
type notifyingSource struct {
	aggregator.Source
	pulled func()
}

func (s notifyingSource) Pull(ctx context.Context, limit int) ([]broker.Delivery, error) {
	deliveries, err := s.Source.Pull(ctx, limit)
	if len(deliveries) > 0 {
		s.pulled()
	}
	return deliveries, err
}

func TestServiceCountsAnswersHealthAndStops(t *testing.T) {
	t.Parallel()
	for name, wrap := range map[string]func(*brokerembedded.Subscription) aggregator.Source{
		"a subscription that says how it was set up": func(s *brokerembedded.Subscription) aggregator.Source { return s },
		"one that does not":                          func(s *brokerembedded.Subscription) aggregator.Source { return silentSubscription{s} },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			topic, store := databasetest.NewTopic(t), databasetest.Store(t)
			pulled := make(chan struct{})
			subscription := notifyingSource{wrap(topic.Subscribe(aggregator.AckDeadline)), sync.OnceFunc(func() { close(pulled) })}
			service, err := aggregator.New(
				aggregator.Config{Window: 20 * time.Second, CommitDocuments: 1000, Commits: 256, BufferBytes: 1 << 20},
				aggregator.Parts{
					Source: subscription, Ledger: store, DeadLetters: databasetest.NewTopic(t), Log: zerolog.Nop(),
					Checks: []service.Check{{Name: "store", Check: store.Check}},
				})
			if err != nil {
				t.Fatal(err)
			}
			ctx, stop := context.WithCancel(t.Context())
			done := make(chan error)
			go func() { done <- service.Run(ctx) }()
			for _, path := range []string{"/health/live", "/health/ready"} {
				if status := get(t, fmt.Sprintf("http://127.0.0.1:%d%s", service.Port(), path)); status != http.StatusOK {
					t.Errorf("GET %s = %d", path, status)
				}
			}
			b := message.Batch{Publisher: message.NewPublisher(), Sequence: 1, Increments: []message.Increment{{Tag: "foo", Value: 4}}}
			data, err := b.Encode()
			if err != nil {
				t.Fatal(err)
			}
			if err := topic.Publish(t.Context(), []broker.Message{{Data: data}}); err != nil {
				t.Fatal(err)
			}
			<-pulled
			stop() // the window has 20 s to go: the stop commits it
			if err := <-done; err != nil {
				t.Errorf("Run() = %v", err)
			}
			if tags, err := store.Tags(t.Context()); err != nil || len(tags) != 1 || tags[0].Total != 4 {
				t.Errorf("tags = %v, %v", tags, err)
			}
		})
	}
}

func get(t *testing.T, url string) int {
	t.Helper()
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	r, err := client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close() //nolint:errcheck // read
	if _, err := io.Copy(io.Discard, r.Body); err != nil {
		t.Fatal(err)
	}
	return r.StatusCode
}
