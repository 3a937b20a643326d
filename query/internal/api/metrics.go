package api

import (
	"context"
	"fmt"

	"go.opentelemetry.io/otel/metric"
)

// measure makes the instruments of streams.
func (s *stream) measure(meter metric.Meter) error {
	_, err := meter.Int64ObservableGauge("accrue_stream_readers", metric.WithDescription("Open streams of /stats/stream."),
		metric.WithInt64Callback(func(_ context.Context, o metric.Int64Observer) error {
			o.Observe(s.readers.Load())
			return nil
		}))
	if err != nil {
		return fmt.Errorf("api metrics: %w", err)
	}
	return nil
}
