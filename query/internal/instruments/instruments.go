// Package instruments is what query measures of itself, and the lines by which a trace is followed to where it can be seen.
package instruments

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/rs/zerolog"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/accrue/accrue/pkg/store"
	"github.com/accrue/accrue/pkg/telemetry"
	"github.com/accrue/accrue/query/internal/recognition"
	"github.com/accrue/accrue/query/internal/view"
)

// Reads observes the reads of the partitions, and what is recognized.
type Reads struct {
	duration  metric.Float64Histogram
	viewed    metric.Float64Histogram
	freshness metric.Float64Histogram
	ok        metric.MeasurementOption
	failed    metric.MeasurementOption
	traces    *traces

	// revisions are those of the latest read. They belong to Refreshed, which is called for one read after the other.
	revisions map[uint32]store.Revision
}

// View is what is asked of the view when the metrics are.
type View interface{ Age() time.Duration }

// Recognizer is what is asked of recognition.
type Recognizer interface {
	Counts() recognition.Counts
	OldestPending() time.Duration
}

// New makes the instruments of reads, of the view, of recognition and of the readers of streams. It may be called once for
// a Telemetry.
func New(t *telemetry.Telemetry, log zerolog.Logger, view View, recognizer Recognizer, readers func() int64) (*Reads, error) {
	m, faults := t.Meter(), make([]error, 0, 8)
	r := &Reads{
		traces: newTraces(t, log),
		ok:     metric.WithAttributeSet(attribute.NewSet(attribute.String("result", "ok"))),
		failed: metric.WithAttributeSet(attribute.NewSet(attribute.String("result", "failed"))),
	}
	var err error
	r.duration, err = m.Float64Histogram("accrue_view_refresh_duration", metric.WithUnit("s"),
		metric.WithDescription("How long reads of the checkpoints took, by result."),
		metric.WithExplicitBucketBoundaries(.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5))
	faults = append(faults, err)
	r.freshness, err = m.Float64Histogram("accrue_freshness", metric.WithUnit("s"),
		metric.WithDescription("From accepting a Commit's first entry in ingest to its being in the view."),
		metric.WithExplicitBucketBoundaries(.1, .25, .5, .75, 1, 1.25, 1.5, 1.75, 2, 2.5, 3, 5, 10, 30, 60, 300, 3600))
	faults = append(faults, err)
	r.viewed, err = m.Float64Histogram("accrue_freshness_viewed", metric.WithUnit("s"),
		metric.WithDescription("From the time of a checkpoint to its being in the view."),
		metric.WithExplicitBucketBoundaries(.05, .1, .25, .5, .75, 1, 2, 5, 10, 30, 60))
	faults = append(faults, err)
	age, err := m.Float64ObservableGauge("accrue_view_age", metric.WithUnit("s"), metric.WithDescription("Since the read began that the view is of."))
	faults = append(faults, err)
	pending, err := m.Float64ObservableGauge("accrue_recognitions_pending_age", metric.WithUnit("s"),
		metric.WithDescription("Of the oldest recognition whose event was not published."))
	faults = append(faults, err)
	open, err := m.Int64ObservableGauge("accrue_stream_readers", metric.WithDescription("Readers of /stats/stream."))
	faults = append(faults, err)
	created, err := m.Int64ObservableCounter("accrue_recognitions_created", metric.WithDescription("Recognitions that this instance made."))
	faults = append(faults, err)
	sent, err := m.Int64ObservableCounter("accrue_recognitions_sent", metric.WithDescription("Recognitions whose events this instance published."))
	faults = append(faults, err)
	_, err = m.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		o.ObserveFloat64(age, view.Age().Seconds())
		o.ObserveFloat64(pending, recognizer.OldestPending().Seconds())
		o.ObserveInt64(open, readers())
		counts := recognizer.Counts()
		o.ObserveInt64(created, counts.Recognized)
		o.ObserveInt64(sent, counts.Published)
		return nil
	}, age, pending, open, created, sent)
	if err := errors.Join(append(faults, err)...); err != nil {
		return nil, fmt.Errorf("observe the view: %w", err)
	}
	return r, nil
}

// Refreshed is told of every read, one after the other.
func (r *Reads) Refreshed(read view.Read) {
	ctx, now := context.Background(), time.Now()
	result := r.ok
	if read.Err != nil {
		result = r.failed
	}
	r.duration.Record(ctx, now.Sub(read.Began).Seconds(), result)
	if read.Err != nil {
		r.traces.refreshed(read, now, nil)
		return
	}
	var changed []*store.PartitionTotals
	first := r.revisions == nil // what was committed before this instance came tells nothing of it
	if first {
		r.revisions = make(map[uint32]store.Revision)
	}
	for i := range read.Partitions {
		p := &read.Partitions[i]
		before := r.revisions[p.Partition]
		r.revisions[p.Partition] = p.Revision
		if first || before == p.Revision {
			continue
		}
		changed = append(changed, p)
		r.viewed.Record(ctx, now.Sub(p.UpdatedAt).Seconds())
		if !p.AcceptedAt.IsZero() {
			r.freshness.Record(ctx, now.Sub(p.AcceptedAt).Seconds())
		}
	}
	r.traces.refreshed(read, now, changed)
}

// Recognized is told of every pass of recognition, from several goroutines.
func (r *Reads) Recognized(p recognition.Pass) { r.traces.recognized(p) }
