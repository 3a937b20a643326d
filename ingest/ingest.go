// Package ingest is the service that producers post to: HTTP in, Pub/Sub out. A request is answered 202 when what it
// counts is durable in the increments topic, and not before.
package ingest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/rs/zerolog"

	"github.com/accrue/accrue/ingest/internal/api"
	"github.com/accrue/accrue/ingest/internal/batching"
	"github.com/accrue/accrue/ingest/internal/instruments"
	"github.com/accrue/accrue/pkg/httpserver"
	"github.com/accrue/accrue/pkg/increment"
	"github.com/accrue/accrue/pkg/lifecycle"
	"github.com/accrue/accrue/pkg/logging"
	"github.com/accrue/accrue/pkg/telemetry"
	"github.com/accrue/accrue/pkg/telemetry/requests"
)

// Config is ingest's settings, read from the environment.
type Config struct {
	// Project is the Google Cloud project of the topic.
	Project string `env:"GOOGLE_CLOUD_PROJECT,required"`
	// PubSubEmulatorHost, host:port, takes the place of Pub/Sub if it is set.
	PubSubEmulatorHost string `env:"PUBSUB_EMULATOR_HOST"`
	// Port serves the API and health requests; 0 takes a free one.
	Port int `env:"PORT" envDefault:"8080"`
	// LogLevel is debug, info, warn or error.
	LogLevel string `env:"LOG_LEVEL" envDefault:"info"`
	// Topic takes the batch messages. It is made against an emulator if it is missing.
	Topic string `env:"INCREMENTS_TOPIC" envDefault:"increments"`
	// Partitions is the number of partitions that tags and contributors are spread over, 1 to 4096. Each is a message of
	// every publish and a document of some 20,000 tags. It can be raised at any time, and instances need not agree.
	Partitions int `env:"PARTITIONS" envDefault:"16"`
	// PendingBytes bounds the bytes pending or being published, as they are in messages: 1 MiB or more. An increment
	// takes some 20; beyond the bound requests are answered 503. The process needs about three times as much.
	PendingBytes int `env:"PENDING_BYTES" envDefault:"67108864"`
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
	_, _, err := net.SplitHostPort(c.PubSubEmulatorHost)
	check(err == nil || c.PubSubEmulatorHost == "", "PUBSUB_EMULATOR_HOST", "host:port")
	check(c.Port >= 0 && c.Port <= 65535, "PORT", "0 to 65535")
	_, ok := logging.Level(c.LogLevel)
	check(ok, "LOG_LEVEL", "debug, info, warn or error")
	check(c.Topic != "", "INCREMENTS_TOPIC", "a topic's id")
	check(c.Partitions >= 1 && c.Partitions <= increment.MaxPartitions, "PARTITIONS", fmt.Sprintf("1 to %d", increment.MaxPartitions))
	check(c.PendingBytes >= batching.MaxAdd, "PENDING_BYTES", fmt.Sprintf("%d or more: the largest request", batching.MaxAdd))
	check(httpserver.ValidateOrigins(c.CORSOrigins) == nil, "CORS_ORIGINS", httpserver.ErrOrigins.Error())
	return errors.Join(faults...)
}

// Parts are what ingest needs from outside.
type Parts struct {
	// Publisher puts messages on the increments topic.
	Publisher batching.Publisher
	// Checks say whether the dependencies answer.
	Checks []httpserver.Check
	Log    zerolog.Logger
	// Telemetry exposes metrics and follows traces; nil for none.
	Telemetry *telemetry.Telemetry
}

// drain bounds how long a stop waits for requests under way: as long as the publish that they may wait for, and a moment
// to begin the next. With batching.StopTimeout after it a stop takes less than 8 s, of the 10 s that Cloud Run gives.
const drain = batching.PublishTimeout + 500*time.Millisecond

// Service is an ingest, bound to its port and not yet running.
type Service struct {
	batcher *batching.Batcher
	server  *httpserver.Server
}

// New makes an ingest with valid settings and binds its port. What is posted before Run waits for it.
func New(config Config, parts Parts) (*Service, error) {
	batcher := batching.New(parts.Publisher, config.Partitions, config.PendingBytes, parts.Log)
	publishes, err := instruments.New(parts.Telemetry, batcher)
	if err != nil {
		return nil, fmt.Errorf("ingest: %w", err)
	}
	batcher.Observe(publishes)
	observed, err := requests.New(parts.Telemetry, parts.Log)
	if err != nil {
		return nil, fmt.Errorf("ingest: %w", err)
	}
	handler := api.New(batcher, parts.Checks, parts.Log, observed.Register)
	server, err := httpserver.New(config.Port, httpserver.CORS(config.CORSOrigins, handler), drain, parts.Log)
	if err != nil {
		return nil, fmt.Errorf("ingest: %w", err)
	}
	return &Service{batcher: batcher, server: server}, nil
}

// Port is the port of the API and of health requests.
func (s *Service) Port() int { return s.server.Port() }

// Run serves until ctx ends, then answers the requests under way, publishes what is left of those whose clients did not
// wait, and returns within 8 s.
func (s *Service) Run(ctx context.Context) error {
	return lifecycle.Run(ctx,
		lifecycle.Part{Name: "batcher", Run: s.batcher.Run},
		lifecycle.Part{Name: "server", Run: s.server.Run},
	)
}
