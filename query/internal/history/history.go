// Package history answers how much a tag's total changed in each recent minute or hour. Closed periods never change, so they
// are cached in memory, packed as in the store. The open period, and those that no Commit has closed yet, are part of the
// view (docs/decisions/0007-history.md).
package history

import (
	"container/list"
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/accrue/accrue/pkg/checkpoint"
	"github.com/accrue/accrue/pkg/store"
	"github.com/accrue/accrue/query/internal/view"
)

// Reader reads closed periods.
type Reader interface {
	// History returns the closed periods of a partition that begin at or after from and before to and had changes, in
	// order.
	History(ctx context.Context, partition uint32, r checkpoint.Resolution, from, to time.Time) ([]store.Period, error)
}

const (
	// periodsPerBlock is the number of periods that are read, cached and evicted together.
	periodsPerBlock = 60
	// blockOverhead and periodOverhead are the bytes that a block and a period take besides the packed changes.
	blockOverhead, periodOverhead = 200, 48
	// maxReads bounds the concurrent reads of the store.
	maxReads = 8
)

// History reads and caches periods. It is safe for concurrent use.
type History struct {
	reader Reader
	limit  int
	reads  chan struct{} // holds a token for each read in progress

	mu     sync.Mutex
	blocks map[blockName]*list.Element
	recent list.List // of *block, the most recently used first
	bytes  int
}

// blockName names periodsPerBlock periods of a partition.
type blockName struct {
	partition  uint32
	resolution checkpoint.Resolution
	begin      int64 // Unix seconds
}

// block holds the periods from its beginning to end.
type block struct {
	name blockName

	mu      sync.Mutex // held during the read, so that concurrent requests for a block share it
	end     time.Time
	periods []store.Period

	bytes int // guarded by History.mu
}

// New returns a history that caches up to about limit bytes, and what is being read besides.
func New(reader Reader, limit int) *History {
	return &History{reader: reader, limit: limit, reads: make(chan struct{}, maxReads), blocks: make(map[blockName]*list.Element)}
}

// Changes returns how much the total of a tag of the view changed in each period between two times, both of which are
// beginnings of periods. The last periods may be open or in the future, and then change with the view. Periods that the
// store no longer keeps are zero. The error is the store's or the context's.
func (h *History) Changes(
	ctx context.Context, v *view.View, tag string, r checkpoint.Resolution, from, to time.Time,
) ([]int64, error) {
	changes := make([]int64, max(0, to.Sub(from)/time.Duration(r)))
	place := func(begin time.Time) int { return int(begin.Sub(from) / time.Duration(r)) }
	for _, part := range v.Parts(tag) {
		open := r.Begin(part.UpdatedAt)
		if !open.Before(from) && open.Before(to) {
			changes[place(open)] += part.Total.Open(r)
		}
		for begin := from; begin.Before(to) && begin.Before(open); {
			name, end := blockOf(part.Partition, r, begin)
			periods, err := h.read(ctx, name, earlier(end, open))
			if err != nil {
				return nil, err
			}
			for _, p := range periods {
				if p.Begin.Before(from) || !p.Begin.Before(to) || !p.Begin.Before(open) {
					continue
				}
				change, err := checkpoint.FindChange(p.Changes, tag)
				if err != nil {
					return nil, fmt.Errorf("partition %d, %s: %w", part.Partition, store.PeriodID(p.Begin), err)
				}
				changes[place(p.Begin)] += change
			}
			begin = end
		}
	}
	return changes, nil
}

// blockOf returns the block of a period, and the time at which the block ends.
func blockOf(partition uint32, r checkpoint.Resolution, begin time.Time) (blockName, time.Time) {
	length := periodsPerBlock * time.Duration(r)
	first := begin.Truncate(length)
	return blockName{partition, r, first.Unix()}, first.Add(length)
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// read returns the periods of a block that begin before end, and perhaps later ones. All of them are closed.
func (h *History) read(ctx context.Context, name blockName, end time.Time) ([]store.Period, error) {
	b := h.use(name)
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.end.Before(end) {
		return b.periods, nil
	}
	select {
	case h.reads <- struct{}{}:
		defer func() { <-h.reads }()
	case <-ctx.Done():
		return nil, fmt.Errorf("wait for %d reads in progress: %w", maxReads, ctx.Err())
	}
	more, err := h.reader.History(ctx, name.partition, name.resolution, b.end, end)
	if err != nil {
		return nil, fmt.Errorf("read history: %w", err)
	}
	// Concurrent requests may be reading the old slice.
	b.periods, b.end = append(slices.Clip(b.periods), more...), end
	bytes := blockOverhead
	for _, p := range b.periods {
		bytes += periodOverhead + len(p.Changes)
	}
	h.weigh(b, bytes)
	return b.periods, nil
}

// use returns the block of a name, and marks it as the most recently used. A new block is empty.
func (h *History) use(name blockName) *block {
	h.mu.Lock()
	defer h.mu.Unlock()
	if e, ok := h.blocks[name]; ok {
		h.recent.MoveToFront(e)
		return e.Value.(*block) //nolint:forcetypeassert // nothing else is in the list
	}
	b := &block{name: name, end: time.Unix(name.begin, 0).UTC()}
	h.blocks[name] = h.recent.PushFront(b)
	return b
}

// weigh sets the size of a block, and evicts the least recently used ones while all together exceed the limit. A block that
// is evicted during a read still answers that read.
func (h *History) weigh(b *block, bytes int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if e, ok := h.blocks[b.name]; !ok || e.Value != b {
		return
	}
	h.bytes += bytes - b.bytes
	b.bytes = bytes
	for h.bytes > h.limit && h.recent.Len() > 0 {
		oldest := h.recent.Remove(h.recent.Back()).(*block) //nolint:forcetypeassert // as above
		delete(h.blocks, oldest.name)
		h.bytes -= oldest.bytes
	}
}
