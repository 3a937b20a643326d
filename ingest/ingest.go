// Package ingest is the service that producers post to: HTTP in, Pub/Sub out. A request is answered 202 when its entries are
// durable in the increments topic, and not before.
package ingest

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/rs/zerolog"

	"github.com/accrue/accrue/ingest/internal/api"
	"github.com/accrue/accrue/ingest/internal/batching"
	"github.com/accrue/accrue/ingest/internal/names"
	"github.com/accrue/accrue/pkg/service"
	"github.com/accrue/accrue/pkg/service/web"
	"github.com/accrue/accrue/pkg/telemetry"
)

// Parts are the dependencies of ingest.
type Parts struct {
	// Publisher publishes to the increments topic.
	Publisher batching.Publisher
	// Checks decide whether ingest is ready.
	Checks []service.Check
	Log    zerolog.Logger
	// Telemetry exposes metrics and exports spans; it may be nil.
	Telemetry *telemetry.Telemetry
}

// drain bounds how long a stop waits for requests in progress: for the batcher's answers, and a moment to send them. A stop
// takes less than 8 s of the 10 s that Cloud Run gives.
const drain = batching.DrainTimeout + time.Second

// Service is one ingest. It is bound to its port and does not run yet.
type Service struct {
	batcher *batching.Batcher
	server  *service.Server
}

// New returns an ingest with valid settings, bound to its port. Requests that arrive before Run wait for it.
func New(config Config, parts Parts) (*Service, error) {
	batcher, err := batching.New(parts.Publisher, config.Partitions, config.PendingBytes, parts.Log, parts.Telemetry)
	if err != nil {
		return nil, fmt.Errorf("ingest: %w", err)
	}
	handler := api.New(batcher, names.New(config.Tags, config.NewTags), web.Base{Checks: parts.Checks, Log: parts.Log, Telemetry: parts.Telemetry})
	server, err := service.NewServer(config.Port, service.CORS(config.CORSOrigins, service.Hide(config.Hide, handler)), drain, parts.Log)
	if err != nil {
		return nil, fmt.Errorf("ingest: %w", err)
	}
	return &Service{batcher: batcher, server: server}, nil
}

// Port returns the port of the API, health requests and metrics.
func (s *Service) Port() int { return s.server.Port() }

// Handler returns the handler of all requests, for a program that runs the service without a port of its own
// (service.NoPort).
func (s *Service) Handler() http.Handler { return s.server.Handler() }

// Run serves until ctx ends. Then it answers the requests in progress and returns within 8 s.
func (s *Service) Run(ctx context.Context) error {
	defer context.AfterFunc(ctx, s.batcher.Drain)()
	return service.Run(ctx,
		service.Part{Name: "batcher", Run: s.batcher.Run},
		service.Part{Name: "server", Run: s.server.Run},
	)
}
