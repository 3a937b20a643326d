package api_test

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/accrue/accrue/pkg/database/databasetest"
	"github.com/accrue/accrue/pkg/store"
	storeembedded "github.com/accrue/accrue/pkg/store/embedded"
)

type recognitions struct {
	Recognitions []struct {
		Contributor   string    `json:"contributor"`
		Tier          int64     `json:"tier"`
		Contributions int64     `json:"contributions"`
		RecognizedAt  time.Time `json:"recognized_at"`
	} `json:"recognitions"`
	NextPageToken string    `json:"next_page_token"`
	AsOf          time.Time `json:"as_of"`
	LagMS         *int64    `json:"lag_ms"`
}

// recognized makes a store with n recognitions, the first of them the latest, an hour each before the next.
func recognized(t *testing.T, n int) *storeembedded.Store {
	t.Helper()
	s := databasetest.Store(t)
	commit := store.Commit{Next: (&store.State{}).Checkpoint.Next(start, time.Hour, nil, nil)}
	for i := range n {
		commit.Contributors = append(commit.Contributors, store.Contributions{Contributor: fmt.Sprint(i), Contributions: 4})
	}
	if _, err := s.Commit(t.Context(), commit); err != nil {
		t.Fatal(err)
	}
	for i := range n {
		r := store.Recognition{Contributor: fmt.Sprint(i), Tier: 3, Contributions: 4, RecognizedAt: start.Add(-time.Duration(i) * time.Hour)}
		if err := s.Recognize(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

func TestLatestRecognitionsComeFirst(t *testing.T) {
	t.Parallel()
	address := serveContributors(t, recognized(t, 120))
	for path, want := range map[string]int{"": 20, "?page_size=1": 1, "?page_size=100": 100, "?page_size=101": 100} {
		got := request(t, http.MethodGet, address+"/recognitions"+path)
		const first = `{"recognitions":[{"contributor":"0","tier":3,"contributions":4,"recognized_at":"2026-11-23T06:00:00.123Z"}`
		if !strings.HasPrefix(got.body, first) || got.header.Get("Content-Type") != "application/json" {
			t.Errorf("%s: %.200s\nwant %s…", path, got.body, first)
		}
		body := decode[recognitions](t, got)
		if len(body.Recognitions) != want || time.Since(body.AsOf).Abs() > time.Minute || body.LagMS == nil || *body.LagMS < 0 {
			t.Errorf("%s: %d recognitions as of %v, %v ms ago, want %d", path, len(body.Recognitions), body.AsOf, body.LagMS, want)
		}
		for i, r := range body.Recognitions {
			if r.Contributor != fmt.Sprint(i) {
				t.Errorf("%s: number %d is %+v", path, i, r)
			}
		}
	}
	for _, query := range []string{
		"page_size=0", "page_size=x", "page_size=1&page_size=2", "page_token=x", "tier=0", "tier=x", "tier=9223372036854775808", "since=yesterday",
		"contributor=", "contributor=%00", "before=2026-11-23T06:00:00Z",
	} {
		wantProblem(t, request(t, http.MethodGet, address+"/recognitions?"+query), http.StatusBadRequest)
	}
	if got := request(t, http.MethodGet, serveContributors(t, databasetest.Store(t))+"/recognitions"); !strings.HasPrefix(got.body, `{"recognitions":[],`) {
		t.Errorf("without recognitions: %s", got.body)
	}
}

func TestRecognitionsAreFilteredInStatelessPages(t *testing.T) {
	t.Parallel()
	s := recognized(t, 30)
	for i := range 10 { // of a second tier, the first of them later than all others
		r := store.Recognition{Contributor: fmt.Sprint(i), Tier: 4, Contributions: 4, RecognizedAt: start.Add(time.Duration(1-i) * time.Hour)}
		if err := s.Recognize(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	// Any instance continues a list.
	addresses := []string{serveContributors(t, s), serveContributors(t, s)}
	since := url.QueryEscape(start.Add(-5 * time.Hour).Format(time.RFC3339Nano))
	for query, want := range map[string]int{
		"": 40, "tier=3": 30, "tier=4": 10, "tier=5": 0, "since=" + since: 13, "tier=4&since=" + since: 7, "contributor=2": 2,
		"contributor=2&tier=4": 1, "contributor=nobody": 0,
	} {
		t.Run(query, func(t *testing.T) {
			t.Parallel()
			seen := make(map[string]bool)
			last := start.Add(24 * time.Hour)
			for token, n := "", 0; n == 0 || token != ""; n++ {
				body := decode[recognitions](t, request(t, http.MethodGet, addresses[n%2]+"/recognitions?page_size=3&"+query+pageToken(token)))
				if len(body.Recognitions) > 3 || (len(body.Recognitions) < 3 && body.NextPageToken != "") {
					t.Fatalf("page %d has %d recognitions, next %q", n, len(body.Recognitions), body.NextPageToken)
				}
				for _, r := range body.Recognitions {
					if r.RecognizedAt.After(last) {
						t.Errorf("%+v comes after %v", r, last)
					}
					last, seen[fmt.Sprint(r.Contributor, r.Tier)] = r.RecognizedAt, true
				}
				token = body.NextPageToken
			}
			if len(seen) != want {
				t.Errorf("%d recognitions, want %d", len(seen), want)
			}
		})
	}
	token := decode[recognitions](t, request(t, http.MethodGet, addresses[0]+"/recognitions?page_size=3&tier=3")).NextPageToken
	wantProblem(t, request(t, http.MethodGet, addresses[0]+"/recognitions?tier=4"+pageToken(token)), http.StatusBadRequest)
}

func pageToken(token string) string {
	if token == "" {
		return ""
	}
	return "&page_token=" + token
}

// countingStore counts the reads for requests, each of which takes a while, and the documents that they return.
type countingStore struct {
	*storeembedded.Store
	reads, documents atomic.Int64
	takes            time.Duration
}

func (s *countingStore) read(documents int) {
	s.reads.Add(1)
	s.documents.Add(int64(documents))
	time.Sleep(s.takes)
}

func (s *countingStore) Recognitions(
	ctx context.Context, filter store.RecognitionFilter, after store.Recognition, limit int,
) ([]store.Recognition, time.Time, error) {
	page, asOf, err := s.Store.Recognitions(ctx, filter, after, limit)
	s.read(len(page))
	return page, asOf, err
}

func (s *countingStore) Standing(ctx context.Context, id string) (store.Standing, error) {
	standing, err := s.Store.Standing(ctx, id)
	s.read(1 + len(standing.Recognitions))
	return standing, err
}

func (s *countingStore) Contributors(ctx context.Context, order store.Order, after store.Contributor, limit int) ([]store.Contributor, time.Time, error) {
	page, asOf, err := s.Store.Contributors(ctx, order, after, limit)
	s.read(len(page))
	return page, asOf, err
}

func (s *countingStore) ContributorsWith(ctx context.Context, prefix string, after store.Contributor, limit int) ([]store.Contributor, time.Time, error) {
	page, asOf, err := s.Store.ContributorsWith(ctx, prefix, after, limit)
	s.read(len(page))
	return page, asOf, err
}

// A page costs one read of the store, of one document more than it has: whether there is a next page.
func TestAPageCostsADocumentMoreThanItHas(t *testing.T) {
	t.Parallel()
	counting := &countingStore{Store: recognized(t, 200)}
	address := serveContributors(t, counting)
	for path, most := range map[string]int64{
		"/recognitions": 21, "/recognitions?page_size=100": 101, "/recognitions?page_size=100000": 101, "/recognitions?tier=3&page_size=5": 6,
		"/recognitions?tier=4": 0, "/recognitions?contributor=7": 1, "/contributors?page_size=9": 10, "/contributors?prefix=1&page_size=9": 10,
		"/contributors?prefix=17": 11, "/contributors?prefix=x": 0,
	} {
		for range 3 { // which share the read
			counting.reads.Store(0)
			counting.documents.Store(0)
			if got := request(t, http.MethodGet, address+path); got.status != http.StatusOK {
				t.Fatalf("%s: %d %s", path, got.status, got.body)
			}
			if reads, documents := counting.reads.Load(), counting.documents.Load(); reads > 1 || documents > most {
				t.Errorf("%s: %d reads of %d documents, want one of %d", path, reads, documents, most)
			}
		}
	}
}

func TestFailingReadOfRecognitionsIs503(t *testing.T) {
	t.Parallel()
	wantProblem(t, request(t, http.MethodGet, serveContributors(t, silentStore{})+"/recognitions"), http.StatusServiceUnavailable)
}

// silentStore does not know recognitions.
type silentStore struct{ *storeembedded.Store }

func (silentStore) Recognitions(context.Context, store.RecognitionFilter, store.Recognition, int) ([]store.Recognition, time.Time, error) {
	return nil, time.Time{}, context.DeadlineExceeded
}
