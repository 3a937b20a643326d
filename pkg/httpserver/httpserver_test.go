package httpserver_test

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

	"github.com/accrue/accrue/pkg/httpserver"
	"github.com/accrue/accrue/pkg/logging"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// run serves handler until the returned function is called, which returns what Run returned.
func run(t *testing.T, handler http.Handler, drain time.Duration) (url string, stop func() error) {
	t.Helper()
	server, err := httpserver.New(0, handler, drain, zerolog.Nop())
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

// What net/http has to say of requests are lines in the service's log, and not one for each: a line a second at most, after
// the first few.
func TestWhatTheServerSaysIsLoggedAndBounded(t *testing.T) {
	t.Parallel()
	var written bytes.Buffer
	twice := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusOK)
		w.WriteHeader(http.StatusNotFound)
	})
	server, err := httpserver.New(0, twice, time.Second, logging.New(&written, "query", nil))
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

func TestAStopWaitsForRequestsUnderWay(t *testing.T) {
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
		t.Errorf("the request under way got %s", got)
	}
	if err := <-stopped; err != nil {
		t.Errorf("Run() = %v", err)
	}
}

func TestAStopCutsWhatOutlastsTheDrain(t *testing.T) {
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

func TestAnAnswerThatLastsLearnsOfTheStop(t *testing.T) {
	t.Parallel()
	entered := make(chan struct{})
	url, stop := run(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		close(entered)
		select {
		case <-httpserver.Stopping(r.Context()):
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
	if httpserver.Stopping(t.Context()) != nil {
		t.Error("a context of no server has something to wait for")
	}
}

func TestAPortInUseIsAnError(t *testing.T) {
	t.Parallel()
	server, err := httpserver.New(0, http.NotFoundHandler(), time.Second, zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close() //nolint:errcheck // never run
	if second, err := httpserver.New(server.Port(), http.NotFoundHandler(), time.Second, zerolog.Nop()); err == nil {
		t.Errorf("bound to %d twice", second.Port())
	}
}

func TestReadyNamesWhatFails(t *testing.T) {
	t.Parallel()
	ready := httpserver.Ready(
		httpserver.Check{Name: "pubsub", Check: func(context.Context) error { return nil }},
		httpserver.Check{Name: "firestore", Check: func(context.Context) error { return errors.New("no answer") }},
	)
	w := httptest.NewRecorder()
	ready(w, httptest.NewRequest(http.MethodGet, httpserver.ReadyPath, nil))
	if body := w.Body.String(); w.Code != http.StatusServiceUnavailable || !strings.Contains(body, "firestore") || strings.Contains(body, "pubsub") {
		t.Errorf("ready = %d %s", w.Code, body)
	}
}

func TestReadyAsksOnceASecondAtMost(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var asked atomic.Int64
		var down atomic.Bool
		ready := httpserver.Ready(httpserver.Check{Name: "firestore", Check: func(context.Context) error {
			asked.Add(1)
			if down.Load() {
				return errors.New("no answer")
			}
			return nil
		}})
		status := func() int {
			w := httptest.NewRecorder()
			ready(w, httptest.NewRequest(http.MethodGet, httpserver.ReadyPath, nil))
			return w.Code
		}
		for range 100 {
			if got := status(); got != http.StatusOK {
				t.Fatalf("ready = %d", got)
			}
		}
		if got := asked.Load(); got != 1 {
			t.Errorf("asked %d times within a second, want 1", got)
		}
		down.Store(true)
		time.Sleep(time.Second)
		if got := status(); got != http.StatusServiceUnavailable {
			t.Errorf("ready = %d a second after the dependency went", got)
		}
	})
}
