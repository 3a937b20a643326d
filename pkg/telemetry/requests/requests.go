// Package requests measures the HTTP requests of a service that Gin routes, follows their traces, and logs those that went
// wrong: answers of 5xx and slow ones, summarised. What goes well is in the metrics and, on Cloud Run, in its request
// logs; what a client did wrong is the client's to log.
package requests

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/rs/zerolog"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/metric"
	semconv "go.opentelemetry.io/otel/semconv/v1.37.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/accrue/accrue/pkg/logging"
	"github.com/accrue/accrue/pkg/telemetry"
	"github.com/accrue/accrue/pkg/tracecontext"
)

const (
	// slow is how long an answer may take before it is worth a line.
	slow = time.Second
	// unmatched stands for the route of what no route takes: paths come from outside and have no bound.
	unmatched = "none"
	// maxUserAgent bounds what a line repeats of a request, in bytes.
	maxUserAgent = 200
)

// Requests observes the requests of one service.
type Requests struct {
	telemetry *telemetry.Telemetry
	duration  metric.Float64Histogram
	// streams are the routes whose answers last as long as their readers like.
	streams      map[string]bool
	failed, late *logging.Outage

	// series are the attributes of each route and status that there was; they are replaced, never changed.
	series atomic.Pointer[map[routeStatus][]metric.RecordOption]
	adding sync.Mutex
}

type routeStatus struct {
	route  string
	status int
}

// New makes Requests whose answers on the routes streams may last.
func New(t *telemetry.Telemetry, log zerolog.Logger, streams ...string) (*Requests, error) {
	duration, err := t.Meter().Float64Histogram("accrue_http_request_duration", metric.WithUnit("s"),
		metric.WithDescription("How long requests took, from their header to the end of the answer."),
		metric.WithExplicitBucketBoundaries(.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5))
	if err != nil {
		return nil, fmt.Errorf("observe requests: %w", err)
	}
	r := &Requests{
		telemetry: t, duration: duration, streams: make(map[string]bool),
		failed: logging.NewOutage(log, zerolog.WarnLevel, "answer requests"),
		late:   logging.NewOutage(log, zerolog.WarnLevel, "answer requests within a second"),
	}
	for _, route := range streams {
		r.streams[route] = true
	}
	r.series.Store(&map[routeStatus][]metric.RecordOption{})
	return r, nil
}

// Register observes all requests to engine, and serves the metrics, if there are any. It comes before all other
// middleware and routes.
func (r *Requests) Register(engine *gin.Engine) {
	engine.Use(r.observe)
	if exposed := r.telemetry.Handler(); exposed != nil {
		engine.Match([]string{http.MethodGet, http.MethodHead}, telemetry.MetricsPath, gin.WrapH(exposed))
	}
}

func (r *Requests) observe(c *gin.Context) {
	began := time.Now()
	came, _ := tracecontext.FromHeader(c.Request.Header)
	if r.telemetry.Follow(came) {
		defer r.follow(c, came)()
	}
	c.Next()
	elapsed := time.Since(began)
	route, status := c.FullPath(), c.Writer.Status()
	if route == "" {
		route = unmatched
	}
	r.duration.Record(context.Background(), elapsed.Seconds(), r.of(route, status)...)
	if strings.HasPrefix(route, "/health/") || route == telemetry.MetricsPath {
		return // a service that is not ready says so to whoever asks
	}
	if status >= http.StatusInternalServerError {
		r.failed.Failed(errStatus, line(c, route, elapsed))
	} else {
		r.failed.Succeeded()
	}
	switch {
	case r.streams[route]:
	case elapsed >= slow:
		r.late.Failed(errSlow, line(c, route, elapsed))
	default:
		r.late.Succeeded()
	}
}

var (
	errStatus = errors.New("the answer was of 5xx")
	errSlow   = errors.New("the answer was late")
)

// follow makes the request one of a span and returns what ends it.
func (r *Requests) follow(c *gin.Context, came tracecontext.Trace) (end func()) {
	route := c.FullPath()
	ctx, span := r.telemetry.Start(c.Request.Context(), c.Request.Method+" "+route, came, nil, trace.WithSpanKind(trace.SpanKindServer),
		trace.WithAttributes(semconv.HTTPRequestMethodKey.String(c.Request.Method), semconv.HTTPRoute(route)))
	c.Request = c.Request.WithContext(ctx)
	return func() {
		status := c.Writer.Status()
		span.SetAttributes(semconv.HTTPResponseStatusCode(status))
		if status >= http.StatusInternalServerError {
			span.SetStatus(codes.Error, http.StatusText(status))
		}
		span.End()
	}
}

// of returns the attributes of a route and status.
func (r *Requests) of(route string, status int) []metric.RecordOption {
	key := routeStatus{route, status}
	if options, ok := (*r.series.Load())[key]; ok {
		return options
	}
	r.adding.Lock()
	defer r.adding.Unlock()
	options := []metric.RecordOption{metric.WithAttributeSet(attribute.NewSet(
		attribute.String("route", route), attribute.String("status", strconv.Itoa(status))))}
	grown := maps.Clone(*r.series.Load())
	grown[key] = options
	r.series.Store(&grown)
	return options
}

// traced returns the request's context with its trace, also if it is not followed: the one that it came with, or one of
// its own.
func traced(c *gin.Context) context.Context {
	ctx := c.Request.Context()
	if tracecontext.From(ctx).Valid() {
		return ctx
	}
	came, ok := tracecontext.FromHeader(c.Request.Header)
	if !ok {
		came = tracecontext.New(false)
	}
	return tracecontext.With(ctx, came)
}

// line adds a request to a log line, in Cloud Logging's form. The address is the route's: a path may name a contributor.
func line(c *gin.Context, route string, elapsed time.Duration) func(*zerolog.Event) {
	return func(e *zerolog.Event) {
		request := zerolog.Dict().Str("requestMethod", c.Request.Method).Str("requestUrl", route).
			Int("status", c.Writer.Status()).Str("latency", strconv.FormatFloat(elapsed.Seconds(), 'f', 6, 64)+"s").
			Str("responseSize", strconv.Itoa(max(0, c.Writer.Size()))).Str("protocol", c.Request.Proto)
		if c.Request.ContentLength >= 0 {
			request.Str("requestSize", strconv.FormatInt(c.Request.ContentLength, 10))
		}
		if agent := c.Request.UserAgent(); agent != "" {
			request.Str("userAgent", agent[:min(len(agent), maxUserAgent)])
		}
		e.Ctx(traced(c)).Dict("httpRequest", request)
	}
}
