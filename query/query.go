// Package query is the service that reads: it serves totals from memory, refreshed from the checkpoints in Firestore. It
// also recognizes contributors and publishes an event for each recognition.
package query

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/rs/zerolog"

	"github.com/accrue/accrue/pkg/service"
	"github.com/accrue/accrue/pkg/service/web"
	"github.com/accrue/accrue/pkg/telemetry"
	"github.com/accrue/accrue/query/internal/api"
	"github.com/accrue/accrue/query/internal/history"
	"github.com/accrue/accrue/query/internal/instruments"
	"github.com/accrue/accrue/query/internal/recognition"
	"github.com/accrue/accrue/query/internal/view"
)

// Documents is a store that can fill all of the Parts that read or write one.
type Documents interface {
	view.Reader
	api.Contributors
	history.Reader
	recognition.Store
}

// Parts are the dependencies of query.
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
	// Checks decide, with the age of the view, whether query is ready. The topic should not be among them: without it totals
	// are still served, and events wait.
	Checks []service.Check
	Log    zerolog.Logger
	// Telemetry exposes metrics and exports spans; it may be nil.
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
	server     *service.Server
}

// New makes a query with valid settings and binds its port. It reads nothing yet.
func New(config Config, parts Parts) (*Service, error) {
	activity := recognition.Watch(parts.Checkpoints)
	refresher := view.NewRefresher(activity, config.Refresh, parts.Log)
	recognizer := recognition.New(config.RecognitionTiers, recognition.Parts{
		Ledger: parts.Recognitions, Outbox: parts.Recognitions, Census: parts.Recognitions, Publisher: parts.Events,
		Moved: activity.Moved(), Log: parts.Log,
	})
	checks := append(slices.Clone(parts.Checks), service.Check{Name: "view", Check: refresher.Check})
	var readers func() int64
	handler := api.New(refresher, parts.Contributors, history.New(parts.History, historyBytes),
		web.Base{Checks: checks, Log: parts.Log, Telemetry: parts.Telemetry}, func(open func() int64) { readers = open })
	reads, err := instruments.New(parts.Telemetry, parts.Log, refresher, recognizer, readers)
	if err != nil {
		return nil, fmt.Errorf("query: %w", err)
	}
	refresher.Observe(reads.Refreshed)
	recognizer.Observe(reads.Recognized)
	server, err := service.NewServer(config.Port, service.CORS(config.CORSOrigins, handler), drain, parts.Log)
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
	return service.Run(ctx,
		service.Part{Name: "refresher", Run: s.refresher.Run},
		service.Part{Name: "recognizer", Run: s.recognizer.Run},
		service.Part{Name: "server", Run: s.server.Run},
	)
}
