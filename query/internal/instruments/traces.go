package instruments

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/rs/zerolog"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
	"golang.org/x/time/rate"

	"github.com/accrue/accrue/pkg/store"
	"github.com/accrue/accrue/pkg/telemetry"
	"github.com/accrue/accrue/pkg/tracecontext"
	"github.com/accrue/accrue/query/internal/recognition"
	"github.com/accrue/accrue/query/internal/view"
)

const (
	// linesASecond bounds the lines that follow traces.
	linesASecond = 5
	// memory is for how long a trace that came into view is known: longer than checkpoints carry one.
	memory = time.Minute
	// before is how long before a pass of recognition a trace came into view that may have led to it: passes are a second
	// apart, and a read may come before the one and a contributor's Commit after it.
	before = 3 * time.Second
	// maxPasses bounds the passes that wait for the next read.
	maxPasses = 16
)

// traces makes spans and lines of what followed requests have led to here: they came into view by a read, and contributors
// may have been recognized for them.
type traces struct {
	telemetry *telemetry.Telemetry
	log       zerolog.Logger
	lines     *rate.Limiter

	mu sync.Mutex
	// seen is when each trace of late came into view.
	seen map[tracecontext.Trace]time.Time
	// passes are those that wait for the next read: recognition sees a Commit before the view does, if it looks between
	// two reads.
	passes []recognition.Pass
}

func newTraces(t *telemetry.Telemetry, log zerolog.Logger) *traces {
	return &traces{
		telemetry: t, log: log, lines: rate.NewLimiter(linesASecond, linesASecond), seen: make(map[tracecontext.Trace]time.Time),
	}
}

// refreshed is told of a read that ended now, and of the partitions that have changed by it. A read that brings followed
// traces into view is a span of the first of them, linked to all; others are followed by the ratio.
func (t *traces) refreshed(read view.Read, now time.Time, changed []*store.PartitionTotals) {
	t.mu.Lock()
	defer t.mu.Unlock()
	var fresh []tracecontext.Trace
	for _, p := range changed {
		for _, one := range p.Traces {
			if _, known := t.seen[one]; !known { // a checkpoint carries a trace for some seconds
				t.seen[one] = now
				fresh = append(fresh, one)
				t.say(one, func(e *zerolog.Event) { e.Uint32("partition", p.Partition) }, "in view")
			}
		}
	}
	if len(fresh) > 0 || t.telemetry.Follow(tracecontext.Trace{}) {
		t.span("refresh", read.Began, now, fresh, read.Err, attribute.Int("accrue.partitions", len(changed)))
	}
	if read.Err == nil {
		t.lead(read.Began)
	}
	for one, at := range t.seen {
		if now.Sub(at) > memory {
			delete(t.seen, one)
		}
	}
}

// recognized is told of a pass that has ended.
func (t *traces) recognized(p recognition.Pass) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.passes) < maxPasses {
		t.passes = append(t.passes, p)
	}
}

// lead makes spans of the passes that ended before a read that has just succeeded began, linked to the traces that came
// into view shortly before them or by it: which of these had somebody recognized is not known, but no other one.
func (t *traces) lead(began time.Time) {
	t.passes = slices.DeleteFunc(t.passes, func(p recognition.Pass) bool {
		if p.Ended.After(began) {
			return false
		}
		var about []tracecontext.Trace
		for one, at := range t.seen {
			if at.After(p.Began.Add(-before)) {
				about = append(about, one)
			}
		}
		slices.SortFunc(about, func(a, b tracecontext.Trace) int { return t.seen[a].Compare(t.seen[b]) })
		for _, one := range about {
			t.say(one, func(e *zerolog.Event) {
				e.Int64("tier", p.Tier).Int("contributors", p.Made).Dur("took_ms", p.Ended.Sub(p.Began))
			}, "recognized contributors")
		}
		if len(about) > 0 || t.telemetry.Follow(tracecontext.Trace{}) {
			t.span("recognize", p.Began, p.Ended, about, p.Err, attribute.Int64("accrue.tier", p.Tier),
				attribute.Int("accrue.recognized", p.Made), attribute.Bool("accrue.published", p.Published))
		}
		return true
	})
}

// span makes a span of what is over: one of the first trace, linked to all, or of a trace of its own without any.
func (t *traces) span(name string, began, ended time.Time, of []tracecontext.Trace, err error, attributes ...attribute.KeyValue) {
	var first tracecontext.Trace
	if len(of) > 0 {
		first = of[0]
	}
	_, span := t.telemetry.Start(context.Background(), name, first, of, trace.WithTimestamp(began), trace.WithAttributes(attributes...))
	if err != nil {
		span.SetStatus(codes.Error, name+" failed")
	}
	span.End(trace.WithTimestamp(ended))
}

// say writes a line of a trace, if there may be one.
func (t *traces) say(of tracecontext.Trace, more func(*zerolog.Event), message string) {
	if !t.lines.Allow() {
		return
	}
	event := t.log.Info().Ctx(tracecontext.With(context.Background(), of))
	more(event)
	event.Msg(message)
}
