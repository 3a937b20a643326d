package api_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/accrue/accrue/pkg/checkpoint"
	"github.com/accrue/accrue/pkg/service/web"
	"github.com/accrue/accrue/query/internal/view"
)

// recordingHistory returns 1 for each period, and records the parameters of the call.
type recordingHistory struct {
	tag        string
	resolution checkpoint.Resolution
	from, to   time.Time
	err        error
}

func (h *recordingHistory) Changes(_ context.Context, _ *view.View, tag string, r checkpoint.Resolution, from, to time.Time) ([]int64, error) {
	h.tag, h.resolution, h.from, h.to = tag, r, from, to
	changes := make([]int64, to.Sub(from)/time.Duration(r))
	for i := range changes {
		changes[i] = 1
	}
	return changes, h.err
}

func TestHistoryIsReadInWholePeriods(t *testing.T) {
	t.Parallel()
	at := func(clock string) time.Time {
		parsed, err := time.Parse(time.RFC3339, "2026-11-"+clock+"Z")
		if err != nil {
			t.Fatal(err)
		}
		return parsed
	}
	views := empty()
	views.show(at("23T06:07:08"), checkpoint.Total{Name: "foo", Total: 13})
	for query, want := range map[string]struct {
		resolution     checkpoint.Resolution
		from, to, done string
	}{
		"":                                  {checkpoint.Minute, "23T05:08:00", "23T06:08:00", "23T06:06:00"},
		"?resolution=minute":                {checkpoint.Minute, "23T05:08:00", "23T06:08:00", "23T06:06:00"},
		"?resolution=hour":                  {checkpoint.Hour, "22T07:00:00", "23T07:00:00", "23T06:00:00"},
		"?from=2026-11-23T06:00:30Z":        {checkpoint.Minute, "23T06:00:00", "23T06:08:00", "23T06:06:00"},
		"?to=2026-11-23T06:00:30Z":          {checkpoint.Minute, "23T05:00:00", "23T06:01:00", "23T06:06:00"},
		"?from=2026-11-23T08:00:00%2B02:00": {checkpoint.Minute, "23T06:00:00", "23T06:08:00", "23T06:06:00"},
		"?from=2020-01-01T00:00:00Z":        {checkpoint.Minute, "22T06:08:00", "23T06:08:00", "23T06:06:00"},
		"?to=9999-12-31T23:59:59Z":          {checkpoint.Minute, "23T05:08:00", "23T06:08:00", "23T06:06:00"},
		"?from=0001-01-01T00:00:00Z":        {checkpoint.Minute, "22T06:08:00", "23T06:08:00", "23T06:06:00"},
		"?to=0001-01-01T00:00:00Z":          {checkpoint.Minute, "22T06:08:00", "22T06:08:00", "23T06:06:00"},
		"?from=9999-12-31T00:00:00Z":        {checkpoint.Minute, "23T06:08:00", "23T06:08:00", "23T06:06:00"},
		"?resolution=hour&from=2026-11-23T01:30:00Z&to=2026-11-23T03:00:00Z": {checkpoint.Hour, "23T01:00:00", "23T03:00:00", "23T06:00:00"},
		"?from=2026-11-23T06:07:00Z&to=2030-01-01T00:00:00Z":                 {checkpoint.Minute, "23T06:07:00", "23T06:08:00", "23T06:06:00"},
	} {
		h := &recordingHistory{}
		answer := get(newHandler(views, nil, h, web.Base{}), "/tags/foo/history"+query)
		var body struct {
			Name, Resolution string
			From, To         time.Time
			CompleteTo       time.Time `json:"complete_to"`
			Changes          []int64
			AsOf             time.Time `json:"as_of"`
			LagMS            *int64    `json:"lag_ms"`
		}
		if err := json.Unmarshal([]byte(answer.body), &body); err != nil || answer.status != http.StatusOK {
			t.Fatalf("%s: %d %s", query, answer.status, answer.body)
		}
		if h.tag != "foo" || h.resolution != want.resolution || !h.from.Equal(at(want.from)) || !h.to.Equal(at(want.to)) {
			t.Errorf("%s: read %s from %v to %v, want %s to %s", query, h.tag, h.from, h.to, want.from, want.to)
		}
		if body.Name != "foo" || !body.From.Equal(h.from) || !body.To.Equal(h.to) || !body.CompleteTo.Equal(at(want.done)) ||
			len(body.Changes) != int(h.to.Sub(h.from)/time.Duration(h.resolution)) || body.AsOf.IsZero() || body.LagMS == nil {
			t.Errorf("%s: %s", query, answer.body)
		}
		if answer.header.Get("ETag") == "" || answer.header.Get("X-As-Of") == "" {
			t.Errorf("%s: header %v", query, answer.header)
		}
	}
}

func TestHistoryProblems(t *testing.T) {
	t.Parallel()
	views := empty()
	views.show(start, checkpoint.Total{Name: "foo", Total: 13})
	for title, tc := range map[string]struct {
		path    string
		history *recordingHistory
		status  int
	}{
		"an unknown tag":        {"/tags/bar/history", &recordingHistory{}, http.StatusNotFound},
		"an unknown resolution": {"/tags/foo/history?resolution=day", &recordingHistory{}, http.StatusBadRequest},
		"an unknown parameter":  {"/tags/foo/history?minutes=5", &recordingHistory{}, http.StatusBadRequest},
		"a time without a zone": {"/tags/foo/history?from=2026-11-23T06:00:00", &recordingHistory{}, http.StatusBadRequest},
		"a plus sign unescaped": {"/tags/foo/history?from=2026-11-23T06:00:00+00:00", &recordingHistory{}, http.StatusBadRequest},
		"an hour of one digit":  {"/tags/foo/history?from=2026-11-23T6:00:00Z", &recordingHistory{}, http.StatusBadRequest},
		"a comma in a second":   {"/tags/foo/history?from=2026-11-23T06:00:00,5Z", &recordingHistory{}, http.StatusBadRequest},
		"an empty time":         {"/tags/foo/history?from=", &recordingHistory{}, http.StatusBadRequest},
		"a time as a number":    {"/tags/foo/history?to=1763877600", &recordingHistory{}, http.StatusBadRequest},
		"an end before":         {"/tags/foo/history?from=2026-11-23T06:00:00Z&to=2026-11-23T05:00:00Z", &recordingHistory{}, http.StatusBadRequest},
		"an empty range":        {"/tags/foo/history?from=2026-11-23T06:00:00Z&to=2026-11-23T06:00:00Z", &recordingHistory{}, http.StatusBadRequest},
		"a store that is down":  {"/tags/foo/history", &recordingHistory{err: errors.New("down")}, http.StatusServiceUnavailable},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			answer := get(newHandler(views, nil, tc.history, web.Base{}), tc.path)
			if answer.status != tc.status || answer.header.Get("Content-Type") != "application/problem+json" {
				t.Errorf("%d %s, want %d", answer.status, answer.body, tc.status)
			}
		})
	}
}
