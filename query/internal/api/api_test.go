package api_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/accrue/accrue/pkg/checkpoint"
	"github.com/accrue/accrue/pkg/problem"
	"github.com/accrue/accrue/pkg/service"
	"github.com/accrue/accrue/pkg/service/web"
	"github.com/accrue/accrue/pkg/store"
	"github.com/accrue/accrue/query/internal/api"
	"github.com/accrue/accrue/query/internal/view"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var start = time.Date(2026, 11, 23, 6, 0, 0, int(123456*time.Microsecond), time.UTC)

// steppedViews shows one view until the test shows another.
type steppedViews struct {
	now atomic.Pointer[view.View]

	mu       sync.Mutex
	replaced chan struct{}
}

func (s *steppedViews) View(context.Context) *view.View { return s.now.Load() }

func (s *steppedViews) Watch() (*view.View, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.now.Load(), s.replaced
}

func (s *steppedViews) set(v *view.View) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now.Store(v)
	close(s.replaced)
	s.replaced = make(chan struct{})
}

// show makes the view of totals, given sorted by name, the next one, as of the time asOf.
func (s *steppedViews) show(asOf time.Time, totals ...checkpoint.Total) {
	s.set(s.now.Load().Next([]store.PartitionTotals{{Revision: store.Revision{UpdateTime: asOf}, Totals: totals}}, asOf))
}

// example is the view of the README's example.
func example() *steppedViews {
	s := empty()
	s.show(start.In(time.FixedZone("elsewhere", 3600)), checkpoint.Total{Name: "ballz", Total: 76}, checkpoint.Total{Name: "foo", Total: 13})
	return s
}

func empty() *steppedViews {
	s := &steppedViews{replaced: make(chan struct{})}
	s.now.Store(new(view.View))
	return s
}

// serve answers requests for views over real HTTP, and returns the address.
func serve(tb testing.TB, handler http.Handler) string {
	tb.Helper()
	server := httptest.NewServer(handler)
	tb.Cleanup(server.Close)
	return server.URL
}

func handler(views api.Views, checks ...service.Check) http.Handler {
	return newHandler(views, nil, nil, web.Base{Checks: checks})
}

func newHandler(views api.Views, s api.Contributors, changes api.History, base web.Base) http.Handler {
	h, err := api.New(views, s, changes, api.Settings{Tiers: []int64{3}, MetricsTags: 1000}, base)
	if err != nil {
		panic(err)
	}
	return h
}

// newRequest makes a request of /stats for a handler that is called directly.
func newRequest(tb testing.TB) *http.Request {
	tb.Helper()
	return httptest.NewRequestWithContext(tb.Context(), http.MethodGet, "/stats", http.NoBody)
}

type answer struct {
	status int
	header http.Header
	body   string
}

// request makes a request with the given header lines, each of the form "name: value".
func request(tb testing.TB, method, url string, lines ...string) answer {
	tb.Helper()
	req, err := http.NewRequestWithContext(tb.Context(), method, url, http.NoBody)
	if err != nil {
		tb.Fatal(err)
	}
	for _, line := range lines {
		name, value, _ := strings.Cut(line, ": ")
		req.Header.Add(name, value)
	}
	transport := &http.Transport{DisableCompression: true}
	defer transport.CloseIdleConnections()
	response, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		tb.Fatal(err)
	}
	body, err := io.ReadAll(response.Body)
	if err := errors.Join(err, response.Body.Close()); err != nil {
		tb.Fatal(err)
	}
	return answer{response.StatusCode, response.Header, string(body)}
}

// wantProblem checks that a is a problem document and returns it.
func wantProblem(t *testing.T, a answer, status int) problem.Document {
	t.Helper()
	var d problem.Document
	if a.status != status || a.header.Get("Content-Type") != problem.ContentType {
		t.Errorf("%d of type %q, want %d of type %q", a.status, a.header.Get("Content-Type"), status, problem.ContentType)
	}
	if err := json.Unmarshal([]byte(a.body), &d); err != nil || d.Status != status || d.Detail == "" {
		t.Errorf("body = %s, want a problem document of status %d", a.body, status)
	}
	return d
}

func TestStatsAnswersABareMapSortedByName(t *testing.T) {
	t.Parallel()
	got := request(t, http.MethodGet, serve(t, handler(example()))+"/stats")
	if want := `{"ballz":76,"foo":13}`; got.status != http.StatusOK || got.body != want {
		t.Errorf("%d %s, want 200 %s", got.status, got.body, want)
	}
	for name, want := range map[string]string{
		"Content-Type": "application/json", "Content-Length": "21", "Cache-Control": "no-cache",
		"X-As-Of": "2026-11-23T06:00:00.123Z",
		// Of the content alone: every instance and release answers the same.
		"ETag": `"c43b32b0d75a3cb1"`,
	} {
		if got := got.header.Get(name); got != want {
			t.Errorf("%s = %q, want %q", name, got, want)
		}
	}
}

func TestStatsOfSomeTags(t *testing.T) {
	t.Parallel()
	views := empty()
	views.show(start, checkpoint.Total{Name: "ballz", Total: 76}, checkpoint.Total{Name: "foo", Total: 13}, checkpoint.Total{Name: "food", Total: 1})
	url := serve(t, handler(views)) + "/stats"
	for query, want := range map[string]string{
		"?names=foo": `{"foo":13}`, "?names=zoo,food,ballz,foo,foo": `{"ballz":76,"foo":13,"food":1}`, "?names=bar": `{}`,
		"?prefix=foo": `{"foo":13,"food":1}`, "?prefix=x": `{}`, "?prefix=": `{"ballz":76,"foo":13,"food":1}`, "?names=foo&prefix=": `{"foo":13}`,
	} {
		got := request(t, http.MethodGet, url+query)
		if got.status != http.StatusOK || got.body != want {
			t.Errorf("%s: %d %s, want %s", query, got.status, got.body, want)
		}
		if again := request(t, http.MethodGet, url+query, "If-None-Match: "+got.header.Get("ETag")); again.status != http.StatusNotModified {
			t.Errorf("%s: %d for the same, want 304", query, again.status)
		}
	}
	foo := request(t, http.MethodGet, url+"?names=foo").header.Get("ETag")
	views.show(start.Add(time.Second), checkpoint.Total{Name: "ballz", Total: 77}, checkpoint.Total{Name: "foo", Total: 13}, checkpoint.Total{Name: "food", Total: 1})
	if got := request(t, http.MethodGet, url+"?names=foo", "If-None-Match: "+foo); got.status != http.StatusNotModified {
		t.Errorf("%d when another tag has changed, want 304", got.status)
	}
	if got := request(t, http.MethodGet, url+"?names=ballz,foo", "If-None-Match: "+foo); got.status != http.StatusOK {
		t.Errorf("%d for other tags, want 200", got.status)
	}
}

func TestNoTotalsAreAnEmptyMap(t *testing.T) {
	t.Parallel()
	views := empty()
	views.show(start)
	if got := request(t, http.MethodGet, serve(t, handler(views))+"/stats"); got.status != http.StatusOK || got.body != "{}" {
		t.Errorf("%d %s, want 200 {}", got.status, got.body)
	}
}

func TestStatsBeforeTheFirstViewIs503(t *testing.T) {
	t.Parallel()
	got := request(t, http.MethodGet, serve(t, handler(empty()))+"/stats")
	wantProblem(t, got, http.StatusServiceUnavailable)
	if got := got.header.Get("Retry-After"); got != "1" {
		t.Errorf("Retry-After = %q, want 1", got)
	}
}

func TestHeadHasTheHeadersOfGetAndNoBody(t *testing.T) {
	t.Parallel()
	url := serve(t, handler(example())) + "/stats"
	get, head := request(t, http.MethodGet, url), request(t, http.MethodHead, url)
	if head.status != get.status || head.body != "" {
		t.Errorf("HEAD: %d %q, want %d and no body", head.status, head.body, get.status)
	}
	for _, name := range []string{"Content-Type", "Content-Length", "Cache-Control", "X-As-Of", "ETag"} {
		if got, want := head.header.Get(name), get.header.Get(name); got != want {
			t.Errorf("HEAD: %s = %q, want %q", name, got, want)
		}
	}
}

func TestETagDependsOnTheContentAlone(t *testing.T) {
	t.Parallel()
	views := example()
	url := serve(t, handler(views)) + "/stats"
	first := request(t, http.MethodGet, url)

	views.show(start.Add(time.Second), checkpoint.Total{Name: "ballz", Total: 76}, checkpoint.Total{Name: "foo", Total: 13})
	later := request(t, http.MethodGet, url)
	if later.header.Get("ETag") != first.header.Get("ETag") || later.body != first.body {
		t.Errorf("%s %s, want what it was: %s %s", later.header.Get("ETag"), later.body, first.header.Get("ETag"), first.body)
	}
	if got, want := later.header.Get("X-As-Of"), "2026-11-23T06:00:01.123Z"; got != want {
		t.Errorf("X-As-Of = %q, want %q", got, want)
	}

	views.show(start.Add(2*time.Second), checkpoint.Total{Name: "ballz", Total: 76}, checkpoint.Total{Name: "foo", Total: 14})
	changed := request(t, http.MethodGet, url)
	if changed.header.Get("ETag") == first.header.Get("ETag") || changed.body != `{"ballz":76,"foo":14}` {
		t.Errorf("%s %s after a change, was %s", changed.header.Get("ETag"), changed.body, first.header.Get("ETag"))
	}

	other := request(t, http.MethodGet, serve(t, handler(example()))+"/stats")
	if other.header.Get("ETag") != first.header.Get("ETag") {
		t.Errorf("another instance's ETag = %s, want %s", other.header.Get("ETag"), first.header.Get("ETag"))
	}
}

func TestIfNoneMatch(t *testing.T) {
	t.Parallel()
	url := serve(t, handler(example())) + "/stats"
	etag := request(t, http.MethodGet, url).header.Get("ETag")
	for name, tc := range map[string]struct {
		lines []string
		want  int
	}{
		"none":                    {nil, 200},
		"the same":                {[]string{etag}, 304},
		"the same, weak":          {[]string{"W/" + etag}, 304},
		"another":                 {[]string{`"x"`}, 200},
		"everything":              {[]string{"*"}, 304},
		"in a list":               {[]string{`"x", W/"y,z" ,` + etag}, 304},
		"in an untidy list":       {[]string{`, "x",,` + "\t" + etag}, 304},
		"in a second line":        {[]string{`"x"`, etag}, 304},
		"not in a list":           {[]string{`"x", W/"y"`}, 200},
		"without quotes":          {[]string{strings.Trim(etag, `"`)}, 200},
		"with one quote":          {[]string{etag[:len(etag)-1]}, 200},
		"within another's quotes": {[]string{`"x, ` + etag[1:]}, 200},
		"with a space in it":      {[]string{etag[:len(etag)-1] + ` "`}, 200},
		"empty":                   {[]string{""}, 200},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			lines := make([]string, 0, len(tc.lines))
			for _, line := range tc.lines {
				lines = append(lines, "If-None-Match: "+line)
			}
			for _, method := range []string{http.MethodGet, http.MethodHead} {
				got := request(t, method, url, lines...)
				if got.status != tc.want {
					t.Errorf("%s: %d, want %d", method, got.status, tc.want)
				}
				if got.status == http.StatusNotModified && (got.body != "" || got.header.Get("ETag") != etag || got.header.Get("X-As-Of") == "") {
					t.Errorf("%s: 304 with body %q, ETag %s, X-As-Of %s", method, got.body, got.header.Get("ETag"), got.header.Get("X-As-Of"))
				}
			}
		})
	}
}

func TestRangeOfStats(t *testing.T) {
	t.Parallel()
	got := request(t, http.MethodGet, serve(t, handler(example()))+"/stats", "Range: bytes=0-7")
	if got.status != http.StatusPartialContent || got.body != `{"ballz"` {
		t.Errorf("%d %s, want the first 8 bytes", got.status, got.body)
	}
}

func TestProblemNamesEveryUnknownParameter(t *testing.T) {
	t.Parallel()
	url := serve(t, handler(example()))
	for query, want := range map[string][]string{
		"page_size=4":        {"page_size"},
		"names=Foo":          {"names"},
		"names=foo,":         {"names"},
		"names=foo&prefix=f": {"prefix"},
		"b&a=1&a=2&a=3":      {"a", "b"},
		"=":                  {""},
		"a=%zz":              nil,
		"a;b":                nil,
	} {
		t.Run(query, func(t *testing.T) {
			t.Parallel()
			d := wantProblem(t, request(t, http.MethodGet, url+"/stats?"+query), http.StatusBadRequest)
			got := make([]string, 0, len(d.Errors))
			for _, fault := range d.Errors {
				got = append(got, fault.Parameter)
			}
			if fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("faults of %q, want of %q", got, want)
			}
		})
	}
	if got := request(t, http.MethodGet, url+"/stats?"); got.status != http.StatusOK {
		t.Errorf("a question mark alone: %d, want 200", got.status)
	}
}

func TestUnknownPathsAndMethods(t *testing.T) {
	t.Parallel()
	url := serve(t, handler(example()))
	for _, path := range []string{"/index.html", "/board", "/stats/", "/Stats", "/stats/foo", "//stats", "/increments", "/health", "/healthz"} {
		wantProblem(t, request(t, http.MethodGet, url+path), http.StatusNotFound)
	}
	for _, path := range []string{"/stats", service.LivePath, service.ReadyPath} {
		for _, method := range []string{http.MethodPost, http.MethodPut, http.MethodDelete, http.MethodPatch, http.MethodOptions} {
			got := request(t, method, url+path)
			wantProblem(t, got, http.StatusMethodNotAllowed)
			if got := got.header.Get("Allow"); got != "GET, HEAD" {
				t.Errorf("%s %s: Allow = %q, want GET, HEAD", method, path, got)
			}
		}
	}
}

func TestHealth(t *testing.T) {
	t.Parallel()
	asked := atomic.Int32{}
	down := service.Check{Name: "view", Check: func(context.Context) error { asked.Add(1); return errors.New("the view is 3s old") }}
	well := service.Check{Name: "firestore", Check: func(context.Context) error { return nil }}

	url := serve(t, handler(empty(), well, down))
	if got := request(t, http.MethodGet, url+service.LivePath); got.status != http.StatusOK || asked.Load() != 0 {
		t.Errorf("live: %d after asking %d dependencies, want 200 and none", got.status, asked.Load())
	}
	d := wantProblem(t, request(t, http.MethodGet, url+service.ReadyPath), http.StatusServiceUnavailable)
	if len(d.Errors) != 1 || d.Errors[0].Parameter != "view" || d.Errors[0].Detail != "the view is 3s old" {
		t.Errorf("faults = %v, want the view's alone", d.Errors)
	}
	if got := request(t, http.MethodGet, serve(t, handler(empty(), well))+service.ReadyPath); got.status != http.StatusOK {
		t.Errorf("ready: %d, want 200", got.status)
	}
}

func TestPanickingHandlerIsAnswered(t *testing.T) {
	t.Parallel()
	broken := service.Check{Name: "broken", Check: func(context.Context) error { panic("out of cheese") }}
	got := request(t, http.MethodGet, serve(t, handler(empty(), broken))+service.ReadyPath)
	wantProblem(t, got, http.StatusInternalServerError)
}

// A request that took its view before another one took a later view, and comes to answer after it.
func TestALateRequestAnswersTheLaterViewWithItsOwnTime(t *testing.T) {
	t.Parallel()
	views := example()
	earlier := views.View(t.Context())
	stats := handler(views)
	views.show(start.Add(time.Second), checkpoint.Total{Name: "foo", Total: 14})
	for range 2 {
		w := httptest.NewRecorder()
		stats.ServeHTTP(w, newRequest(t))
		if w.Body.String() != `{"foo":14}` || w.Header().Get("X-As-Of") != "2026-11-23T06:00:01.123Z" {
			t.Errorf("%s as of %s, want the later view", w.Body, w.Header().Get("X-As-Of"))
		}
		views.now.Store(earlier)
	}
}

// While views come and go, every answer is one version's whole body, with that body's tag and a time at which it held, and
// no reader ever goes back.
func TestAnswersAreConsistentWhileTheViewMoves(t *testing.T) {
	t.Parallel()
	views := empty()
	stats := handler(views)
	at := func(n int64) time.Time { return start.Add(time.Duration(n) * time.Second) }
	views.show(at(0), checkpoint.Total{Name: "foo", Total: 0})
	ctx, cancel := context.WithCancel(t.Context())
	var readers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			tags := make(map[string]string)
			var last int64
			for ctx.Err() == nil {
				w := httptest.NewRecorder()
				stats.ServeHTTP(w, newRequest(t))
				var body map[string]int64
				if err := json.Unmarshal(w.Body.Bytes(), &body); err != nil {
					t.Errorf("body %q: %v", w.Body, err)
					return
				}
				asOf, err := time.Parse(time.RFC3339, w.Header().Get("X-As-Of"))
				if n := body["foo"]; n < last || err != nil || !asOf.Equal(at(n).Truncate(time.Millisecond)) {
					t.Errorf("%d after %d, as of %v, %v", n, last, asOf, err)
				}
				last = body["foo"]
				etag := w.Header().Get("ETag")
				if before, ok := tags[etag]; ok && before != w.Body.String() {
					t.Errorf("ETag %s of %s and of %s", etag, before, w.Body)
				}
				tags[etag] = w.Body.String()
			}
		})
	}
	for n := range int64(2000) {
		views.show(at(n), checkpoint.Total{Name: "foo", Total: n})
	}
	cancel()
	readers.Wait()
}

// large is a view of 55,000 tags.
func large() *steppedViews {
	views, totals := empty(), make([]checkpoint.Total, 55_000)
	for i := range totals {
		totals[i] = checkpoint.Total{Name: fmt.Sprintf("tag_%c%c%c%c", 'a'+i/17576, 'a'+i/676%26, 'a'+i/26%26, 'a'+i%26), Total: int64(i)}
	}
	views.show(start, totals...)
	return views
}

// silentWriter takes an answer and keeps no copy, so that a benchmark measures the handler.
type silentWriter struct {
	header http.Header
	status int
	body   []byte
}

func (w *silentWriter) Header() http.Header         { return w.header }
func (w *silentWriter) WriteHeader(status int)      { w.status = status }
func (w *silentWriter) Write(b []byte) (int, error) { w.body = b; return len(b), nil }

func BenchmarkStats(b *testing.B) {
	stats := handler(large())
	w := &silentWriter{header: make(http.Header)}
	get := newRequest(b)
	stats.ServeHTTP(w, get)
	conditional := newRequest(b)
	conditional.Header.Set("If-None-Match", w.header.Get("ETag"))
	for name, r := range map[string]*http.Request{"200 of 55000 tags": get, "304 of 55000 tags": conditional} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				stats.ServeHTTP(w, r)
			}
		})
	}
	b.Run("first request of a version of 55000 tags", func(b *testing.B) {
		views := large()
		for b.Loop() {
			handler(views).ServeHTTP(w, get)
		}
	})
}

func BenchmarkStatsOverHTTP(b *testing.B) {
	url := serve(b, handler(large())) + "/stats"
	etag := request(b, http.MethodGet, url).header.Get("ETag")
	transport := &http.Transport{DisableCompression: true}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport}
	for name, header := range map[string]string{"200 of 55000 tags": "", "304 of 55000 tags": etag} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				r, err := http.NewRequestWithContext(b.Context(), http.MethodGet, url, http.NoBody)
				if err != nil {
					b.Fatal(err)
				}
				r.Header.Set("If-None-Match", header)
				response, err := client.Do(r)
				if err != nil {
					b.Fatal(err)
				}
				n, err := io.Copy(io.Discard, response.Body)
				if err := errors.Join(err, response.Body.Close()); err != nil {
					b.Fatal(err)
				}
				b.SetBytes(n)
			}
		})
	}
}

func TestBoardIsAtTheRoot(t *testing.T) {
	t.Parallel()
	address := serve(t, handler(empty())) // there is a page before there is a view
	page := request(t, http.MethodGet, address+"/?whatever=else")
	if page.status != http.StatusOK || !strings.Contains(page.body, "<title>Accrue</title>") {
		t.Fatalf("%d %v %.200s", page.status, page.header, page.body)
	}
	_, script, _ := strings.Cut(page.body, `type="module" src="`)
	script, _, _ = strings.Cut(script, `"`)
	if got := request(t, http.MethodGet, address+"/"+script); got.status != http.StatusOK || got.header.Get("Content-Type") != "text/javascript; charset=utf-8" {
		t.Errorf("%s: %d %v", script, got.status, got.header)
	}
	wantProblem(t, request(t, http.MethodPost, address+"/"), http.StatusMethodNotAllowed)
	wantProblem(t, request(t, http.MethodGet, address+"/board/x/nothing.js"), http.StatusNotFound)
}
