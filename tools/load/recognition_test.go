package load

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/accrue/accrue/pkg/broker"
	brokerembedded "github.com/accrue/accrue/pkg/broker/embedded"
	"github.com/accrue/accrue/pkg/database/databasetest"
	"github.com/accrue/accrue/tools/recognitions/consumer"
)

// recognizer is a system that recognizes at the third contribution and publishes the event so many times.
func recognizer(t *testing.T, status, copies int) (*url.URL, *brokerembedded.Subscription) {
	t.Helper()
	topic := databasetest.NewTopic(t)
	subscription := topic.Subscribe(time.Minute)
	var mu sync.Mutex
	contributions := map[string]int64{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var body struct{ Contributor string }
		if err := json.NewDecoder(r.Body).Decode(&body); err != nil || r.URL.Path != "/contributions" {
			t.Errorf("posted to %s: %v", r.URL.Path, err)
		}
		mu.Lock()
		contributions[body.Contributor]++
		n := contributions[body.Contributor]
		mu.Unlock()
		if n == 3 {
			data, err := json.Marshal(consumer.Recognition{Contributor: body.Contributor, Tier: 3, Contributions: n})
			if err != nil {
				t.Error(err)
			}
			event := broker.Message{Data: data, Attributes: map[string]string{
				"ce-specversion": "1.0", "ce-source": "/accrue/query", "ce-id": body.Contributor, "ce-type": "dev.accrue.contributor.recognized.v1",
			}}
			for range copies {
				if err := topic.Publish(context.WithoutCancel(r.Context()), []broker.Message{event}); err != nil {
					t.Error(err)
				}
			}
		}
		w.WriteHeader(status)
	}))
	t.Cleanup(server.Close)
	address, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	return address, subscription
}

func TestTimesEachRecognitionOnce(t *testing.T) {
	t.Parallel()
	address, events := recognizer(t, http.StatusAccepted, 2)
	r := newRecognizing(address, events, 5)
	if err := r.run(t.Context()); err != nil || r.times.count != 5 {
		t.Errorf("run() = %v with %d times, want 5", err, r.times.count)
	}
}

func TestRefusedContributionEndsTheTiming(t *testing.T) {
	t.Parallel()
	address, events := recognizer(t, http.StatusServiceUnavailable, 1)
	if err := newRecognizing(address, events, 5).run(t.Context()); !errors.Is(err, errNotAccepted) {
		t.Errorf("run() = %v, want errNotAccepted", err)
	}
}

func TestWaitsForAMissingEventUntilTheEnd(t *testing.T) {
	t.Parallel()
	address, events := recognizer(t, http.StatusAccepted, 0)
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if err := newRecognizing(address, events, 2).run(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("run() = %v, want the context's end", err)
	}
}
