package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// posting is one request of increments, which its producer posts one to four times with one key.
type posting struct {
	path, body, key string
	values          map[string]int64
	increments      int
}

// postings makes requests of so many increments in all: singles with a key, batches with one for all, and batches with an
// id an item. Without keys the same bodies have none.
func postings(increments int, keys bool) (all []posting, want map[string]int64) {
	want = make(map[string]int64)
	for n := 0; n < increments; {
		p := posting{path: "/increments", values: make(map[string]int64), increments: 1}
		ids := false
		if kind := rand.N(10); kind > 7 {
			p.path, p.increments, ids = "/increments/batch", min(1+rand.N(200), increments-n), kind == 8
		}
		if keys && !ids {
			p.key = fmt.Sprintf("order-%d", n)
		}
		var items []string
		for i := range p.increments {
			name, value := fmt.Sprintf("tag_%c", 'a'+rand.N(20)), 1+rand.Int64N(9)
			p.values[name] += value
			item := fmt.Sprintf(`{"name":%q,"value":%d}`, name, value)
			if keys && ids {
				item = fmt.Sprintf(`{"id":"item-%d","name":%q,"value":%d}`, n+i, name, value)
			}
			items = append(items, item)
		}
		if p.body = items[0]; p.path != "/increments" {
			p.body = `{"increments":[` + strings.Join(items, ",") + `]}`
		}
		add(want, p.values)
		all = append(all, p)
		n += p.increments
	}
	return all, want
}

// send posts until it is answered 202, wherever the instances are by then, and says how often it had to.
func (p *posting) send(ctx context.Context, instance func() string) (attempts int, err error) {
	for attempts = 1; ; attempts++ {
		status, err := p.try(ctx, instance())
		switch {
		case err == nil && status == http.StatusAccepted:
			return attempts, nil
		case err == nil && status != http.StatusServiceUnavailable:
			return attempts, fmt.Errorf("%s: %d", p.path, status) //nolint:err113 // for people
		case ctx.Err() != nil:
			return attempts, errors.Join(err, ctx.Err())
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func (p *posting) try(ctx context.Context, url string) (status int, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url+p.path, strings.NewReader(p.body))
	if err != nil {
		return 0, err
	}
	request.Header.Set("Content-Type", "application/json")
	if p.key != "" {
		request.Header.Set("Idempotency-Key", p.key)
	}
	r, err := do(request)
	return r.status, err
}

// Every increment is posted one to four times with its key, to two ingest instances, one of which is killed and comes
// back, so that connections break in the middle of requests, while aggregators are killed: the sums are exact. Without
// keys each of those posts counts.
func TestPostsRepeatedWithTheirKeyCountOnce(t *testing.T) {
	t.Parallel()
	for name, keys := range map[string]bool{"with keys": true, "without keys": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSystem(t)
			s.subscribe(t)
			query := s.start(t, "query")
			aggregators := []*process{s.start(t, "aggregator"), s.start(t, "aggregator")}
			var instances [2]atomic.Pointer[process]
			for i := range instances {
				instances[i].Store(s.start(t, "ingest"))
			}
			all, want := postings(20_000, keys)
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
			defer cancel()
			posted := make(chan map[string]int64)
			go func() { posted <- postAll(ctx, t, all, func() string { return instances[rand.N(2)].Load().url }) }()

			accepted := map[string]int64(nil)
			for i := 0; accepted == nil; i++ {
				select {
				case accepted = <-posted:
				case <-time.After(1500 * time.Millisecond):
					victim := i % len(aggregators)
					aggregators[victim].kill()
					aggregators[victim] = s.start(t, "aggregator")
					instances[0].Load().kill()
					instances[0].Store(s.start(t, "ingest"))
				}
			}
			if keys {
				awaitStats(t, query, want, 60*time.Second)
				time.Sleep(3 * time.Second) //nolint:forbidigo // and nothing comes after it
				awaitStats(t, query, want, time.Second)
				s.audit(t)
				return
			}
			var got map[string]int64
			await(t, "everything that was answered 202", 60*time.Second, func() (err error) {
				if got, err = stats(query); err != nil {
					return err
				}
				for name, n := range accepted {
					if got[name] < n {
						return fmt.Errorf("%s is %d of %d", name, got[name], n) //nolint:err113 // for people
					}
				}
				return nil
			})
			excess := difference(got, want)
			if excess == nil {
				t.Error("nothing was counted twice without keys: the run proves nothing")
			}
			t.Logf("without keys: %v", excess)
		})
	}
}

// postAll posts each of all one to four times, at once and in no order, and returns the sum of what was answered 202.
func postAll(ctx context.Context, t *testing.T, all []posting, instance func() string) map[string]int64 {
	var mu sync.Mutex
	accepted := make(map[string]int64)
	var posts, attempts, increments int
	work := make(chan *posting)
	var group sync.WaitGroup
	for range 16 {
		group.Go(func() {
			for p := range work {
				n, err := p.send(ctx, instance)
				mu.Lock()
				if attempts += n; err != nil {
					t.Error(err)
				} else {
					add(accepted, p.values)
				}
				mu.Unlock()
			}
		})
	}
	var again []*posting
	for i := range all {
		for range 1 + rand.N(4) {
			again = append(again, &all[i])
		}
	}
	// Some repeats come at once, most much later.
	rand.Shuffle(len(again)/2, func(i, j int) { again[2*i], again[2*j] = again[2*j], again[2*i] })
	for _, p := range again {
		posts++
		increments += p.increments
		work <- p
	}
	close(work)
	group.Wait()
	t.Logf("%d increments in %d requests: %d posts of %d increments answered 202, in %d attempts", sum(all), len(all), posts, increments, attempts)
	return maps.Clone(accepted)
}

func sum(all []posting) (increments int) {
	for i := range all {
		increments += all[i].increments
	}
	return increments
}

// A key that comes again with another value is not counted, and shows in a metric.
func TestAKeyReusedForSomethingElseCountsOnce(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	aggregator := s.start(t, "aggregator")
	ingest, query := s.start(t, "ingest"), s.start(t, "query")
	first := posting{path: "/increments", body: `{"name":"foo","value":4}`, key: "k"}
	mustTry := func(p posting) {
		t.Helper()
		if status, err := p.try(t.Context(), ingest.url); err != nil || status != http.StatusAccepted {
			t.Fatalf("post of %s: %d, %v", p.body, status, err)
		}
	}
	// It is counted before it is reused: of two things in two partitions that come in one window, either may be first.
	mustTry(first)
	awaitStats(t, query, map[string]int64{"foo": 4}, 10*time.Second)
	for _, p := range []posting{
		first,
		{path: "/increments", body: `{"name":"foo","value":5}`, key: `"k"`},
		{path: "/increments/batch", body: `{"increments":[{"name":"foo","value":4,"id":"k"}]}`},
		{path: "/increments", body: `{"name":"zoo","value":1}`, key: "last"},
	} {
		mustTry(p)
	}
	awaitStats(t, query, map[string]int64{"foo": 4, "zoo": 1}, 10*time.Second)
	if repeated, reused := metric(t, aggregator, "accrue_keys_repeated_total"), metric(t, aggregator, "accrue_keys_reused_total"); repeated != 3 || reused != 1 {
		t.Errorf("%v repeated, %v of them reused for something else; want 3 and 1", repeated, reused)
	}
}
