// Package instruments measures the aggregator with OpenTelemetry and makes spans of its Commits. docs/metrics.md says what
// each metric means.
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

	"github.com/accrue/accrue/aggregator/internal/committer"
	"github.com/accrue/accrue/pkg/checkpoint"
	"github.com/accrue/accrue/pkg/store"
	"github.com/accrue/accrue/pkg/telemetry"
	"github.com/accrue/accrue/pkg/tracecontext"
)

// Commits observes Commits: it is the committer.Observer.
type Commits struct {
	telemetry                           *telemetry.Telemetry
	commits                             metric.Int64Counter
	duration, documents, lag, freshness metric.Float64Histogram
}

// New makes the instruments of Commits.
func New(t *telemetry.Telemetry) (*Commits, error) {
	c := &Commits{telemetry: t}
	m, faults := t.Meter(), make([]error, 5)
	c.commits, faults[0] = m.Int64Counter("accrue_commits", metric.WithDescription("Commits, by what ended the window and by outcome."))
	c.duration, faults[1] = m.Float64Histogram("accrue_commit_duration", metric.WithUnit("s"),
		metric.WithDescription("How long Commits took, by outcome."),
		metric.WithExplicitBucketBoundaries(.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10))
	c.documents, faults[2] = m.Float64Histogram("accrue_commit_documents",
		metric.WithDescription("Documents that a Commit changed, beside the checkpoint."),
		metric.WithExplicitBucketBoundaries(1, 2, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000))
	c.lag, faults[3] = m.Float64Histogram("accrue_commit_lag", metric.WithUnit("s"),
		metric.WithDescription("From the end of a window to the end of its Commit."),
		metric.WithExplicitBucketBoundaries(.01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300))
	c.freshness, faults[4] = m.Float64Histogram("accrue_freshness_committed", metric.WithUnit("s"),
		metric.WithDescription("From accepting a message's first entry in ingest to the end of its Commit."),
		metric.WithExplicitBucketBoundaries(.1, .25, .5, .75, 1, 1.5, 2, 3, 5, 10, 30, 60, 300, 3600))
	if err := errors.Join(faults...); err != nil {
		return nil, fmt.Errorf("observe commits: %w", err)
	}
	return c, nil
}

// Committing is the committer.Observer's.
func (c *Commits) Committing(
	ctx context.Context, committing committer.Committing,
) (context.Context, []tracecontext.Trace, func(error)) {
	traces, span := committing.Traces, trace.Span(nil)
	if len(traces) > 0 {
		ctx, span = c.telemetry.Start(ctx, "commit", traces[0], traces, trace.WithSpanKind(trace.SpanKindConsumer),
			trace.WithAttributes(attribute.Int64("accrue.partition", int64(committing.Partition)),
				attribute.Int("accrue.messages", len(committing.Messages)), attribute.Int("accrue.documents", committing.Documents)))
		if own := tracecontext.From(ctx); own.Valid() { // what comes after comes from this span
			traces = append([]tracecontext.Trace{own}, traces[1:]...)
		}
	}
	began := time.Now()
	return ctx, traces, func(err error) {
		c.done(committing, began, resultOf(err), err)
		if span == nil {
			return
		}
		if err != nil {
			span.SetStatus(codes.Error, resultOf(err))
		}
		span.End()
	}
}

func (c *Commits) done(committing committer.Committing, began time.Time, result string, err error) {
	ctx, now := context.Background(), time.Now()
	outcome := attribute.String("result", result)
	c.commits.Add(ctx, 1, metric.WithAttributes(attribute.String("trigger", committing.Trigger), outcome))
	c.duration.Record(ctx, now.Sub(began).Seconds(), metric.WithAttributes(outcome))
	if err != nil {
		return
	}
	c.documents.Record(ctx, float64(committing.Documents))
	c.lag.Record(ctx, now.Sub(committing.DueAt).Seconds())
	for _, batch := range committing.Messages {
		c.freshness.Record(ctx, now.Sub(batch.AcceptedAt).Seconds())
	}
}

// resultOf is the word for the outcome of a Commit.
func resultOf(err error) string {
	switch {
	case err == nil:
		return "ok"
	case errors.Is(err, store.ErrConflict):
		return "conflict"
	case errors.Is(err, store.ErrRefused):
		return "refused"
	default:
		return "unknown"
	}
}

// Committer is what is asked when the metrics are.
type Committer interface{ Counts() committer.Counts }

// Watch makes the instruments of what a committer counts and holds. It may be called once for a Telemetry.
func Watch(t *telemetry.Telemetry, c Committer) error {
	m := t.Meter()
	var faults []error
	var all []metric.Observable
	var observe []func(metric.Observer, committer.Counts)
	counter := func(name, description string, value func(committer.Counts) int64) {
		i, err := m.Int64ObservableCounter(name, metric.WithDescription(description))
		faults, all = append(faults, err), append(all, i)
		observe = append(observe, func(o metric.Observer, n committer.Counts) { o.ObserveInt64(i, value(n)) })
	}
	gauge := func(name, unit, description string, value func(committer.Counts) float64) {
		i, err := m.Float64ObservableGauge(name, metric.WithUnit(unit), metric.WithDescription(description))
		faults, all = append(faults, err), append(all, i)
		observe = append(observe, func(o metric.Observer, n committer.Counts) { o.ObserveFloat64(i, value(n)) })
	}
	counter("accrue_messages_pulled", "Messages that were delivered, again and again among them.", func(n committer.Counts) int64 { return n.Pulled })
	counter("accrue_messages_decoded", "Of these, those that are batch messages.", func(n committer.Counts) int64 { return n.Decoded })
	counter("accrue_messages_duplicate", "Messages that were counted already and dropped.", func(n committer.Counts) int64 { return n.Duplicates })
	counter("accrue_messages_dead_lettered", "Messages that could not be applied.", func(n committer.Counts) int64 { return n.DeadLettered })
	counter("accrue_keys_repeated", "Entries that repeated an idempotency key and were not counted.", func(n committer.Counts) int64 { return n.KeysRepeated })
	counter("accrue_keys_reused", "Of these, those that were not what the key was first given to.", func(n committer.Counts) int64 { return n.KeysReused })
	counter("accrue_keys_late", "Entries that were counted although the key that they might repeat may have been forgotten.", func(n committer.Counts) int64 { return n.KeysLate })
	counter("accrue_keys_forgotten", "Keys that left memory before the horizon, for want of room.", func(n committer.Counts) int64 { return n.KeysForgotten })
	gauge("accrue_keys", "", "Idempotency keys in memory.", func(n committer.Counts) float64 { return float64(n.Keys) })
	gauge("accrue_held", "By", "Bytes of messages in memory that are not committed.", func(n committer.Counts) float64 { return float64(n.HeldBytes) })
	gauge("accrue_held_age", "s", "Since the oldest entry in memory was accepted.", func(n committer.Counts) float64 {
		if n.OldestHeld.IsZero() {
			return 0
		}
		return time.Since(n.OldestHeld).Seconds()
	})
	gauge("accrue_checkpoint_size", "1", "Of the fullest checkpoint, how much of its limit is taken.", func(n committer.Counts) float64 {
		return float64(n.CheckpointBytes) / checkpoint.MaxSize
	})
	gauge("accrue_checkpoint_publishers", "", "Publishers in the checkpoint that has most.", func(n committer.Counts) float64 { return float64(n.Publishers) })
	gauge("accrue_checkpoint_intervals", "", "Intervals of sequences in the checkpoint that has most.", func(n committer.Counts) float64 { return float64(n.Intervals) })
	_, err := m.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		counts := c.Counts()
		for _, one := range observe {
			one(o, counts)
		}
		return nil
	}, all...)
	if err := errors.Join(append(faults, err)...); err != nil {
		return fmt.Errorf("observe the committer: %w", err)
	}
	return nil
}
