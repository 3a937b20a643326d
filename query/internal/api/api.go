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

	"github.com/accrue/accrue/pkg/logging"
	"github.com/accrue/accrue/pkg/problem"
	"github.com/accrue/accrue/pkg/service/web"
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

// New returns the handler of all of query's requests.
func New(views Views, store Contributors, changes History, base web.Base) (http.Handler, error) {
	const streamPath = "/stats/stream"
	router := base.Router(web.API{Title: title, Document: document, Streams: []string{streamPath}, EscapedPaths: true})
	read := []string{http.MethodGet, http.MethodHead}
	process, compressor := rand.Text(), new(compressor)
	stats := &stats{views: views, compressor: compressor}
	router.Match(read, "/stats", stats.answer)
	stream := &stream{views: views, stats: stats, process: process}
	if err := stream.measure(base.Telemetry.Meter()); err != nil {
		return nil, err
	}
	router.Match(read, streamPath, stream.answer)
	tags := &tags{views: views, process: process, compressor: compressor}
	router.Match(read, "/tags", tags.list)
	router.Match(read, "/tags/:name", tags.one)
	contributors := newContributors(store, base.Log)
	past := &history{tags: tags, changes: changes, outage: logging.NewOutage(base.Log, zerolog.WarnLevel, "read history")}
	router.Match(read, "/tags/:name/history", past.answer)
	router.Match(read, "/contributors", contributors.list)
	router.Match(read, "/contributors/:id", contributors.one)
	page := gin.WrapH(board.New())
	router.Match(read, "/", page)
	router.Match(read, board.Assets+"/:release/:file", page)
	router.Match(read, "/recognitions", (&recognitions{store: contributors}).list)
	return router, nil
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
