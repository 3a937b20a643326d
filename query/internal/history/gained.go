package history

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/accrue/accrue/pkg/checkpoint"
	"github.com/accrue/accrue/pkg/store"
	"github.com/accrue/accrue/query/internal/view"
)

// Gained returns how much the total of each tag of a view, in the order of v.Tags(), changed from one time to another, both of
// which are beginnings of periods, as Changes does for each period. It takes 8 bytes of memory for each tag, however many periods
// there are.
func (h *History) Gained(ctx context.Context, v *view.View, r checkpoint.Resolution, from, to time.Time) ([]int64, error) {
	tags := v.Tags()
	gained := make([]int64, len(tags))
	var mu sync.Mutex // guards gained: partitions may share a tag
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(maxReads)
	for p := range v.Partitions() {
		group.Go(func() error {
			mine := make([]int64, len(p.Totals))
			names := make([]string, len(p.Totals))
			open := r.Begin(p.UpdatedAt)
			within := !open.Before(from) && open.Before(to)
			for i := range p.Totals {
				names[i] = p.Totals[i].Name
				if within {
					mine[i] = p.Totals[i].Open(r)
				}
			}
			err := h.each(ctx, p.Partition, r, from, earlier(to, open), func(p store.Period) error {
				return checkpoint.FindChanges(p.Changes, names, func(i int, change int64) { mine[i] += change })
			})
			mu.Lock()
			defer mu.Unlock()
			place := 0
			for i, name := range names { // both are sorted
				if mine[i] == 0 {
					continue
				}
				at, found := slices.BinarySearchFunc(tags[place:], name, func(t view.Tag, name string) int { return strings.Compare(t.Name, name) })
				if place += at; found {
					gained[place] += mine[i]
				}
			}
			return err
		})
	}
	return gained, group.Wait() //nolint:wrapcheck // wrapped where it is made
}
