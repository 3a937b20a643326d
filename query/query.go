// Package query is the service that reads: it serves totals from memory, refreshed from the checkpoints in Firestore. It
// also recognizes contributors and publishes an event for each recognition.
package query

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/rs/zerolog"

	"github.com/accrue/accrue/pkg/service"
	"github.com/accrue/accrue/pkg/service/web"
	"github.com/accrue/accrue/pkg/telemetry"
	"github.com/accrue/accrue/query/internal/api"
	"github.com/accrue/accrue/query/internal/history"
	"github.com/accrue/accrue/query/internal/recognition"
	"github.com/accrue/accrue/query/internal/view"
	"github.com/accrue/accrue/query/internal/webhook"
)

// Documents is everything that query needs of a store.
type Documents interface {
	view.Reader
	api.Contributors
	history.Reader
	recognition.Store
	waitingReader
}

// EventSource is a subscription to recognition events.
type EventSource = webhook.Source

// Parts are the dependencies of query.
type Parts struct {
	Documents Documents
	// Events is the topic of recognition events.
	Events recognition.Publisher
	// Webhooks are the subscriptions to the events for the receivers of Config.Receivers, by their names.
	Webhooks map[string]EventSource
	// Checks decide, with the age of the view, whether query is ready. The topic should not be among them: without it totals
	// are still served, and events wait.
	Checks []service.Check
	Log    zerolog.Logger
	// Telemetry exposes metrics and exports spans; it may be nil.
	Telemetry *telemetry.Telemetry
}

// drain bounds how long a stop waits for requests in progress. A read of the checkpoints is canceled at once, and
// recognition takes up to 2 s: a stop takes less than 8 s, of the 10 s that Cloud Run allows.
const drain = 5 * time.Second

// historyBytes bounds the cache of past periods.
const historyBytes = 64 << 20

// Service is a query, bound to its port.
type Service struct {
	refresher  *view.Refresher
	recognizer *recognition.Recognizer
	webhooks   *webhook.Webhooks
	waiting    *waiting
	server     *service.Server
}

// New returns a query with valid settings, bound to its port. It reads nothing before Run.
func New(config Config, parts Parts) (*Service, error) {
	meter := parts.Telemetry.Meter()
	refresher, err := view.NewRefresher(parts.Documents, config.Refresh, meter, parts.Log)
	if err != nil {
		return nil, fmt.Errorf("query: %w", err)
	}
	recognizer, err := recognition.New(config.RecognitionTiers, recognition.Parts{
		Store: parts.Documents, Publisher: parts.Events, Changes: refresher.Changes(), Meter: meter, Log: parts.Log,
	})
	if err != nil {
		return nil, fmt.Errorf("query: %w", err)
	}
	receivers, err := webhook.Receivers(config.RecognitionWebhooks, config.RecognitionWebhookSecrets)
	if err != nil {
		return nil, fmt.Errorf("query: %w", err)
	}
	webhooks, err := webhook.New(receivers, webhook.Parts{Sources: parts.Webhooks, Meter: meter, Log: parts.Log})
	if err != nil {
		return nil, fmt.Errorf("query: %w", err)
	}
	waiting, err := newWaiting(parts.Documents, meter, parts.Log)
	if err != nil {
		return nil, fmt.Errorf("query: %w", err)
	}
	handler, err := api.New(refresher, parts.Documents, history.New(parts.Documents, historyBytes), api.Settings{
		Tiers: config.RecognitionTiers, MetricsTags: config.MetricsTags,
	}, web.Base{
		Checks: append(slices.Clone(parts.Checks), service.Check{Name: "view", Check: refresher.Check},
			service.Check{Name: "checkpoints", Check: refresher.Complete, Optional: true},
			service.Check{Name: "rejected entries", Check: waiting.Check, Optional: true}),
		Log: parts.Log, Telemetry: parts.Telemetry,
	})
	if err != nil {
		return nil, fmt.Errorf("query: %w", err)
	}
	server, err := service.NewServer(config.Port, service.CORS(config.CORSOrigins, service.Hide(config.Hide, handler)), drain, parts.Log)
	if err != nil {
		return nil, fmt.Errorf("query: %w", err)
	}
	return &Service{refresher: refresher, recognizer: recognizer, webhooks: webhooks, waiting: waiting, server: server}, nil
}

// Port returns the port of the API and of health requests.
func (s *Service) Port() int { return s.server.Port() }

// Handler returns the handler of all requests, for a program that runs the service without a port of its own
// (service.NoPort).
func (s *Service) Handler() http.Handler { return s.server.Handler() }

// Run refreshes the view, serves it, and recognizes contributors until ctx ends. It then finishes the requests and
// recognitions in progress, and returns within 8 s.
func (s *Service) Run(ctx context.Context) error {
	return service.Run(ctx,
		service.Part{Name: "refresher", Run: s.refresher.Run},
		service.Part{Name: "recognizer", Run: s.recognizer.Run},
		service.Part{Name: "webhooks", Run: s.webhooks.Run},
		service.Part{Name: "rejected entries", Run: s.waiting.Run},
		service.Part{Name: "server", Run: s.server.Run},
	)
}
