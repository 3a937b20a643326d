package query

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
	"go.opentelemetry.io/otel/metric"
	noopmetric "go.opentelemetry.io/otel/metric/noop"
)

const (
	// waitingEvery is the time between two counts of rejected entries, and waitingTimeout bounds a count.
	waitingEvery, waitingTimeout = time.Minute, 10 * time.Second
)

// waitingReader is the store of rejected entries.
type waitingReader interface {
	// Waiting returns the number of rejected entries.
	Waiting(ctx context.Context) (entries int64, err error)
}

// waiting reports the number of rejected entries in a metric, in the log and in the readiness answer.
type waiting struct {
	reader  waitingReader
	log     zerolog.Logger
	entries atomic.Int64
}

func newWaiting(reader waitingReader, meter metric.Meter, log zerolog.Logger) (*waiting, error) {
	if meter == nil {
		meter = noopmetric.Meter{}
	}
	w := &waiting{reader: reader, log: log}
	gauge, err := meter.Int64ObservableGauge("accrue_entries_waiting", metric.WithDescription("Rejected entries that wait to be redriven."))
	if err != nil {
		return nil, fmt.Errorf("measure rejected entries: %w", err)
	}
	_, err = meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		o.ObserveInt64(gauge, w.entries.Load())
		return nil
	}, gauge)
	if err != nil {
		return nil, fmt.Errorf("measure rejected entries: %w", err)
	}
	return w, nil
}

// Run counts until ctx ends.
func (w *waiting) Run(ctx context.Context) error {
	ticker := time.NewTicker(waitingEvery)
	defer ticker.Stop()
	for {
		w.count(ctx)
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// count counts once. If it fails, it keeps the last count.
func (w *waiting) count(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, waitingTimeout)
	defer cancel()
	entries, err := w.reader.Waiting(ctx)
	if err != nil {
		return // the refresher reports a store that does not answer
	}
	if w.entries.Store(entries); entries > 0 {
		w.log.Warn().Int64("entries", entries).Msg("rejected entries wait to be redriven: see accrue redrive --dry-run")
	}
}

// Check returns an error with the number of rejected entries, if there are any.
func (w *waiting) Check(context.Context) error {
	if entries := w.entries.Load(); entries > 0 {
		return fmt.Errorf("%d entries wait to be redriven", entries)
	}
	return nil
}
