package batching

import (
	"context"
	"errors"
	"fmt"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

// metrics measures publishes and the budget. docs/metrics.md describes each metric.
type metrics struct {
	duration                 metric.Float64Histogram
	messages, entries, bytes metric.Int64Counter
	ok, failed               result
}

// result is the attribute of publishes that succeeded or failed.
type result struct {
	record []metric.RecordOption
	add    []metric.AddOption
}

func newResult(value string) result {
	set := metric.WithAttributeSet(attribute.NewSet(attribute.String("result", value)))
	return result{record: []metric.RecordOption{set}, add: []metric.AddOption{set}}
}

func newMetrics(meter metric.Meter, budget *budget, window *window) (metrics, error) {
	m, errs := metrics{ok: newResult("ok"), failed: newResult("failed")}, make([]error, 8)
	m.duration, errs[0] = meter.Float64Histogram("accrue_publish_duration", metric.WithUnit("s"),
		metric.WithDescription("Duration of publishes. Each is one request with a message for each partition that had entries."),
		metric.WithExplicitBucketBoundaries(.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5))
	m.messages, errs[1] = meter.Int64Counter("accrue_publish_messages", metric.WithDescription("Messages in publishes."))
	m.entries, errs[2] = meter.Int64Counter("accrue_publish_entries", metric.WithDescription("Increments and contributions in publishes."))
	m.bytes, errs[3] = meter.Int64Counter("accrue_publish_entries_size", metric.WithUnit("By"), metric.WithDescription("Size of the entries in publishes."))
	held, err := meter.Int64ObservableGauge("accrue_pending", metric.WithUnit("By"),
		metric.WithDescription("Memory for bodies that are being read, and for entries that wait or are being published."))
	errs[4] = err
	limit, err := meter.Int64ObservableGauge("accrue_pending_limit", metric.WithUnit("By"), metric.WithDescription("Limit of accrue_pending_bytes."))
	errs[5] = err
	admitted, err := meter.Int64ObservableGauge("accrue_publish_window", metric.WithUnit("By"),
		metric.WithDescription("Entries that may wait or be published at once: what the broker takes within a second."))
	errs[6] = err
	_, errs[7] = meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		o.ObserveInt64(held, budget.held.Load())
		o.ObserveInt64(limit, budget.limit)
		o.ObserveInt64(admitted, window.size.Load())
		return nil
	}, held, limit, admitted)
	if err := errors.Join(errs...); err != nil {
		return metrics{}, fmt.Errorf("measure publishes: %w", err)
	}
	return m, nil
}

// published measures a publish that has ended.
func (m *metrics) published(g *group) {
	r := m.ok
	if g.err != nil {
		r = m.failed
	}
	ctx := context.Background()
	m.duration.Record(ctx, g.latency.Seconds(), r.record...)
	m.messages.Add(ctx, int64(len(g.drafts)), r.add...)
	m.entries.Add(ctx, int64(g.entries()), r.add...)
	m.bytes.Add(ctx, int64(g.bytes()), r.add...)
}
