package api

import (
	"fmt"
	"testing"
	"time"

	"github.com/accrue/accrue/pkg/checkpoint"
	"github.com/accrue/accrue/pkg/store"
	"github.com/accrue/accrue/query/internal/view"
)

// The view changes while readers read it one after the other: each gets the changes up to the version that it reads,
// whatever another one got before.
func TestReadersShareRenderingsBetweenTheSameVersionsOnly(t *testing.T) {
	t.Parallel()
	views := []*view.View{new(view.View)}
	for n := range int64(40) {
		views = append(views, views[n].Next([]store.PartitionTotals{{
			Revision: store.Revision{UpdateTime: time.Unix(n, 0)}, Totals: []checkpoint.Total{{Name: "foo", Total: n}, {Name: "zoo", Total: n / 2}},
		}}, time.Unix(n, 0)))
	}
	var s stream
	for _, step := range []struct {
		to, since int
		want      string
	}{
		{3, 2, `{"foo":2,"zoo":1}`},
		{4, 3, `{"foo":3}`},
		{3, 2, `{"foo":2,"zoo":1}`},
		{4, 2, `{"foo":3,"zoo":1}`},
		{3, 1, `{"foo":2,"zoo":1}`},
		{5, 3, `{"foo":4,"zoo":2}`},
		{4, 3, `{"foo":3}`},
	} {
		if got, ok := s.changes(views[step.to], uint64(step.since)); !ok || string(got) != step.want {
			t.Errorf("from %d to %d: %s, %v, want %s", step.since, step.to, got, ok, step.want)
		}
	}
	if _, ok := s.changes(views[3], 4); ok {
		t.Error("there are changes from a later version to an earlier one")
	}

	one, _ := s.changes(views[5], 4)
	if other, _ := s.changes(views[5], 4); &one[0] != &other[0] {
		t.Error("rendered twice")
	}
	for since := range 40 {
		got, ok := s.changes(views[40], uint64(since))
		if want := fmt.Sprintf(`{"foo":39,"zoo":%d}`, 19); since < 38 && (!ok || string(got) != want) {
			t.Errorf("from %d: %s, %v, want %s", since, got, ok, want)
		}
	}
	if len(s.rendered) > maxRenderedChanges {
		t.Errorf("%d renderings are kept", len(s.rendered))
	}
}
