package api

import (
	"context"
	"math"
	"strings"
	"sync"
	"time"

	"github.com/accrue/accrue/pkg/checkpoint"
	"github.com/accrue/accrue/query/internal/view"
)

// The orders by how much tags move.
const (
	byRate   = "rate"
	byChange = "change"

	// rateOver is what a rate is the mean of, and changeOver what a change compares: the last whole minutes, and hours.
	rateOver, changeOver = 5 * time.Minute, 24 * time.Hour
)

// moves are how much the tags have moved until a time: what was added to a total in the last rateOver, or how much more was in the
// last changeOver than in the one before. They are of whole periods, which do not change, so that every instance has the same.
type moves struct {
	end time.Time
	// values are those of the tags that moved, by name.
	values map[string]int64
}

// movers keep the latest moves of each kind, which one request reads for all.
type movers struct {
	changes      History
	rate, change latestMoves
}

type latestMoves struct {
	mu   sync.Mutex // held during a read
	last *moves
}

// of returns the moves that an order of tags is by, nil if it is by none.
func (m *movers) of(ctx context.Context, v *view.View, order string) (*moves, error) {
	switch strings.TrimPrefix(order, "-") {
	case byRate:
		return m.rate.until(checkpoint.Minute.Begin(v.AsOf().Add(-settled)), func(end time.Time) ([]int64, error) {
			return m.changes.Gained(ctx, v, checkpoint.Minute, end.Add(-rateOver), end)
		}, v)
	case byChange:
		return m.change.until(checkpoint.Hour.Begin(v.AsOf().Add(-settled)), func(end time.Time) ([]int64, error) {
			gained, err := m.changes.Gained(ctx, v, checkpoint.Hour, end.Add(-changeOver), end)
			if err != nil {
				return nil, err //nolint:wrapcheck // wrapped where it is made
			}
			before, err := m.changes.Gained(ctx, v, checkpoint.Hour, end.Add(-2*changeOver), end.Add(-changeOver))
			if err != nil {
				return nil, err //nolint:wrapcheck // as above
			}
			for i := range gained {
				gained[i] -= before[i]
			}
			return gained, nil
		}, v)
	default:
		return nil, nil //nolint:nilnil // an order by something else has none
	}
}

// until returns the moves until a time, or later ones if another request had a later view.
func (l *latestMoves) until(end time.Time, read func(end time.Time) ([]int64, error), v *view.View) (*moves, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.last != nil && !l.last.end.Before(end) {
		return l.last, nil
	}
	of, err := read(end)
	if err != nil {
		return nil, err
	}
	found := &moves{end: end, values: make(map[string]int64)}
	for i, tag := range v.Tags() {
		if of[i] != 0 {
			found.values[tag.Name] = of[i]
		}
	}
	l.last = found
	return found, nil
}

// perSecond is a rate, to the thousandth.
func perSecond(gained int64) float64 {
	return math.Round(1000*float64(gained)/rateOver.Seconds()) / 1000
}
