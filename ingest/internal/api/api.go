// Package api is ingest's HTTP face: it decodes strictly, refuses with problem documents that point to each fault, and
// answers 202 once what it was sent is durable (design section 7).
package api

import (
	"context"
	"errors"
	"net/http"
	"strconv"

	"github.com/gin-gonic/gin"
	"github.com/rs/zerolog"

	"github.com/accrue/accrue/ingest/internal/batching"
	"github.com/accrue/accrue/pkg/logging"
	"github.com/accrue/accrue/pkg/service/web"
)

// The paths of what can be posted.
const (
	incrementsPath    = "/increments"
	contributionsPath = "/contributions"
	batchPath         = "/batch" // below either
)

// Counter takes what a request counts.
type Counter interface {
	// Add returns nil when all entries are durable. It copies them. Its errors are those of package batching and the
	// context's.
	Add(ctx context.Context, entries []batching.Entry) error
}

// New returns the handler of all routes.
func New(counter Counter, base web.Base) http.Handler {
	engine := base.Router(web.API{Title: title, Document: document})
	a := &api{counter: counter, unexpected: logging.NewOutage(base.Log, zerolog.ErrorLevel, "answer a request, for an unexpected reason")}
	increments, contributions := incrementItems(), contributionItems()
	engine.POST(incrementsPath, a.count(increments.one))
	engine.POST(incrementsPath+batchPath, a.count(increments.batch))
	engine.POST(contributionsPath, a.count(contributions.one))
	engine.POST(contributionsPath+batchPath, a.count(contributions.batch))
	return engine
}

type api struct {
	counter Counter
	// unexpected are the errors for which there is no problem document.
	unexpected *logging.Outage
}

// count returns the handler of one form of body: decode it, add what it holds, and answer.
func (a *api) count(form form) gin.HandlerFunc {
	return func(c *gin.Context) {
		entries, err := decode(c.Request, form)
		n := len(entries)
		if err == nil {
			// Nothing here refers to entries any more: while the publish is under way they can be collected.
			err = a.counter.Add(c.Request.Context(), entries)
		}
		if err != nil {
			a.refuse(c, err)
			return
		}
		body := append(make([]byte, 0, 32), `{"accepted":`...)
		body = append(strconv.AppendInt(body, int64(n), 10), '}')
		c.Writer.Header().Set("Content-Type", "application/json")
		c.Writer.WriteHeader(http.StatusAccepted)
		_, _ = c.Writer.Write(body) // the client is gone: nobody to tell
	}
}

// refuse answers with the problem that err is. Only what nobody expected is logged.
func (a *api) refuse(c *gin.Context, err error) {
	document := problemOf(err)
	if document.Status == http.StatusInternalServerError {
		a.unexpected.Failed(err, func(e *zerolog.Event) { e.Ctx(c.Request.Context()).Str("path", c.FullPath()) })
	}
	document.Write(c.Writer)
}

// The faults of requests whose body was not looked at.
var (
	errKey       = errors.New("invalid idempotency key")
	errMediaType = errors.New("not JSON by its header")
	errTooLarge  = errors.New("body too large")
	errBody      = errors.New("body broke off")
)
