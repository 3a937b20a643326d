package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"
)

const (
	// probers measure at the same time, each a tag of its own.
	probers = 8
	// pollEvery is the resolution of freshness.
	pollEvery = 10 * time.Millisecond
	// background is the load under which freshness is measured, in posts a second.
	background = 2000
)

// freshness measures, so many times, how long after its 202 an increment is in /stats. All probers share one poll of
// /stats, which is revalidated by its ETag.
func freshness(ctx context.Context, s *system, probes int) ([]time.Duration, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	board := &board{url: s.query.url + "/stats", changed: make(chan struct{})}
	var group sync.WaitGroup
	group.Go(func() { board.poll(ctx) })
	group.Go(func() { load(ctx, s.ingest.url) })

	var mu sync.Mutex
	var all []time.Duration
	faults := make([]error, probers)
	var probing sync.WaitGroup
	for prober := range probers {
		probing.Go(func() {
			name := "probe_" + tag(prober)[len("bench_"):]
			before := board.total(name)
			for n := range probes / probers {
				time.Sleep(time.Duration((prober*137+n*211)%1000) * time.Millisecond) // at every phase of the window
				if err := postOne(ctx, s.ingest.url, name); err != nil {
					faults[prober] = err
					return
				}
				accepted := time.Now()
				before++
				if err := board.await(ctx, name, before); err != nil {
					faults[prober] = err
					return
				}
				mu.Lock()
				all = append(all, time.Since(accepted))
				mu.Unlock()
			}
		})
	}
	probing.Wait()
	cancel()
	group.Wait()
	return all, errors.Join(faults...)
}

// load posts single increments at the background rate.
func load(ctx context.Context, ingest string) {
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	slots := make(chan struct{}, 64)
	var group sync.WaitGroup
	defer group.Wait()
	for n := 0; ; n++ {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		for i := range background / 100 {
			slots <- struct{}{}
			group.Go(func() {
				defer func() { <-slots }()
				_ = postOne(ctx, ingest, tag(n*20+i)) // what is measured is the probes
			})
		}
	}
}

var client = &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 128}}

func postOne(ctx context.Context, ingest, name string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, ingest+"/increments", strings.NewReader(`{"name":"`+name+`","value":1}`))
	if err != nil {
		return fmt.Errorf("post: %w", err)
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := client.Do(request)
	if err != nil {
		return fmt.Errorf("post: %w", err)
	}
	defer response.Body.Close() //nolint:errcheck // nothing in it matters
	if response.StatusCode != http.StatusAccepted {
		return fmt.Errorf("%w: %d", errStatus, response.StatusCode)
	}
	return nil
}

// board is what /stats says, as of the last poll.
type board struct {
	url string

	mu      sync.Mutex
	totals  map[string]int64
	changed chan struct{} // closed, and made anew, with each change
}

func (b *board) poll(ctx context.Context) {
	ticker := time.NewTicker(pollEvery)
	defer ticker.Stop()
	etag := ""
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, b.url, http.NoBody)
		if err != nil {
			return
		}
		request.Header.Set("If-None-Match", etag)
		response, err := client.Do(request)
		if err != nil {
			continue
		}
		if response.StatusCode == http.StatusOK {
			var totals map[string]int64
			if json.NewDecoder(response.Body).Decode(&totals) == nil {
				etag = response.Header.Get("Etag")
				b.mu.Lock()
				b.totals = totals
				close(b.changed)
				b.changed = make(chan struct{})
				b.mu.Unlock()
			}
		}
		_ = response.Body.Close()
	}
}

func (b *board) total(name string) int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.totals[name]
}

// await returns when the tag has reached total.
func (b *board) await(ctx context.Context, name string, total int64) error {
	for {
		b.mu.Lock()
		reached, changed := b.totals[name] >= total, b.changed
		b.mu.Unlock()
		if reached {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
