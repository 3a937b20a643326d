package web

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"slices"
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
	"github.com/accrue/accrue/pkg/tracing"
)

const (
	// slow is how long a request may take before it is logged.
	slow = time.Second
	// unmatched stands for the route of requests that match none: their paths would make the metrics grow without bound.
	unmatched = "none"
	// maxUserAgent bounds the user agent in a log line, in bytes.
	maxUserAgent = 200
)

// requests measures and traces the requests of one service, and logs answers of 5xx and slow answers, summarized. Requests
// that succeed are in the metrics and in the request logs of Cloud Run; errors of clients are not logged.
type requests struct {
	telemetry    *telemetry.Telemetry
	duration     metric.Float64Histogram
	streams      []string // routes whose answers last for as long as their readers like
	failed, late *logging.Outage

	// series caches the attributes of each route and status. The map is replaced, never changed.
	series atomic.Pointer[map[routeStatus][]metric.RecordOption]
	adding sync.Mutex
}

type routeStatus struct {
	route  string
	status int
}

func newRequests(t *telemetry.Telemetry, log zerolog.Logger, streams []string) *requests {
	duration, err := t.Meter().Float64Histogram("accrue_http_request_duration", metric.WithUnit("s"),
		metric.WithDescription("How long requests took, from their header to the end of the answer."),
		metric.WithExplicitBucketBoundaries(.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5))
	if err != nil {
		log.Error().Err(err).Msg("cannot measure requests")
	}
	r := &requests{
		telemetry: t, duration: duration, streams: streams,
		failed: logging.NewOutage(log, zerolog.WarnLevel, "answer requests"),
		late:   logging.NewOutage(log, zerolog.WarnLevel, "answer requests within a second"),
	}
	r.series.Store(&map[routeStatus][]metric.RecordOption{})
	return r
}

func (r *requests) observe(c *gin.Context) {
	began := time.Now()
	if came := tracing.FromHeader(c.Request.Header); r.telemetry.ShouldSample(came) {
		defer r.start(c, came)()
	}
	c.Next()
	elapsed := time.Since(began)
	route, status := c.FullPath(), c.Writer.Status()
	if route == "" {
		route = unmatched
	}
	r.duration.Record(context.Background(), elapsed.Seconds(), r.of(route, status)...)
	if strings.HasPrefix(route, "/health/") || route == telemetry.MetricsPath {
		return // expected while the service is not ready
	}
	if status >= http.StatusInternalServerError {
		r.failed.Failed(errStatus, line(c, route, elapsed))
	} else {
		r.failed.Succeeded()
	}
	switch {
	case slices.Contains(r.streams, route):
	case elapsed >= slow:
		r.late.Failed(errSlow, line(c, route, elapsed))
	default:
		r.late.Succeeded()
	}
}

var (
	errStatus = errors.New("answered 5xx")
	errSlow   = errors.New("answered late")
)

// start starts the span of a sampled request, puts it into the request's context, and returns the function that ends it.
func (r *requests) start(c *gin.Context, came trace.SpanContext) (end func()) {
	route := c.FullPath()
	ctx, span := r.telemetry.Tracer().Start(trace.ContextWithRemoteSpanContext(c.Request.Context(), came), c.Request.Method+" "+route,
		trace.WithSpanKind(trace.SpanKindServer),
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

// traced returns the request's context with a trace for log lines: its own if it is sampled, else that of its header.
func traced(c *gin.Context) context.Context {
	ctx := c.Request.Context()
	if trace.SpanContextFromContext(ctx).IsValid() {
		return ctx
	}
	return trace.ContextWithRemoteSpanContext(ctx, tracing.FromHeader(c.Request.Header))
}

// of returns the attributes of a route and status.
func (r *requests) of(route string, status int) []metric.RecordOption {
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

// line adds a request to a log line, in Cloud Logging's form. It logs the route, since a path may name a contributor.
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
