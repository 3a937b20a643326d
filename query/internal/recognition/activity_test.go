package recognition_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/accrue/accrue/pkg/store"
	"github.com/accrue/accrue/query/internal/recognition"
)

// steppedCheckpoints are what the test says.
type steppedCheckpoints struct {
	partitions []store.PartitionTotals
	err        error
}

func (s *steppedCheckpoints) Totals(context.Context) ([]store.PartitionTotals, time.Time, error) {
	return s.partitions, time.Now(), s.err
}

func TestActivityNotesThatACheckpointMoved(t *testing.T) {
	t.Parallel()
	now := time.Now()
	at := func(seconds ...int) []store.PartitionTotals {
		var all []store.PartitionTotals
		for i, s := range seconds {
			all = append(all, store.PartitionTotals{
				Partition: uint32(i), Revision: store.Revision{UpdateTime: now.Add(time.Duration(s) * time.Second)},
			})
		}
		return all
	}
	checkpoints := &steppedCheckpoints{}
	activity := recognition.Watch(checkpoints)
	for _, step := range []struct {
		name       string
		partitions []store.PartitionTotals
		err        error
		want       bool
	}{
		{"nothing there", nil, nil, false},
		{"a first checkpoint", at(1), nil, true},
		{"the same", at(1), nil, false},
		{"a second one", at(1, 2), nil, true},
		{"a failure", nil, errDown, false},
		{"the same after it", at(1, 2), nil, false},
		{"the first one moved", at(3, 2), nil, true},
		{"one is gone", at(3), nil, false},
		{"moved", at(4), nil, true},
	} {
		checkpoints.partitions, checkpoints.err = step.partitions, step.err
		got, _, err := activity.Totals(t.Context())
		if !errors.Is(err, step.err) || len(got) != len(step.partitions) {
			t.Errorf("%s: Totals() = %v, %v, want what the checkpoints return", step.name, got, err)
		}
		moved := false
		select {
		case <-activity.Moved():
			moved = true
		default:
		}
		if moved != step.want {
			t.Errorf("%s: moved = %v, want %v", step.name, moved, step.want)
		}
	}
	// One token is enough, and nobody has to take it.
	for second := range 3 {
		checkpoints.partitions = at(10 + second)
		if _, _, err := activity.Totals(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	<-activity.Moved()
	select {
	case <-activity.Moved():
		t.Error("a second token for what was known")
	default:
	}
}
