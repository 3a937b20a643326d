// Package web is the base of an HTTP API: a Gin router that measures, traces and logs requests, recovers panics, answers
// unknown paths and methods with problem documents, and serves health requests, metrics and the OpenAPI document.
package web

import (
	"net/http"

	"github.com/gin-gonic/gin"
	"github.com/rs/zerolog"

	"github.com/accrue/accrue/pkg/openapi"
	"github.com/accrue/accrue/pkg/problem"
	"github.com/accrue/accrue/pkg/service"
	"github.com/accrue/accrue/pkg/telemetry"
)

// Base is what an API needs besides its own routes. The zero value logs and measures nothing and is always ready.
type Base struct {
	// Checks decide whether the service is ready.
	Checks []service.Check
	Log    zerolog.Logger
	// Telemetry measures and traces requests; it may be nil.
	Telemetry *telemetry.Telemetry
}

// API describes the API that is built on a Base.
type API struct {
	// Title and Document are the OpenAPI document, in JSON, and the title of the page that shows it.
	Title    string
	Document []byte
	// Streams are the routes whose answers last for as long as their readers like.
	Streams []string
	// Counts means that the API counts what is posted: its problem documents say whether a request may have been counted.
	Counts bool
	// EscapedPaths makes Gin match paths before it unescapes them, and leaves the parameters escaped: a parameter may then
	// contain a slash.
	EscapedPaths bool
}

// Router returns a router to which the API adds its routes.
func (b Base) Router(api API) *gin.Engine {
	gin.SetMode(gin.ReleaseMode) // otherwise it prints each route
	router := gin.New()
	router.HandleMethodNotAllowed = true
	router.RedirectTrailingSlash = false // programs do not expect a redirect from a wrong path
	router.UseEscapedPath = api.EscapedPaths
	router.UnescapePathValues = !api.EscapedPaths
	router.Use(newRequests(b.Telemetry, b.Log, api.Streams).observe, recovery(b.Log, api.answer(http.StatusInternalServerError, "internal-error", problem.Internal)))
	router.NoRoute(api.answer(http.StatusNotFound, "not-found", problem.NoPath))
	router.NoMethod(api.answer(http.StatusMethodNotAllowed, "method-not-allowed", problem.NoMethod)) // Gin sets the header Allow
	read := []string{http.MethodGet, http.MethodHead}
	router.Match(read, service.LivePath, gin.WrapF(service.Live))
	router.Match(read, service.ReadyPath, gin.WrapF(service.Ready(b.Checks...)))
	if metrics := b.Telemetry.Handler(); metrics != nil {
		router.Match(read, telemetry.MetricsPath, gin.WrapH(metrics))
	}
	openapi.Register(router, api.Document, api.Title)
	return router
}

// answer returns a handler that answers with a problem document of a type in docs/problems.md.
func (a *API) answer(status int, kind, detail string) gin.HandlerFunc {
	d := problem.New(status, detail)
	d.Type = problem.TypeOf(kind)
	switch {
	case !a.Counts:
	case status == http.StatusInternalServerError:
		d.Counted = problem.CountedUnknown
	default:
		d.Counted = problem.CountedNo
	}
	return func(c *gin.Context) { d.Write(c.Writer) }
}
