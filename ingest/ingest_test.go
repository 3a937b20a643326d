package ingest_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"github.com/accrue/accrue/ingest"
	"github.com/accrue/accrue/pkg/broker"
	brokerembedded "github.com/accrue/accrue/pkg/broker/embedded"
	"github.com/accrue/accrue/pkg/database/databasetest"
	"github.com/accrue/accrue/pkg/message"
	"github.com/accrue/accrue/pkg/service"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// settings returns the defaults, with a free port.
func settings(t *testing.T) ingest.Config {
	t.Helper()
	var c ingest.Config
	if err := service.Load(map[string]string{"GOOGLE_CLOUD_PROJECT": "test", "PORT": "0"}, &c); err != nil {
		t.Fatal(err)
	}
	return c
}

// running is a service that runs until the test ends, or until stop.
type running struct {
	url    string
	client *http.Client
	// stop ends the service and waits for it.
	stop func()
	// cancel makes it stop.
	cancel context.CancelFunc
}

func run(tb testing.TB, config ingest.Config, parts ingest.Parts) *running {
	tb.Helper()
	service, err := ingest.New(config, parts)
	if err != nil {
		tb.Fatal(err)
	}
	ctx, cancel := context.WithCancel(tb.Context())
	done := make(chan error, 1)
	go func() { done <- service.Run(ctx) }()
	transport := &http.Transport{}
	r := &running{url: fmt.Sprintf("http://127.0.0.1:%d", service.Port()), client: &http.Client{Transport: transport}, cancel: cancel}
	r.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			tb.Errorf("Run() = %v", err)
		}
		transport.CloseIdleConnections()
	})
	tb.Cleanup(r.stop)
	return r
}

// post returns the status and body of the answer. It may be called from any goroutine.
func (r *running) post(t *testing.T, path, body string) (int, string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, r.url+path, strings.NewReader(body))
	if err != nil {
		t.Error(err)
		return 0, ""
	}
	request.Header.Set("Content-Type", "application/json")
	return r.do(t, request)
}

func (r *running) do(t *testing.T, request *http.Request) (int, string) {
	t.Helper()
	response, err := r.client.Do(request)
	if err != nil {
		t.Error(err)
		return 0, ""
	}
	defer response.Body.Close() //nolint:errcheck // read to the end below
	answer, err := io.ReadAll(response.Body)
	if err != nil {
		t.Error(err)
	}
	return response.StatusCode, string(answer)
}

const foo = `{"name":"foo","value":4}`

func TestPostsArePublished(t *testing.T) {
	t.Parallel()
	topic := databasetest.NewTopic(t)
	subscription := topic.Subscribe(time.Minute)
	service := run(t, settings(t), ingest.Parts{Publisher: topic})
	for _, tc := range []struct{ path, body, want string }{
		{"/increments", foo, `{"accepted":1}`},
		{"/increments", `{"name":"foo","value":9,"contributor":"ada"}`, `{"accepted":1}`},
		{"/increments/batch", `{"increments":[` + foo + `,{"name":"ballz","value":1}]}`, `{"accepted":2}`},
		{"/contributions", `{"contributor":"ada"}`, `{"accepted":1}`},
		{"/contributions/batch", `{"contributions":[{"contributor":"ada"},{"contributor":"Ada"}]}`, `{"accepted":2}`},
	} {
		if status, body := service.post(t, tc.path, tc.body); status != http.StatusAccepted || body != tc.want {
			t.Errorf("POST %s = %d %s, want 202 %s", tc.path, status, body, tc.want)
		}
	}
	if status, _ := service.post(t, "/increments", `{"name":"foo","value":10}`); status != http.StatusUnprocessableEntity {
		t.Errorf("POST of a 10 = %d, want 422", status)
	}
	service.stop()
	sums, contributions := pull(t, subscription)
	if want := map[string]int{"foo": 17, "ballz": 1}; !reflect.DeepEqual(sums, want) {
		t.Errorf("sums = %v, want %v", sums, want)
	}
	if want := map[string]int{"ada": 3, "Ada": 1}; !reflect.DeepEqual(contributions, want) {
		t.Errorf("contributions = %v, want %v", contributions, want)
	}
}

// pull returns the sums of the messages in a subscription.
func pull(t *testing.T, subscription *brokerembedded.Subscription) (sums, contributions map[string]int) {
	t.Helper()
	deliveries, err := subscription.Pull(t.Context(), broker.MaxPull)
	if err != nil {
		t.Fatal(err)
	}
	sums, contributions = make(map[string]int), make(map[string]int)
	for _, d := range deliveries {
		b, err := message.Decode(d.Data)
		if err != nil {
			t.Fatal(err)
		}
		for _, i := range b.Increments {
			sums[i.Tag] += int(i.Value)
		}
		for _, c := range b.Contributions {
			contributions[c.Contributor]++
		}
	}
	return sums, contributions
}

// heldPublisher signals when a publish begins, and ends it when it is released.
type heldPublisher struct {
	begun, release chan struct{}
	published      atomic.Bool
}

func (p *heldPublisher) Publish(ctx context.Context, _ []broker.Message) error {
	p.begun <- struct{}{}
	select {
	case <-p.release:
		p.published.Store(true)
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func TestStopAnswersRequestsInProgress(t *testing.T) {
	t.Parallel()
	p := &heldPublisher{begun: make(chan struct{}), release: make(chan struct{})}
	service := run(t, settings(t), ingest.Parts{Publisher: p})
	answered := make(chan int)
	go func() {
		status, _ := service.post(t, "/increments", foo)
		if !p.published.Load() {
			t.Error("answered before it was published")
		}
		answered <- status
	}()
	<-p.begun
	service.cancel()
	close(p.release)
	if status := <-answered; status != http.StatusAccepted {
		t.Errorf("status = %d, want 202", status)
	}
	service.stop()
}

// failingPublisher fails.
type failingPublisher struct{}

func (failingPublisher) Publish(context.Context, []broker.Message) error { return errors.New("away") }

func TestAFailedPublishIsAnswered(t *testing.T) {
	t.Parallel()
	service := run(t, settings(t), ingest.Parts{Publisher: failingPublisher{}})
	if status, body := service.post(t, "/increments", foo); status != http.StatusServiceUnavailable || strings.Contains(body, "away") {
		t.Errorf("%d %s, want a 503 without the cause", status, body)
	}
}

func TestReadinessAsksTheDependencies(t *testing.T) {
	t.Parallel()
	for title, tc := range map[string]struct {
		err  error
		want int
	}{
		"working": {nil, http.StatusOK},
		"failing": {errors.New("away"), http.StatusServiceUnavailable},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			check := service.Check{Name: "pubsub", Check: func(context.Context) error { return tc.err }}
			running := run(t, settings(t), ingest.Parts{Publisher: failingPublisher{}, Checks: []service.Check{check}})
			for path, want := range map[string]int{service.ReadyPath: tc.want, service.LivePath: http.StatusOK} {
				request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, running.url+path, nil)
				if err != nil {
					t.Fatal(err)
				}
				if status, _ := running.do(t, request); status != want {
					t.Errorf("%s = %d, want %d", path, status, want)
				}
			}
		})
	}
}

func TestNewFailsIfThePortIsTaken(t *testing.T) {
	t.Parallel()
	config := settings(t)
	first := run(t, config, ingest.Parts{Publisher: failingPublisher{}})
	if _, err := fmt.Sscanf(first.url, "http://127.0.0.1:%d", &config.Port); err != nil {
		t.Fatal(err)
	}
	if _, err := ingest.New(config, ingest.Parts{Publisher: failingPublisher{}, Log: zerolog.Nop()}); err == nil {
		t.Error("New() = nil although the port is taken")
	}
}

func TestBaselineValidates(t *testing.T) {
	t.Parallel()
	handler := ingest.Baseline(zerolog.Nop())
	for body, want := range map[string]int{foo: http.StatusAccepted, `{"name":"foo","value":10}`: http.StatusUnprocessableEntity} {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/increments", strings.NewReader(body))
		r.Header.Set("Content-Type", "application/json")
		w := httptest.NewRecorder()
		if handler.ServeHTTP(w, r); w.Code != want {
			t.Errorf("%s: %d, want %d", body, w.Code, want)
		}
	}
}

func TestHandlerOverPassesIncrementsOn(t *testing.T) {
	t.Parallel()
	var got []message.Increment
	failing := errors.New("failing")
	var fails error
	handler := ingest.HandlerOver(func(_ context.Context, increments []message.Increment) error {
		got = append(got, increments...)
		return fails
	}, zerolog.Nop())
	post := func(want int) {
		t.Helper()
		body := strings.NewReader(`{"increments":[{"name":"foo","value":4},{"name":"bar","value":1}]}`)
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/increments/batch", body)
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("Idempotency-Key", "one")
		w := httptest.NewRecorder()
		if handler.ServeHTTP(w, r); w.Code != want {
			t.Errorf("POST = %d, want %d", w.Code, want)
		}
	}
	post(http.StatusAccepted)
	key := message.KeyOfBatch("one")
	want := []message.Increment{{Tag: "foo", Value: 4, Key: key}, {Tag: "bar", Value: 1, Key: key.Next()}}
	if !slices.Equal(got, want) {
		t.Errorf("add was called with %v, want %v", got, want)
	}
	fails = failing
	post(http.StatusInternalServerError)
}
