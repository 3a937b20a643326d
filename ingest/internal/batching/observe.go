package batching

import (
	"context"

	"github.com/accrue/accrue/pkg/broker"
	"github.com/accrue/accrue/pkg/logging"
	"github.com/accrue/accrue/pkg/tracecontext"
)

// Observer measures publishes and follows their traces. It is told of one after the other, by Run.
type Observer interface {
	// Publishing is told of a publish that begins. It returns the context to publish with, whose trace, if it carries one,
	// goes on in the messages that belong to it, and what is to be told the outcome, once.
	Publishing(ctx context.Context, p Publishing) (context.Context, func(error))
}

// Publishing is a publish that begins.
type Publishing struct {
	// Messages is how many there are, Entries how many increments and contributions in all of them, and Bytes what these
	// take.
	Messages, Entries, Bytes int
	// Traces are the followed ones among those of the requests that wait for it.
	Traces []tracecontext.Trace
}

// publishing is what is told of a group.
func (g *group) publishing() Publishing {
	entries := 0
	for i := range g.batches {
		entries += g.batches[i].entries.Entries()
	}
	return Publishing{Messages: len(g.batches), Entries: entries, Bytes: g.size, Traces: g.traces}
}

// Observe has o told of every publish. It may be called once, before Run.
func (b *Batcher) Observe(o Observer) { b.observer = o }

// unobserved is the observer of a Batcher that has none.
type unobserved struct{}

func (unobserved) Publishing(ctx context.Context, _ Publishing) (context.Context, func(error)) {
	return ctx, func(error) {}
}

// Pending returns the bytes that are pending or being published, and the bound on them.
func (b *Batcher) Pending() (bytes, limit int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.held, b.limit
}

// report writes one line for each message that is published, before any of its requests is answered: over all lines, the
// sums are what was accepted. The line belongs to the trace of one of the requests, if one is followed.
func (b *Batcher) report(ctx context.Context, g *group, messages []broker.Message) {
	for i := range g.batches {
		batch := &g.batches[i]
		event := b.log.Info()
		if len(batch.traces) > 0 {
			event.Ctx(tracecontext.With(ctx, batch.traces[0]))
		}
		event.Uint32("partition", batch.partition).Uint64("sequence", batch.sequence).
			Int("count", batch.entries.Entries()).Int("sum", batch.sum).Int("bytes", len(messages[i].Data)).Msg(logging.Published)
		for _, other := range batch.traces[min(1, len(batch.traces)):] {
			b.log.Info().Ctx(tracecontext.With(ctx, other)).Uint32("partition", batch.partition).Uint64("sequence", batch.sequence).
				Msg("published with others")
		}
	}
}
