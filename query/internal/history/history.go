// Package history answers how much totals changed in each recent minute or hour: those of single tags, or their sum. Closed
// periods never change, so they are cached in memory, packed as in the store, and their sums apart from them. The open period,
// and those that no Commit has closed yet, are part of the view (docs/decisions/0007-history.md).
package history

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"

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
	// sumsLimit bounds the cached sums, in bytes. Everything that is kept of 64 partitions takes 5 MB.
	sumsLimit = 8 << 20
	// maxReads bounds the concurrent reads of the store.
	maxReads = 8
	// DocumentsAtOnce and documentsPerSecond bound the documents that are read for requests: each is billed. Everything that
	// is kept of 16 partitions has 34,560.
	DocumentsAtOnce, documentsPerSecond = 50_000, 1000
)

// ErrBudget is returned when as many documents were read as may be.
var ErrBudget = errors.New("read budget exceeded")

// History reads and caches periods. It is safe for concurrent use.
type History struct {
	reader  Reader
	reads   chan struct{} // holds a token for each read in progress
	budget  *rate.Limiter
	periods *cache[store.Period]
	sums    *cache[sum]
}

// sum is the sum of the changes of all tags of a partition in a period.
type sum struct {
	begin  time.Time
	change int64
}

// New returns a history that caches periods of up to about limit bytes, and what is being read besides.
func New(reader Reader, limit int) *History {
	return &History{
		reader: reader, reads: make(chan struct{}, maxReads), budget: rate.NewLimiter(documentsPerSecond, DocumentsAtOnce),
		periods: newCache(limit, func(p store.Period) int { return periodOverhead + len(p.Changes) }),
		sums:    newCache(sumsLimit, func(sum) int { return periodOverhead }),
	}
}

// Changes returns how much the total of each of some tags, sorted by name, changed in each period between two times, both of
// which are beginnings of periods. A tag that the view does not have has changed by zero. The last periods may be open or in
// the future, and then change with the view. Periods that the store no longer keeps are zero. The error is ErrBudget, the
// store's or the context's.
func (h *History) Changes(
	ctx context.Context, v *view.View, tags []string, r checkpoint.Resolution, from, to time.Time,
) ([][]int64, error) {
	changes := make([][]int64, len(tags))
	for i := range changes {
		changes[i] = make([]int64, max(0, to.Sub(from)/time.Duration(r)))
	}
	place := func(begin time.Time) int { return int(begin.Sub(from) / time.Duration(r)) }
	var mu sync.Mutex // guards changes: partitions may share a tag
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(maxReads)
	for _, s := range sharesOf(v, tags) {
		group.Go(func() error {
			mine := make([][]int64, len(s.names))
			for i := range mine {
				mine[i] = make([]int64, len(changes[0]))
			}
			open := r.Begin(s.updatedAt)
			if !open.Before(from) && open.Before(to) {
				for i := range mine {
					mine[i][place(open)] = s.totals[i].Open(r)
				}
			}
			err := h.each(ctx, s.partition, r, from, earlier(to, open), func(p store.Period) error {
				return checkpoint.FindChanges(p.Changes, s.names, func(i int, change int64) { mine[i][place(p.Begin)] += change })
			})
			mu.Lock()
			defer mu.Unlock()
			for i, tag := range s.places {
				for at, change := range mine[i] {
					changes[tag][at] += change
				}
			}
			return err
		})
	}
	return changes, group.Wait() //nolint:wrapcheck // wrapped where it is made
}

// share is what one partition has of some tags.
type share struct {
	partition uint32
	updatedAt time.Time
	names     []string // sorted
	totals    []checkpoint.Total
	places    []int // in the list of all tags
}

// sharesOf returns the shares of the partitions that have counted any of some tags, which are sorted by name.
func sharesOf(v *view.View, tags []string) map[uint32]*share {
	shares := make(map[uint32]*share)
	for i, tag := range tags {
		for _, part := range v.Parts(tag) {
			s, ok := shares[part.Partition]
			if !ok {
				s = &share{partition: part.Partition, updatedAt: part.UpdatedAt}
				shares[part.Partition] = s
			}
			s.names, s.totals, s.places = append(s.names, tag), append(s.totals, part.Total), append(s.places, i)
		}
	}
	return shares
}

// Sum returns how much the totals of all tags whose names begin with a prefix changed together in each period, as Changes
// does for single tags. Without a prefix it sums what every partition of the view has ever counted, from cached sums.
func (h *History) Sum(
	ctx context.Context, v *view.View, prefix string, r checkpoint.Resolution, from, to time.Time,
) ([]int64, error) {
	changes := make([]int64, max(0, to.Sub(from)/time.Duration(r)))
	place := func(begin time.Time) int { return int(begin.Sub(from) / time.Duration(r)) }
	var mu sync.Mutex // guards changes
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(maxReads)
	for p := range v.Partitions() {
		totals := p.WithPrefix(prefix)
		if prefix != "" && len(totals) == 0 {
			continue
		}
		group.Go(func() error {
			mine := make([]int64, len(changes))
			open := r.Begin(p.UpdatedAt)
			if !open.Before(from) && open.Before(to) {
				for i := range totals {
					mine[place(open)] += totals[i].Open(r)
				}
			}
			var err error
			if prefix == "" {
				err = h.eachSum(ctx, p.Partition, r, from, earlier(to, open), func(s sum) { mine[place(s.begin)] += s.change })
			} else {
				err = h.each(ctx, p.Partition, r, from, earlier(to, open), func(p store.Period) error {
					change, err := checkpoint.SumChanges(p.Changes, prefix)
					mine[place(p.Begin)] += change
					return err
				})
			}
			mu.Lock()
			defer mu.Unlock()
			for at, change := range mine {
				changes[at] += change
			}
			return err
		})
	}
	return changes, group.Wait() //nolint:wrapcheck // wrapped where it is made
}

// each calls visit with the periods of a partition that begin at or after from and before to, in order. All of them must be
// closed.
func (h *History) each(
	ctx context.Context, partition uint32, r checkpoint.Resolution, from, to time.Time, visit func(store.Period) error,
) error {
	for begin := from; begin.Before(to); {
		name, end := blockOf(partition, r, begin)
		periods, err := h.read(ctx, name, earlier(end, to))
		if err != nil {
			return err
		}
		for _, p := range periods {
			if p.Begin.Before(from) || !p.Begin.Before(to) {
				continue
			}
			if err := visit(p); err != nil {
				return fmt.Errorf("partition %d, %s: %w", partition, store.PeriodID(p.Begin), err)
			}
		}
		begin = end
	}
	return nil
}

// eachSum is each for the sums of periods.
func (h *History) eachSum(
	ctx context.Context, partition uint32, r checkpoint.Resolution, from, to time.Time, visit func(sum),
) error {
	for begin := from; begin.Before(to); {
		name, end := blockOf(partition, r, begin)
		until := earlier(end, to)
		sums, err := h.sums.get(name, until, func(since time.Time) ([]sum, error) {
			var more []sum
			err := h.each(ctx, partition, r, since, until, func(p store.Period) error {
				change, err := checkpoint.SumChanges(p.Changes, "")
				more = append(more, sum{p.Begin, change})
				return err
			})
			return more, err
		})
		if err != nil {
			return err
		}
		for _, s := range sums {
			if !s.begin.Before(from) && s.begin.Before(to) {
				visit(s)
			}
		}
		begin = end
	}
	return nil
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
	return h.periods.get(name, end, func(from time.Time) ([]store.Period, error) {
		if h.budget.Tokens() < 1 {
			return nil, ErrBudget
		}
		select {
		case h.reads <- struct{}{}:
			defer func() { <-h.reads }()
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for %d reads in progress: %w", maxReads, ctx.Err())
		}
		periods, err := h.reader.History(ctx, name.partition, name.resolution, from, end)
		if err != nil {
			return nil, fmt.Errorf("read history: %w", err)
		}
		h.budget.ReserveN(time.Now(), max(1, len(periods)))
		return periods, nil
	})
}
