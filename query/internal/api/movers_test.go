package api_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/accrue/accrue/pkg/checkpoint"
	"github.com/accrue/accrue/pkg/service/web"
	"github.com/accrue/accrue/query/internal/history"
	"github.com/accrue/accrue/query/internal/view"
)

// moving is a history in which each tag moves by a number of its own.
type moving struct {
	recordingHistory
	minutes, latest, before map[string]int64
	calls                   atomic.Int64
	read                    []string
}

func (h *moving) Gained(_ context.Context, v *view.View, r checkpoint.Resolution, from, to time.Time) ([]int64, error) {
	h.calls.Add(1)
	h.read = append(h.read, from.Format("02T15:04")+" "+to.Format("02T15:04"))
	of := h.minutes
	if r == checkpoint.Hour {
		of = h.latest
		if v.AsOf().Sub(to) > 2*time.Hour {
			of = h.before
		}
	}
	gained := make([]int64, len(v.Tags()))
	for i, tag := range v.Tags() {
		gained[i] = of[tag.Name]
	}
	return gained, h.err
}

func movingTags() (*steppedViews, *moving) {
	views := empty()
	var totals []checkpoint.Total
	for _, name := range []string{"aaa", "bbb", "ccc", "ddd", "eee"} {
		totals = append(totals, checkpoint.Total{Name: name, Total: 1000, Increments: 100, UpdatedAt: start})
	}
	views.show(start, totals...)
	return views, &moving{
		minutes: map[string]int64{"aaa": 30, "bbb": 300, "ddd": 1},
		latest:  map[string]int64{"aaa": 50, "bbb": 500, "ccc": 7}, before: map[string]int64{"aaa": 10, "bbb": 800, "ddd": 12},
	}
}

func TestMovers(t *testing.T) {
	t.Parallel()
	views, h := movingTags()
	handler := newHandler(views, nil, h, web.Base{})
	for query, want := range map[string]string{
		"order_by=-rate":            "bbb 1, aaa 0.1, ddd 0.003, ccc 0, eee 0",
		"order_by=rate":             "ccc 0, eee 0, ddd 0.003, aaa 0.1, bbb 1",
		"order_by=-change":          "aaa 40, ccc 7, eee 0, ddd -12, bbb -300",
		"order_by=change":           "bbb -300, ddd -12, eee 0, ccc 7, aaa 40",
		"order_by=-rate&prefix=ccc": "ccc 0",
	} {
		for _, size := range []int{1, 2, 100} {
			var got []string
			for token := "-"; token != ""; {
				page := decode[struct {
					Tags []struct {
						Name      string   `json:"name"`
						Total     int64    `json:"total"`
						Increment int64    `json:"increments"`
						UpdatedAt string   `json:"updated_at"`
						Rate      *float64 `json:"rate"`
						Change    *int64   `json:"change"`
					} `json:"tags"`
					Next  string `json:"next_page_token"`
					AsOf  string `json:"as_of"`
					LagMS int64  `json:"lag_ms"`
				}](t, get(newHandler(views, nil, h, web.Base{}), fmt.Sprintf("/tags?%s&page_size=%d%s", query, size, pageToken(strings.Trim(token, "-")))))
				for _, tag := range page.Tags {
					switch {
					case tag.Rate != nil && tag.Change == nil:
						got = append(got, fmt.Sprint(tag.Name, " ", *tag.Rate))
					case tag.Change != nil && tag.Rate == nil:
						got = append(got, fmt.Sprint(tag.Name, " ", *tag.Change))
					default:
						t.Errorf("%s has rate %v and change %v", tag.Name, tag.Rate, tag.Change)
					}
				}
				token = page.Next
			}
			if strings.Join(got, ", ") != want {
				t.Errorf("%s in pages of %d: %s\nwant %s", query, size, strings.Join(got, ", "), want)
			}
		}
	}
	if got := get(handler, "/tags"); strings.Contains(got.body, "rate") || strings.Contains(got.body, "change") {
		t.Errorf("in the order by name: %s", got.body)
	}
}

// Whole periods are read, once for all requests until the next one has passed.
func TestMovesAreReadOnceAPeriod(t *testing.T) {
	t.Parallel()
	views, h := movingTags()
	handler := newHandler(views, nil, h, web.Base{})
	ask := func(order string, wantReads ...string) {
		t.Helper()
		h.read = nil
		for range 3 {
			if got := get(handler, "/tags?order_by="+order); got.status != http.StatusOK {
				t.Fatalf("%d %s", got.status, got.body)
			}
		}
		if !slices.Equal(h.read, wantReads) {
			t.Errorf("%s at %s reads %q, want %q", order, views.now.Load().AsOf(), h.read, wantReads)
		}
	}
	show := func(at time.Time) { views.show(at, checkpoint.Total{Name: "aaa", Total: 1001}) }
	ask("-rate", "23T05:54 23T05:59") // the minute before 06:00:00.123 may still change
	ask("-change", "22T05:00 23T05:00", "21T05:00 22T05:00")
	show(start.Add(20 * time.Second))
	ask("-rate", "23T05:55 23T06:00")
	ask("rate")
	ask("-change", "22T06:00 23T06:00", "21T06:00 22T06:00")
	show(start.Add(70 * time.Second))
	ask("-rate")
	ask("change")
	show(start.Add(80 * time.Second))
	ask("-rate", "23T05:56 23T06:01")
}

func TestMoversWithoutHistory(t *testing.T) {
	t.Parallel()
	views, h := movingTags()
	h.err = history.ErrBudget
	wantProblem(t, get(newHandler(views, nil, h, web.Base{}), "/tags?order_by=-rate"), http.StatusTooManyRequests)
	h.err = errors.New("down")
	wantProblem(t, get(newHandler(views, nil, h, web.Base{}), "/tags?order_by=-change"), http.StatusServiceUnavailable)
}
