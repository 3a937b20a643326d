package batching

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/time/rate"

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

const (
	// accountsASecond bounds the lines that account for what is published, and accountsAtOnce how many of them may come
	// together: a line has one message while there are few, and as many as need be while there are thousands in a second.
	accountsASecond = 4
	accountsAtOnce  = 5
	// tracesASecond bounds the lines that follow traces.
	tracesASecond = 5
)

// account is what was published and is not told yet. It is Run's alone.
type account struct {
	log                         zerolog.Logger
	lines                       *rate.Limiter
	messages, count, sum, bytes int
	// partition and sequence are those of the latest message.
	partition uint32
	sequence  uint64
}

func newAccount(log zerolog.Logger) account {
	return account{log: log, lines: rate.NewLimiter(accountsASecond, accountsAtOnce)}
}

// add accounts for a message that is published: at once if there may be a line, and otherwise with a later one.
func (a *account) add(b *batch, bytes int) {
	a.messages++
	a.count += b.entries.Entries()
	a.sum += b.sum
	a.bytes += bytes
	a.partition, a.sequence = b.partition, b.sequence
	if a.lines.Allow() {
		a.tell()
	}
}

// tell writes a line of what is not told yet, if there is anything. Over all lines of a process that stopped by itself,
// the sums are what was accepted; one that was killed may owe its last quarter of a second.
func (a *account) tell() {
	if a.messages == 0 {
		return
	}
	event := a.log.Info()
	if a.messages == 1 {
		event.Uint32("partition", a.partition).Uint64("sequence", a.sequence)
	}
	event.Int("messages", a.messages).Int("count", a.count).Int("sum", a.sum).Int("bytes", a.bytes).Msg(logging.Published)
	a.messages, a.count, a.sum, a.bytes = 0, 0, 0, 0
}

// untold returns a channel that gives a token when it is time to tell what no later message has taken along, or nil if
// there is nothing to tell.
func (a *account) untold() <-chan time.Time {
	if a.messages == 0 {
		return nil
	}
	return time.After(time.Second / accountsASecond)
}

// report accounts for the messages of a group that is published, and writes a line for each of its followed traces: which
// messages took it, as partition and sequence, so that each can be looked for in its checkpoint.
func (b *Batcher) report(ctx context.Context, g *group, messages []broker.Message) {
	for i := range g.batches {
		b.account.add(&g.batches[i], len(messages[i].Data))
	}
	for _, trace := range g.traces {
		if !b.traced.Allow() {
			return
		}
		places := make([]string, 0, 1)
		for i := range g.batches {
			if batch := &g.batches[i]; slices.ContainsFunc(batch.traces, func(t tracecontext.Trace) bool { return t.ID == trace.ID }) {
				places = append(places, fmt.Sprintf("%d:%d", batch.partition, batch.sequence))
			}
		}
		b.log.Info().Ctx(tracecontext.With(ctx, trace)).Stringer("publisher", b.identity).Strs("messages", places).Msg("in the topic")
	}
}
