package e2e_test

import (
	"context"
	"fmt"
	"net/url"
	"sync/atomic"
	"testing"
	"time"

	accrue "github.com/accrue/accrue/clients/go"
)

// A program counts a million increments with the Go client while ingest is killed three times.
func TestGoClientCountsAMillionThroughKills(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("counts a million")
	}
	const entries, tags = 1_000_000, 500
	s := newSystem(t)
	ingest, query := s.start(t, "ingest"), s.start(t, "query")
	s.start(t, "aggregator")
	address, err := url.Parse(ingest.url)
	if err != nil {
		t.Fatal(err)
	}
	var counted, retries atomic.Int64
	c, err := accrue.New(accrue.Config{
		URL: ingest.url, Posts: 8,
		Report: func(o accrue.Outcome) {
			if o.Err != nil {
				t.Errorf("%d entries: %v", len(o.Entries), o.Err)
				return
			}
			counted.Add(int64(len(o.Entries)))
		},
		ReportRetry: func(accrue.Retry) { retries.Add(1) },
	})
	if err != nil {
		t.Fatal(err)
	}
	want := make(map[string]int64, tags)
	began := time.Now()
	added := make(chan error, 1)
	go func() {
		for i := range entries {
			e := accrue.Entry{Name: fmt.Sprintf("tag_%c%c", 'a'+i%tags/26, 'a'+i%tags%26), Value: int64(1 + i%9)}
			if err := c.Add(context.Background(), e); err != nil {
				added <- err
				return
			}
			want[e.Name] += e.Value
		}
		added <- nil
	}()
	for _, at := range []int64{entries / 10, entries / 3, entries / 2} {
		await(t, fmt.Sprintf("%d entries counted", at), time.Minute, func() error {
			if n := counted.Load(); n < at {
				return fmt.Errorf("%d", n)
			}
			return nil
		})
		before := retries.Load()
		ingest.kill()
		await(t, "a retry", time.Minute, func() error {
			if retries.Load() == before {
				return fmt.Errorf("%d entries counted without one", counted.Load())
			}
			return nil
		})
		ingest = s.startAt(t, "ingest", address.Port())
	}
	if err := <-added; err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	if err := c.Close(ctx); err != nil {
		t.Fatal(err)
	}
	if n := counted.Load(); n != entries {
		t.Errorf("%d entries reported as counted, want %d", n, entries)
	}
	t.Logf("%d increments in %v, %d requests repeated", entries, time.Since(began).Round(time.Millisecond), retries.Load())
	awaitStats(t, query, want, time.Minute)
}
