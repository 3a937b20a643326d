// Package contract generates requests from the OpenAPI documents of the services, valid ones and ones that break one rule, and
// checks that the services answer as the documents say. The services run in this process on the embedded database.
package contract

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"github.com/accrue/accrue/aggregator"
	"github.com/accrue/accrue/e2e/openapitest"
	"github.com/accrue/accrue/ingest"
	"github.com/accrue/accrue/pkg/database/databasetest"
	"github.com/accrue/accrue/pkg/openapi"
	base "github.com/accrue/accrue/pkg/service"
	"github.com/accrue/accrue/query"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// service is a running service and its document.
type service struct {
	url      string
	client   *http.Client
	document *openapitest.Document
}

// start runs all services with default settings and returns those that have a document, with something counted in them.
func start(t *testing.T) map[string]*service {
	t.Helper()
	var settings struct {
		ingest     ingest.Config
		aggregator aggregator.Config
		query      query.Config
	}
	variables := map[string]string{"GOOGLE_CLOUD_PROJECT": "test", "PORT": "0", "WINDOW": "50ms", "REFRESH": "25ms"}
	for _, config := range []base.Configuration{&settings.ingest, &settings.aggregator, &settings.query} {
		if err := base.Load(variables, config); err != nil {
			t.Fatal(err)
		}
	}
	increments, store, log := databasetest.NewTopic(t), databasetest.Store(t), zerolog.Nop()
	counting, err := aggregator.New(settings.aggregator, aggregator.Parts{
		Source: increments.Subscribe(aggregator.AckDeadline), Ledger: store, DeadLetters: databasetest.NewTopic(t), Log: log,
	})
	if err != nil {
		t.Fatal(err)
	}
	taking, err := ingest.New(settings.ingest, ingest.Parts{Publisher: increments, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	reading, err := query.New(settings.query, query.Parts{
		Documents: store, Events: databasetest.NewTopic(t), Log: log,
	})
	if err != nil {
		t.Fatal(err)
	}
	run(t, counting.Run)
	run(t, taking.Run)
	run(t, reading.Run)
	services := map[string]*service{"ingest": connect(t, taking.Port()), "query": connect(t, reading.Port())}
	services["ingest"].fill(t, services["query"])
	return services
}

func run(t *testing.T, service func(context.Context) error) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- service(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func connect(t *testing.T, port int) *service {
	t.Helper()
	transport := &http.Transport{DisableCompression: true}
	t.Cleanup(transport.CloseIdleConnections)
	s := &service{
		url: fmt.Sprintf("http://127.0.0.1:%d", port),
		client: &http.Client{Transport: transport, Timeout: 20 * time.Second, CheckRedirect: func(*http.Request, []*http.Request) error {
			return http.ErrUseLastResponse
		}},
	}
	status, text := s.get(t, openapi.Path)
	if status != http.StatusOK {
		t.Fatalf("GET %s = %d", openapi.Path, status)
	}
	var err error
	if s.document, err = openapitest.Read(t.Context(), []byte(text)); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *service) get(t *testing.T, path string) (status int, body string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.url+path, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	response, err := s.client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close() //nolint:errcheck // read
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(text)
}

// known names a tag and a contributor that exist.
const known = "ada"

// fill posts increments for later requests to find, and waits until query shows them.
func (s *service) fill(t *testing.T, reading *service) {
	t.Helper()
	for range 3 {
		answer, err := s.send(t.Context(), request{
			method: http.MethodPost, path: "/increments", header: http.Header{"Content-Type": {"application/json"}},
			body: []byte(`{"name":"` + known + `","value":4,"contributor":"` + known + `"}`),
		})
		if err != nil || answer.Status != http.StatusAccepted {
			t.Fatalf("%d %s %v", answer.Status, answer.Answer, err)
		}
	}
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		ready, _ := reading.get(t, "/health/ready")
		tag, _ := reading.get(t, "/tags/"+known)
		recognized, _ := reading.get(t, "/contributors/"+known)
		if ready == http.StatusOK && tag == http.StatusOK && recognized == http.StatusOK {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("query answers %d, %d and %d", ready, tag, recognized)
		}
	}
}
