package webhook

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/metric/noop"
)

// measure makes the instruments; a nil meter measures nothing.
func (w *Webhooks) measure(meter metric.Meter) error {
	if meter == nil {
		meter = noop.Meter{}
	}
	posts, errPosts := meter.Int64ObservableCounter("accrue_webhook_posts",
		metric.WithDescription("Requests to webhooks, by outcome."))
	dead, errDead := meter.Int64ObservableCounter("accrue_webhook_events_dead",
		metric.WithDescription("Recognitions that a webhook did not take within a day."))
	age, errAge := meter.Float64ObservableGauge("accrue_webhook_held_age", metric.WithUnit("s"),
		metric.WithDescription("Age of the oldest recognition that is being posted to a webhook."))
	_, err := meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		for _, s := range w.senders {
			receiver := attribute.String("receiver", s.receiver.Name)
			o.ObserveInt64(posts, s.delivered.Load(), metric.WithAttributes(receiver, attribute.String("result", "ok")))
			o.ObserveInt64(posts, s.failed.Load(), metric.WithAttributes(receiver, attribute.String("result", "failed")))
			o.ObserveInt64(dead, s.dead.Load(), metric.WithAttributes(receiver))
			o.ObserveFloat64(age, s.heldAge().Seconds(), metric.WithAttributes(receiver))
		}
		return nil
	}, posts, dead, age)
	if err := errors.Join(errPosts, errDead, errAge, err); err != nil {
		return fmt.Errorf("webhook metrics: %w", err)
	}
	return nil
}

// heldAge returns the age of the oldest event that is held, zero if there is none.
func (s *sender) heldAge() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	var oldest time.Duration
	for _, h := range s.held {
		oldest = max(oldest, time.Since(h.publishedAt))
	}
	return oldest
}
