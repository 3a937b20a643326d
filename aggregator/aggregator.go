// Package aggregator is the service between the subscription and the store: Pub/Sub in, Firestore out, exactly once. It has
// no API; its port serves health requests and metrics.
package aggregator

import (
	"context"
	"fmt"
	"time"

	"github.com/rs/zerolog"

	"github.com/accrue/accrue/aggregator/internal/committer"
	"github.com/accrue/accrue/aggregator/internal/instruments"
	"github.com/accrue/accrue/pkg/broker"
	"github.com/accrue/accrue/pkg/service"
	"github.com/accrue/accrue/pkg/telemetry"
)

// AckDeadline is the lease of messages: that of the subscription which the aggregator creates at an emulator, and which
// deployments set. It is longer than a window and a slow Commit.
const AckDeadline = 60 * time.Second

// Source is the subscription whose messages the aggregator counts.
type Source interface {
	committer.Source
	// Describe returns the subscription's settings.
	Describe(ctx context.Context) (broker.SubscriptionInfo, error)
}

// Parts are the dependencies of the aggregator.
type Parts struct {
	Source      Source
	Ledger      committer.Ledger
	DeadLetters committer.DeadLetters
	// Checks decide whether the aggregator is ready.
	Checks []service.Check
	Log    zerolog.Logger
	// Telemetry exposes metrics and exports spans; it may be nil.
	Telemetry *telemetry.Telemetry
}

// Service is one aggregator. It is bound to its port and does not run yet.
type Service struct {
	config  Config
	parts   Parts
	server  *service.Server
	commits *instruments.Commits
}

const (
	// drain bounds the last Commits. With the end of the pulls before it and the server's stop after it, a stop takes less
	// than 8 s of the 10 s that Cloud Run gives.
	drain       = 5 * time.Second
	serverDrain = 500 * time.Millisecond
	// assumedRetention is the longest retention that a subscription can have
	// (https://cloud.google.com/pubsub/docs/subscription-properties). It is used if the settings cannot be read.
	assumedRetention = 31 * 24 * time.Hour
	// retentionMargin is how much longer a silent publisher stays in the checkpoint than its messages are retained.
	retentionMargin = 24 * time.Hour
	// describeTimeout bounds how long the start waits for the subscription's settings.
	describeTimeout = 5 * time.Second
)

// New returns an aggregator with valid settings, bound to its port.
func New(config Config, parts Parts) (*Service, error) {
	commits, err := instruments.New(parts.Telemetry)
	if err != nil {
		return nil, fmt.Errorf("aggregator: %w", err)
	}
	handler := service.CORS(config.CORSOrigins, service.HealthHandler(parts.Checks, parts.Telemetry.Handler()))
	server, err := service.NewServer(config.Port, handler, serverDrain, parts.Log)
	if err != nil {
		return nil, fmt.Errorf("aggregator: %w", err)
	}
	return &Service{config: config, parts: parts, server: server, commits: commits}, nil
}

// Port returns the port of health requests and metrics.
func (s *Service) Port() int { return s.server.Port() }

// Run counts until ctx ends. Then it commits the open windows, releases the messages that are left, and returns within 8 s.
func (s *Service) Run(ctx context.Context) error {
	info := s.describe(ctx)
	counting := committer.New(committer.Settings{
		Window:      s.config.Window,
		Documents:   s.config.CommitDocuments,
		BufferBytes: s.config.BufferBytes,
		AckDeadline: info.AckDeadline,
		Retention:   info.Retention + retentionMargin,
		Horizon:     s.config.Horizon,
		Keys:        s.config.Keys,
		Drain:       drain,
		Observer:    s.commits,
	}, s.parts.Source, s.parts.Ledger, s.parts.DeadLetters, s.parts.Log)
	if err := instruments.Watch(s.parts.Telemetry, counting); err != nil {
		return fmt.Errorf("aggregator: %w", err)
	}
	return service.Run(ctx,
		service.Part{Name: "server", Run: s.server.Run},
		service.Part{Name: "committer", Run: counting.Run},
	)
}

// describe reads the subscription's settings. Without permission to do so the aggregator works all the same: it assumes the
// shortest lease and the longest retention that are possible, which costs calls and space but not exactness.
func (s *Service) describe(ctx context.Context) broker.SubscriptionInfo {
	ctx, cancel := context.WithTimeout(ctx, describeTimeout)
	defer cancel()
	info, err := s.parts.Source.Describe(ctx)
	if err != nil {
		info = broker.SubscriptionInfo{AckDeadline: 10 * time.Second, Retention: assumedRetention}
		s.parts.Log.Warn().Err(err).Dur("ack_deadline_ms", info.AckDeadline).Dur("retention_ms", info.Retention).
			Msg("cannot read the subscription's settings, assuming the most cautious ones")
	}
	return info
}
