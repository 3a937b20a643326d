// Package telemetry exports a service's metrics and spans: OpenTelemetry's instruments as Prometheus text, and its spans over
// OTLP if the standard OTEL_* variables name a receiver. There is one Telemetry per service and no global one.
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
	"github.com/accrue/accrue/pkg/version"
)

// MetricsPath is the path at which Handler is served.
const MetricsPath = "/metrics"

const (
	// forcedPerSecond bounds the traces that are sampled because callers ask for it, which any caller may do.
	forcedPerSecond = 10
	// exportTimeout bounds one export, and lastExport the last one: a stop leaves two seconds of the ten that Cloud Run gives.
	exportTimeout = 5 * time.Second
	lastExport    = time.Second
	// scope names the instruments' and spans' library.
	scope = "github.com/accrue/accrue"
)

// Telemetry holds the meters and tracers of a service. A nil *Telemetry is off: its meter and tracer do nothing, and it has
// no handler.
type Telemetry struct {
	handler  http.Handler
	meters   *sdkmetric.MeterProvider
	tracers  *sdktrace.TracerProvider
	exporter sdktrace.SpanExporter // nil if spans are not exported
	ratio    float64
	forced   *rate.Limiter
}

// New returns the Telemetry of a service. Call Shutdown when the service has stopped.
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
		handler: promhttp.HandlerFor(registry, promhttp.HandlerOpts{MaxRequestsInFlight: 4, ErrorLog: promLog{log}}),
		meters:  sdkmetric.NewMeterProvider(sdkmetric.WithReader(exporter)),
		ratio:   settings.Ratio,
		forced:  rate.NewLimiter(forcedPerSecond, forcedPerSecond),
	}
	options := []sdktrace.TracerProviderOption{sdktrace.WithSampler(sdktrace.AlwaysSample())}
	if settings.Export {
		spans, err := newExporter(ctx, settings)
		if err != nil {
			return nil, fmt.Errorf("telemetry: %w", err)
		}
		// Later attributes win: OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES.
		attributes, err := resource.New(ctx, resource.WithAttributes(semconv.ServiceName(service)), resource.WithFromEnv(), resource.WithTelemetrySDK())
		if err != nil {
			return nil, errors.Join(fmt.Errorf("telemetry: %w", err), spans.Shutdown(ctx))
		}
		t.exporter = spans
		logged := &loggingExporter{spans, logging.NewOutage(log, zerolog.WarnLevel, "export spans")}
		options = append(options, sdktrace.WithResource(attributes),
			sdktrace.WithBatcher(logged, sdktrace.WithExportTimeout(exportTimeout)))
	}
	t.tracers = sdktrace.NewTracerProvider(options...)
	return t, nil
}

// newExporter returns the exporter of spans. It reads everything else, such as headers and certificates, from the environment
// itself.
func newExporter(ctx context.Context, settings Settings) (sdktrace.SpanExporter, error) {
	if settings.GRPC {
		return otlptracegrpc.New(ctx, otlptracegrpc.WithTimeout(exportTimeout))
	}
	return otlptracehttp.New(ctx, otlptracehttp.WithTimeout(exportTimeout))
}

// Meter makes instruments. Their names begin with accrue_ and have no unit: the exporter appends it.
func (t *Telemetry) Meter() metric.Meter {
	if t == nil {
		return noopmetric.NewMeterProvider().Meter(scope)
	}
	return t.meters.Meter(scope)
}

// Handler serves the metrics as Prometheus text, with those of the Go runtime and the process. It is nil if t is off.
func (t *Telemetry) Handler() http.Handler {
	if t == nil {
		return nil
	}
	return t.handler
}

// ShouldSample decides, where a trace enters a service, whether it is sampled, given the trace context that it came with, if
// any: a request whose caller asks for it, ten a second at most, and otherwise a ratio of all traces by their ids, so that all
// services choose the same ones. It is not an sdktrace.Sampler because that is asked when a span starts, and starting one for
// every request costs more than all else that is measured (docs/decisions/0008-traces-and-logs.md).
func (t *Telemetry) ShouldSample(came trace.SpanContext) bool {
	switch {
	case t == nil:
		return false
	case came.IsSampled() && t.forced.Allow():
		return true
	case t.ratio == 0:
		return false
	case !came.IsValid():
		return rand.Float64() < t.ratio //nolint:gosec // no secret
	}
	id := came.TraceID()
	return binary.BigEndian.Uint64(id[8:])>>1 < uint64(t.ratio*(1<<63)) // as sdktrace.TraceIDRatioBased does
}

// Tracer starts spans, all of which are recorded: use it for traces that ShouldSample has chosen, here or in the service
// before.
func (t *Telemetry) Tracer() trace.Tracer {
	if t == nil {
		return nooptrace.NewTracerProvider().Tracer(scope)
	}
	return t.tracers.Tracer(scope)
}

// Shutdown exports the remaining spans, for at most a second or until ctx ends. An error means that some are lost, which is
// no fault of the service.
func (t *Telemetry) Shutdown(ctx context.Context) error {
	if t == nil || t.exporter == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, lastExport)
	defer cancel()
	if err := t.tracers.Shutdown(ctx); err != nil {
		_ = t.exporter.Shutdown(ctx) // aborts the export in progress
		return fmt.Errorf("export the last spans: %w", err)
	}
	return nil
}

// LogErrors routes the errors and logs of the OpenTelemetry library to log. They are global, so only main calls it.
func LogErrors(log zerolog.Logger) {
	outage := logging.NewOutage(log, zerolog.WarnLevel, "measure or trace")
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { outage.Failed(err, nil) }))
	text := logging.Writer(log)
	otel.SetLogger(funcr.New(func(_, said string) { _, _ = io.WriteString(text, "opentelemetry: "+said) }, funcr.Options{}))
}

// loggingExporter logs failed exports instead of passing them to OpenTelemetry's global error handler.
type loggingExporter struct {
	sdktrace.SpanExporter
	outage *logging.Outage
}

// ExportSpans implements sdktrace.SpanExporter.
func (e *loggingExporter) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	if err := e.SpanExporter.ExportSpans(ctx, spans); err != nil {
		e.outage.Failed(err, nil)
		return nil
	}
	e.outage.Succeeded()
	return nil
}

// promLog logs errors of scrapes.
type promLog struct{ log zerolog.Logger }

// Println implements promhttp.Logger.
func (l promLog) Println(v ...any) { l.log.Warn().Msg("metrics: " + fmt.Sprint(v...)) }
