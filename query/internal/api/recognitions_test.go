package api_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/accrue/accrue/pkg/database/databasetest"
	"github.com/accrue/accrue/pkg/store"
	storeembedded "github.com/accrue/accrue/pkg/store/embedded"
)

type latest struct {
	Recognitions []struct {
		Contributor   string    `json:"contributor"`
		Tier          int64     `json:"tier"`
		Contributions int64     `json:"contributions"`
		RecognizedAt  time.Time `json:"recognized_at"`
	} `json:"recognitions"`
	AsOf  time.Time `json:"as_of"`
	LagMS *int64    `json:"lag_ms"`
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
		body := decode[latest](t, got)
		if len(body.Recognitions) != want || time.Since(body.AsOf).Abs() > time.Minute || body.LagMS == nil || *body.LagMS < 0 {
			t.Errorf("%s: %d recognitions as of %v, %v ms ago, want %d", path, len(body.Recognitions), body.AsOf, body.LagMS, want)
		}
		for i, r := range body.Recognitions {
			if r.Contributor != fmt.Sprint(i) {
				t.Errorf("%s: number %d is %+v", path, i, r)
			}
		}
	}
	for _, query := range []string{"page_size=0", "page_size=x", "page_size=1&page_size=2", "page_token=x"} {
		wantProblem(t, request(t, http.MethodGet, address+"/recognitions?"+query), http.StatusBadRequest)
	}
	if got := request(t, http.MethodGet, serveContributors(t, databasetest.Store(t))+"/recognitions"); !strings.HasPrefix(got.body, `{"recognitions":[],`) {
		t.Errorf("without recognitions: %s", got.body)
	}
}

// countingStore counts the reads for requests, each of which takes a while.
type countingStore struct {
	*storeembedded.Store
	reads atomic.Int64
	takes time.Duration
}

func (s *countingStore) read() {
	s.reads.Add(1)
	time.Sleep(s.takes)
}

func (s *countingStore) Latest(ctx context.Context, limit int) ([]store.Recognition, time.Time, error) {
	s.read()
	return s.Store.Latest(ctx, limit)
}

func (s *countingStore) Standing(ctx context.Context, id string) (store.Standing, error) {
	s.read()
	return s.Store.Standing(ctx, id)
}

func (s *countingStore) Contributors(ctx context.Context, order store.Order, after store.Contributor, limit int) ([]store.Contributor, time.Time, error) {
	s.read()
	return s.Store.Contributors(ctx, order, after, limit)
}

func TestFailingReadOfRecognitionsIs503(t *testing.T) {
	t.Parallel()
	wantProblem(t, request(t, http.MethodGet, serveContributors(t, silentStore{})+"/recognitions"), http.StatusServiceUnavailable)
}

// silentStore does not know the latest recognitions.
type silentStore struct{ *storeembedded.Store }

func (silentStore) Latest(context.Context, int) ([]store.Recognition, time.Time, error) {
	return nil, time.Time{}, context.DeadlineExceeded
}
