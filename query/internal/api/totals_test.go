package api_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/accrue/accrue/pkg/checkpoint"
)

func TestTotalsAsMetrics(t *testing.T) {
	t.Parallel()
	got := get(handler(example()), "/metrics/totals")
	want := `# TYPE accrue counter
# HELP accrue Sum of the values of a tag's increments.
accrue_total{tag="ballz"} 76
accrue_total{tag="foo"} 13
# TYPE accrue_totals_left_out gauge
# HELP accrue_totals_left_out Tags beyond the 1000 biggest, which are not here.
accrue_totals_left_out 0
# EOF
`
	if got.status != http.StatusOK || got.body != want || got.header.Get("Content-Type") != "application/openmetrics-text; version=1.0.0; charset=utf-8" {
		t.Errorf("%d %v %s, want %s", got.status, got.header, got.body, want)
	}
	wantProblem(t, get(handler(example()), "/metrics/totals?prefix=f"), http.StatusBadRequest)
	wantProblem(t, get(handler(empty()), "/metrics/totals"), http.StatusServiceUnavailable)
}

func TestTheBiggestTotalsAreMetrics(t *testing.T) {
	t.Parallel()
	var all []checkpoint.Total
	for i := range 1005 {
		all = append(all, checkpoint.Total{Name: fmt.Sprintf("tag_%c%c%c", 'a'+i/676, 'a'+i/26%26, 'a'+i%26), Total: int64(i + 1)})
	}
	views := empty()
	views.show(start, all...)
	got := get(handler(views), "/metrics/totals").body
	if n := strings.Count(got, "accrue_total{"); n != 1000 || !strings.Contains(got, "accrue_totals_left_out 5\n") ||
		!strings.Contains(got, `{tag="`+all[5].Name+`"} 6`) || strings.Contains(got, all[4].Name) {
		t.Errorf("%d totals: %.200s", n, got)
	}
}
