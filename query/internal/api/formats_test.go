package api_test

import (
	"encoding/csv"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/accrue/accrue/pkg/checkpoint"
	"github.com/accrue/accrue/pkg/content"
	"github.com/accrue/accrue/pkg/service/web"
)

const (
	acceptCSV   = "Accept: text/csv"
	acceptLines = "Accept: application/x-ndjson"
)

func listed(t *testing.T) http.Handler {
	t.Helper()
	views := example()
	views.show(start, checkpoint.Total{Name: "ballz", Total: 76, Increments: 19}, checkpoint.Total{Name: "foo", Total: 13, Increments: 2})
	return newHandler(views, recognized(t, 3), &recordingHistory{}, web.Base{})
}

func TestListsAsCSVAndNDJSON(t *testing.T) {
	t.Parallel()
	h := listed(t)
	for path, want := range map[string]struct{ csv, lines string }{
		"/stats":            {"name,total\r\nballz,76\r\nfoo,13\r\n", `{"name":"ballz","total":76}` + "\n" + `{"name":"foo","total":13}` + "\n"},
		"/stats?prefix=f":   {"name,total\r\nfoo,13\r\n", `{"name":"foo","total":13}` + "\n"},
		"/stats?prefix=xyz": {"name,total\r\n", ""},
		"/contributors?page_size=1": {
			"id,contributions,recognized_tier,updated_at\r\n0,4,3,2026-11-23T06:00:00.123Z\r\n",
			`{"id":"0","contributions":4,"recognized_tier":3,"updated_at":"2026-11-23T06:00:00.123Z"}` + "\n",
		},
		"/recognitions?page_size=1": {
			"contributor,tier,contributions,recognized_at\r\n0,3,4,2026-11-23T06:00:00.123Z\r\n",
			`{"contributor":"0","tier":3,"contributions":4,"recognized_at":"2026-11-23T06:00:00.123Z"}` + "\n",
		},
		"/history?from=2026-11-23T05:58:00Z&to=2026-11-23T06:00:00Z": {
			"begin,change\r\n2026-11-23T05:58:00Z,1\r\n2026-11-23T05:59:00Z,1\r\n",
			`{"begin":"2026-11-23T05:58:00Z","change":1}` + "\n" + `{"begin":"2026-11-23T05:59:00Z","change":1}` + "\n",
		},
		"/history?names=foo,ballz&resolution=hour&from=2026-11-23T04:00:00Z&to=2026-11-23T05:00:00Z": {
			"name,begin,change\r\nballz,2026-11-23T04:00:00Z,1\r\nfoo,2026-11-23T04:00:00Z,1\r\n",
			`{"name":"ballz","begin":"2026-11-23T04:00:00Z","change":1}` + "\n" + `{"name":"foo","begin":"2026-11-23T04:00:00Z","change":1}` + "\n",
		},
		"/tags/foo/history?resolution=day&from=2026-11-21T00:00:00Z&to=2026-11-23T00:00:00Z&time_zone=Europe/Berlin": {
			"name,begin,change\r\nfoo,2026-11-20T23:00:00Z,24\r\nfoo,2026-11-21T23:00:00Z,24\r\nfoo,2026-11-22T23:00:00Z,24\r\n",
			`{"name":"foo","begin":"2026-11-20T23:00:00Z","change":24}` + "\n" + `{"name":"foo","begin":"2026-11-21T23:00:00Z","change":24}` + "\n" +
				`{"name":"foo","begin":"2026-11-22T23:00:00Z","change":24}` + "\n",
		},
	} {
		for accept, form := range map[string]struct{ media, body string }{
			acceptCSV: {"text/csv; charset=utf-8; header=present", want.csv}, acceptLines: {"application/x-ndjson", want.lines},
		} {
			got := get(h, path, accept)
			if got.status != http.StatusOK || got.header.Get("Content-Type") != form.media || got.body != form.body {
				t.Errorf("%s, %s: %d, %s\n%s\nwant %s", path, accept, got.status, got.header.Get("Content-Type"), got.body, form.body)
			}
			etag := got.header.Get("ETag")
			if !varies(got, "Accept, Accept-Encoding") || got.header.Get("X-As-Of") == "" || got.header.Get("Cache-Control") != "no-cache" || etag != content.Tag([]byte(form.body)) {
				t.Errorf("%s, %s: %v", path, accept, got.header)
			}
			if same := get(h, path, accept, "If-None-Match: "+etag); same.status != http.StatusNotModified || same.body != "" || !varies(same, "Accept, Accept-Encoding") {
				t.Errorf("%s, %s: %d for the same", path, accept, same.status)
			}
			if other := get(h, path, "If-None-Match: "+etag); other.status != http.StatusOK || !varies(other, "Accept, Accept-Encoding") {
				t.Errorf("%s: %d, Vary %v for JSON with the entity tag of %s", path, other.status, other.header.Values("Vary"), accept)
			}
			if wrong := get(h, path, "Accept: image/png"); !varies(wrong, "Accept") {
				t.Errorf("%s: Vary %v of a 406", path, wrong.header.Values("Vary"))
			}
		}
	}
}

func TestTheMediaTypeIsNegotiated(t *testing.T) {
	t.Parallel()
	h := listed(t)
	for accept, want := range map[string]string{
		"": "application/json", "*/*": "application/json", "application/json": "application/json", "application/*": "application/json",
		"text/csv": "text/csv", "TEXT/CSV": "text/csv", "text/*": "text/csv", "text/csv;charset=utf-8": "text/csv", "application/x-ndjson": "application/x-ndjson",
		"text/html, application/xhtml+xml, */*;q=0.8": "application/json", "text/csv;q=0.5, application/x-ndjson;q=0.9": "application/x-ndjson",
		"text/csv, application/json": "application/json", "application/json;q=0.1, text/csv": "text/csv", "*/*;q=0.1, text/csv; q=0.2": "text/csv",
		"application/json;q=0, */*": "text/csv", "text/html": "", "image/png, text/plain": "", "application/json;q=0": "", "text/csv;q=x": "", "text/csv;q=2": "", "csv": "",
	} {
		lines := []string{"Accept: " + accept}
		if accept == "" {
			lines = nil
		}
		got := get(h, "/stats", lines...)
		media, _, _ := strings.Cut(got.header.Get("Content-Type"), ";")
		if want == "" {
			wantProblem(t, got, http.StatusNotAcceptable)
		} else if got.status != http.StatusOK || media != want {
			t.Errorf("%q: %d, %s, want %s", accept, got.status, media, want)
		}
	}
	if got := get(h, "/stats", "Accept: image/png", acceptCSV); got.status != http.StatusOK {
		t.Errorf("two lines: %d, want 200", got.status)
	}
}

func TestTheNextPageOfRowsIsInTheHeaderLink(t *testing.T) {
	t.Parallel()
	h := newHandler(empty(), recognized(t, 30), nil, web.Base{})
	for _, path := range []string{"/contributors", "/recognitions?tier=3"} {
		var rows []string
		for next := path; next != ""; {
			got := get(h, next, acceptCSV)
			all, err := csv.NewReader(strings.NewReader(got.body)).ReadAll()
			if got.status != http.StatusOK || err != nil || len(all) < 2 {
				t.Fatalf("%s: %d, %v: %s", next, got.status, err, got.body)
			}
			for _, fields := range all[1:] {
				rows = append(rows, fields[0])
			}
			next = ""
			if link := got.header.Get("Link"); link != "" {
				query, ok := strings.CutSuffix(strings.TrimPrefix(link, "<"), `>; rel="next"`)
				if !ok {
					t.Fatalf("Link: %s", link)
				}
				place, _, _ := strings.Cut(path, "?")
				next = place + query
			}
			if !strings.Contains(path, "page_size") {
				path += map[bool]string{true: "&", false: "?"}[strings.Contains(path, "?")] + "page_size=7"
			}
		}
		slices.Sort(rows)
		if len(slices.Compact(rows)) != 30 {
			t.Errorf("%s: %d rows", path, len(rows))
		}
	}
}

// Ids are any text: each row is one row, whatever it holds.
func TestRowsHoldAnyText(t *testing.T) {
	t.Parallel()
	ids := odd()
	h := newHandler(empty(), counted(t, ids...), nil, web.Base{})
	got, err := csv.NewReader(strings.NewReader(get(h, "/contributors?page_size=1000", acceptCSV).body)).ReadAll()
	if err != nil || len(got) != len(ids)+1 {
		t.Fatalf("%d rows, %v", len(got), err)
	}
	lines := strings.Split(strings.TrimSuffix(get(h, "/contributors?page_size=1000", acceptLines).body, "\n"), "\n")
	for i, fields := range got[1:] {
		var object contributor
		if err := json.Unmarshal([]byte(lines[i]), &object); err != nil || object.ID != fields[0] || !slices.Contains(ids, fields[0]) {
			t.Errorf("%q in CSV, %q in NDJSON, %v", fields[0], lines[i], err)
		}
	}
}
