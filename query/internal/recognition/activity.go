package recognition

import (
	"context"
	"time"

	"github.com/accrue/accrue/pkg/store"
)

// Checkpoints reads the partitions' totals, as the view does.
type Checkpoints interface {
	Totals(context.Context) ([]store.PartitionTotals, time.Time, error)
}

// Activity reads the checkpoints for somebody else, and notes on the way whether anything has been counted: every
// contribution moves a checkpoint too. It costs no read of its own. Its reads must come one after the other.
type Activity struct {
	checkpoints Checkpoints
	latest      time.Time
	moved       chan struct{}
}

// Watch makes an Activity of checkpoints.
func Watch(checkpoints Checkpoints) *Activity {
	return &Activity{checkpoints: checkpoints, moved: make(chan struct{}, 1)}
}

// Totals returns what the checkpoints return.
func (a *Activity) Totals(ctx context.Context) ([]store.PartitionTotals, time.Time, error) {
	partitions, asOf, err := a.checkpoints.Totals(ctx)
	if err != nil {
		return nil, time.Time{}, err //nolint:wrapcheck // as if it were not there
	}
	latest := a.latest
	for _, p := range partitions {
		if p.Revision.UpdateTime.After(latest) {
			latest = p.Revision.UpdateTime
		}
	}
	if latest.After(a.latest) {
		a.latest = latest
		select {
		case a.moved <- struct{}{}:
		default: // it is known already
		}
	}
	return partitions, asOf, nil
}

// Moved gives a token when something was counted since the last one.
func (a *Activity) Moved() <-chan struct{} { return a.moved }
