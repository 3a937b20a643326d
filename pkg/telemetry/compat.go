package telemetry

import (
	"context"

	"go.opentelemetry.io/otel/trace"

	"github.com/accrue/accrue/pkg/tracecontext"
)

// Follow is ShouldSample. It goes with package tracecontext.
func (t *Telemetry) Follow(came tracecontext.Trace) bool { return t.ShouldSample(came.SpanContext()) }

// Start starts a span. It goes with package tracecontext.
func (t *Telemetry) Start(
	ctx context.Context, name string, parent tracecontext.Trace, others []tracecontext.Trace, options ...trace.SpanStartOption,
) (context.Context, trace.Span) {
	if t == nil {
		return ctx, trace.SpanFromContext(context.Background())
	}
	parent.Sampled = true
	if parent.Valid() {
		ctx = tracecontext.With(ctx, parent)
	} else {
		options = append(options, trace.WithNewRoot())
	}
	for _, other := range others {
		options = append(options, trace.WithLinks(trace.Link{SpanContext: other.SpanContext()}))
	}
	return t.Tracer().Start(ctx, name, options...)
}
