package local

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"
)

func TestPostsAreHeldAndReadsAreNot(t *testing.T) {
	t.Parallel()
	served := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusAccepted) })
	for _, tc := range []struct {
		method         string
		hold           time.Duration
		gone, stopping time.Duration // after which the client is gone, or the process stops
		want           time.Duration
	}{
		{http.MethodPost, 0, time.Hour, time.Hour, 0},
		{http.MethodPost, time.Second, time.Hour, time.Hour, time.Second},
		{http.MethodGet, time.Second, time.Hour, time.Hour, 0},
		{http.MethodPost, time.Second, 300 * time.Millisecond, time.Hour, 300 * time.Millisecond},
		{http.MethodPost, time.Second, time.Hour, 200 * time.Millisecond, 200 * time.Millisecond},
	} {
		synctest.Test(t, func(t *testing.T) {
			running, stop := context.WithTimeout(t.Context(), tc.stopping)
			defer stop()
			ctx, cancel := context.WithTimeout(t.Context(), tc.gone)
			defer cancel()
			began, answer := time.Now(), httptest.NewRecorder()
			holdPosts(running, tc.hold, served).ServeHTTP(answer, httptest.NewRequestWithContext(ctx, tc.method, "/increments", http.NoBody))
			if took := time.Since(began); took != tc.want || answer.Code != http.StatusAccepted {
				t.Errorf("%s held for %v: answered %d after %v, want %v", tc.method, tc.hold, answer.Code, took, tc.want)
			}
		})
	}
}
