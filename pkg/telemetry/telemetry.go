// Package telemetry is where a service's metrics and traces leave it: OpenTelemetry's instruments as Prometheus text, and
// its spans by OTLP, if the standard OTEL_* variables name a receiver. It decides which traces are followed
// (docs/decisions, "Which traces are followed"). There is one Telemetry a process and no global one.
package telemetry

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/go-logr/logr/funcr"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/rs/zerolog"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	otelprometheus "go.opentelemetry.io/otel/exporters/prometheus"
	"go.opentelemetry.io/otel/metric"
	noopmetric "go.opentelemetry.io/otel/metric/noop"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.37.0"
	"go.opentelemetry.io/otel/trace"
	nooptrace "go.opentelemetry.io/otel/trace/noop"
	"golang.org/x/time/rate"

	"github.com/accrue/accrue/pkg/logging"
	"github.com/accrue/accrue/pkg/tracecontext"
	"github.com/accrue/accrue/pkg/version"
)

// MetricsPath is where Handler is served.
const MetricsPath = "/metrics"

const (
	// askedASecond bounds the traces that are followed because their callers ask for it: anybody may.
	askedASecond = 10
	// exportTimeout bounds one export, and lastExport the last one: a stop leaves two seconds of the ten that there are.
	exportTimeout = 5 * time.Second
	lastExport    = time.Second
	// scope names the instruments' and spans' library.
	scope = "github.com/accrue/accrue"
)

// Telemetry is a process's instruments and spans. A nil *Telemetry is one that is off: what is measured is dropped, nothing
// is followed, and there is nothing to expose.
type Telemetry struct {
	handler  http.Handler
	meters   *sdkmetric.MeterProvider
	tracers  *sdktrace.TracerProvider // nil if spans are not exported
	exporter sdktrace.SpanExporter    // of the same
	tracer   trace.Tracer
	settings Settings
	asked    *rate.Limiter
}

// New makes a service's Telemetry with settings. Shutdown ends it.
func New(ctx context.Context, service string, settings Settings, log zerolog.Logger) (*Telemetry, error) {
	registry := prometheus.NewRegistry()
	build := version.Current()
	registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "accrue_build_info", Help: "Always 1. The labels say what the program was built from.",
		ConstLabels: prometheus.Labels{"version": build.Version, "revision": build.Revision, "go_version": build.Go},
	}, func() float64 { return 1 }), collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	exporter, err := otelprometheus.New(otelprometheus.WithRegisterer(registry), otelprometheus.WithoutScopeInfo(), otelprometheus.WithoutTargetInfo())
	if err != nil {
		return nil, fmt.Errorf("telemetry: %w", err)
	}
	t := &Telemetry{
		handler:  promhttp.HandlerFor(registry, promhttp.HandlerOpts{MaxRequestsInFlight: 4, ErrorLog: promLog{log}}),
		meters:   sdkmetric.NewMeterProvider(sdkmetric.WithReader(exporter)),
		tracer:   nooptrace.NewTracerProvider().Tracer(scope),
		settings: settings,
		asked:    rate.NewLimiter(askedASecond, askedASecond),
	}
	if !settings.Export {
		return t, nil
	}
	spans, err := newExporter(ctx, settings)
	if err != nil {
		return nil, fmt.Errorf("telemetry: %w", err)
	}
	// The later one wins: OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES.
	who, err := resource.New(ctx, resource.WithAttributes(semconv.ServiceName(service)), resource.WithFromEnv(), resource.WithTelemetrySDK())
	if err != nil {
		return nil, errors.Join(fmt.Errorf("telemetry: %w", err), spans.Shutdown(ctx))
	}
	outage := logging.NewOutage(log, zerolog.WarnLevel, "export spans")
	t.exporter = spans
	t.tracers = sdktrace.NewTracerProvider(
		sdktrace.WithBatcher(&toldExporter{spans, outage}, sdktrace.WithExportTimeout(exportTimeout)),
		sdktrace.WithSampler(sdktrace.AlwaysSample()), // Follow has decided by then
		sdktrace.WithResource(who),
	)
	t.tracer = t.tracers.Tracer(scope)
	return t, nil
}

// newExporter makes the exporter of spans. What the settings do not say, headers and certificates among it, it reads from
// the environment by itself.
func newExporter(ctx context.Context, settings Settings) (sdktrace.SpanExporter, error) {
	if settings.GRPC {
		return otlptracegrpc.New(ctx, otlptracegrpc.WithTimeout(exportTimeout))
	}
	return otlptracehttp.New(ctx, otlptracehttp.WithTimeout(exportTimeout))
}

// Meter makes instruments. Their names begin with accrue_ and have no unit: the exposition adds it.
func (t *Telemetry) Meter() metric.Meter {
	if t == nil {
		return noopmetric.NewMeterProvider().Meter(scope)
	}
	return t.meters.Meter(scope)
}

// Handler exposes the metrics as Prometheus text, those of the Go runtime and the process among them; nil if t is off.
func (t *Telemetry) Handler() http.Handler {
	if t == nil {
		return nil
	}
	return t.handler
}

// Follow decides whether a request, or other work, is followed through logs and spans, given the trace that it came with,
// if any: if its caller asks for it, ten a second at the most, and otherwise if its trace is among those of the ratio,
// for which all services decide alike.
func (t *Telemetry) Follow(came tracecontext.Trace) bool {
	switch {
	case t == nil:
		return false
	case came.Sampled && t.asked.Allow():
		return true
	case t.settings.Ratio == 0:
		return false
	case !came.Valid():
		return rand.Float64() < t.settings.Ratio //nolint:gosec // no secret
	}
	// As OpenTelemetry's TraceIDRatioBased decides.
	return binary.BigEndian.Uint64(came.ID[8:])>>1 < uint64(t.settings.Ratio*(1<<63))
}

// Start begins a span of work that is followed, and returns it with a context whose log lines and later spans belong to
// it. It is part of the trace of parent, or of a new one if there is none, and linked to the others. If spans are not
// exported, the context carries parent itself.
func (t *Telemetry) Start(
	ctx context.Context, name string, parent tracecontext.Trace, others []tracecontext.Trace, options ...trace.SpanStartOption,
) (context.Context, trace.Span) {
	if t == nil {
		return ctx, trace.SpanFromContext(context.Background())
	}
	parent.Sampled = true
	if parent.Valid() {
		ctx = trace.ContextWithRemoteSpanContext(ctx, spanContext(parent))
	} else {
		options = append(options, trace.WithNewRoot())
	}
	for _, other := range others {
		options = append(options, trace.WithLinks(trace.Link{SpanContext: spanContext(other)}))
	}
	ctx, span := t.tracer.Start(ctx, name, options...)
	return tracecontext.With(ctx, traceOf(span.SpanContext())), span
}

func spanContext(t tracecontext.Trace) trace.SpanContext {
	flags := trace.TraceFlags(0)
	return trace.NewSpanContext(trace.SpanContextConfig{TraceID: t.ID, SpanID: t.Span, TraceFlags: flags.WithSampled(t.Sampled), Remote: true})
}

func traceOf(c trace.SpanContext) tracecontext.Trace {
	return tracecontext.Trace{ID: c.TraceID(), Span: c.SpanID(), Sampled: c.IsSampled()}
}

// Shutdown exports the spans that are left, for a second at the most or until ctx ends. What cannot be exported by then is lost,
// and that is no error of the service's.
func (t *Telemetry) Shutdown(ctx context.Context) error {
	if t == nil || t.tracers == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, lastExport)
	defer cancel()
	if err := t.tracers.Shutdown(ctx); err != nil {
		_ = t.exporter.Shutdown(ctx) // which cuts the export that is under way
		return fmt.Errorf("end telemetry: %w", err)
	}
	return nil
}

// LogErrors has OpenTelemetry's own complaints logged. Its handler and its logger are one for the process, so this is for
// main.
func LogErrors(log zerolog.Logger) {
	outage := logging.NewOutage(log, zerolog.WarnLevel, "measure or trace")
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { outage.Failed(err, nil) }))
	text := logging.Writer(log)
	otel.SetLogger(funcr.New(func(_, said string) { _, _ = io.WriteString(text, "opentelemetry: "+said) }, funcr.Options{}))
}

// toldExporter tells of exports that fail. The library would tell a global handler.
type toldExporter struct {
	sdktrace.SpanExporter
	outage *logging.Outage
}

// ExportSpans is the library's.
func (e *toldExporter) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	if err := e.SpanExporter.ExportSpans(ctx, spans); err != nil {
		e.outage.Failed(err, nil)
		return nil
	}
	e.outage.Succeeded()
	return nil
}

// promLog takes what a scrape cannot tell its caller.
type promLog struct{ log zerolog.Logger }

// Println is the library's.
func (l promLog) Println(v ...any) { l.log.Warn().Msg("metrics: " + fmt.Sprint(v...)) }
