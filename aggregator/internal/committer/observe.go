package committer

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/time/rate"

	"github.com/accrue/accrue/pkg/checkpoint"
	"github.com/accrue/accrue/pkg/logging"
	"github.com/accrue/accrue/pkg/message"
	"github.com/accrue/accrue/pkg/store"
	"github.com/accrue/accrue/pkg/tracecontext"
)

// Observer measures Commits and follows their traces. Several may be under way at once; it must not hold them up.
type Observer interface {
	// Committing is told of a Commit that begins. It returns the context to commit with, the traces that go on in the
	// checkpoint in place of the messages' own, and what is to be told the outcome, once.
	Committing(ctx context.Context, c Committing) (context.Context, []tracecontext.Trace, func(error))
}

// Committing is a Commit that begins. An Observer does not change it.
type Committing struct {
	Partition uint32
	// Trigger is age, size or drain.
	Trigger   string
	Messages  []*message.Batch
	Documents int
	// DueAt is when the window was to be committed: earlier than now by what it waited for other Commits.
	DueAt time.Time
	// Traces are the followed ones that the messages carry.
	Traces []tracecontext.Trace
}

const (
	// tracesATime bounds the lines that follow traces, in a second.
	tracesATime = 10
	// traceMemory is for how long a trace stays in the checkpoints that follow its own: longer than query's longest REFRESH
	// but one in quiet times, so that it is seen although the next Commit comes first.
	traceMemory = 10 * time.Second
	// nearlyFull is the part of checkpoint.MaxSize from which on it is said that a checkpoint fills, and fillingEvery how
	// often at the most.
	nearlyFull   = 0.6
	fillingEvery = 5 * time.Minute
)

// outages are what can fail again and again.
type outages struct{ pull, commit, acknowledge, extend, deadLetter, apply *logging.Outage }

func newOutages(log zerolog.Logger) outages {
	return outages{
		pull:        logging.NewOutage(log, zerolog.WarnLevel, "pull"),
		commit:      logging.NewOutage(log, zerolog.WarnLevel, "commit"),
		acknowledge: logging.NewOutage(log, zerolog.WarnLevel, "acknowledge"),
		extend:      logging.NewOutage(log, zerolog.WarnLevel, "extend leases"),
		deadLetter:  logging.NewOutage(log, zerolog.ErrorLevel, "dead-letter messages"),
		apply:       logging.NewOutage(log, zerolog.ErrorLevel, "apply messages, which are dead-lettered"),
	}
}

// told bounds what is said for reasons other than failures.
type told struct {
	traces    *rate.Limiter
	fillingAt *atomic.Int64 // Unix seconds
}

func newTold() told {
	return told{traces: rate.NewLimiter(tracesATime, tracesATime), fillingAt: new(atomic.Int64)}
}

// committedTrace is a trace that a checkpoint carries.
type committedTrace struct {
	trace tracecontext.Trace
	at    time.Time
}

// observe tells the observer of a Commit of the first messages, gives the Commit its traces, and returns the context to
// commit with and what is to be told the outcome.
func (p *partition) observe(
	ctx context.Context, commit *store.Commit, batches []*message.Batch, why trigger,
) (context.Context, func(error)) {
	var traces []tracecontext.Trace
	for _, h := range p.committing[:len(batches)] {
		for _, trace := range tracecontext.FromAttributes(h.message.Attributes) {
			traces = tracecontext.Add(traces, trace)
		}
	}
	done := func(error) {}
	if observer := p.c.settings.Observer; observer != nil {
		ctx, traces, done = observer.Committing(ctx, Committing{
			Partition: p.number, Trigger: string(why), Messages: batches, Documents: commit.Documents(), DueAt: p.dueAt, Traces: traces,
		})
	}
	commit.Traces = p.carried(traces)
	return ctx, func(err error) {
		done(err)
		if err != nil || len(traces) == 0 {
			return
		}
		now := time.Now()
		for _, trace := range traces {
			p.recent = append(p.recent, committedTrace{trace, now})
			if p.c.told.traces.Allow() {
				p.c.log.Info().Ctx(tracecontext.With(ctx, trace)).Uint32("partition", p.number).Uint64("commit", commit.Next.Commit).
					Int("messages", len(batches)).Dur("age_ms", now.Sub(oldest(batches))).Msg("committed")
			}
		}
	}
}

// carried returns the traces that the next checkpoint carries: its own first, then those of the latest Commits.
func (p *partition) carried(own []tracecontext.Trace) []tracecontext.Trace {
	if len(p.recent) == 0 {
		return own
	}
	late := time.Now().Add(-traceMemory)
	kept := p.recent[:0]
	for _, r := range p.recent[max(0, len(p.recent)-tracecontext.Most):] {
		if r.at.After(late) {
			kept = append(kept, r)
		}
	}
	p.recent = kept
	var traces []tracecontext.Trace
	for _, trace := range own {
		traces = tracecontext.Add(traces, trace)
	}
	for i := len(kept) - 1; i >= 0; i-- {
		traces = tracecontext.Add(traces, kept[i].trace)
	}
	return traces
}

// oldest returns when the first of the entries was accepted.
func oldest(batches []*message.Batch) time.Time {
	first := batches[0].AcceptedAt
	for _, b := range batches[1:] {
		if b.AcceptedAt.Before(first) {
			first = b.AcceptedAt
		}
	}
	return first
}

// weight is how much a checkpoint holds.
type weight struct{ size, publishers, intervals int }

// weigh notes how much the checkpoint holds, and says so when it fills.
func (p *partition) weigh() {
	w := &weight{size: p.state.Checkpoint.Size(), publishers: len(p.state.Checkpoint.Publishers)}
	for _, counted := range p.state.Checkpoint.Publishers {
		w.intervals += len(counted.Sequences)
	}
	p.weight.Store(w)
	if float64(w.size) < nearlyFull*checkpoint.MaxSize {
		return
	}
	now, last := time.Now().Unix(), p.c.told.fillingAt.Load()
	if now-last >= int64(fillingEvery.Seconds()) && p.c.told.fillingAt.CompareAndSwap(last, now) {
		p.c.log.Warn().Uint32("partition", p.number).Int("bytes", w.size).Float64("ratio", float64(w.size)/checkpoint.MaxSize).
			Msg("a checkpoint is filling up: raise PARTITIONS before it takes no new tags")
	}
}

// Counts are what a committer has done since its start, and what it holds now.
type Counts struct {
	// Pulled, Decoded, Duplicates and DeadLettered are messages. A message that is delivered twice is pulled twice.
	Pulled, Decoded, Duplicates, DeadLettered int64
	// ByAge, BySize and ByDrain are Commits that are known to be in, by trigger.
	ByAge, BySize, ByDrain int64
	// Conflicts, Refused and Unknown are calls to the store that failed.
	Conflicts, Refused, Unknown int64
	// KeysRepeated are the entries that repeated an idempotency key and were not counted, KeysReused those of them that were
	// not what the key was first given to, KeysLate those that were counted although what they might repeat may have been
	// forgotten, and KeysForgotten the keys that left memory before their time.
	KeysRepeated, KeysReused, KeysLate, KeysForgotten int64
	// Keys are the idempotency keys in memory.
	Keys int
	// HeldBytes are those of the messages in memory, and OldestHeld when the first entry among them was accepted: zero
	// without any.
	HeldBytes  int64
	OldestHeld time.Time
	// CheckpointBytes, Publishers and Intervals are those of the partition that has most.
	CheckpointBytes, Publishers, Intervals int
}

// Counts returns the present ones. It looks at everything that is held: ask now and then.
func (c *Committer) Counts() Counts {
	n := Counts{
		Pulled: c.counts.pulled.Load(), Decoded: c.counts.decoded.Load(),
		Duplicates: c.counts.duplicates.Load(), DeadLettered: c.counts.deadLettered.Load(),
		ByAge: c.counts.byAge.Load(), BySize: c.counts.bySize.Load(), ByDrain: c.counts.byDrain.Load(),
		Conflicts: c.counts.conflicts.Load(), Refused: c.counts.refused.Load(), Unknown: c.counts.unknown.Load(),
		KeysRepeated: c.counts.repeated.Load(), KeysReused: c.counts.reused.Load(),
		KeysLate: c.counts.late.Load(), KeysForgotten: c.counts.early.Load(), Keys: c.keys.Size(),
		HeldBytes: c.buffer.held(),
	}
	for _, p := range c.all() {
		if at := p.oldestHeld(); !at.IsZero() && (n.OldestHeld.IsZero() || at.Before(n.OldestHeld)) {
			n.OldestHeld = at
		}
		if w := p.weight.Load(); w != nil {
			n.CheckpointBytes = max(n.CheckpointBytes, w.size)
			n.Publishers, n.Intervals = max(n.Publishers, w.publishers), max(n.Intervals, w.intervals)
		}
	}
	return n
}

// oldestHeld returns when the first entry that is held was accepted, zero without any.
func (p *partition) oldestHeld() (at time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, window := range [][]*held{p.committing, p.open} {
		for _, h := range window {
			if at.IsZero() || h.batch.AcceptedAt.Before(at) {
				at = h.batch.AcceptedAt
			}
		}
	}
	return at
}
