// Package aggregator is the service between the subscription and the store: Pub/Sub in, Firestore out, exactly once. It has
// no API; its port serves health requests and metrics.
package aggregator

import (
	"context"
	"fmt"
	"time"

	"github.com/rs/zerolog"

	"github.com/accrue/accrue/aggregator/internal/consumer"
	"github.com/accrue/accrue/aggregator/internal/partition"
	"github.com/accrue/accrue/pkg/service"
	"github.com/accrue/accrue/pkg/telemetry"
)

// Parts are the dependencies of the aggregator.
type Parts struct {
	Source      Source
	Ledger      partition.Ledger
	DeadLetters consumer.DeadLetters
	// Checks decide whether the aggregator is ready.
	Checks []service.Check
	Log    zerolog.Logger
	// Telemetry exposes metrics and exports spans; it may be nil.
	Telemetry *telemetry.Telemetry
}

// Service is one aggregator. It is bound to its port and does not run yet.
type Service struct {
	server   *service.Server
	pipeline *pipeline
}

// serverDrain bounds the stop of the server.
const serverDrain = 500 * time.Millisecond

// New returns an aggregator with valid settings, bound to its port.
func New(config Config, parts Parts) (*Service, error) {
	counting, err := newPipeline(config, parts)
	if err != nil {
		return nil, fmt.Errorf("aggregator: %w", err)
	}
	handler := service.CORS(config.CORSOrigins, service.Hide(config.Hide, service.HealthHandler(parts.Checks, parts.Telemetry.Handler())))
	server, err := service.NewServer(config.Port, handler, serverDrain, parts.Log)
	if err != nil {
		return nil, fmt.Errorf("aggregator: %w", err)
	}
	return &Service{server, counting}, nil
}

// Port returns the port of health requests and metrics.
func (s *Service) Port() int { return s.server.Port() }

// Run counts until ctx ends. Then it commits the open windows, releases the messages that are left, and returns within 7 s.
func (s *Service) Run(ctx context.Context) error {
	return service.Run(ctx,
		service.Part{Name: "server", Run: s.server.Run},
		service.Part{Name: "pipeline", Run: s.pipeline.Run},
	)
}
