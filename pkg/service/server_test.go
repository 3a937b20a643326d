package service_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"github.com/accrue/accrue/pkg/logging"
	"github.com/accrue/accrue/pkg/problem"
	"github.com/accrue/accrue/pkg/service"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// run serves handler until the returned function is called, which returns what Run returned.
func run(t *testing.T, handler http.Handler, drain time.Duration) (url string, stop func() error) {
	t.Helper()
	server, err := service.NewServer(0, handler, drain, zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- server.Run(ctx) }()
	return fmt.Sprintf("http://127.0.0.1:%d", server.Port()), func() error {
		cancel()
		return <-done
	}
}

func get(t *testing.T, url string) (int, string, error) {
	t.Helper()
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	r, err := client.Get(url)
	if err != nil {
		return 0, "", err
	}
	defer r.Body.Close() //nolint:errcheck // read
	body, err := io.ReadAll(r.Body)
	return r.StatusCode, string(body), err
}

func TestServerLogsErrorsOfRequestsAtABoundedRate(t *testing.T) {
	t.Parallel()
	var written bytes.Buffer
	twice := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusOK)
		w.WriteHeader(http.StatusNotFound)
	})
	server, err := service.NewServer(0, twice, time.Second, logging.New(&written, "query", nil))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- server.Run(ctx) }()
	for range 50 {
		if _, _, err := get(t, fmt.Sprintf("http://127.0.0.1:%d", server.Port())); err != nil {
			t.Fatal(err)
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("Run() = %v", err)
	}
	if n := strings.Count(written.String(), "superfluous"); n < 1 || n > 20 {
		t.Errorf("%d lines for 50 requests:\n%s", n, &written)
	}
}

func TestStopWaitsForRequestsInProgress(t *testing.T) {
	t.Parallel()
	entered, leave := make(chan struct{}), make(chan struct{})
	url, stop := run(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		close(entered)
		<-leave
		_, _ = w.Write([]byte("done"))
	}), time.Minute)
	answered := make(chan string)
	go func() {
		_, body, err := get(t, url)
		answered <- fmt.Sprint(body, err)
	}()
	<-entered
	stopped := make(chan error)
	go func() { stopped <- stop() }()
	close(leave)
	if got := <-answered; got != "done<nil>" {
		t.Errorf("the request in progress got %s", got)
	}
	if err := <-stopped; err != nil {
		t.Errorf("Run() = %v", err)
	}
}

func TestStopClosesConnectionsAfterTheDrainTime(t *testing.T) {
	t.Parallel()
	entered, leave := make(chan struct{}), make(chan struct{})
	defer close(leave)
	url, stop := run(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		close(entered)
		select {
		case <-r.Context().Done():
		case <-leave:
		}
	}), 10*time.Millisecond)
	answered := make(chan error)
	go func() {
		_, _, err := get(t, url)
		answered <- err
	}()
	<-entered
	if err := stop(); err != nil {
		t.Errorf("Run() = %v", err)
	}
	if err := <-answered; err == nil {
		t.Error("the request outlasted the drain")
	}
}

func TestStreamsLearnOfTheStop(t *testing.T) {
	t.Parallel()
	entered := make(chan struct{})
	url, stop := run(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		close(entered)
		select {
		case <-service.Stopping(r.Context()):
			_, _ = fmt.Fprint(w, "the end, and the request's context says ", r.Context().Err())
		case <-r.Context().Done():
		}
	}), time.Minute)
	answered := make(chan string)
	go func() {
		_, body, err := get(t, url)
		answered <- fmt.Sprint(body, err)
	}()
	<-entered
	if err := stop(); err != nil {
		t.Errorf("Run() = %v", err)
	}
	if got := <-answered; got != "the end, and the request's context says <nil><nil>" {
		t.Errorf("the answer was %s", got)
	}
	if service.Stopping(t.Context()) != nil {
		t.Error("Stopping() of a context without a server is not nil")
	}
}

func TestPortInUseIsAnError(t *testing.T) {
	t.Parallel()
	server, err := service.NewServer(0, http.NotFoundHandler(), time.Second, zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { // a server that runs releases its port when it stops
		stopped, cancel := context.WithCancel(context.Background())
		cancel()
		if err := server.Run(stopped); err != nil {
			t.Error(err)
		}
	})
	if second, err := service.NewServer(server.Port(), http.NotFoundHandler(), time.Second, zerolog.Nop()); err == nil {
		t.Errorf("bound to %d twice", second.Port())
	}
}

func TestReadyNamesFailedChecks(t *testing.T) {
	t.Parallel()
	ready := service.Ready(
		service.Check{Name: "pubsub", Check: func(context.Context) error { return nil }},
		service.Check{Name: "firestore", Check: func(context.Context) error { return errors.New("no answer") }},
	)
	w := httptest.NewRecorder()
	ready(w, httptest.NewRequest(http.MethodGet, service.ReadyPath, nil))
	if body := w.Body.String(); w.Code != http.StatusServiceUnavailable || !strings.Contains(body, "firestore") || strings.Contains(body, "pubsub") {
		t.Errorf("ready = %d %s", w.Code, body)
	}
}

func TestFailedOptionalCheckIsNamedInAReadyAnswer(t *testing.T) {
	t.Parallel()
	w := httptest.NewRecorder()
	service.Ready(service.Check{Name: "checkpoints", Optional: true, Check: func(context.Context) error { return errors.New("one is damaged") }})(
		w, httptest.NewRequest(http.MethodGet, service.ReadyPath, nil))
	want := `"degraded":[{"detail":"one is damaged","parameter":"checkpoints"}]`
	if body := w.Body.String(); w.Code != http.StatusOK || !strings.Contains(body, want) {
		t.Errorf("ready = %d %s, want 200 with %s", w.Code, body, want)
	}
}

func TestReadyChecksAtMostOnceASecond(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var asked atomic.Int64
		var down atomic.Bool
		ready := service.Ready(service.Check{Name: "firestore", Check: func(context.Context) error {
			asked.Add(1)
			if down.Load() {
				return errors.New("no answer")
			}
			return nil
		}})
		status := func() int {
			w := httptest.NewRecorder()
			ready(w, httptest.NewRequest(http.MethodGet, service.ReadyPath, nil))
			return w.Code
		}
		for range 100 {
			if got := status(); got != http.StatusOK {
				t.Fatalf("ready = %d", got)
			}
		}
		if got := asked.Load(); got != 1 {
			t.Errorf("checked %d times within a second, want 1", got)
		}
		down.Store(true)
		time.Sleep(time.Second)
		if got := status(); got != http.StatusServiceUnavailable {
			t.Errorf("ready = %d a second after the dependency failed", got)
		}
	})
}

func TestHealthHandlerAnswersUnknownPathsAndMethodsWithProblems(t *testing.T) {
	t.Parallel()
	metrics := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("metrics")) })
	for _, tc := range []struct {
		method, path string
		metrics      http.Handler
		status       int
	}{
		{http.MethodGet, service.LivePath, nil, http.StatusOK},
		{http.MethodHead, service.ReadyPath, nil, http.StatusOK},
		{http.MethodGet, "/metrics", metrics, http.StatusOK},
		{http.MethodGet, "/metrics", nil, http.StatusNotFound},
		{http.MethodGet, "/", metrics, http.StatusNotFound},
		{http.MethodPost, service.LivePath, metrics, http.StatusMethodNotAllowed},
	} {
		w := httptest.NewRecorder()
		service.HealthHandler(nil, tc.metrics).ServeHTTP(w, httptest.NewRequest(tc.method, tc.path, http.NoBody))
		if w.Code != tc.status || (w.Code >= 400) != (w.Header().Get("Content-Type") == problem.ContentType) ||
			(w.Code == http.StatusMethodNotAllowed) != (w.Header().Get("Allow") == "GET, HEAD") {
			t.Errorf("%s %s = %d %v, want %d", tc.method, tc.path, w.Code, w.Header(), tc.status)
		}
	}
}
