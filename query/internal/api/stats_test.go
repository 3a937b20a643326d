package api

import (
	"testing"
	"time"

	"github.com/accrue/accrue/pkg/checkpoint"
	"github.com/accrue/accrue/pkg/store"
	"github.com/accrue/accrue/query/internal/view"
)

// Several requests may find the same version unrendered. The first one renders it for all.
func TestRenderUsesTheResultOfAnotherRequest(t *testing.T) {
	t.Parallel()
	earlier := new(view.View).Next(nil, time.Now())
	later := earlier.Next([]store.PartitionTotals{{Totals: []checkpoint.Total{{Name: "foo", Total: 4}}}}, time.Now())
	var s stats
	first := s.render(later)
	if s.render(later) != first || s.render(earlier) != first {
		t.Error("rendered a version twice, or an earlier one")
	}
}
