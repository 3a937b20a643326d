// Package query is the service that reads: Firestore in, `/stats` out, from totals that it keeps in memory; and it
// recognizes contributors, with an event of each recognition to Pub/Sub.
package query

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"time"

	"github.com/rs/zerolog"

	"github.com/accrue/accrue/pkg/httpserver"
	"github.com/accrue/accrue/pkg/lifecycle"
	"github.com/accrue/accrue/pkg/logging"
	"github.com/accrue/accrue/pkg/telemetry"
	"github.com/accrue/accrue/pkg/telemetry/requests"
	"github.com/accrue/accrue/query/internal/api"
	"github.com/accrue/accrue/query/internal/history"
	"github.com/accrue/accrue/query/internal/instruments"
	"github.com/accrue/accrue/query/internal/recognition"
	"github.com/accrue/accrue/query/internal/view"
)

// Config is query's settings, read from the environment.
type Config struct {
	// Project is the Google Cloud project of the database and the topic.
	Project string `env:"GOOGLE_CLOUD_PROJECT,required"`
	// PubSubEmulatorHost, host:port, takes the place of Pub/Sub if it is set.
	PubSubEmulatorHost string `env:"PUBSUB_EMULATOR_HOST"`
	// FirestoreEmulatorHost, host:port, takes the place of Firestore if it is set.
	FirestoreEmulatorHost string `env:"FIRESTORE_EMULATOR_HOST"`
	// Database is the Firestore database's id.
	Database string `env:"FIRESTORE_DATABASE" envDefault:"(default)"`
	// Port serves the API and health requests; 0 takes a free one.
	Port int `env:"PORT" envDefault:"8080"`
	// LogLevel is debug, info, warn or error.
	LogLevel string `env:"LOG_LEVEL" envDefault:"info"`
	// Refresh is the time between two reads of the checkpoints, 10ms to 1m: half of the aggregator's window, so that a
	// total is at most two windows old. In the cloud each read is billed as one document a partition.
	Refresh time.Duration `env:"REFRESH" envDefault:"500ms"`
	// RecognitionsTopic takes the events. It is made against an emulator if it is missing.
	RecognitionsTopic string `env:"RECOGNITIONS_TOPIC" envDefault:"recognitions"`
	// RecognitionTiers are the numbers of contributions at which a contributor is recognized, each once: 1 to 20 positive
	// integers, rising, separated by commas. One that is added later recognizes those who have already passed it; one that
	// is taken off stays in what was recognized. Each is a query a second while anything is being counted.
	RecognitionTiers []int64 `env:"RECOGNITION_TIERS" envDefault:"3"`
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
	_, _, err = net.SplitHostPort(c.FirestoreEmulatorHost)
	check(err == nil || c.FirestoreEmulatorHost == "", "FIRESTORE_EMULATOR_HOST", "host:port")
	check(c.Database != "", "FIRESTORE_DATABASE", "a database's id")
	check(c.Port >= 0 && c.Port <= 65535, "PORT", "0 to 65535")
	_, ok := logging.Level(c.LogLevel)
	check(ok, "LOG_LEVEL", "debug, info, warn or error")
	check(c.Refresh >= 10*time.Millisecond && c.Refresh <= time.Minute, "REFRESH", "10ms to 1m")
	check(c.RecognitionsTopic != "", "RECOGNITIONS_TOPIC", "a topic's id")
	err = recognition.ValidateTiers(c.RecognitionTiers)
	check(err == nil, "RECOGNITION_TIERS", recognition.ErrTiers.Error())
	check(httpserver.ValidateOrigins(c.CORSOrigins) == nil, "CORS_ORIGINS", httpserver.ErrOrigins.Error())
	return errors.Join(faults...)
}

// Documents is one store for all that Parts takes of stores.
type Documents interface {
	view.Reader
	api.Contributors
	history.Reader
	recognition.Store
}

// Parts are what query needs from outside.
type Parts struct {
	// Checkpoints are read for their totals.
	Checkpoints view.Reader
	// Contributors are read for the requests that ask for them.
	Contributors api.Contributors
	// History is read for the requests that ask for it, as far as it was not read before.
	History history.Reader
	// Recognitions are found, made and sent.
	Recognitions recognition.Store
	// Events is the topic that they are sent to.
	Events recognition.Publisher
	// Checks say whether the dependencies answer. That the view is up to date is checked beside them. The topic should not
	// be among them: without it totals are served as well as ever, and events wait.
	Checks []httpserver.Check
	Log    zerolog.Logger
	// Telemetry exposes metrics and follows traces; nil for none.
	Telemetry *telemetry.Telemetry
}

// drain bounds how long a stop waits for answers under way. A read under way is given up at once, and recognition takes
// 2 s at most for what it has begun: a stop takes less than 8 s, of the 10 s that Cloud Run gives.
const drain = 5 * time.Second

// historyBytes bounds what is kept of the history that was read.
const historyBytes = 64 << 20

// Service is a query, bound to its port and not yet running.
type Service struct {
	refresher  *view.Refresher
	recognizer *recognition.Recognizer
	server     *httpserver.Server
}

// New makes a query with valid settings and binds its port. It reads nothing yet.
func New(config Config, parts Parts) (*Service, error) {
	activity := recognition.Watch(parts.Checkpoints)
	refresher := view.NewRefresher(activity, config.Refresh, parts.Log)
	recognizer := recognition.New(config.RecognitionTiers, recognition.Parts{
		Ledger: parts.Recognitions, Outbox: parts.Recognitions, Census: parts.Recognitions, Publisher: parts.Events,
		Moved: activity.Moved(), Log: parts.Log,
	})
	checks := append(slices.Clone(parts.Checks), httpserver.Check{Name: "view", Check: refresher.Check})
	observed, err := requests.New(parts.Telemetry, parts.Log, api.StreamPath)
	if err != nil {
		return nil, fmt.Errorf("query: %w", err)
	}
	var readers func() int64
	handler := api.New(refresher, parts.Contributors, history.New(parts.History, historyBytes), checks, parts.Log, api.Around{
		Router: observed.Register, Readers: func(open func() int64) { readers = open },
	})
	reads, err := instruments.New(parts.Telemetry, parts.Log, refresher, recognizer, readers)
	if err != nil {
		return nil, fmt.Errorf("query: %w", err)
	}
	refresher.Observe(reads.Refreshed)
	recognizer.Observe(reads.Recognized)
	server, err := httpserver.New(config.Port, httpserver.CORS(config.CORSOrigins, handler), drain, parts.Log)
	if err != nil {
		return nil, fmt.Errorf("query: %w", err)
	}
	return &Service{refresher: refresher, recognizer: recognizer, server: server}, nil
}

// Port is the port of the API and of health requests.
func (s *Service) Port() int { return s.server.Port() }

// Run keeps the view, serves it, and recognizes contributors until ctx ends, then finishes the answers and recognitions
// under way, and returns within 8 s.
func (s *Service) Run(ctx context.Context) error {
	return lifecycle.Run(ctx,
		lifecycle.Part{Name: "refresher", Run: s.refresher.Run},
		lifecycle.Part{Name: "recognizer", Run: s.recognizer.Run},
		lifecycle.Part{Name: "server", Run: s.server.Run},
	)
}
