package e2e_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"
)

func TestREADMEExample(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	ingest, query := s.start(t, "ingest"), s.start(t, "query")
	s.start(t, "aggregator")
	mustPost(t, ingest.url+"/increments", `{"name":"foo","value":4}`)
	mustPost(t, ingest.url+"/increments", `{"name":"foo","value":9}`)
	mustPost(t, ingest.url+"/increments/batch", `{"increments":[`+strings.Repeat(`{"name":"ballz","value":9},`, 8)+`{"name":"ballz","value":4}]}`)
	awaitStats(t, query, map[string]int64{"foo": 13, "ballz": 76}, 10*time.Second)
	request, err := http.NewRequest(http.MethodGet, query.url+"/stats", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	first, err := do(request)
	if err != nil || first.status != http.StatusOK || first.body != `{"ballz":76,"foo":13}` {
		t.Errorf("/stats = %d %s, %v", first.status, first.body, err)
	}
	if asOf, err := time.Parse(time.RFC3339, first.header.Get("X-As-Of")); err != nil || time.Since(asOf).Abs() > time.Minute {
		t.Errorf("X-As-Of = %q, %v", first.header.Get("X-As-Of"), err)
	}
	request.Header.Set("If-None-Match", first.header.Get("Etag"))
	if second, err := do(request); err != nil || second.status != http.StatusNotModified || second.body != "" {
		t.Errorf("with If-None-Match: %d %q, %v, want 304", second.status, second.body, err)
	}
	mustPost(t, ingest.url+"/increments", `{"name":"foo","value":1}`)
	await(t, "a changed answer", 10*time.Second, func() error {
		if third, err := do(request); err != nil || third.status != http.StatusOK || third.body != `{"ballz":76,"foo":14}` {
			return fmt.Errorf("%d %q %w", third.status, third.body, err)
		}
		return nil
	})
	s.audit(t)
}

// Packages e2e/contract and ingest/internal/api test all rules. This test checks that refused requests are not published.
func TestInvalidRequestsChangeNothing(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	ingest, query := s.start(t, "ingest"), s.start(t, "query")
	s.start(t, "aggregator")
	for name, tc := range map[string]struct {
		path, body, contentType string
		status                  int
		pointer                 string
	}{
		"a string for a value":  {"/increments", `{"name":"foo","value":"4"}`, "", 400, "#/value"},
		"ten":                   {"/increments", `{"name":"foo","value":10}`, "", 422, "#/value"},
		"a name with a newline": {"/increments", `{"name":"foo\n","value":4}`, "", 422, "#/name"},
		"an empty batch":        {"/increments/batch", `{"increments":[]}`, "", 422, "#/increments"},
		"one bad item of three": {
			"/increments/batch", `{"increments":[{"name":"foo","value":4},{"name":"foo","value":4},{"name":"foo","value":44}]}`,
			"", 422, "#/increments/2/value",
		},
		"more than 1 MiB": {"/increments/batch", `{"increments":[` + strings.Repeat(" ", 1<<20) + `]}`, "", 413, ""},
		"a form":          {"/increments", `{"name":"foo","value":4}`, "application/x-www-form-urlencoded", 415, ""},
		"an unknown path": {"/increments/", `{"name":"foo","value":4}`, "", 404, ""},
	} {
		request, err := http.NewRequest(http.MethodPost, ingest.url+tc.path, strings.NewReader(tc.body))
		if err != nil {
			t.Fatal(err)
		}
		if request.Header.Set("Content-Type", "application/json"); tc.contentType != "" {
			request.Header.Set("Content-Type", tc.contentType)
		}
		r, err := do(request)
		if err != nil || r.status != tc.status || r.header.Get("Content-Type") != "application/problem+json" ||
			(tc.pointer != "" && !strings.Contains(r.body, `"pointer":"`+tc.pointer+`"`)) {
			t.Errorf("%s: %d %s %v, want a problem of %d at %q", name, r.status, r.body, err, tc.status, tc.pointer)
		}
	}
	request, err := http.NewRequest(http.MethodPut, ingest.url+"/increments", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	if r, err := do(request); err != nil || r.status != http.StatusMethodNotAllowed || r.header.Get("Allow") != "POST" {
		t.Errorf("PUT /increments: %d, Allow %q, %v", r.status, r.header.Get("Allow"), err)
	}
	// Nothing of the refused requests was published: only the later increment is counted.
	mustPost(t, ingest.url+"/increments", `{"name":"bar","value":1}`)
	awaitStats(t, query, map[string]int64{"bar": 1}, 10*time.Second)
}

func TestEachServiceRestartsWithoutLoss(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	ingest, aggregator, query := s.start(t, "ingest"), s.start(t, "aggregator"), s.start(t, "query")
	want := map[string]int64{}
	for _, restart := range []func(){
		func() { ingest.stop(); ingest = s.start(t, "ingest") },
		func() { aggregator.stop(); aggregator = s.start(t, "aggregator") },
		func() { query.stop(); query = s.start(t, "query") },
		func() { aggregator.stop() },
	} {
		for i := range 20 {
			mustPost(t, ingest.url+"/increments", fmt.Sprintf(`{"name":"tag_%c","value":%d}`, 'a'+i, 1+i%9))
			want[fmt.Sprintf("tag_%c", 'a'+i)] += int64(1 + i%9)
		}
		restart()
	}
	aggregator = s.start(t, "aggregator") // counts what was posted while none ran
	awaitStats(t, query, want, 20*time.Second)
	s.audit(t)
}
