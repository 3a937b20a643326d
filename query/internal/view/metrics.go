package view

import (
	"context"
	"errors"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/metric/noop"
)

// metrics are the instruments of the view.
type metrics struct {
	duration, freshness, viewed metric.Float64Histogram
	ok, failed                  metric.MeasurementOption
}

// newMetrics makes the instruments; a nil meter measures nothing. The age of the view and the unreadable partitions
// are observed on collection.
func newMetrics(meter metric.Meter, age func() time.Duration, unreadable func() int) (*metrics, error) {
	if meter == nil {
		meter = noop.Meter{}
	}
	m := &metrics{
		ok:     metric.WithAttributeSet(attribute.NewSet(attribute.String("result", "ok"))),
		failed: metric.WithAttributeSet(attribute.NewSet(attribute.String("result", "failed"))),
	}
	var errDuration, errFreshness, errViewed error
	m.duration, errDuration = meter.Float64Histogram("accrue_view_refresh_duration", metric.WithUnit("s"),
		metric.WithDescription("Duration of reads of the checkpoints, by result."),
		metric.WithExplicitBucketBoundaries(.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5))
	m.freshness, errFreshness = meter.Float64Histogram("accrue_freshness", metric.WithUnit("s"),
		metric.WithDescription("From the time ingest accepted the first entry of a Commit until the Commit is in the view."),
		metric.WithExplicitBucketBoundaries(.1, .25, .5, .75, 1, 1.25, 1.5, 1.75, 2, 2.5, 3, 5, 10, 30, 60, 300, 3600))
	m.viewed, errViewed = meter.Float64Histogram("accrue_freshness_viewed", metric.WithUnit("s"),
		metric.WithDescription("From the time of a checkpoint until it is in the view."),
		metric.WithExplicitBucketBoundaries(.05, .1, .25, .5, .75, 1, 2, 5, 10, 30, 60))
	_, errAge := meter.Float64ObservableGauge("accrue_view_age", metric.WithUnit("s"),
		metric.WithDescription("Time since the read behind the view began."),
		metric.WithFloat64Callback(func(_ context.Context, o metric.Float64Observer) error {
			o.Observe(age().Seconds())
			return nil
		}))
	_, errUnreadable := meter.Int64ObservableGauge("accrue_view_unreadable_partitions",
		metric.WithDescription("Partitions whose checkpoint is damaged or of a later version; their totals are stale or missing."),
		metric.WithInt64Callback(func(_ context.Context, o metric.Int64Observer) error {
			o.Observe(int64(unreadable()))
			return nil
		}))
	return m, errors.Join(errDuration, errFreshness, errViewed, errAge, errUnreadable)
}

// read records a read that began at a time, and what it led to. What was committed before the first read of this process
// says nothing about freshness.
func (m *metrics) read(began time.Time, before *View, outcome *reading) {
	ctx, now := context.Background(), time.Now()
	if outcome.err != nil {
		m.duration.Record(ctx, now.Sub(began).Seconds(), m.failed)
		return
	}
	m.duration.Record(ctx, now.Sub(began).Seconds(), m.ok)
	if before.version == 0 {
		return
	}
	for _, number := range outcome.view.changed {
		p := outcome.view.partitions[number]
		m.viewed.Record(ctx, now.Sub(p.UpdatedAt).Seconds())
		if !p.AcceptedAt.IsZero() {
			m.freshness.Record(ctx, now.Sub(p.AcceptedAt).Seconds())
		}
	}
}
