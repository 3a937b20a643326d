// Package api is query's HTTP interface. Errors are problem documents, all of them. Totals come from the view, never from
// the store; contributors, who are asked for one by one, are read when they are.
package api

import (
	"context"
	"crypto/rand"
	"maps"
	"net/http"
	"net/url"
	"slices"

	"github.com/gin-gonic/gin"
	"github.com/rs/zerolog"

	"github.com/accrue/accrue/pkg/httpserver"
	"github.com/accrue/accrue/pkg/logging"
	"github.com/accrue/accrue/pkg/openapi"
	"github.com/accrue/accrue/pkg/problem"
	"github.com/accrue/accrue/pkg/telemetry/requests"
	"github.com/accrue/accrue/query/internal/board"
	"github.com/accrue/accrue/query/internal/view"
)

// Views is what the API needs of the view.
type Views interface {
	// View returns the latest view, of version 0 before there is one. Versions do not go back. It may wait a moment for a
	// fresher view, and returns soon after its context ends.
	View(context.Context) *view.View
	// Watch returns the latest view at once, and a channel that is closed when there may be a later one.
	Watch() (*view.View, <-chan struct{})
}

// StreamPath is the route whose answers last as long as their readers like.
const StreamPath = "/stats/stream"

// Around is what observes the handler.
type Around struct {
	// Router is given the router before it has middleware and routes, to add its own.
	Router func(*gin.Engine)
	// Readers is given what counts the readers of streams.
	Readers func(open func() int64)
}

// New makes the handler of all of query's requests. Readiness asks the checks; nothing else does.
func New(views Views, store Contributors, changes History, checks []httpserver.Check, log zerolog.Logger, around ...Around) http.Handler {
	gin.SetMode(gin.ReleaseMode)
	router := gin.New()
	router.HandleMethodNotAllowed = true
	router.RedirectTrailingSlash = false
	router.UseEscapedPath = true // an id in a path may hold what would end it
	router.UnescapePathValues = false
	for _, a := range around {
		a.Router(router)
	}
	router.Use(requests.Recovery(log, func(c *gin.Context) {
		problem.New(http.StatusInternalServerError, "the answer could not be made").Write(c.Writer)
	}))
	router.NoRoute(func(c *gin.Context) {
		problem.New(http.StatusNotFound, "there is nothing at this path").Write(c.Writer)
	})
	router.NoMethod(func(c *gin.Context) { // the header Allow is set
		problem.New(http.StatusMethodNotAllowed, "this path has no such method").Write(c.Writer)
	})

	read := []string{http.MethodGet, http.MethodHead}
	router.Match(read, httpserver.LivePath, gin.WrapF(httpserver.Live))
	router.Match(read, httpserver.ReadyPath, gin.WrapF(httpserver.Ready(checks...)))
	openapi.Register(router, document, title)
	process, compressor := rand.Text(), new(compressor)
	stats := &stats{views: views, compressor: compressor}
	router.Match(read, "/stats", stats.answer)
	stream := &stream{views: views, stats: stats, process: process}
	for _, a := range around {
		a.Readers(stream.readers.Load)
	}
	router.Match(read, StreamPath, stream.answer)
	tags := &tags{views: views, process: process, compressor: compressor}
	router.Match(read, "/tags", tags.list)
	router.Match(read, "/tags/:name", tags.one)
	contributors := newContributors(store, log)
	past := &history{tags: tags, changes: changes, outage: logging.NewOutage(log, zerolog.WarnLevel, "read history")}
	router.Match(read, "/tags/:name/history", past.answer)
	router.Match(read, "/contributors", contributors.list)
	router.Match(read, "/contributors/:id", contributors.one)
	page := gin.WrapH(board.New())
	router.Match(read, "/", page)
	router.Match(read, board.Assets+"/:release/:file", page)
	router.Match(read, "/recognitions", (&recognitions{store: contributors}).list)
	return router
}

// refuseParameters returns a problem that names every parameter of a request to a resource that has none, or nil.
func refuseParameters(r *http.Request) *problem.Document {
	if r.URL.RawQuery == "" {
		return nil
	}
	parameters, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return problem.New(http.StatusBadRequest, "the query is malformed: "+err.Error())
	}
	d := problem.New(http.StatusBadRequest, "this resource has no parameters")
	for _, name := range slices.Sorted(maps.Keys(parameters)) {
		d.Errors = append(d.Errors, problem.Fault{Parameter: name, Detail: "is not known"})
	}
	return d
}
