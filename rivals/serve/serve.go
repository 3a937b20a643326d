// Package serve puts a rival behind the routes of ingest: the same HTTP server, router, decoder and rules as Accrue's, so
// that only what happens between a decoded request and its 202 differs.
package serve

import (
	"context"
	"encoding/json"
	"net/http"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/accrue/accrue/ingest"
	"github.com/accrue/accrue/pkg/logging"
	"github.com/accrue/accrue/pkg/message"
	"github.com/accrue/accrue/pkg/service"
)

// Horizon is how long a rival remembers a key.
const Horizon = 24 * time.Hour

// Counter is a rival. It is safe for concurrent use.
type Counter interface {
	// Add counts the increments of one post. After an error they may have been counted.
	Add(ctx context.Context, increments []message.Increment) error
	// Totals returns the total of every tag.
	Totals(ctx context.Context) (map[string]int64, error)
}

// Nothing counts nothing: it is the ceiling.
type Nothing struct{}

// Add implements Counter.
func (Nothing) Add(context.Context, []message.Increment) error { return nil }

// Totals implements Counter.
func (Nothing) Totals(context.Context) (map[string]int64, error) { return map[string]int64{}, nil }

// Waiting counts nothing, and answers the posts of each interval together, as a group commit does.
type Waiting struct {
	Nothing
	mu   sync.Mutex
	next chan struct{} // closed at the end of the interval, nil if nobody waits for it
	each time.Duration
}

// NewWaiting returns a Waiting whose intervals have a length.
func NewWaiting(each time.Duration) *Waiting { return &Waiting{each: each} }

// Add implements Counter.
func (w *Waiting) Add(ctx context.Context, _ []message.Increment) error {
	w.mu.Lock()
	if w.next == nil {
		next := make(chan struct{})
		w.next = next
		time.AfterFunc(w.each, func() {
			w.mu.Lock()
			w.next = nil
			w.mu.Unlock()
			close(next)
		})
	}
	next := w.next
	w.mu.Unlock()
	select {
	case <-next:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Run serves a counter at an address until ctx ends: the routes of ingest, and GET /stats.
func Run(ctx context.Context, address string, c Counter, log zerolog.Logger) error {
	server, err := service.Listen(address, Handler(c, log), time.Second, log)
	if err != nil {
		return err
	}
	return server.Run(ctx)
}

// Handler returns the handler of all routes.
func Handler(c Counter, log zerolog.Logger) http.Handler {
	posts := ingest.HandlerOver(c.Add, log)
	reads := logging.NewOutage(log, zerolog.WarnLevel, "read totals")
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/stats" {
			posts.ServeHTTP(w, r)
			return
		}
		totals, err := c.Totals(r.Context())
		if err != nil {
			reads.Failed(err, nil)
			http.Error(w, "cannot read the totals", http.StatusServiceUnavailable)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(totals) // a client that is gone needs no answer
	})
}
