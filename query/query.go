// Package query is the service that reads: Firestore in, `/stats` out, from totals that it keeps in memory.
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
	"github.com/accrue/accrue/query/internal/api"
	"github.com/accrue/accrue/query/internal/view"
)

// Config is query's settings, read from the environment.
type Config struct {
	// Project is the Google Cloud project of the database.
	Project string `env:"GOOGLE_CLOUD_PROJECT,required"`
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
	_, _, err := net.SplitHostPort(c.FirestoreEmulatorHost)
	check(err == nil || c.FirestoreEmulatorHost == "", "FIRESTORE_EMULATOR_HOST", "host:port")
	check(c.Database != "", "FIRESTORE_DATABASE", "a database's id")
	check(c.Port >= 0 && c.Port <= 65535, "PORT", "0 to 65535")
	_, err = zerolog.ParseLevel(c.LogLevel)
	check(err == nil, "LOG_LEVEL", "debug, info, warn or error")
	check(c.Refresh >= 10*time.Millisecond && c.Refresh <= time.Minute, "REFRESH", "10ms to 1m")
	return errors.Join(faults...)
}

// Parts are what query needs from outside.
type Parts struct {
	// Checkpoints are read for their totals.
	Checkpoints view.Reader
	// Checks say whether the dependencies answer. That the view is up to date is checked beside them.
	Checks []httpserver.Check
	Log    zerolog.Logger
}

// drain bounds how long a stop waits for answers under way. A read under way is given up at once: a stop takes less than
// 8 s, of the 10 s that Cloud Run gives.
const drain = 5 * time.Second

// Service is a query, bound to its port and not yet running.
type Service struct {
	refresher *view.Refresher
	server    *httpserver.Server
}

// New makes a query with valid settings and binds its port. It reads nothing yet.
func New(config Config, parts Parts) (*Service, error) {
	refresher := view.NewRefresher(parts.Checkpoints, config.Refresh, parts.Log)
	checks := append(slices.Clone(parts.Checks), httpserver.Check{Name: "view", Check: refresher.Check})
	server, err := httpserver.New(config.Port, api.New(refresher, checks, parts.Log), drain, parts.Log)
	if err != nil {
		return nil, fmt.Errorf("query: %w", err)
	}
	return &Service{refresher: refresher, server: server}, nil
}

// Port is the port of the API and of health requests.
func (s *Service) Port() int { return s.server.Port() }

// Run keeps the view and serves it until ctx ends, then finishes the answers under way, and returns within 8 s.
func (s *Service) Run(ctx context.Context) error {
	return lifecycle.Run(ctx,
		lifecycle.Part{Name: "refresher", Run: s.refresher.Run},
		lifecycle.Part{Name: "server", Run: s.server.Run},
	)
}
