package bench

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// statsServer serves /stats with an entity tag, and a stream that begins with a snapshot and a change.
func statsServer(t *testing.T) *httptest.Server {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/stats/stream":
			_, _ = io.WriteString(w, "event: snapshot\ndata: {\"totals\":{\"a\":1}}\n\nevent: change\ndata: {\"totals\":{\"a\":2,\"b\":1}}\n\n")
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
		case r.Header.Get("If-None-Match") == `"1"`:
			w.WriteHeader(http.StatusNotModified)
		case r.Header.Get("Accept-Encoding") != "gzip":
			w.WriteHeader(http.StatusNotAcceptable)
		default:
			w.Header().Set("Etag", `"1"`)
			_, _ = io.WriteString(w, strings.Repeat("totals", 10_000)) // in chunks
		}
	}))
	t.Cleanup(server.Close)
	return server
}

func TestReads(t *testing.T) {
	t.Parallel()
	server := statsServer(t)
	gzip := http.Header{"Accept-Encoding": {"gzip"}}
	etag, err := present(t.Context(), server.URL, gzip)
	if err != nil || etag != `"1"` {
		t.Fatalf("present() = %q, %v", etag, err)
	}
	known := http.Header{"If-None-Match": {etag}}
	for name, tc := range map[string]struct {
		header http.Header
		status int
		fault  string
	}{
		"whole":                   {gzip, http.StatusOK, ""},
		"unchanged":               {known, http.StatusNotModified, ""},
		"unchanged in its place":  {known, http.StatusOK, "304"},
		"an answer that is wrong": {nil, http.StatusOK, "406"},
	} {
		rate, err := reads(t.Context(), 3, 50*time.Millisecond, server.URL, statsPath, tc.header, tc.status)
		if tc.fault == "" && (err != nil || rate <= 0) || tc.fault != "" && (err == nil || !strings.Contains(err.Error(), tc.fault)) {
			t.Errorf("%s: %v a second, %v, want an error with %q", name, rate, err, tc.fault)
		}
	}
}

func TestReadsEndWithTheirContext(t *testing.T) {
	t.Parallel()
	stuck := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	defer stuck.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := reads(ctx, 2, time.Hour, stuck.URL, statsPath, nil, http.StatusOK); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("reads() = %v", err)
	}
}

func TestFollowCountsChangesAndEndsWithItsContext(t *testing.T) {
	t.Parallel()
	server := statsServer(t)
	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	var size, seen atomic.Int64
	ended := make(chan error, 2)
	go func() { ended <- follow(ctx, server.URL, true, &size, &seen) }()
	go func() { ended <- follow(ctx, server.URL, false, &size, &seen) }()
	const each = int64(len("event: snapshot\ndata: {\"totals\":{\"a\":1}}\n\nevent: change\ndata: {\"totals\":{\"a\":2,\"b\":1}}\n\n"))
	for deadline := time.Now().Add(10 * time.Second); seen.Load() < 3 || size.Load() < 2*each; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d changes in %d bytes, want 3 in %d", seen.Load(), size.Load(), 2*each)
		}
	}
	leave()
	for range 2 {
		if err := <-ended; err != nil {
			t.Errorf("follow() = %v", err)
		}
	}
	if seen.Load() != 3 || size.Load() != 2*each {
		t.Errorf("%d changes in %d bytes, want 3 in %d", seen.Load(), size.Load(), 2*each)
	}
}

func TestFollowFailsWhenItsStreamEnds(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]func(http.ResponseWriter){
		"a stream that ends": func(w http.ResponseWriter) { _, _ = io.WriteString(w, "event: snapshot\n") },
		"a refusal":          func(w http.ResponseWriter) { w.WriteHeader(http.StatusServiceUnavailable) },
	} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { answer(w) }))
		var size, seen atomic.Int64
		if err := follow(t.Context(), server.URL, false, &size, &seen); err == nil {
			t.Errorf("%s: no error", name)
		}
		server.Close()
	}
}
