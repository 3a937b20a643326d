package api_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"github.com/accrue/accrue/pkg/database/databasetest"
	"github.com/accrue/accrue/pkg/service/web"
	"github.com/accrue/accrue/pkg/store"
	storeembedded "github.com/accrue/accrue/pkg/store/embedded"
	"github.com/accrue/accrue/query/internal/api"
)

// odd are ids as only outsiders think of them.
func odd() []string {
	return []string{
		"ada", "Ada", "ADA", "a/b", "a%2Fb", "a%252Fb", "/", "//", "a/", "/a", ".", "..", "../stats", "./", "...", "a/../b",
		"__x__", "__init__", "👩‍💻", "é", "e\u0301", strings.Repeat("𝒳", 128), strings.Repeat("/", 128), strings.Repeat("%", 128),
		" ", "a b", "a+b", "+", "a+b/c", "a?b=c", "a#b", "a;b", "a:3", "*", ":id", "%", "%zz", `"`, `\`, "<&>", "\u2028", "\ufffe",
	}
}

// counted makes a store in which the contributors have 1, 2, 3, 4, 5, 1, 2... contributions, in their order, and those
// with three or more are recognized for that.
func counted(t *testing.T, ids ...string) *storeembedded.Store {
	t.Helper()
	s := databasetest.Store(t)
	commit := store.Commit{Next: (&store.State{}).Checkpoint.Next(start, time.Hour, nil, nil)}
	for i, id := range ids {
		commit.Contributors = append(commit.Contributors, store.Contributions{Contributor: id, Contributions: int64(1 + i%5)})
	}
	if _, err := s.Commit(t.Context(), commit); err != nil {
		t.Fatal(err)
	}
	for i, id := range ids {
		if n := int64(1 + i%5); n >= 3 {
			if err := s.Recognize(t.Context(), store.Recognition{Contributor: id, Tier: 3, Contributions: n, RecognizedAt: start}); err != nil {
				t.Fatal(err)
			}
		}
	}
	return s
}

func serveContributors(t *testing.T, s api.Contributors) (address string) {
	t.Helper()
	return serve(t, newHandler(empty(), s, nil, web.Base{}))
}

func decode[T any](t *testing.T, a answer) (body T) {
	t.Helper()
	decoder := json.NewDecoder(strings.NewReader(a.body))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&body); err != nil || a.status != http.StatusOK {
		t.Fatalf("%d %s: %v", a.status, a.body, err)
	}
	return body
}

type contributor struct {
	ID             string `json:"id"`
	Contributions  int64  `json:"contributions"`
	RecognizedTier int64  `json:"recognized_tier"`
	UpdatedAt      string `json:"updated_at"`
}

type one struct {
	contributor
	NextTier     int64 `json:"next_tier"`
	Recognitions []struct {
		Tier          int64  `json:"tier"`
		Contributions int64  `json:"contributions"`
		RecognizedAt  string `json:"recognized_at"`
	} `json:"recognitions"`
	AsOf  time.Time `json:"as_of"`
	LagMS *int64    `json:"lag_ms"`
}

type list struct {
	Contributors  []contributor `json:"contributors"`
	NextPageToken string        `json:"next_page_token"`
	AsOf          time.Time     `json:"as_of"`
	LagMS         *int64        `json:"lag_ms"`
}

func TestContributorAnswersContributionsAndTheTiersReached(t *testing.T) {
	t.Parallel()
	s := counted(t, "one", "two", "ada")
	got := request(t, http.MethodGet, serveContributors(t, s)+"/contributors/ada")
	const want = `{"id":"ada","contributions":3,"recognized_tier":3,"updated_at":"2026-11-23T06:00:00.123Z",` +
		`"recognitions":[{"tier":3,"contributions":3,"recognized_at":"2026-11-23T06:00:00.123Z"}],"as_of":"`
	if got.status != http.StatusOK || !strings.HasPrefix(got.body, want) || got.header.Get("Content-Type") != "application/json" {
		t.Errorf("%d %s\nwant %s…", got.status, got.body, want)
	}
	body := decode[one](t, got)
	if time.Since(body.AsOf).Abs() > time.Minute || body.LagMS == nil || *body.LagMS < 0 || *body.LagMS > 60_000 {
		t.Errorf("as of %v, %v ms ago", body.AsOf, body.LagMS)
	}
	if got := request(t, http.MethodGet, serveContributors(t, s)+"/contributors/one"); !strings.Contains(got.body, `"recognitions":[]`) {
		t.Errorf("without recognitions: %s", got.body)
	}
}

func TestUnusualIDsAreDistinctOverHTTP(t *testing.T) {
	t.Parallel()
	ids := odd()
	address := serveContributors(t, counted(t, ids...))
	for i, id := range ids {
		for name, path := range map[string]string{"escaped": url.PathEscape(id), "escaped whole": escapeAll(id)} {
			t.Run(fmt.Sprintf("%.20q %s", id, name), func(t *testing.T) {
				t.Parallel()
				for _, method := range []string{http.MethodGet, http.MethodHead} {
					got := request(t, method, address+"/contributors/"+path)
					if got.status != http.StatusOK {
						t.Fatalf("%s %s: %d %s", method, path, got.status, got.body)
					}
					if method == http.MethodHead {
						continue
					}
					if body := decode[one](t, got); body.ID != id || body.Contributions != int64(1+i%5) {
						t.Errorf("%s is %+v, want %q with %d contributions", path, body, id, 1+i%5)
					}
				}
			})
		}
	}
}

// escapeAll escapes every byte, which RFC 3986 allows.
func escapeAll(s string) string {
	var b strings.Builder
	for i := range len(s) {
		fmt.Fprintf(&b, "%%%02x", s[i])
	}
	return b.String()
}

func TestUnknownContributorsAreNotFound(t *testing.T) {
	t.Parallel()
	address := serveContributors(t, counted(t, "ada", "a/b"))
	for name, path := range map[string]string{
		"unknown":            "bob",
		"of another case":    "Ada",
		"empty":              "",
		"a slash too many":   "ada/",
		"an unescaped slash": "a/b",
		"no text":            "%ff",
		"a control":          "a%0ab",
		"too long":           strings.Repeat("a", 129),
		"dots":               "..",
		"a path below":       "ada/recognitions",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			wantProblem(t, request(t, http.MethodGet, address+"/contributors/"+path), http.StatusNotFound)
		})
	}
	d := wantProblem(t, request(t, http.MethodGet, address+"/contributors/ada?x=1"), http.StatusBadRequest)
	if len(d.Errors) != 1 || d.Errors[0].Parameter != "x" {
		t.Errorf("faults = %v", d.Errors)
	}
	if got := request(t, http.MethodPost, address+"/contributors/ada"); got.status != http.StatusMethodNotAllowed {
		t.Errorf("POST: %d, want 405", got.status)
	}
}

func TestContributorsInEveryOrderInPagesOfEverySize(t *testing.T) {
	t.Parallel()
	ids := odd()
	address := serveContributors(t, counted(t, ids...))
	for order, sorted := range map[string]func(a, b contributor) bool{
		"":               func(a, b contributor) bool { return store.ContributorID(a.ID) < store.ContributorID(b.ID) },
		"id":             func(a, b contributor) bool { return store.ContributorID(a.ID) < store.ContributorID(b.ID) },
		"contributions":  func(a, b contributor) bool { return a.Contributions <= b.Contributions },
		"-contributions": func(a, b contributor) bool { return a.Contributions >= b.Contributions },
	} {
		for _, size := range []int{1, 7, len(ids), 1000} {
			t.Run(fmt.Sprintf("%s in pages of %d", order, size), func(t *testing.T) {
				t.Parallel()
				var all []contributor
				parameters := url.Values{"page_size": {fmt.Sprint(size)}}
				if order != "" {
					parameters.Set("order_by", order)
				}
				for {
					page := decode[list](t, request(t, http.MethodGet, address+"/contributors?"+parameters.Encode()))
					all = append(all, page.Contributors...)
					if len(page.Contributors) > size || page.LagMS == nil || time.Since(page.AsOf).Abs() > time.Minute {
						t.Fatalf("a page of %d as of %v", len(page.Contributors), page.AsOf)
					}
					if page.NextPageToken == "" {
						break
					}
					if len(page.Contributors) != size || len(all) > len(ids) {
						t.Fatalf("a page of %d, and not the last, after %d", len(page.Contributors), len(all))
					}
					parameters.Set("page_token", page.NextPageToken)
				}
				got := make([]string, 0, len(all))
				for i, c := range all {
					got = append(got, c.ID)
					if i > 0 && !sorted(all[i-1], c) {
						t.Errorf("%+v stands before %+v", all[i-1], c)
					}
				}
				slices.Sort(got)
				if want := slices.Sorted(slices.Values(ids)); !slices.Equal(got, want) {
					t.Errorf("listed %q, want %q", got, want)
				}
			})
		}
	}
}

func TestContributorsWithAPrefix(t *testing.T) {
	t.Parallel()
	ids := odd()
	address := serveContributors(t, counted(t, ids...))
	for _, id := range ids {
		prefix := string([]rune(id)[:1])
		var want, got []string
		for _, other := range ids {
			if strings.HasPrefix(other, prefix) {
				want = append(want, other)
			}
		}
		parameters := url.Values{"page_size": {"2"}, "prefix": {prefix}}
		for token := "-"; token != "" && len(got) <= len(want); {
			page := decode[list](t, request(t, http.MethodGet, address+"/contributors?"+parameters.Encode()))
			for _, c := range page.Contributors {
				got = append(got, c.ID)
			}
			token = page.NextPageToken
			parameters.Set("page_token", token)
		}
		slices.Sort(want)
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("with %q: %q, want %q", prefix, got, want)
		}
	}
}

func TestNoContributorsAreAnEmptyPage(t *testing.T) {
	t.Parallel()
	got := request(t, http.MethodGet, serveContributors(t, databasetest.Store(t))+"/contributors")
	if got.status != http.StatusOK || !strings.HasPrefix(got.body, `{"contributors":[],"as_of":"`) {
		t.Errorf("%d %s", got.status, got.body)
	}
}

func TestProblemNamesEveryWrongParameter(t *testing.T) {
	t.Parallel()
	address := serveContributors(t, counted(t, "a", "b", "c"))
	token := func(order string) string {
		page := decode[list](t, request(t, http.MethodGet, address+"/contributors?page_size=1&order_by="+order))
		return page.NextPageToken
	}
	for query, want := range map[string][]string{
		"page_size=0":                          {"page_size"},
		"page_size=1001":                       {"valid"},
		"page_size=0x10":                       {"page_size"},
		"page_size=-1":                         {"page_size"},
		"page_size=ten":                        {"page_size"},
		"page_size=1.5":                        {"page_size"},
		"page_size=":                           {"page_size"},
		"page_size=99999999999999999999":       {"page_size"},
		"page_size=1&page_size=1":              {"page_size"},
		"order_by=-id":                         {"order_by"},
		"order_by=":                            {"order_by"},
		"order_by=ID":                          {"order_by"},
		"order_by=name&page_size=0&x=1":        {"order_by", "page_size", "x"},
		"page_token=x":                         {"page_token"},
		"page_token=" + token("id") + "A":      {"page_token"},
		"page_token=" + token("contributions"): {"page_token"},
		"order_by=contributions&page_token=" + token("id"):             {"page_token"},
		"order_by=-contributions&page_token=" + token("contributions"): {"page_token"},
		"prefix=":                            {"prefix"},
		"prefix=%00":                         {"prefix"},
		"prefix=a":                           {"valid"},
		"prefix=a&order_by=id":               {"valid"},
		"prefix=a&order_by=contributions":    {"prefix"},
		"prefix=b&page_token=" + token("id"): {"page_token"},
		"prefix=" + strings.Repeat("a", 129): {"prefix"},
		"a=%zz":                              nil,
		"order_by=id":                        {"valid"},
		"page_token=":                        {"valid"},
		"order_by=-contributions&page_size=1000&page_token=" + token("-contributions"): {"valid"},
	} {
		t.Run(query, func(t *testing.T) {
			t.Parallel()
			got := request(t, http.MethodGet, address+"/contributors?"+query)
			if reflect.DeepEqual(want, []string{"valid"}) {
				if got.status != http.StatusOK {
					t.Errorf("%d %s", got.status, got.body)
				}
				return
			}
			d := wantProblem(t, got, http.StatusBadRequest)
			var faults []string
			for _, fault := range d.Errors {
				faults = append(faults, fault.Parameter)
			}
			if !slices.Equal(faults, want) {
				t.Errorf("faults of %q, want of %q", faults, want)
			}
		})
	}
}

// hangingStore blocks every read until its context ends, and counts concurrent reads.
type hangingStore struct {
	mu          sync.Mutex
	asked, most int
}

func (s *hangingStore) hang(ctx context.Context) error {
	s.mu.Lock()
	s.asked++
	s.most = max(s.most, s.asked)
	s.mu.Unlock()
	<-ctx.Done()
	s.mu.Lock()
	s.asked--
	s.mu.Unlock()
	return ctx.Err()
}

func (s *hangingStore) Standing(ctx context.Context, _ string) (store.Standing, error) {
	return store.Standing{}, s.hang(ctx)
}

func (s *hangingStore) Contributors(ctx context.Context, _ store.Order, _ store.Contributor, _ int) ([]store.Contributor, time.Time, error) {
	return nil, time.Time{}, s.hang(ctx)
}

func (s *hangingStore) ContributorsWith(ctx context.Context, _ string, _ store.Contributor, _ int) ([]store.Contributor, time.Time, error) {
	return nil, time.Time{}, s.hang(ctx)
}

func (s *hangingStore) Recognitions(ctx context.Context, _ store.RecognitionFilter, _ store.Recognition, _ int) ([]store.Recognition, time.Time, error) {
	return nil, time.Time{}, s.hang(ctx)
}

func TestReadsOfAHangingStoreTimeOut(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &hangingStore{}
		var log bytes.Buffer
		handler := newHandler(empty(), s, nil, web.Base{Log: zerolog.New(&log)})
		var requests sync.WaitGroup
		for i := range 100 {
			requests.Go(func() {
				w := &silentWriter{header: make(http.Header)}
				r := newRequest(t)
				r.URL.Path = []string{"/contributors", fmt.Sprint("/contributors/", i), "/recognitions"}[i%3]
				began := time.Now()
				handler.ServeHTTP(w, r)
				if w.status != http.StatusServiceUnavailable || w.header.Get("Retry-After") == "" || time.Since(began) > 3*time.Second {
					t.Errorf("%d, Retry-After %q, after %v", w.status, w.header.Get("Retry-After"), time.Since(began))
				}
			})
		}
		requests.Wait()
		if s.most > 32 {
			t.Errorf("%d reads at once", s.most)
		}
		if lines := strings.Count(log.String(), "\n"); lines != 3 { // failed reads, answers of 5xx, and slow answers
			t.Errorf("logged %d lines, want 3", lines)
		}
	})
}

// failingStore fails at once.
type failingStore struct{ *hangingStore }

func (failingStore) Standing(context.Context, string) (store.Standing, error) {
	return store.Standing{}, errors.New("secret: out of cheese")
}

func TestFailingStoreIs503WithoutInternals(t *testing.T) {
	t.Parallel()
	got := request(t, http.MethodGet, serveContributors(t, failingStore{})+"/contributors/ada")
	wantProblem(t, got, http.StatusServiceUnavailable)
	if strings.Contains(got.body, "cheese") {
		t.Errorf("the answer shows internals: %s", got.body)
	}
}

func TestIdenticalReadsAreSharedForASecond(t *testing.T) {
	t.Parallel()
	for path, other := range map[string]string{
		"/contributors?page_size=10": "/contributors?page_size=11", "/contributors/7": "/contributors/8", "/contributors/x": "/contributors/y",
		"/recognitions?page_size=10": "/recognitions?page_size=11",
	} {
		t.Run(path, func(t *testing.T) {
			t.Parallel()
			s := &countingStore{Store: recognized(t, 40), takes: 100 * time.Millisecond}
			synctest.Test(t, func(t *testing.T) {
				h := newHandler(empty(), s, nil, web.Base{})
				var requests sync.WaitGroup
				for range 100 {
					requests.Go(func() { get(h, path) })
				}
				requests.Wait()
				get(h, path)
				if n := s.reads.Load(); n != 1 {
					t.Errorf("%d reads for 101 identical requests, want 1", n)
				}
				get(h, other)
				if n := s.reads.Load(); n != 2 {
					t.Errorf("%d reads after a different request, want 2", n)
				}
				time.Sleep(time.Second)
				get(h, path)
				if n := s.reads.Load(); n != 3 {
					t.Errorf("%d reads a second later, want 3", n)
				}
				time.Sleep(2 * time.Second) // the timers of shared results
			})
		})
	}
}

func TestReadsBeyondTheBudgetAre429(t *testing.T) {
	t.Parallel()
	ids := make([]string, 1200)
	for i := range ids {
		ids[i] = fmt.Sprintf("c%04d", i)
	}
	s := counted(t, ids...)
	synctest.Test(t, func(t *testing.T) {
		h := newHandler(empty(), s, nil, web.Base{})
		answers := make(map[int]int)
		ask := func(n int) {
			for i := range n {
				got := get(h, fmt.Sprintf("/contributors?page_size=%d", 1000-i))
				if answers[got.status]++; got.status != http.StatusOK {
					wantProblem(t, got, http.StatusTooManyRequests)
					if got.header.Get("Retry-After") != "1" {
						t.Errorf("Retry-After = %q, want 1", got.header.Get("Retry-After"))
					}
				}
			}
		}
		ask(50)
		if answers[http.StatusOK] > 6 || answers[http.StatusOK] < 4 {
			t.Errorf("%d pages of 1000 at once, want some 5", answers[http.StatusOK])
		}
		clear(answers)
		for range 10 {
			time.Sleep(1100 * time.Millisecond) // longer than results are shared
			ask(5)
		}
		if n := answers[http.StatusOK]; n < 9 || n > 12 {
			t.Errorf("%d pages of 1000 in 11 s, want some 11", n)
		}
		if got := get(h, "/tags"); got.status != http.StatusServiceUnavailable { // there is no view
			t.Errorf("/tags: %d: the budget is of reads alone", got.status)
		}
		time.Sleep(2 * time.Second)
	})
}

// net/http ends a request's context when the client half-closes its connection, which still waits for the answer.
func TestReadsDoNotEndWithTheContextOfTheRequest(t *testing.T) {
	t.Parallel()
	h := newHandler(empty(), counted(t, "ada"), nil, web.Base{})
	for _, path := range []string{"/contributors", "/contributors/ada", "/recognitions"} {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequestWithContext(ctx, http.MethodGet, path, http.NoBody))
		if w.Code != http.StatusOK {
			t.Errorf("%s: %d %s", path, w.Code, w.Body)
		}
	}
}

func TestContributorsHaveETags(t *testing.T) {
	t.Parallel()
	h := newHandler(empty(), counted(t, odd()...), nil, web.Base{})
	for _, path := range []string{"/contributors", "/contributors/" + escapeAll(odd()[0]), "/recognitions"} {
		first := get(h, path)
		if got := get(h, path, "If-None-Match: "+first.header.Get("ETag")); first.status != http.StatusOK || got.status != http.StatusNotModified || got.body != "" {
			t.Errorf("%s: %d with ETag %q, then %d", path, first.status, first.header.Get("ETag"), got.status)
		}
	}
}

func TestTheNextTierIsTheFirstAboveThatOfTheLastRecognition(t *testing.T) {
	t.Parallel()
	ids := []string{"ada", "grace", "linus"} // with 1, 2 and 3 contributions
	s := counted(t, ids...)
	for _, tc := range []struct {
		tiers []int64
		want  [3]int64
	}{{[]int64{3}, [3]int64{3, 3, 0}}, {[]int64{1, 3, 10}, [3]int64{1, 1, 10}}, {nil, [3]int64{}}} {
		handler, err := api.New(empty(), s, nil, api.Settings{Tiers: tc.tiers}, web.Base{})
		if err != nil {
			t.Fatal(err)
		}
		address := serve(t, handler)
		for i, id := range ids {
			var body struct {
				NextTier int64 `json:"next_tier"`
			}
			a := request(t, http.MethodGet, address+"/contributors/"+id)
			if err := json.Unmarshal([]byte(a.body), &body); err != nil || body.NextTier != tc.want[i] || strings.Contains(a.body, "next_tier") != (tc.want[i] > 0) {
				t.Errorf("of the tiers %v: %s, want %d", tc.tiers, a.body, tc.want[i])
			}
		}
	}
}
