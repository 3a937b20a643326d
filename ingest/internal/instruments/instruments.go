// Package instruments measures ingest with OpenTelemetry and makes spans of its publishes. docs/metrics.md says what each
// metric means.
package instruments

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	"github.com/accrue/accrue/ingest/internal/batching"
	"github.com/accrue/accrue/pkg/telemetry"
	"github.com/accrue/accrue/pkg/tracecontext"
)

// Publishes observes publishes: it is the batching.Observer.
type Publishes struct {
	telemetry                *telemetry.Telemetry
	duration                 metric.Float64Histogram
	messages, entries, bytes metric.Int64Counter
	ok, failed               result
}

// result is the attributes of what went well, or did not.
type result struct {
	record []metric.RecordOption
	add    []metric.AddOption
}

func resultOf(value string) result {
	set := metric.WithAttributeSet(attribute.NewSet(attribute.String("result", value)))
	return result{record: []metric.RecordOption{set}, add: []metric.AddOption{set}}
}

// Pending is what waits to be published.
type Pending interface{ Pending() (bytes, limit int) }

// New makes the instruments of publishes and of what is pending.
func New(t *telemetry.Telemetry, pending Pending) (*Publishes, error) {
	p := &Publishes{telemetry: t, ok: resultOf("ok"), failed: resultOf("failed")}
	m, faults := t.Meter(), make([]error, 7)
	p.duration, faults[0] = m.Float64Histogram("accrue_publish_duration", metric.WithUnit("s"),
		metric.WithDescription("How long publishes took: one request each, with a message for each partition that had entries."),
		metric.WithExplicitBucketBoundaries(.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5))
	p.messages, faults[1] = m.Int64Counter("accrue_publish_messages", metric.WithDescription("Messages in publishes."))
	p.entries, faults[2] = m.Int64Counter("accrue_publish_entries", metric.WithDescription("Increments and contributions in publishes."))
	p.bytes, faults[3] = m.Int64Counter("accrue_publish_entries_size", metric.WithUnit("By"), metric.WithDescription("Bytes of entries in publishes."))
	held, err := m.Int64ObservableGauge("accrue_pending", metric.WithUnit("By"), metric.WithDescription("Bytes pending or being published."))
	faults[4] = err
	limit, err := m.Int64ObservableGauge("accrue_pending_limit", metric.WithUnit("By"), metric.WithDescription("The bound on accrue_pending_bytes."))
	faults[5] = err
	_, faults[6] = m.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		bytes, most := pending.Pending()
		o.ObserveInt64(held, int64(bytes))
		o.ObserveInt64(limit, int64(most))
		return nil
	}, held, limit)
	if err := errors.Join(faults...); err != nil {
		return nil, fmt.Errorf("observe publishes: %w", err)
	}
	return p, nil
}

// Publishing is the batching.Observer's.
func (p *Publishes) Publishing(ctx context.Context, publishing batching.Publishing) (context.Context, func(error)) {
	var span trace.Span
	if len(publishing.Traces) > 0 {
		ctx, span = p.follow(ctx, publishing.Traces, publishing.Messages)
	}
	began := time.Now()
	return ctx, func(err error) {
		r := p.ok
		if err != nil {
			r = p.failed
		}
		ctx := context.Background()
		p.duration.Record(ctx, time.Since(began).Seconds(), r.record...)
		p.messages.Add(ctx, int64(publishing.Messages), r.add...)
		p.entries.Add(ctx, int64(publishing.Entries), r.add...)
		p.bytes.Add(ctx, int64(publishing.Bytes), r.add...)
		if span == nil {
			return
		}
		if err != nil {
			span.SetStatus(codes.Error, "publishing failed")
		}
		span.End()
	}
}

// follow makes a span of a publish: in the trace of its first request, and linked to the others.
func (p *Publishes) follow(ctx context.Context, traces []tracecontext.Trace, messages int) (context.Context, trace.Span) {
	return p.telemetry.Start(ctx, "publish", traces[0], traces[1:], trace.WithSpanKind(trace.SpanKindProducer),
		trace.WithAttributes(attribute.Int("accrue.messages", messages)))
}
