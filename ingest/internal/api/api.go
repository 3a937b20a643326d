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
	"github.com/accrue/accrue/pkg/httpserver"
	"github.com/accrue/accrue/pkg/logging"
	"github.com/accrue/accrue/pkg/openapi"
	"github.com/accrue/accrue/pkg/telemetry/requests"
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

// New returns the handler of all routes. Checks are what readiness asks. Each of around is given the router before it has
// middleware and routes, to add its own.
func New(counter Counter, checks []httpserver.Check, log zerolog.Logger, around ...func(*gin.Engine)) http.Handler {
	gin.SetMode(gin.ReleaseMode) // it would print each route otherwise
	engine := gin.New()
	engine.HandleMethodNotAllowed = true
	engine.RedirectTrailingSlash = false // a 307 to a path that was not asked for is no help to a program
	for _, add := range around {
		add(engine)
	}
	a := &api{counter: counter, unexpected: logging.NewOutage(log, zerolog.ErrorLevel, "answer, for a reason that nobody expected")}
	engine.Use(requests.Recovery(log, func(c *gin.Context) { problemOf(errPanic).Write(c.Writer) }))
	engine.NoRoute(func(c *gin.Context) { a.refuse(c, errNotFound) })
	engine.NoMethod(func(c *gin.Context) { a.refuse(c, errMethod) }) // Gin has set Allow by then

	increments, contributions := incrementItems(), contributionItems()
	engine.POST(incrementsPath, a.count(increments.one))
	engine.POST(incrementsPath+batchPath, a.count(increments.batch))
	engine.POST(contributionsPath, a.count(contributions.one))
	engine.POST(contributionsPath+batchPath, a.count(contributions.batch))
	openapi.Register(engine, document, title)
	live, ready := gin.WrapF(httpserver.Live), gin.WrapF(httpserver.Ready(checks...))
	for _, method := range []string{http.MethodGet, http.MethodHead} {
		engine.Handle(method, httpserver.LivePath, live)
		engine.Handle(method, httpserver.ReadyPath, ready)
	}
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
	errNotFound  = errors.New("no such path")
	errMethod    = errors.New("no such method here")
	errKey       = errors.New("invalid idempotency key")
	errMediaType = errors.New("not JSON by its header")
	errTooLarge  = errors.New("body too large")
	errBody      = errors.New("body broke off")
	errPanic     = errors.New("panic")
)
