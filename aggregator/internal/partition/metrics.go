package partition

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/metric"
	noopmetric "go.opentelemetry.io/otel/metric/noop"
	"go.opentelemetry.io/otel/trace"
	nooptrace "go.opentelemetry.io/otel/trace/noop"
	"golang.org/x/time/rate"

	"github.com/accrue/accrue/aggregator/internal/window"
	"github.com/accrue/accrue/pkg/checkpoint"
	"github.com/accrue/accrue/pkg/logging"
	"github.com/accrue/accrue/pkg/store"
	"github.com/accrue/accrue/pkg/tracing"
)

const (
	// tracesPerSecond bounds the log lines of Commits with sampled traces.
	tracesPerSecond = 10
	// nearlyFull is the part of checkpoint.MaxTotals from which on a checkpoint is logged as filling up, at most once in
	// fillingEvery.
	nearlyFull   = 0.6
	fillingEvery = 5 * time.Minute
)

// outages are the requests that can fail for a long time.
type outages struct{ commit, reject, crowded, owed *logging.Outage }

func newOutages(log zerolog.Logger) outages {
	return outages{
		commit:  logging.NewOutage(log, zerolog.WarnLevel, "commit"),
		reject:  logging.NewOutage(log, zerolog.ErrorLevel, "count all entries; the rejected ones wait to be redriven"),
		owed:    logging.NewOutage(log, zerolog.ErrorLevel, "write the document of a tag, which the store refuses; its total is counted"),
		crowded: logging.NewOutage(log, zerolog.WarnLevel, "commit messages; they are released until others fill the gaps before them"),
	}
}

// metrics measures the partitions. docs/metrics.md says what each metric means.
type metrics struct {
	commits, duplicates, counted, rejected, released metric.Int64Counter
	repeated, reused, late, evicted                  metric.Int64Counter
	asserted                                         metric.Int64Counter
	duration, documents, lag, freshness              metric.Float64Histogram
	traced, filling, assertedLines                   *rate.Limiter
	drained                                          drained
}

// drained is what was committed since the start, for the last log line.
type drained struct{ increments, documents, byAge, bySize, byDrain atomic.Int64 }

func (d *drained) add(why trigger, sums *window.Sums, commit *store.Commit) {
	d.increments.Add(sums.Increments())
	d.documents.Add(int64(commit.Documents()))
	map[trigger]*atomic.Int64{byAge: &d.byAge, bySize: &d.bySize, byDrain: &d.byDrain}[why].Add(1)
}

func (d *drained) log(log zerolog.Logger) {
	log.Info().Int64("increments", d.increments.Load()).Int64("documents", d.documents.Load()).Int64("commits_by_age", d.byAge.Load()).
		Int64("commits_by_size", d.bySize.Load()).Int64("commits_by_drain", d.byDrain.Load()).Msg("drained")
}

func newMetrics(m metric.Meter, s *Partitions) (*metrics, error) {
	if m == nil {
		m = noopmetric.Meter{}
	}
	if s.tracer == nil {
		s.tracer = nooptrace.Tracer{}
	}
	var faults []error
	counter := func(name, description string) metric.Int64Counter {
		c, err := m.Int64Counter(name, metric.WithDescription(description))
		faults = append(faults, err)
		return c
	}
	histogram := func(name, unit, description string, bounds ...float64) metric.Float64Histogram {
		h, err := m.Float64Histogram(name, metric.WithUnit(unit), metric.WithDescription(description), metric.WithExplicitBucketBoundaries(bounds...))
		faults = append(faults, err)
		return h
	}
	// These are exposed from the start: a rate over a counter that appears later misses its first step.
	started := func(c metric.Int64Counter) metric.Int64Counter {
		c.Add(context.Background(), 0)
		return c
	}
	all := &metrics{
		commits:    counter("accrue_commits", "Commits, by what ended the window and by outcome."),
		duplicates: started(counter("accrue_messages_duplicate", "Messages that were settled already and dropped.")),
		counted:    started(counter("accrue_entries_counted", "Entries that were counted.")),
		rejected:   counter("accrue_entries_rejected", "Entries that could not be counted and wait to be redriven, by reason."),
		released:   started(counter("accrue_messages_released", "Messages that were released because their partition could not commit them.")),
		repeated:   started(counter("accrue_keys_repeated", "Entries that repeated an idempotency key and were not counted.")),
		reused:     started(counter("accrue_keys_reused", "Repeated keys whose tag or value differs from the first use.")),
		late:       started(counter("accrue_keys_late", "Entries counted although the key that they might repeat may have been forgotten.")),
		evicted:    started(counter("accrue_keys_forgotten", "Keys forgotten before the horizon because of the memory limit.")),
		duration: histogram("accrue_commit_duration", "s", "How long Commits took, by outcome.",
			.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10),
		documents: histogram("accrue_commit_documents", "", "Documents that a Commit changed, beside the checkpoint.",
			1, 2, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000),
		lag: histogram("accrue_commit_lag", "s", "From the end of a window to the end of its Commit.",
			.01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300),
		freshness: histogram("accrue_freshness_committed", "s", "From accepting a message's first entry in ingest to the end of its Commit.",
			.1, .25, .5, .75, 1, 1.5, 2, 3, 5, 10, 30, 60, 300, 3600),
		traced:  rate.NewLimiter(tracesPerSecond, tracesPerSecond),
		filling: rate.NewLimiter(rate.Every(fillingEvery), 1),

		asserted:      counter("accrue_assertions_failed", "Assertions about what is counted that failed, by assertion. Always 0 without a bug."),
		assertedLines: rate.NewLimiter(rate.Every(assertedEvery), 1),
	}
	if err := errors.Join(append(faults, watch(m, s))...); err != nil {
		return nil, fmt.Errorf("measure the partitions: %w", err)
	}
	for _, reason := range labels {
		all.rejected.Add(context.Background(), 0, metric.WithAttributes(attribute.String("reason", reason)))
	}
	for _, assertion := range assertions {
		all.asserted.Add(context.Background(), 0, metric.WithAttributes(attribute.String("assertion", assertion)))
	}
	return all, nil
}

// watch makes the gauges of what the partitions hold.
func watch(m metric.Meter, s *Partitions) error {
	var faults []error
	gauge := func(name, unit, description string) metric.Float64ObservableGauge {
		g, err := m.Float64ObservableGauge(name, metric.WithUnit(unit), metric.WithDescription(description))
		faults = append(faults, err)
		return g
	}
	keys := gauge("accrue_keys", "", "Idempotency keys in memory.")
	age := gauge("accrue_held_age", "s", "Since the oldest entry in memory was accepted.")
	size := gauge("accrue_checkpoint_size", "1", "The share of its limit that the fullest checkpoint's totals take.")
	publishers := gauge("accrue_checkpoint_publishers", "", "Publishers in the checkpoint that has most.")
	sequences := gauge("accrue_checkpoint_intervals", "", "Intervals of sequences in the checkpoint that has most.")
	owed := gauge("accrue_tags_owed", "", "Tags whose documents lack something, over the partitions in memory.")
	failing := gauge("accrue_partitions_failing", "", "Partitions whose last attempt to commit failed.")
	_, err := m.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		var most contents
		var oldest time.Time
		for _, p := range s.all() {
			at, c := p.look()
			most = contents{max(most.size, c.size), max(most.publishers, c.publishers), max(most.intervals, c.intervals), most.owed + c.owed}
			if !at.IsZero() && (oldest.IsZero() || at.Before(oldest)) {
				oldest = at
			}
		}
		seconds := 0.0
		if !oldest.IsZero() {
			seconds = time.Since(oldest).Seconds()
		}
		o.ObserveFloat64(age, seconds)
		o.ObserveFloat64(keys, float64(s.keys.Held()))
		o.ObserveFloat64(size, float64(most.size)/checkpoint.MaxTotals)
		o.ObserveFloat64(publishers, float64(most.publishers))
		o.ObserveFloat64(sequences, float64(most.intervals))
		o.ObserveFloat64(owed, float64(most.owed))
		o.ObserveFloat64(failing, float64(s.failing.Load()))
		return nil
	}, keys, age, size, publishers, sequences, owed, failing)
	return errors.Join(append(faults, err)...)
}

// contents is how much a checkpoint holds.
type contents struct{ size, publishers, intervals, owed int }

// look returns when the oldest entry was accepted that the partition holds, zero without any, and what its checkpoint
// holds.
func (p *partition) look() (oldest time.Time, c contents) {
	p.mu.Lock()
	defer p.mu.Unlock()
	oldest = p.oldest
	if len(p.open.deliveries) > 0 && (oldest.IsZero() || p.open.oldest.Before(oldest)) {
		oldest = p.open.oldest
	}
	return oldest, p.contents
}

// weigh notes how much the checkpoint holds, and logs that it fills up.
func (p *partition) weigh() {
	c := contents{p.size, len(p.state.Checkpoint.Publishers), intervals(&p.state.Checkpoint), len(p.state.Checkpoint.Owed)}
	p.mu.Lock()
	p.contents = c
	p.mu.Unlock()
	if ratio := float64(c.size) / checkpoint.MaxTotals; ratio >= nearlyFull && p.metrics.filling.Allow() {
		p.log.Warn().Uint32("partition", p.no).Int("bytes", c.size).Float64("ratio", ratio).
			Msg("a checkpoint is filling up: raise PARTITIONS before it takes no new tags")
	}
}

// failed counts a call to the store that failed. A conflict is the protocol at work; the others are logged.
func (s *shared) failed(err error) {
	if !errors.Is(err, store.ErrConflict) && !errors.Is(err, context.Canceled) {
		s.outages.commit.Failed(err, nil)
	}
}

// forgotten counts idempotency keys that were forgotten early, and logs the first time.
func (s *shared) forgotten(keys int) {
	if keys == 0 {
		return
	}
	s.metrics.evicted.Add(context.Background(), int64(keys))
	s.evicting.Do(func() {
		s.log.Warn().Int("keys", keys).Msg("idempotency key limit reached, forgetting keys before the horizon (logged once)")
	})
}

// commit sends the Commit of a draft in a span of its own, if a message of it is traced, and measures it.
func (p *partition) commit(ctx context.Context, d *draft, commit *store.Commit) error {
	var traces []trace.SpanContext
	for _, held := range d.deliveries {
		for _, t := range held.Traces {
			traces = tracing.Add(traces, t)
		}
	}
	span := trace.Span(nooptrace.Span{})
	if len(traces) > 0 {
		ctx, span = p.tracer.Start(trace.ContextWithRemoteSpanContext(ctx, traces[0]), "commit",
			trace.WithSpanKind(trace.SpanKindConsumer), trace.WithLinks(tracing.Links(traces)...),
			trace.WithAttributes(attribute.Int64("accrue.partition", int64(p.no)),
				attribute.Int("accrue.messages", len(d.deliveries)), attribute.Int("accrue.documents", commit.Documents())))
	}
	defer span.End()
	began := time.Now()
	err := p.write(ctx, commit, d.claim, d.size)
	p.metrics.committed(p, d, commit, time.Since(began), err)
	if err != nil {
		span.SetStatus(codes.Error, resultOf(err))
		return err
	}
	for _, t := range traces {
		if p.metrics.traced.Allow() {
			p.log.Info().Ctx(trace.ContextWithSpanContext(ctx, t)).Uint32("partition", p.no).Uint64("commit", commit.Next.Commit).
				Int("messages", len(d.deliveries)).Dur("age_ms", time.Since(commit.AcceptedAt)).Msg("committed")
		}
	}
	return nil
}

func (m *metrics) committed(p *partition, d *draft, commit *store.Commit, took time.Duration, err error) {
	ctx, result := context.Background(), attribute.String("result", resultOf(err))
	m.commits.Add(ctx, 1, metric.WithAttributes(attribute.String("trigger", string(p.why)), result))
	m.duration.Record(ctx, took.Seconds(), metric.WithAttributes(result))
	if err != nil {
		return
	}
	m.drained.add(p.why, d.sums, commit)
	m.documents.Record(ctx, float64(commit.Documents()))
	m.lag.Record(ctx, time.Since(p.dueAt).Seconds())
	now := time.Now()
	for _, held := range d.fresh {
		m.freshness.Record(ctx, now.Sub(held.Batch.AcceptedAt).Seconds())
	}
	m.repeated.Add(ctx, int64(d.claim.Repeated))
	m.counted.Add(ctx, int64(d.entries-d.claim.Repeated-len(d.rejected)))
	m.reused.Add(ctx, int64(d.claim.Reused))
	m.late.Add(ctx, int64(d.claim.Late))
	if len(d.rejected) == 0 {
		return
	}
	reasons := make(map[string]int64)
	for i := range d.rejected {
		reasons[d.rejected[i].Reason]++
	}
	for reason, n := range reasons {
		m.rejected.Add(ctx, n, metric.WithAttributes(attribute.String("reason", labels[reason])))
		p.outages.reject.Failed(errors.New(reason), func(e *zerolog.Event) {
			e.Int64("entries", n).Str("document", store.RejectedID(p.no, commit.Next.Commit))
		})
	}
}

// labels are the metric's words for the reasons.
var labels = map[string]string{reasonFull: "full", reasonRefused: "refused"}

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
