package deployment

import (
	"context"
	"fmt"
	"net/http"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/accrue/accrue/aggregator"
	"github.com/accrue/accrue/ingest"
	"github.com/accrue/accrue/pkg/database/databasetest"
	base "github.com/accrue/accrue/pkg/service"
	"github.com/accrue/accrue/query"
)

// running is implemented by the three services.
type running interface {
	Port() int
	Run(context.Context) error
}

const page = "https://example.com"

// start runs each service on the embedded database until the test ends.
func start(t *testing.T) map[string]running {
	t.Helper()
	shared := base.Config{CORSOrigins: []string{page}}
	increments, store, log := databasetest.NewTopic(t), databasetest.Store(t), zerolog.Nop()
	taking, err := ingest.New(ingest.Config{Partitions: 1, PendingBytes: 1 << 20, Config: shared}, ingest.Parts{Publisher: increments, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	counting, err := aggregator.New(aggregator.Config{Window: time.Second, CommitDocuments: 1000, BufferBytes: 1 << 20, Horizon: time.Minute, Keys: 1000, Config: shared}, aggregator.Parts{
		Source: increments.Subscribe(aggregator.AckDeadline), Ledger: store, DeadLetters: databasetest.NewTopic(t), Log: log,
	})
	if err != nil {
		t.Fatal(err)
	}
	reading, err := query.New(query.Config{Refresh: 50 * time.Millisecond, RecognitionTiers: []int64{3}, Config: shared}, query.Parts{
		Documents: store, Events: databasetest.NewTopic(t), Log: log,
	})
	if err != nil {
		t.Fatal(err)
	}
	services := map[string]running{"ingest": taking, "aggregator": counting, "query": reading}
	for name, service := range services {
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- service.Run(ctx) }()
		t.Cleanup(func() {
			stop()
			if err := <-done; err != nil {
				t.Errorf("%s: %v", name, err)
			}
		})
	}
	return services
}

// A probe of a path that does not exist never succeeds, and the deployment fails.
func TestServicesServeTheProbedPaths(t *testing.T) {
	t.Parallel()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	for name, service := range start(t) {
		for _, path := range []string{base.LivePath, base.ReadyPath} {
			request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, fmt.Sprintf("http://127.0.0.1:%d%s", service.Port(), path), http.NoBody)
			if err != nil {
				t.Fatal(err)
			}
			response, err := client.Do(request)
			if err != nil {
				t.Fatal(err)
			}
			_ = response.Body.Close()
			// Query is not ready before its first read.
			if response.StatusCode != http.StatusOK && (path == base.LivePath || response.StatusCode != http.StatusServiceUnavailable) {
				t.Errorf("GET %s of %s = %d", path, name, response.StatusCode)
			}
		}
	}
}

var uptimeCheck = regexp.MustCompile(`(?m)^    (\w+) += \{ url = .*, path = "([^"]+)", status = (\d+) \}$`)

// A check of a path that is not answered as it expects alerts from the first day on.
func TestServicesAnswerTheUptimeChecks(t *testing.T) {
	t.Parallel()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	services := start(t)
	checks := uptimeCheck.FindAllStringSubmatch(terraform(t)[filepath.Join(root, "terraform", "uptime.tf")], -1)
	if len(checks) != 2 {
		t.Errorf("found %d checks", len(checks))
	}
	for _, check := range checks {
		name, path, status := check[1], check[2], check[3]
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, fmt.Sprintf("http://127.0.0.1:%d%s", services[name].Port(), path), http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		response, err := client.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
		if got := strconv.Itoa(response.StatusCode); got != status {
			t.Errorf("GET %s of %s = %s, want %s", path, name, got, status)
		}
	}
}

// CORS_ORIGINS applies to all services: a page may read the metrics of an aggregator as well as totals.
func TestServicesAnswerCORSOfTheConfiguredOrigins(t *testing.T) {
	t.Parallel()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	for name, service := range start(t) {
		for origin, want := range map[string]string{page: page, "https://elsewhere.org": ""} {
			for _, path := range []string{base.LivePath, "/nothing"} {
				request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, fmt.Sprintf("http://127.0.0.1:%d%s", service.Port(), path), http.NoBody)
				if err != nil {
					t.Fatal(err)
				}
				request.Header.Set("Origin", origin)
				response, err := client.Do(request)
				if err != nil {
					t.Fatal(err)
				}
				_ = response.Body.Close()
				if got := response.Header.Get("Access-Control-Allow-Origin"); got != want {
					t.Errorf("GET %s of %s from %s: Access-Control-Allow-Origin is %q, want %q", path, name, origin, got, want)
				}
			}
		}
	}
}
