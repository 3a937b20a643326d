package batching

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/rs/zerolog"
	"go.opentelemetry.io/otel/trace"
	"golang.org/x/time/rate"

	"github.com/accrue/accrue/pkg/logging"
)

const (
	// linesPerSecond and linesBurst limit the log lines about published messages: one for each while they are few, and one
	// for many when there are thousands in a second.
	linesPerSecond = 4
	linesBurst     = 5
	// tracesPerSecond limits the log lines of sampled traces.
	tracesPerSecond = 5
)

// publishLog logs what is published. Over all lines of a process that stopped in order, the sums are what was accepted; a
// process that is killed may not have logged its last quarter of a second. It belongs to one goroutine.
type publishLog struct {
	log   zerolog.Logger
	lines *rate.Limiter

	// The messages since the last line, and the latest of them.
	messages, count, sum, bytes int
	partition                   uint32
	sequence                    uint64
}

func newPublishLog(log zerolog.Logger) publishLog {
	return publishLog{log: log, lines: rate.NewLimiter(linesPerSecond, linesBurst)}
}

// add adds a published message, and logs it at once if the limit allows.
func (l *publishLog) add(d *draft) {
	l.messages++
	l.count += d.entries.Entries()
	l.sum += d.sum
	l.bytes += d.bytes
	l.partition, l.sequence = d.partition, d.sequence
	if l.lines.Allow() {
		l.flush()
	}
}

// flush logs the messages since the last line, if there are any.
func (l *publishLog) flush() {
	if l.messages == 0 {
		return
	}
	event := l.log.Info()
	if l.messages == 1 {
		event.Uint32("partition", l.partition).Uint64("sequence", l.sequence)
	}
	event.Int("messages", l.messages).Int("count", l.count).Int("sum", l.sum).Int("bytes", l.bytes).Msg(logging.Published)
	l.messages, l.count, l.sum, l.bytes = 0, 0, 0, 0
}

// flushTimer returns a channel that receives when it is time to flush, or nil if there is nothing to log.
func (l *publishLog) flushTimer() <-chan time.Time {
	if l.messages == 0 {
		return nil
	}
	return time.After(time.Second / linesPerSecond)
}

// logPublished logs the messages of a published group. For each of its sampled traces, a line lists the messages with its
// entries as partition and sequence, so that they can be found in the checkpoints.
func (b *Batcher) logPublished(g *group) {
	for i := range g.drafts {
		b.publishLog.add(&g.drafts[i])
	}
	for _, sampled := range g.traces {
		if !b.traced.Allow() {
			return
		}
		var messages []string
		for i := range g.drafts {
			if d := &g.drafts[i]; slices.ContainsFunc(d.traces, func(t trace.SpanContext) bool { return t.TraceID() == sampled.TraceID() }) {
				messages = append(messages, fmt.Sprintf("%d:%d", d.partition, d.sequence))
			}
		}
		b.log.Info().Ctx(trace.ContextWithSpanContext(context.Background(), sampled)).Stringer("publisher", g.publisher).
			Strs("messages", messages).Msg("in the topic")
	}
}
