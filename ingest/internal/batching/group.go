package batching

import (
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/accrue/accrue/pkg/increment"
	"github.com/accrue/accrue/pkg/message"
	"github.com/accrue/accrue/pkg/tracing"
)

// group is the entries of one publish. It grows until Run takes it.
type group struct {
	openedAt time.Time
	drafts   []draft
	// open holds, by partition, the number of the draft that takes entries, counted from 1; 0 means none.
	open []int32
	// size is the most bytes that all entries can take in messages.
	size    int
	outcome *outcome
	// traces are the sampled traces of the drafts.
	traces []trace.SpanContext

	// The fields below are set by its publish.

	publisher message.Publisher
	span      trace.Span // nil without sampled traces
	latency   time.Duration
	err       error
}

// draft is a message that is being filled.
type draft struct {
	partition uint32
	// acceptedAt is the time of the first entry.
	acceptedAt time.Time
	entries    message.Builder
	// sum is the sum of the values of all increments.
	sum int
	// traces are the sampled traces of the requests of its entries.
	traces []trace.SpanContext
	// sequence and bytes, its encoded size, are set when it is encoded.
	sequence uint64
	bytes    int
}

// outcome is what the requests of a group wait for. Err is set before done is closed.
type outcome struct {
	done chan struct{}
	err  error
}

// fits reports whether the group has room for size bytes in at most so many more messages. An empty group takes anything.
func (g *group) fits(size, messages int) bool {
	return len(g.drafts) == 0 || g.size+size <= maxGroupBytes && len(g.drafts)+messages <= maxMessages
}

func (g *group) add(entries []Entry, size int, trace trace.SpanContext) {
	g.size += size
	g.traces = tracing.Add(g.traces, trace)
	for i := range entries {
		if e := &entries[i]; e.Tag != "" {
			d := g.draft(e.Tag, trace)
			d.entries.AddIncrement(e.Tag, e.Value, e.Key)
			d.sum += int(e.Value)
		}
		if e := &entries[i]; e.Contributor != "" {
			g.draft(e.Contributor, trace).entries.AddContribution(e.Contributor, e.Key)
		}
	}
}

// draft returns the draft for the next entry of key's partition, and adds the trace of its request.
func (g *group) draft(key string, trace trace.SpanContext) *draft {
	d := g.openDraft(key)
	d.traces = tracing.Add(d.traces, trace)
	return d
}

// openDraft returns the draft of key's partition, or a new one if it is full. No other bound than MaxEntries is needed: that
// many of the largest entries take some 520 KB.
func (g *group) openDraft(key string) *draft {
	partition := increment.Partition(key, uint32(len(g.open))) //nolint:gosec // at most increment.MaxPartitions
	if i := g.open[partition]; i > 0 && g.drafts[i-1].entries.Entries() < message.MaxEntries {
		return &g.drafts[i-1]
	}
	n := len(g.drafts)
	if n == cap(g.drafts) {
		g.drafts = append(g.drafts, draft{})
	} else {
		g.drafts = g.drafts[:n+1] // reuses the memory that reset left
	}
	g.open[partition] = int32(n + 1) //nolint:gosec // at most two messages for each entry of one Add
	g.drafts[n].partition, g.drafts[n].acceptedAt = partition, time.Now()
	g.drafts[n].entries.Partitions = uint32(len(g.open)) //nolint:gosec // at most increment.MaxPartitions
	return &g.drafts[n]
}

// entries counts the entries of all drafts.
func (g *group) entries() int {
	n := 0
	for i := range g.drafts {
		n += g.drafts[i].entries.Entries()
	}
	return n
}

// bytes returns the size of the entries of all drafts.
func (g *group) bytes() int {
	n := 0
	for i := range g.drafts {
		n += g.drafts[i].entries.Size()
	}
	return n
}

// reset empties the group and keeps its memory.
func (g *group) reset() {
	for i := range g.drafts {
		d := &g.drafts[i]
		g.open[d.partition] = 0
		d.entries.Reset()
		d.sum, d.traces = 0, nil
	}
	*g = group{drafts: g.drafts[:0], open: g.open}
}

// capacity returns the memory, in bytes, that an empty group keeps.
func (g *group) capacity() int {
	n := 0
	for i := range g.drafts[:cap(g.drafts)] {
		n += g.drafts[:cap(g.drafts)][i].entries.Capacity()
	}
	return n
}
