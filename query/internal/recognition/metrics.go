package recognition

import (
	"context"
	"errors"
	"fmt"

	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/metric/noop"
)

// measure makes the instruments; a nil meter measures nothing.
func (r *Recognizer) measure(meter metric.Meter) error {
	if meter == nil {
		meter = noop.Meter{}
	}
	pending, errPending := meter.Float64ObservableGauge("accrue_recognitions_pending_age", metric.WithUnit("s"),
		metric.WithDescription("Age of the oldest recognition whose event is not published."))
	created, errCreated := meter.Int64ObservableCounter("accrue_recognitions_created",
		metric.WithDescription("Recognitions created by this instance."))
	sent, errSent := meter.Int64ObservableCounter("accrue_recognitions_sent",
		metric.WithDescription("Recognitions whose events this instance published."))
	_, err := meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		o.ObserveFloat64(pending, r.OldestPending().Seconds())
		o.ObserveInt64(created, r.created.Load())
		o.ObserveInt64(sent, r.published.Load())
		return nil
	}, pending, created, sent)
	if err := errors.Join(errPending, errCreated, errSent, err); err != nil {
		return fmt.Errorf("recognition metrics: %w", err)
	}
	return nil
}
