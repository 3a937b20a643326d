package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// posting is one request with increments, which its producer posts one to four times with the same key.
type posting struct {
	path, body, key string
	values          map[string]int64
	increments      int
}

// kind describes the requests that postings returns.
type kind struct {
	// keys is set if requests have idempotency keys, or ids for their items.
	keys bool
	// Of ten requests, singles are single increments, ids are batches whose items have ids, and the others are batches.
	singles, ids int
	// largest is the maximum size of a batch, and tags the number of tags.
	largest, tags int
}

// postings returns requests with the given number of increments in total, and their sums by tag.
func postings(increments int, k kind) (all []posting, want map[string]int64) {
	want = make(map[string]int64)
	for n := 0; n < increments; {
		p := posting{path: "/increments", values: make(map[string]int64), increments: 1}
		ids := false
		if of := rand.N(10); of >= k.singles {
			p.path, p.increments, ids = "/increments/batch", min(1+rand.N(k.largest), increments-n), of-k.singles < k.ids
		}
		if k.keys && !ids {
			p.key = fmt.Sprintf("order-%d", n)
		}
		var items []string
		for i := range p.increments {
			name, value := fmt.Sprintf("tag_%c", 'a'+rand.N(k.tags)), 1+rand.Int64N(9)
			p.values[name] += value
			item := fmt.Sprintf(`{"name":%q,"value":%d}`, name, value)
			if k.keys && ids {
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

// send posts until the answer is 202 and returns the number of attempts. Each attempt calls instance for the URL.
func (p *posting) send(ctx context.Context, instance func() string) (attempts int, err error) {
	for attempts = 1; ; attempts++ {
		status, err := p.try(ctx, instance())
		switch {
		case err == nil && status == http.StatusAccepted:
			return attempts, nil
		case err == nil && status != http.StatusServiceUnavailable:
			return attempts, fmt.Errorf("%s: %d", p.path, status)
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

// Every increment is posted one to four times with its key to two ingest instances that differ in PARTITIONS. One of them and the
// aggregators are killed and restarted meanwhile, so that connections break during requests. The totals are exact. Large batches of
// few tags are split into several messages, differently in each repetition. Without keys every post counts.
func TestRepeatedPostsWithKeysCountOnce(t *testing.T) {
	t.Parallel()
	for name, kind := range map[string]kind{
		"a key per post":  {keys: true, singles: 8, ids: 1, largest: 200, tags: 20},
		"a key per batch": {keys: true, largest: 1000, tags: 3},
		"without keys":    {singles: 8, ids: 1, largest: 200, tags: 20},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSystem(t)
			s.subscribe(t)
			query := s.start(t, "query")
			aggregators := []*process{s.start(t, "aggregator"), s.start(t, "aggregator")}
			var instances [2]atomic.Pointer[process]
			begin := func(i int) {
				s.variables["PARTITIONS"] = []string{"16", "64"}[i]
				instances[i].Store(s.start(t, "ingest"))
			}
			begin(0)
			begin(1)
			all, want := postings(20_000, kind)
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
			defer cancel()
			posted := make(chan map[string]int64)
			go func() { posted <- postAll(ctx, t, all, func() string { return instances[rand.N(2)].Load().url }) }()

			var accepted map[string]int64
			for i := 0; accepted == nil; i++ {
				select {
				case accepted = <-posted:
				case <-time.After(1500 * time.Millisecond):
					victim := i % len(aggregators)
					aggregators[victim].kill()
					aggregators[victim] = s.start(t, "aggregator")
					victim = i / 2 % len(instances)
					instances[victim].Load().kill()
					begin(victim)
				}
			}
			if kind.keys {
				awaitStats(t, query, want, 60*time.Second)
				time.Sleep(3 * time.Second) // nothing more is counted
				awaitStats(t, query, want, time.Second)
				s.audit(t)
				return
			}
			var got map[string]int64
			await(t, "everything answered 202", 60*time.Second, func() (err error) {
				if got, err = stats(query); err != nil {
					return err
				}
				for name, n := range accepted {
					if got[name] < n {
						return fmt.Errorf("%s is %d, want at least %d", name, got[name], n)
					}
				}
				return nil
			})
			excess := difference(got, want)
			if excess == nil {
				t.Error("without keys the totals equal those with keys; the test with keys proves nothing")
			}
			t.Logf("without keys: %v", excess)
		})
	}
}

// postAll posts each of all one to four times, concurrently and in random order, and returns the sums of what was answered 202.
func postAll(ctx context.Context, t *testing.T, all []posting, instance func() string) map[string]int64 {
	var mu sync.Mutex
	accepted := make(map[string]int64)
	var attempts, increments int
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
	var posts []*posting
	for i := range all {
		for range 1 + rand.N(4) {
			posts = append(posts, &all[i])
		}
	}
	// Some repeats follow immediately, most much later.
	rand.Shuffle(len(posts)/2, func(i, j int) { posts[2*i], posts[2*j] = posts[2*j], posts[2*i] })
	for _, p := range posts {
		increments += p.increments
		work <- p
	}
	close(work)
	group.Wait()
	t.Logf("%d requests: %d posts of %d increments in %d attempts", len(all), len(posts), increments, attempts)
	return accepted
}

// A key that is reused with another value is not counted, and a metric counts it.
func TestReusedKeyCountsOnce(t *testing.T) {
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
	// Wait until it is counted: within one window either of two posts may come first.
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
		t.Errorf("%v keys repeated, %v of them reused; want 3 and 1", repeated, reused)
	}
}
