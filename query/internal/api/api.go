// Package api is query's HTTP interface. Errors are problem documents. Totals come from the view, never from the store;
// contributors and past periods are read from the store when they are requested.
package api

import (
	"context"
	"crypto/rand"
	"net/http"

	"github.com/gin-gonic/gin"
	"github.com/rs/zerolog"

	"github.com/accrue/accrue/pkg/logging"
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

// Settings are the settings of the API.
type Settings struct {
	// Tiers are those that contributors are recognized for, rising.
	Tiers []int64
	// MetricsTags bounds the tags at /metrics/totals: each is a time series of its own to a Prometheus.
	MetricsTags int
}

// New returns the handler of all of query's requests.
func New(views Views, store Contributors, changes History, settings Settings, base web.Base) (http.Handler, error) {
	router, err := newRouter(views, store, changes, settings, base)
	if err != nil {
		return nil, err
	}
	return canonical(router), nil
}

// newRouter returns a router with all routes.
func newRouter(views Views, store Contributors, changes History, settings Settings, base web.Base) (*gin.Engine, error) {
	const streamPath = "/stats/stream"
	router := base.Router(web.API{Title: title, Document: document, Streams: []string{streamPath}, EscapedPaths: true})
	get := func(path string, handler gin.HandlerFunc) {
		router.Match([]string{http.MethodGet, http.MethodHead}, path, handler)
	}
	stats := &stats{views: views}
	get("/stats", stats.get)
	stream := &stream{views: views, stats: stats, process: rand.Text()}
	if err := stream.measure(base.Telemetry.Meter()); err != nil {
		return nil, err
	}
	get(streamPath, stream.get)
	past := &pasts{views: views, changes: changes, outage: logging.NewOutage(base.Log, zerolog.WarnLevel, "read history")}
	tags := &tags{views: views, movers: movers{changes: changes}, past: past, metrics: settings.MetricsTags}
	get("/tags", tags.list)
	get("/tags/:name", tags.get)
	get(totalsPath, tags.totals)
	get("/history", past.all)
	get("/tags/:name/history", past.tag)
	contributors := &contributors{store: store, reads: newReads(base.Log), tiers: settings.Tiers}
	get("/contributors", contributors.list)
	get("/contributors/:id", contributors.get)
	get("/recognitions", contributors.recognitions)
	badges := &badges{views: views, contributors: contributors}
	get("/badges/:badge", badges.tag)
	get("/badges/contributors/:badge", badges.contributor)
	page := gin.WrapH(board.New())
	get("/", page)
	get(board.Assets+"/:release/:file", page)
	return router, nil
}
