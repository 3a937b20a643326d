package api_test

import (
	"cmp"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/accrue/accrue/pkg/checkpoint"
)

// tagPage is a page as clients read it.
type tagPage struct {
	Tags []struct {
		Name       string    `json:"name"`
		Total      int64     `json:"total"`
		Increments int64     `json:"increments"`
		UpdatedAt  time.Time `json:"updated_at"`
	} `json:"tags"`
	NextPageToken string    `json:"next_page_token"`
	AsOf          time.Time `json:"as_of"`
	LagMS         *int64    `json:"lag_ms"`
}

func (p tagPage) names() []string {
	names := make([]string, 0, len(p.Tags))
	for _, tag := range p.Tags {
		names = append(names, tag.Name)
	}
	return names
}

// get returns the answer of a handler that is called directly.
func get(h http.Handler, path string, lines ...string) answer {
	r := httptest.NewRequest(http.MethodGet, path, http.NoBody)
	for _, line := range lines {
		name, value, _ := strings.Cut(line, ": ")
		r.Header.Add(name, value)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return answer{w.Code, w.Header(), w.Body.String()}
}

// tester is implemented by *testing.T and *rapid.T.
type tester interface {
	Helper()
	Fatalf(format string, args ...any)
}

// getPage returns the page of tags for a query.
func getPage(t tester, h http.Handler, query string) (page tagPage) {
	t.Helper()
	a := get(h, "/tags?"+query)
	if a.status != http.StatusOK {
		t.Fatalf("/tags?%s: %d %s", query, a.status, a.body)
	}
	if err := json.Unmarshal([]byte(a.body), &page); err != nil {
		t.Fatalf("/tags?%s: %v in %s", query, err, a.body)
	}
	return page
}

// several is a view of five tags, in a different sequence in every order.
func several() *steppedViews {
	views := empty()
	views.show(start,
		checkpoint.Total{Name: "___", Total: 3, Increments: 3, UpdatedAt: start.Add(-2 * time.Second)},
		checkpoint.Total{Name: "foo", Total: 9, Increments: 2, UpdatedAt: start.Add(-5 * time.Second)},
		checkpoint.Total{Name: "foo_bar", Total: 1, Increments: 1, UpdatedAt: start.Add(-1 * time.Second)},
		checkpoint.Total{Name: "fop", Total: 3, Increments: 1, UpdatedAt: start.Add(-3 * time.Second)},
		checkpoint.Total{Name: "zoo", Total: 40, Increments: 9, UpdatedAt: start.Add(-4 * time.Second)},
	)
	return views
}

func TestTagsAnswersAPage(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		views, now := empty(), time.Now()
		views.show(now, checkpoint.Total{Name: "ballz", Total: 76, Increments: 20, UpdatedAt: now.Add(-time.Hour)}, checkpoint.Total{Name: "foo", Total: 13, Increments: 3, UpdatedAt: now})
		time.Sleep(1234 * time.Millisecond)
		got := get(handler(views), "/tags")
		want := `{"tags":[` +
			`{"name":"ballz","total":76,"increments":20,"updated_at":"1999-12-31T23:00:00.000Z"},` +
			`{"name":"foo","total":13,"increments":3,"updated_at":"2000-01-01T00:00:00.000Z"}` +
			`],"as_of":"2000-01-01T00:00:00.000Z","lag_ms":1234}`
		if got.status != http.StatusOK || got.body != want {
			t.Errorf("%d %s, want 200 %s", got.status, got.body, want)
		}
		for name, want := range map[string]string{
			"Content-Type": "application/json", "Cache-Control": "no-cache", "Vary": "Accept-Encoding", "X-As-Of": "2000-01-01T00:00:00.000Z",
		} {
			if got := got.header.Get(name); got != want {
				t.Errorf("%s = %q, want %q", name, got, want)
			}
		}

		got = get(handler(views), "/tags/foo")
		want = `{"name":"foo","total":13,"increments":3,"updated_at":"2000-01-01T00:00:00.000Z","as_of":"2000-01-01T00:00:00.000Z","lag_ms":1234}`
		if got.status != http.StatusOK || got.body != want {
			t.Errorf("%d %s, want 200 %s", got.status, got.body, want)
		}
	})
}

func TestNoTagsAreAnEmptyPage(t *testing.T) {
	t.Parallel()
	views := empty()
	views.show(start)
	for _, order := range orderNames {
		if got := get(handler(views), "/tags?order_by="+order); got.status != http.StatusOK || !strings.HasPrefix(got.body, `{"tags":[],"as_of"`) {
			t.Errorf("%s: %d %s", order, got.status, got.body)
		}
	}
}

func TestTagsBeforeTheFirstViewAre503(t *testing.T) {
	t.Parallel()
	for _, path := range []string{"/tags", "/tags/foo"} {
		got := get(handler(empty()), path)
		wantProblem(t, got, http.StatusServiceUnavailable)
		if got := got.header.Get("Retry-After"); got != "1" {
			t.Errorf("%s: Retry-After = %q, want 1", path, got)
		}
	}
}

func TestTagsInEveryOrderInPagesOfEverySize(t *testing.T) {
	t.Parallel()
	h := handler(several())
	for query, want := range map[string][]string{
		"":                              {"___", "foo", "foo_bar", "fop", "zoo"},
		"order_by=name":                 {"___", "foo", "foo_bar", "fop", "zoo"},
		"order_by=-name":                {"zoo", "fop", "foo_bar", "foo", "___"},
		"order_by=total":                {"foo_bar", "___", "fop", "foo", "zoo"},
		"order_by=-total":               {"zoo", "foo", "___", "fop", "foo_bar"},
		"order_by=updated_at":           {"foo", "zoo", "fop", "___", "foo_bar"},
		"order_by=-updated_at":          {"foo_bar", "___", "fop", "zoo", "foo"},
		"prefix=":                       {"___", "foo", "foo_bar", "fop", "zoo"},
		"prefix=fo":                     {"foo", "foo_bar", "fop"},
		"prefix=fo&order_by=-name":      {"fop", "foo_bar", "foo"},
		"prefix=foo&order_by=total":     {"foo_bar", "foo"},
		"prefix=fo&order_by=-total":     {"foo", "fop", "foo_bar"},
		"prefix=zoo&order_by=total":     {"zoo"},
		"prefix=zooo":                   {},
		"prefix=%C3%A9":                 {},
		"prefix=g&order_by=-updated_at": {},
	} {
		for size := 1; size <= 6; size++ {
			t.Run(fmt.Sprintf("%s by %d", query, size), func(t *testing.T) {
				t.Parallel()
				got, token := []string{}, ""
				for range 7 {
					page := getPage(t, h, query+fmt.Sprintf("&page_size=%d&page_token=%s", size, token))
					got = append(got, page.names()...)
					if token = page.NextPageToken; token == "" {
						break
					}
					if len(page.Tags) != size {
						t.Errorf("%d tags on a page that is not the last, want %d", len(page.Tags), size)
					}
				}
				if !slices.Equal(got, want) || token != "" {
					t.Errorf("%q, then %q, want %q", got, token, want)
				}
			})
		}
	}
}

func TestPagesHave100TagsUnlessTheRequestSaysOtherwise(t *testing.T) {
	t.Parallel()
	h := handler(large())
	for query, want := range map[string]int{"": 100, "page_size=1000": 1000, "page_size=1001": 1000, "page_size=2000000000": 1000, "order_by=-total": 100} {
		if got := len(getPage(t, h, query).Tags); got != want {
			t.Errorf("/tags?%s: %d tags, want %d", query, got, want)
		}
	}
}

func TestProblemNamesEveryWrongTagParameter(t *testing.T) {
	t.Parallel()
	h := handler(several())
	byName := getPage(t, h, "page_size=1&prefix=f").NextPageToken
	byTotal := getPage(t, h, "page_size=1&order_by=total").NextPageToken
	for query, want := range map[string][]string{
		"page_size=0":                           {"page_size"},
		"page_size=-1":                          {"page_size"},
		"page_size=":                            {"page_size"},
		"page_size=ten":                         {"page_size"},
		"page_size=1e2":                         {"page_size"},
		"order_by=":                             {"order_by"},
		"order_by=increments":                   {"order_by"},
		"order_by=--name":                       {"order_by"},
		"order_by=%2Bname":                      {"order_by"},
		"prefix=a&prefix=a":                     {"prefix"},
		"Prefix=a&limit=3":                      {"Prefix", "limit"},
		"limit=3&page_size=x&order_by=y":        {"limit", "order_by", "page_size"},
		"page_token=x":                          {"page_token"},
		"page_token=%2B%2F":                     {"page_token"},
		"page_token=" + byName:                  {"page_token"}, // of another prefix
		"prefix=fo&page_token=" + byName:        {"page_token"},
		"prefix=f&page_token=" + byTotal:        {"page_token"},
		"prefix=f&page_token=" + byName + "A":   {"page_token"},
		"page_token=" + byTotal:                 {"page_token"}, // of another order
		"order_by=-total&page_token=" + byTotal: {"page_token"},
		"order_by=total&page_token=" + byName:   {"page_token"},
		"a=%zz":                                 nil,
	} {
		t.Run(query, func(t *testing.T) {
			t.Parallel()
			d := wantProblem(t, get(h, "/tags?"+query), http.StatusBadRequest)
			got := make([]string, 0, len(d.Errors))
			for _, fault := range d.Errors {
				got = append(got, fault.Parameter)
				if fault.Detail == "" {
					t.Errorf("the fault of %s has no detail", fault.Parameter)
				}
			}
			if fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("faults of %q, want of %q", got, want)
			}
		})
	}
	wantProblem(t, get(h, "/tags/foo?prefix=f"), http.StatusBadRequest)
}

func TestUnknownTagsAreNotFound(t *testing.T) {
	t.Parallel()
	address := serve(t, handler(several()))
	for _, name := range []string{"bar", "fo", "foo_", "Foo", "foo%20", "%FF", "%2F", "foo%2Fbar", "%66%6f", "zzzzzzzzzzzzzzzzz", "%00"} {
		wantProblem(t, request(t, http.MethodGet, address+"/tags/"+name), http.StatusNotFound)
	}
	for _, name := range []string{"___", "foo", "foo_bar", "%66oo"} {
		want, err := url.PathUnescape(name)
		if err != nil {
			t.Fatal(err)
		}
		got := request(t, http.MethodGet, address+"/tags/"+name)
		if got.status != http.StatusOK || !strings.HasPrefix(got.body, `{"name":"`+want+`",`) {
			t.Errorf("%s: %d %s", name, got.status, got.body)
		}
	}
}

func TestETagOfTagsDependsOnTheContentAlone(t *testing.T) {
	t.Parallel()
	for _, path := range []string{"/tags", "/tags?page_size=1", "/tags?prefix=f", "/tags/foo"} {
		t.Run(path, func(t *testing.T) {
			t.Parallel()
			views := example()
			address := serve(t, handler(views)) + path
			first := request(t, http.MethodGet, address)
			etag := first.header.Get("ETag")
			if !strings.HasPrefix(etag, `W/"`) {
				t.Errorf("ETag = %s, want a weak one: the age of the answer changes", etag)
			}
			views.show(start.Add(time.Second), checkpoint.Total{Name: "ballz", Total: 76}, checkpoint.Total{Name: "foo", Total: 13})
			for _, method := range []string{http.MethodGet, http.MethodHead} {
				got := request(t, method, address, "If-None-Match: "+etag)
				if got.status != http.StatusNotModified || got.body != "" || got.header.Get("X-As-Of") != "2026-11-23T06:00:01.123Z" {
					t.Errorf("%s: %d as of %s %q, want 304 as of a second later", method, got.status, got.header.Get("X-As-Of"), got.body)
				}
				if got := request(t, method, address, `If-None-Match: "x"`); got.status != http.StatusOK || got.header.Get("ETag") != etag {
					t.Errorf("%s: %d with ETag %s for another tag, want 200 with %s", method, got.status, got.header.Get("ETag"), etag)
				}
			}
			views.show(start.Add(2*time.Second), checkpoint.Total{Name: "ballz", Total: 77}, checkpoint.Total{Name: "foo", Total: 14})
			got := request(t, http.MethodGet, address, "If-None-Match: "+etag)
			if got.status != http.StatusOK || got.header.Get("ETag") == etag {
				t.Errorf("%d with ETag %s after a change, was %s", got.status, got.header.Get("ETag"), etag)
			}
		})
	}
}

// unzip returns what a gzip file holds.
func unzip(t *testing.T, file string) string {
	t.Helper()
	r, err := gzip.NewReader(strings.NewReader(file))
	if err != nil {
		t.Fatal(err)
	}
	content, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

// varies reports whether an answer depends on these headers, by default on the one for compression.
func varies(a answer, on string) bool {
	return strings.Join(a.header.Values("Vary"), ", ") == cmp.Or(on, "Accept-Encoding")
}

func TestLongBodiesAreCompressedIfTheClientAcceptsIt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) { // whose clock stands still, so that answers have the same age
		h := handler(large())
		for _, path := range []string{"/stats", "/tags?page_size=1000", "/tags?page_size=1000&order_by=-total"} {
			plain := get(h, path)
			for range 2 {
				zipped := get(h, path, "Accept-Encoding: gzip")
				if zipped.header.Get("Content-Encoding") != "gzip" || unzip(t, zipped.body) != plain.body {
					t.Errorf("%s: encoding %q of %d bytes, want a gzip file of the plain body", path, zipped.header.Get("Content-Encoding"), len(zipped.body))
				}
				if len(zipped.body) > len(plain.body)/2 || zipped.header.Get("Content-Length") != fmt.Sprint(len(zipped.body)) {
					t.Errorf("%s: %d bytes of %d, Content-Length %s", path, len(zipped.body), len(plain.body), zipped.header.Get("Content-Length"))
				}
				etag := strings.TrimPrefix(plain.header.Get("ETag"), "W/")
				vary := map[string]string{"/stats": "Accept, Accept-Encoding"}[path]
				if zipped.header.Get("ETag") != "W/"+etag || !varies(zipped, vary) || !varies(plain, vary) {
					t.Errorf("%s: ETag %s, Vary %q, want the weak form of %s, and Accept-Encoding", path, zipped.header.Get("ETag"), zipped.header.Values("Vary"), etag)
				}
				held := get(h, path, "Accept-Encoding: gzip", "If-None-Match: W/"+etag)
				if held.status != http.StatusNotModified || held.body != "" || held.header.Get("Content-Encoding") != "" {
					t.Errorf("%s: %d, encoding %q, want a bare 304", path, held.status, held.header.Get("Content-Encoding"))
				}
			}
			if got := get(h, path); got.body != plain.body || got.header.Get("Content-Encoding") != "" {
				t.Errorf("%s: compressed although the client does not accept it", path)
			}
		}
		if got := get(handler(several()), "/tags", "Accept-Encoding: gzip"); got.header.Get("Content-Encoding") != "" {
			t.Error("a short body was compressed")
		}
	})
}

func TestHeadOfACompressedBodyHasItsHeaders(t *testing.T) {
	t.Parallel()
	address := serve(t, handler(large())) + "/stats"
	head, body := request(t, http.MethodHead, address, "Accept-Encoding: gzip"), request(t, http.MethodGet, address, "Accept-Encoding: gzip")
	for _, name := range []string{"Content-Encoding", "Content-Length", "Content-Type", "ETag", "Vary"} {
		if got, want := head.header.Get(name), body.header.Get(name); got != want || got == "" {
			t.Errorf("HEAD: %s = %q, want %q", name, got, want)
		}
	}
	if head.body != "" {
		t.Errorf("HEAD: %d bytes", len(head.body))
	}
}

// orderNames are the values of order_by.
var orderNames = []string{"name", "-name", "total", "-total", "updated_at", "-updated_at"}

// orders compare tags by the values of order_by.
var orders = map[string]func(a, b checkpoint.Total) int{
	"name":       func(a, b checkpoint.Total) int { return cmp.Compare(a.Name, b.Name) },
	"total":      func(a, b checkpoint.Total) int { return cmp.Compare(a.Total, b.Total) },
	"updated_at": func(a, b checkpoint.Total) int { return a.UpdatedAt.Compare(b.UpdatedAt) },
}

// Pages of any size, while tags are counted and added: by name, every tag that existed from the beginning is on one page.
// In the other orders a tag moves when it is counted, but a tag that was not counted meanwhile is on one page, and all are in order.
func TestPagesHaveEveryUnchangedTagOnce(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		views := empty()
		h := handler(views)
		counted, moved := make(map[string]checkpoint.Total), make(map[string]bool)
		var clock int
		count := func(label string) {
			clock++
			for _, name := range rapid.SliceOfN(rapid.StringMatching(`[abc_]{3}`), 0, 20).Draw(t, label) {
				total := counted[name]
				moved[name] = clock > 1
				counted[name] = checkpoint.Total{
					Name: name, Total: total.Total + rapid.Int64Range(1, 9).Draw(t, "value"), Increments: total.Increments + 1,
					UpdatedAt: start.Add(time.Duration(clock) * time.Second),
				}
			}
			totals := make([]checkpoint.Total, 0, len(counted))
			for _, total := range counted {
				totals = append(totals, total)
			}
			slices.SortFunc(totals, orders["name"])
			views.show(start.Add(time.Duration(clock)*time.Second), totals...)
		}
		count("at first")
		prefix := rapid.SampledFrom([]string{"", "a", "b_", "zzz"}).Draw(t, "prefix")
		there := make(map[string]int)
		for name := range counted {
			if strings.HasPrefix(name, prefix) {
				there[name] = 0
			}
		}
		order := rapid.SampledFrom(orderNames).Draw(t, "order")
		compare, direction := orders[strings.TrimPrefix(order, "-")], 1
		if strings.HasPrefix(order, "-") {
			direction = -1
		}
		var last *checkpoint.Total
		for token := ""; ; {
			size := rapid.IntRange(1, 10).Draw(t, "size")
			page := getPage(t, h, fmt.Sprintf("prefix=%s&order_by=%s&page_size=%d&page_token=%s", prefix, order, size, token))
			if len(page.Tags) > size {
				t.Fatalf("%d tags on a page of %d", len(page.Tags), size)
			}
			for _, tag := range page.Tags {
				if !strings.HasPrefix(tag.Name, prefix) {
					t.Fatalf("%s has not the prefix %s", tag.Name, prefix)
				}
				there[tag.Name]++
				now := checkpoint.Total{Name: tag.Name, Total: tag.Total, UpdatedAt: tag.UpdatedAt}
				if last != nil && direction*compare(*last, now) > 0 {
					t.Fatalf("%v before %v", *last, now)
				}
				last = &now
			}
			if token = page.NextPageToken; token == "" {
				break
			}
			count("meanwhile")
		}
		for name, n := range there {
			if n != 1 && (!moved[name] || strings.HasSuffix(order, "name")) {
				t.Fatalf("%s is on %d pages", name, n)
			}
		}
	})
}

// Requests for pages may reach different instances in turn, or the same one after a restart.
func TestAnyInstanceTakesThePageTokensOfAnother(t *testing.T) {
	t.Parallel()
	instances := []http.Handler{handler(large()), handler(large()), handler(large())}
	for _, order := range orderNames {
		t.Run(order, func(t *testing.T) {
			t.Parallel()
			seen, token := make(map[string]int), ""
			for n := 0; n == 0 || token != ""; n++ {
				page := getPage(t, instances[n%len(instances)], "page_size=1000&order_by="+order+"&page_token="+token)
				for _, tag := range page.Tags {
					seen[tag.Name]++
				}
				token = page.NextPageToken
			}
			if len(seen) != 55_000 {
				t.Errorf("%d tags, want 55000", len(seen))
			}
			for name, n := range seen {
				if n != 1 {
					t.Fatalf("%s is on %d pages", name, n)
				}
			}
		})
	}
}

func TestEqualTagsAreInTheOrderOfTheirNamesInBothDirections(t *testing.T) {
	t.Parallel()
	views := empty()
	views.show(start,
		checkpoint.Total{Name: "aaa", Total: 1, UpdatedAt: start}, checkpoint.Total{Name: "bbb", Total: 2, UpdatedAt: start},
		checkpoint.Total{Name: "ccc", Total: 1, UpdatedAt: start}, checkpoint.Total{Name: "ddd", Total: 2, UpdatedAt: start},
	)
	for order, want := range map[string]string{
		"total": "aaa ccc bbb ddd", "-total": "bbb ddd aaa ccc", "updated_at": "aaa bbb ccc ddd", "-updated_at": "aaa bbb ccc ddd",
	} {
		for _, size := range []int{1, 3, 4} {
			var got []string
			for token := ""; ; {
				page := getPage(t, handler(views), fmt.Sprintf("order_by=%s&page_size=%d&page_token=%s", order, size, token))
				got = append(got, page.names()...)
				if token = page.NextPageToken; token == "" {
					break
				}
			}
			if got := strings.Join(got, " "); got != want {
				t.Errorf("%s in pages of %d: %s, want %s", order, size, got, want)
			}
		}
	}
}

func BenchmarkTags(b *testing.B) {
	views := large()
	h := handler(views)
	for _, query := range []string{"", "page_size=1000", "order_by=-total", "prefix=tag_b"} {
		b.Run(cmp.Or(query, "100 by name"), func(b *testing.B) {
			w := &silentWriter{header: make(http.Header)}
			r := httptest.NewRequest(http.MethodGet, "/tags?"+query, http.NoBody)
			for b.Loop() {
				h.ServeHTTP(w, r)
			}
		})
	}
}

// Paths that differ only in needless escapes are the same (RFC 3986, section 6.2.2.2). A slash in a name stays part of it.
func TestNeedlessEscapesInPathsDoNotMatter(t *testing.T) {
	t.Parallel()
	address := serve(t, handler(several()))
	for path, status := range map[string]int{
		"/%73tats": http.StatusOK, "/%74ags/%66oo": http.StatusOK, "/tags/foo%2fhistory": http.StatusNotFound, "/tags%2Ffoo": http.StatusNotFound,
		"/%E0%A4": http.StatusNotFound,
	} {
		if got := request(t, http.MethodGet, address+path); got.status != status {
			t.Errorf("%s: %d %s, want %d", path, got.status, got.body, status)
		}
	}
}
