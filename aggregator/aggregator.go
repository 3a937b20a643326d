// Package aggregator is the service between the subscription and the store: Pub/Sub in, Firestore out, exactly once. It
// has no API; its port answers health requests.
package aggregator

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/rs/zerolog"

	"github.com/accrue/accrue/aggregator/internal/committer"
	"github.com/accrue/accrue/aggregator/internal/instruments"
	"github.com/accrue/accrue/pkg/broker"
	"github.com/accrue/accrue/pkg/httpserver"
	"github.com/accrue/accrue/pkg/lifecycle"
	"github.com/accrue/accrue/pkg/logging"
	"github.com/accrue/accrue/pkg/telemetry"
)

// AckDeadline is the lease of the subscription that the aggregator makes against an emulator, and that deployments set:
// it outlasts a window and a late Commit (design section 5).
const AckDeadline = 60 * time.Second

// Config is the aggregator's settings, read from the environment.
type Config struct {
	// Project is the Google Cloud project of the topics and the database.
	Project string `env:"GOOGLE_CLOUD_PROJECT,required"`
	// PubSubEmulatorHost, host:port, takes the place of Pub/Sub if it is set.
	PubSubEmulatorHost string `env:"PUBSUB_EMULATOR_HOST"`
	// FirestoreEmulatorHost, host:port, takes the place of Firestore if it is set.
	FirestoreEmulatorHost string `env:"FIRESTORE_EMULATOR_HOST"`
	// Database is the Firestore database's id.
	Database string `env:"FIRESTORE_DATABASE" envDefault:"(default)"`
	// Port serves health requests; 0 takes a free one.
	Port int `env:"PORT" envDefault:"8080"`
	// LogLevel is debug, info, warn or error.
	LogLevel string `env:"LOG_LEVEL" envDefault:"info"`
	// Topic is made against an emulator if it is missing, for the subscription.
	Topic string `env:"INCREMENTS_TOPIC" envDefault:"increments"`
	// Subscription is pulled from.
	Subscription string `env:"INCREMENTS_SUBSCRIPTION" envDefault:"increments-aggregator"`
	// DeadLetterTopic takes the messages that cannot be applied.
	DeadLetterTopic string `env:"DEAD_LETTER_TOPIC" envDefault:"increments-dead-letter"`
	// Window is the time for which a partition sums before it commits: 50ms to 20s.
	Window time.Duration `env:"WINDOW" envDefault:"1s"`
	// CommitDocuments is the most documents that one Commit changes: 1 to 5000.
	CommitDocuments int `env:"COMMIT_DOCUMENTS" envDefault:"1000"`
	// Horizon is for how long an idempotency key is known: 1m to 24h.
	Horizon time.Duration `env:"IDEMPOTENCY_HORIZON" envDefault:"15m"`
	// Keys bounds the idempotency keys held in memory, 30 to 60 bytes each: 1000 or more. Beyond it the oldest are
	// forgotten before the horizon, which a metric and a warning say.
	Keys int `env:"IDEMPOTENCY_KEYS" envDefault:"5000000"`
	// BufferBytes bounds the messages held in memory: 1 MiB or more. A few pulls can exceed it by what they bring.
	BufferBytes int64 `env:"BUFFER_BYTES" envDefault:"134217728"`
	// CORSOrigins are the origins whose pages may use the service from a browser: * for all, else a list such as
	// https://example.com,http://localhost:3000, of 100 at most. Programs other than browsers ask nobody.
	CORSOrigins []string `env:"CORS_ORIGINS" envDefault:"*"`
}

// Validate returns every setting that is out of bounds, joined.
func (c *Config) Validate() error {
	var faults []error
	check := func(ok bool, name, rule string) {
		if !ok {
			faults = append(faults, fmt.Errorf("%s must be %s", name, rule))
		}
	}
	check(c.Project != "", "GOOGLE_CLOUD_PROJECT", "set")
	check(c.Port >= 0 && c.Port <= 65535, "PORT", "0 to 65535")
	check(c.Window >= 50*time.Millisecond && c.Window <= 20*time.Second, "WINDOW", "50ms to 20s: below the lease of 60s")
	check(c.CommitDocuments >= 1 && c.CommitDocuments <= 5000, "COMMIT_DOCUMENTS", "1 to 5000")
	check(c.Horizon >= time.Minute && c.Horizon <= 24*time.Hour, "IDEMPOTENCY_HORIZON", "1m to 24h")
	check(c.Keys >= 1000, "IDEMPOTENCY_KEYS", "1000 or more")
	check(c.BufferBytes >= 1<<20, "BUFFER_BYTES", "1048576 or more")
	_, ok := logging.Level(c.LogLevel)
	check(ok, "LOG_LEVEL", "debug, info, warn or error")
	check(httpserver.ValidateOrigins(c.CORSOrigins) == nil, "CORS_ORIGINS", httpserver.ErrOrigins.Error())
	return errors.Join(faults...)
}

// Source is the subscription that the aggregator counts.
type Source interface {
	committer.Source
	// Describe returns the subscription's settings.
	Describe(ctx context.Context) (broker.SubscriptionInfo, error)
}

// Parts are what the aggregator needs from outside.
type Parts struct {
	Source      Source
	Ledger      committer.Ledger
	DeadLetters committer.DeadLetters
	// Checks say whether the dependencies answer.
	Checks []httpserver.Check
	Log    zerolog.Logger
	// Telemetry exposes metrics and follows traces; nil for none.
	Telemetry *telemetry.Telemetry
}

// Service is an aggregator, bound to its port and not yet running.
type Service struct {
	config  Config
	parts   Parts
	server  *httpserver.Server
	commits *instruments.Commits
}

const (
	// drain bounds the last flush. With the pulls' moment before it and the server's stop after it, a stop takes less
	// than 8 s, of the 10 s that Cloud Run gives.
	drain       = 5 * time.Second
	serverDrain = 500 * time.Millisecond
	// assumedRetention is the longest that a subscription can keep messages
	// (https://cloud.google.com/pubsub/docs/subscription-properties): taken if the subscription cannot be asked.
	assumedRetention = 31 * 24 * time.Hour
	// retentionMargin is how much longer a silent publisher is remembered than its messages live (design section 4).
	retentionMargin = 24 * time.Hour
	// describeTimeout bounds the question at the start.
	describeTimeout = 5 * time.Second
)

// New makes an aggregator and binds its port.
func New(config Config, parts Parts) (*Service, error) {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+httpserver.LivePath, httpserver.Live)
	mux.Handle("GET "+httpserver.ReadyPath, httpserver.Ready(parts.Checks...))
	if exposed := parts.Telemetry.Handler(); exposed != nil {
		mux.Handle("GET "+telemetry.MetricsPath, exposed)
	}
	commits, err := instruments.New(parts.Telemetry)
	if err != nil {
		return nil, fmt.Errorf("aggregator: %w", err)
	}
	server, err := httpserver.New(config.Port, httpserver.CORS(config.CORSOrigins, mux), serverDrain, parts.Log)
	if err != nil {
		return nil, fmt.Errorf("aggregator: %w", err)
	}
	return &Service{config: config, parts: parts, server: server, commits: commits}, nil
}

// Port is the port of health requests and metrics.
func (s *Service) Port() int { return s.server.Port() }

// Run counts until ctx ends, then commits what it holds, gives back the rest, and returns within 8 s.
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
	return lifecycle.Run(ctx,
		lifecycle.Part{Name: "server", Run: s.server.Run},
		lifecycle.Part{Name: "committer", Run: counting.Run},
	)
}

// describe asks for the subscription's settings. An aggregator that may not ask works all the same: it takes the shortest
// lease and the longest retention that there are, which costs calls and space but no exactness.
func (s *Service) describe(ctx context.Context) broker.SubscriptionInfo {
	ctx, cancel := context.WithTimeout(ctx, describeTimeout)
	defer cancel()
	info, err := s.parts.Source.Describe(ctx)
	if err != nil {
		info = broker.SubscriptionInfo{AckDeadline: 10 * time.Second, Retention: assumedRetention}
		s.parts.Log.Warn().Err(err).Dur("ack_deadline_ms", info.AckDeadline).Dur("retention_ms", info.Retention).
			Msg("cannot ask for the subscription's settings; assuming the widest")
	}
	return info
}
