package api_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/accrue/accrue/pkg/checkpoint"
	"github.com/accrue/accrue/pkg/service/web"
	"github.com/accrue/accrue/query/internal/history"
	"github.com/accrue/accrue/query/internal/view"
)

// recordingHistory returns 1 for each period, and records the parameters of the call.
type recordingHistory struct {
	names      []string
	prefix     string
	resolution checkpoint.Resolution
	from, to   time.Time
	err        error
}

func (h *recordingHistory) Changes(_ context.Context, _ *view.View, names []string, r checkpoint.Resolution, from, to time.Time) ([][]int64, error) {
	h.names, h.resolution, h.from, h.to = names, r, from, to
	changes := make([][]int64, len(names))
	for i := range changes {
		changes[i] = slices.Repeat([]int64{1}, int(to.Sub(from)/time.Duration(r)))
	}
	return changes, h.err
}

func (h *recordingHistory) Sum(_ context.Context, _ *view.View, prefix string, r checkpoint.Resolution, from, to time.Time) ([]int64, error) {
	h.prefix, h.resolution, h.from, h.to = prefix, r, from, to
	return slices.Repeat([]int64{1}, int(to.Sub(from)/time.Duration(r))), h.err
}

func (h *recordingHistory) Gained(_ context.Context, v *view.View, r checkpoint.Resolution, from, to time.Time) ([]int64, error) {
	h.resolution, h.from, h.to = r, from, to
	return make([]int64, len(v.Tags())), h.err
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
		if !slices.Equal(h.names, []string{"foo"}) || h.resolution != want.resolution || !h.from.Equal(at(want.from)) || !h.to.Equal(at(want.to)) {
			t.Errorf("%s: read %s from %v to %v, want %s to %s", query, h.names, h.from, h.to, want.from, want.to)
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
		"an unknown resolution": {"/tags/foo/history?resolution=week", &recordingHistory{}, http.StatusBadRequest},
		"an unknown parameter":  {"/tags/foo/history?minutes=5", &recordingHistory{}, http.StatusBadRequest},
		"a time without a zone": {"/tags/foo/history?from=2026-11-23T06:00:00", &recordingHistory{}, http.StatusBadRequest},
		"a plus sign unescaped": {"/tags/foo/history?from=2026-11-23T06:00:00+00:00", &recordingHistory{}, http.StatusBadRequest},
		"an hour of one digit":  {"/tags/foo/history?from=2026-11-23T6:00:00Z", &recordingHistory{}, http.StatusBadRequest},
		"a comma in a second":   {"/tags/foo/history?from=2026-11-23T06:00:00,5Z", &recordingHistory{}, http.StatusBadRequest},
		"an empty time":         {"/tags/foo/history?from=", &recordingHistory{}, http.StatusBadRequest},
		"a time as a number":    {"/tags/foo/history?to=1763877600", &recordingHistory{}, http.StatusBadRequest},
		"an end before":         {"/tags/foo/history?from=2026-11-23T06:00:00Z&to=2026-11-23T05:00:00Z", &recordingHistory{}, http.StatusBadRequest},
		"an empty range":        {"/tags/foo/history?from=2026-11-23T06:00:00Z&to=2026-11-23T06:00:00Z", &recordingHistory{}, http.StatusBadRequest},
		"an unknown zone":       {"/history?time_zone=Europe/Atlantis", &recordingHistory{}, http.StatusBadRequest},
		"the machine's zone":    {"/history?time_zone=Local", &recordingHistory{}, http.StatusBadRequest},
		"no zone":               {"/history?time_zone=", &recordingHistory{}, http.StatusBadRequest},
		"names and a prefix":    {"/history?names=foo&prefix=f", &recordingHistory{}, http.StatusBadRequest},
		"no names":              {"/history?names=", &recordingHistory{}, http.StatusBadRequest},
		"an empty name":         {"/history?names=foo,,bar", &recordingHistory{}, http.StatusBadRequest},
		"too many names":        {"/history?names=" + strings.Repeat("foo,", 400) + "foo", &recordingHistory{}, http.StatusBadRequest},
		"names of a tag":        {"/tags/foo/history?names=foo", &recordingHistory{}, http.StatusBadRequest},
		"a store that is down":  {"/tags/foo/history", &recordingHistory{err: errors.New("down")}, http.StatusServiceUnavailable},
		"a sum of one":          {"/history", &recordingHistory{err: errors.New("down")}, http.StatusServiceUnavailable},
		"an empty budget":       {"/history?names=foo", &recordingHistory{err: history.ErrBudget}, http.StatusTooManyRequests},
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

// historyBody is an answer of /history.
type historyBody struct {
	Resolution string
	TimeZone   string `json:"time_zone"`
	From, To   time.Time
	CompleteTo time.Time `json:"complete_to"`
	Starts     []time.Time
	Changes    []int64
	Tags       []struct {
		Name    string
		Changes []int64
	}
}

func TestHistoryOfSeveralTags(t *testing.T) {
	t.Parallel()
	views := empty()
	views.show(start, checkpoint.Total{Name: "foo", Total: 13})
	for query, want := range map[string]struct {
		prefix string
		names  []string
		sum    int64
	}{
		"":                        {"", nil, 1},
		"?prefix=f":               {"f", nil, 1},
		"?prefix=":                {"", nil, 1},
		"?names=foo":              {"", []string{"foo"}, 1},
		"?names=zoo,bar,foo,bar":  {"", []string{"bar", "foo", "zoo"}, 3},
		"?names=zoo,foo&prefix=":  {"", []string{"foo", "zoo"}, 2},
		"?prefix=%C3%A9%22%00%2C": {"\u00e9\"\x00,", nil, 1},
	} {
		h := &recordingHistory{}
		answer := get(newHandler(views, nil, h, web.Base{}), "/history"+query)
		var body historyBody
		if err := json.Unmarshal([]byte(answer.body), &body); err != nil || answer.status != http.StatusOK {
			t.Fatalf("%s: %d %s", query, answer.status, answer.body)
		}
		var names []string
		for _, tag := range body.Tags {
			names = append(names, tag.Name)
			if len(tag.Changes) != 60 || tag.Changes[0] != 1 {
				t.Errorf("%s: %s: %v", query, tag.Name, tag.Changes)
			}
		}
		if h.prefix != want.prefix || !slices.Equal(h.names, want.names) || !slices.Equal(names, want.names) ||
			!slices.Equal(body.Changes, slices.Repeat([]int64{want.sum}, 60)) || body.Starts != nil || body.TimeZone != "UTC" || body.Resolution != "minute" {
			t.Errorf("%s: asked for %q and %q: %s", query, h.prefix, h.names, answer.body)
		}
	}
}

// Days are those of the zone, however long they are, and consist of hours of UTC that are kept.
func TestDaysBeginWhereTheZoneSays(t *testing.T) {
	t.Parallel()
	at := func(clock string) time.Time {
		parsed, err := time.Parse(time.RFC3339, clock+":00Z")
		if err != nil {
			t.Fatal(err)
		}
		return parsed
	}
	for title, tc := range map[string]struct {
		asOf, query  string
		starts       []string
		hours        []int64
		to, complete string
	}{
		"by default UTC": {"2026-11-23T06:07", "&from=2026-11-22T15:00:00Z", []string{"2026-11-22T00:00", "2026-11-23T00:00"}, []int64{24, 24}, "2026-11-24T00:00", "2026-11-23T00:00"},
		"just over":      {"2026-11-23T00:00", "&from=2026-11-22T15:00:00Z", []string{"2026-11-22T00:00", "2026-11-23T00:00"}, []int64{24, 24}, "2026-11-24T00:00", "2026-11-22T00:00"},
		"a past day":     {"2026-11-23T06:07", "&from=2026-11-20T15:00:00Z&to=2026-11-21T00:00:00Z", []string{"2026-11-20T00:00"}, []int64{24}, "2026-11-21T00:00", "2026-11-23T00:00"},
		"the end of summer time": {
			"2026-10-26T06:07", "&time_zone=Europe/Berlin&from=2026-10-24T12:00:00Z",
			[]string{"2026-10-23T22:00", "2026-10-24T22:00", "2026-10-25T23:00"}, []int64{24, 25, 24}, "2026-10-26T23:00", "2026-10-25T23:00",
		},
		"its beginning": {
			"2026-03-29T06:07", "&time_zone=Europe/Berlin&from=2026-03-28T12:00:00Z",
			[]string{"2026-03-27T23:00", "2026-03-28T23:00"}, []int64{24, 23}, "2026-03-29T22:00", "2026-03-28T23:00",
		},
		"a midnight twice": { // at 1:00 of November 1st clocks go back to 0:00
			"2026-11-02T12:00", "&time_zone=America/Havana&from=2026-11-01T12:00:00Z",
			[]string{"2026-11-01T04:00", "2026-11-02T05:00"}, []int64{25, 24}, "2026-11-03T05:00", "2026-11-02T05:00",
		},
		"no midnight": { // at 0:00 of March 8th clocks go forward to 1:00
			"2026-03-08T12:00", "&time_zone=America/Havana&from=2026-03-07T12:00:00Z",
			[]string{"2026-03-07T05:00", "2026-03-08T05:00"}, []int64{24, 23}, "2026-03-09T04:00", "2026-03-08T05:00",
		},
		"half an hour off": {
			"2026-11-23T06:07", "&time_zone=Asia/Kolkata&from=2026-11-22T12:00:00Z",
			[]string{"2026-11-21T19:00", "2026-11-22T19:00"}, []int64{24, 24}, "2026-11-23T19:00", "2026-11-22T19:00",
		},
		"in the half hour": {
			"2026-11-23T18:45", "&time_zone=Asia/Kolkata&from=2026-11-22T18:45:00Z",
			[]string{"2026-11-21T19:00", "2026-11-22T19:00"}, []int64{24, 24}, "2026-11-23T19:00", "2026-11-22T19:00",
		},
	} {
		views := empty()
		views.show(at(tc.asOf), checkpoint.Total{Name: "foo", Total: 13})
		for _, path := range []string{"/history", "/tags/foo/history"} {
			h := &recordingHistory{}
			answer := get(newHandler(views, nil, h, web.Base{}), path+"?resolution=day"+tc.query)
			var body historyBody
			if err := json.Unmarshal([]byte(answer.body), &body); err != nil || answer.status != http.StatusOK {
				t.Fatalf("%s: %d %s", title, answer.status, answer.body)
			}
			var want []time.Time
			for _, begin := range tc.starts {
				want = append(want, at(begin))
			}
			if !slices.EqualFunc(body.Starts, want, time.Time.Equal) || !slices.Equal(body.Changes, tc.hours) || !body.From.Equal(want[0]) ||
				!body.To.Equal(at(tc.to)) || !body.CompleteTo.Equal(at(tc.complete)) || body.Resolution != "day" || h.resolution != checkpoint.Hour {
				t.Errorf("%s, %s: %s, want days from %v of %v hours to %s, complete to %s", title, path, answer.body, tc.starts, tc.hours, tc.to, tc.complete)
			}
		}
	}
}

func TestDaysAreWholeAndKept(t *testing.T) {
	t.Parallel()
	for zone, days := range map[string]int{"UTC": 30, "Asia/Kathmandu": 30, "Pacific/Kiritimati": 30, "Pacific/Pago_Pago": 30} {
		views := empty()
		views.show(time.Date(2026, 7, 23, 6, 7, 8, 0, time.UTC), checkpoint.Total{Name: "foo", Total: 13})
		h := &recordingHistory{}
		for _, query := range []string{"", "&from=2020-01-01T00:00:00Z", "&to=2099-01-01T00:00:00Z"} {
			answer := get(newHandler(views, nil, h, web.Base{}), "/history?resolution=day&time_zone="+zone+query)
			var body historyBody
			if err := json.Unmarshal([]byte(answer.body), &body); err != nil || len(body.Starts) != days || len(body.Changes) != days {
				t.Errorf("%s%s: %v: %s", zone, query, err, answer.body)
			}
			if oldest := time.Date(2026, 6, 23, 7, 0, 0, 0, time.UTC); h.from.Before(oldest) {
				t.Errorf("%s%s: reads from %v, before %v", zone, query, h.from, oldest)
			}
		}
		for _, query := range []string{"&to=2020-01-01T00:00:00Z", "&from=2099-01-01T00:00:00Z"} {
			answer := get(newHandler(views, nil, h, web.Base{}), "/history?resolution=day&time_zone="+zone+query)
			var body historyBody
			if err := json.Unmarshal([]byte(answer.body), &body); err != nil || len(body.Changes) != 0 || answer.status != http.StatusOK {
				t.Errorf("%s%s: %v: %s", zone, query, err, answer.body)
			}
		}
	}
}

// The total of an answer is that of the same view as the changes, so that a reader can tell what was counted since.
func TestHistoryHasTheTotalThatItAgreesWith(t *testing.T) {
	t.Parallel()
	views := empty()
	views.show(start, checkpoint.Total{Name: "ballz", Total: 76, Increments: 9}, checkpoint.Total{Name: "foo", Total: 13, Increments: 2},
		checkpoint.Total{Name: "fool", Total: 1, Increments: 1})
	h := newHandler(views, nil, &recordingHistory{}, web.Base{})
	for path, want := range map[string]string{
		"/history": `"total":90,"increments":12,`, "/history?prefix=foo": `"total":14,"increments":3,`, "/history?prefix=x": `"total":0,"increments":0,`,
		"/history?names=zoo,foo,ballz": `"total":89,"increments":11,`, "/tags/foo/history": `"total":13,`,
	} {
		if answer := get(h, path); answer.status != http.StatusOK || !strings.Contains(answer.body, want) {
			t.Errorf("%s: %d %s, want %s", path, answer.status, answer.body, want)
		}
	}
}
