package accrue_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
	"unicode"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/accrue/accrue/clients/go"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	nothing = "Too much is waiting. Nothing was counted."
	unsure  = "Publishing failed. Whether this is counted is not known."
)

// The server refuses for a while, answers late, loses replies after it has counted, and does not know whether it has
// counted. In the end everything is counted once.
func TestCountsExactlyOnceWhenRepliesAreLost(t *testing.T) {
	t.Parallel()
	for range 20 {
		synctest.Test(t, func(t *testing.T) {
			ingest := newCountingIngest()
			ingest.before = func(_ int, w http.ResponseWriter) bool {
				time.Sleep(rand.N(50 * time.Millisecond))
				switch rand.N(6) {
				case 0:
					return unavailable(w, nothing, rand.N(3*time.Second))
				case 1:
					panic("lost before it was counted")
				}
				return false
			}
			ingest.after = func(_ int, w http.ResponseWriter) bool {
				switch rand.N(6) {
				case 0:
					return unavailable(w, unsure, 0)
				case 1:
					panic("lost after it was counted")
				case 2:
					time.Sleep(20 * time.Second) // longer than Timeout
				}
				return false
			}
			c, reported := start(t, ingest, accrue.Config{Batch: 7, Queue: 20, Posts: 3})
			want, people := map[string]int64{}, int64(0)
			var mu sync.Mutex
			var adding sync.WaitGroup
			for range 5 {
				adding.Go(func() {
					for range 60 {
						e := accrue.Entry{Name: "tag_" + string('a'+rand.N[rune](4)), Value: 1 + rand.N[int64](9)}
						switch rand.N(4) {
						case 0:
							e.Contributor = "ada"
						case 1:
							e = accrue.Entry{Contributor: "ada"}
						}
						if err := c.Add(t.Context(), e); err != nil {
							t.Error(err)
						}
						mu.Lock()
						if e.Name != "" {
							want[e.Name] += e.Value
						}
						if e.Contributor != "" {
							people++
						}
						mu.Unlock()
					}
				})
			}
			adding.Wait()
			if err := c.Close(t.Context()); err != nil {
				t.Error(err)
			}
			ingest.check(t, want)
			if ingest.people["ada"] != people {
				t.Errorf("counted %d contributions, want %d", ingest.people["ada"], people)
			}
			entries := 0
			for _, o := range reported.list() {
				entries += len(o.Entries)
				if o.Err != nil {
					t.Error(o.Err)
				}
			}
			if entries != 300 {
				t.Errorf("outcomes of %d entries, want 300", entries)
			}
		})
	}
}

// The same over a network, with connections that are cut and a server that stops and starts again.
func TestCountsExactlyOnceOverANetwork(t *testing.T) {
	t.Parallel()
	ingest := newCountingIngest()
	cut := func(w http.ResponseWriter) bool {
		if rand.N(4) > 0 {
			return false
		}
		if conn, _, err := w.(http.Hijacker).Hijack(); err == nil {
			_ = conn.Close()
		}
		return true
	}
	ingest.before = func(_ int, w http.ResponseWriter) bool { return cut(w) }
	ingest.after = func(_ int, w http.ResponseWriter) bool { return cut(w) }
	server := httptest.NewServer(ingest)
	address := server.Listener.Addr().String()
	reported := &outcomes{}
	c, err := accrue.New(accrue.Config{URL: server.URL, Batch: 10, Linger: time.Millisecond, Report: reported.report})
	if err != nil {
		t.Fatal(err)
	}
	for range 500 {
		add(t, c, "foo", 3)
	}
	server.CloseClientConnections()
	server.Close()
	for range 500 {
		add(t, c, "foo", 3)
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		t.Skipf("%s was taken meanwhile: %v", address, err)
	}
	again := &httptest.Server{Listener: listener, Config: &http.Server{Handler: ingest}}
	again.Start()
	defer again.Close()
	if err := c.Close(t.Context()); err != nil {
		t.Error(err)
	}
	ingest.check(t, map[string]int64{"foo": 3000})
	tries := 0
	for _, o := range reported.list() {
		tries += o.Tries
	}
	t.Logf("1,000 entries in %d posts, %d tries, %d arrived", len(reported.list()), tries, len(ingest.asked()))
}

func TestClassifiesAnswers(t *testing.T) {
	t.Parallel()
	answer := func(status int, header ...string) func(int, http.ResponseWriter) bool {
		return func(n int, w http.ResponseWriter) bool {
			if n > 1 {
				return false
			}
			for i := 0; i < len(header); i += 2 {
				w.Header().Set(header[i], header[i+1])
			}
			w.WriteHeader(status)
			return true
		}
	}
	document := func(status int) func(int, http.ResponseWriter) bool {
		return func(_ int, w http.ResponseWriter) bool { (&refusal{Status: status}).write(w); return true }
	}
	for name, tc := range map[string]struct {
		before func(int, http.ResponseWriter) bool
		tries  int
		status int // of a refusal
	}{
		"202":                   {nil, 1, 0},
		"400":                   {document(400), 1, 400},
		"401":                   {document(401), 1, 401},
		"404":                   {document(404), 1, 404},
		"422 without a pointer": {document(422), 1, 422},
		"422 with a pointer out of range": {func(_ int, w http.ResponseWriter) bool {
			(&refusal{Status: 422, Errors: []accrue.Fault{{Pointer: "#/increments/1/name"}, {Pointer: "#/increments/-1"}}}).write(w)
			return true
		}, 1, 422},
		"200 of a proxy":             {answer(200), 2, 0},
		"a redirect":                 {answer(307, "Location", "http://elsewhere/"), 2, 0},
		"202 of a proxy":             {answer(202, "Content-Type", "text/html"), 2, 0},
		"403 of a proxy":             {answer(403, "Content-Type", "text/html"), 2, 0},
		"404 of a proxy":             {answer(404), 2, 0},
		"413 of a proxy":             {answer(413), 2, 0},
		"a problem of a proxy":       {answer(404, "Content-Type", "application/problem+json"), 2, 0},
		"408":                        {answer(408), 2, 0},
		"425":                        {answer(425), 2, 0},
		"429":                        {answer(429), 2, 0},
		"500":                        {answer(500), 2, 0},
		"502 of a proxy":             {answer(502, "Content-Type", "text/html"), 2, 0},
		"503":                        {func(n int, w http.ResponseWriter) bool { return n == 1 && unavailable(w, unsure, 0) }, 2, 0},
		"503, nothing was counted":   {func(n int, w http.ResponseWriter) bool { return n == 1 && unavailable(w, nothing, 0) }, 2, 0},
		"a problem that is not JSON": {answer(500, "Content-Type", "application/problem+json"), 2, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				refused := &accrue.RefusedError{}
				ingest := newCountingIngest()
				ingest.before = tc.before
				c, reported := start(t, ingest, accrue.Config{})
				add(t, c, "foo", 4)
				err := c.Close(t.Context())
				if tc.status == 0 {
					if err != nil {
						t.Errorf("Close() = %v", err)
					}
					ingest.check(t, map[string]int64{"foo": 4})
				} else if !errors.As(err, &refused) || refused.Status != tc.status {
					t.Errorf("Close() = %v, want a refusal with %d", err, tc.status)
				}
				if all := reported.list(); len(all) != 1 || all[0].Tries != tc.tries || len(all[0].Entries) != 1 ||
					(tc.status != 0) != errors.As(all[0].Err, &refused) {
					t.Errorf("outcomes %+v, want one of %d tries", all, tc.tries)
				}
			})
		})
	}
}

func TestCountsTheOtherEntriesOfARefusedBatch(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ingest := newCountingIngest()
		ingest.rule = func(e accrue.Entry) error {
			if strings.HasPrefix(e.Name, "bad") {
				return errors.New("must not be bad")
			}
			return nil
		}
		c, reported := start(t, ingest, accrue.Config{Batch: 10})
		for i := range 100 {
			name := "good"
			if i%13 == 0 || i >= 90 { // one or two of a batch, and a whole batch
				name = "bad_one"
			}
			add(t, c, name, 1)
		}
		err := c.Close(t.Context())
		const bad = 7 + 10 // 0, 13, … 78 and 90 to 99
		ingest.check(t, map[string]int64{"good": 100 - bad})
		var refused *accrue.RefusedError
		if !errors.As(err, &refused) || !strings.Contains(err.Error(), fmt.Sprintf("%d entries: refused: 422", bad)) {
			t.Errorf("Close() = %v", err)
		}
		for _, o := range reported.list() {
			switch {
			case o.Err == nil:
				if slices.ContainsFunc(o.Entries, func(e accrue.Entry) bool { return e.Name != "good" }) {
					t.Errorf("accepted %v", o.Entries)
				}
			case !errors.As(o.Err, &refused) || len(o.Entries) != 1 || o.Entries[0].Name != "bad_one" ||
				len(refused.Faults) != 1 || refused.Faults[0] != (accrue.Fault{Pointer: "#/name", Detail: "must not be bad"}):
				t.Errorf("%v: %v, want a refusal that points to the name", o.Entries, o.Err)
			}
		}
	})
}

func TestHalvesABodyThatIsTooLarge(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		small := newCountingIngest()
		proxy := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.ContentLength > 100 {
				w.WriteHeader(http.StatusRequestEntityTooLarge)
				return
			}
			small.ServeHTTP(w, r)
		})
		c, _ := start(t, proxy, accrue.Config{})
		for range 20 {
			add(t, c, "foo", 1)
		}
		if err := c.Add(t.Context(), accrue.Entry{Contributor: strings.Repeat("𝒳", accrue.MaxContributorLength)}); err != nil {
			t.Error(err)
		}
		var refused *accrue.RefusedError
		if err := c.Close(t.Context()); !errors.As(err, &refused) || refused.Status != 413 || !strings.Contains(err.Error(), "1 entries") {
			t.Errorf("Close() = %v, want one entry that is too large by itself", err)
		}
		small.check(t, map[string]int64{"foo": 20})
	})
}

// A refusal says nothing about an earlier request that may have been counted.
func TestRefusalAfterALostReplyIsUnknown(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ingest := newCountingIngest()
		ingest.after = func(n int, _ http.ResponseWriter) bool {
			if n == 1 {
				panic("lost after it was counted")
			}
			return false
		}
		ingest.before = func(n int, w http.ResponseWriter) bool {
			if n == 2 {
				(&refusal{Status: 422, Errors: []accrue.Fault{{Pointer: "#/increments/0/name", Detail: "a new rule"}}}).write(w)
			}
			return n == 2
		}
		c, reported := start(t, ingest, accrue.Config{})
		add(t, c, "foo", 4)
		add(t, c, "bar", 4)
		if err := c.Close(t.Context()); !errors.Is(err, accrue.ErrUnknown) || !strings.Contains(err.Error(), "2 entries") {
			t.Errorf("Close() = %v, want two that are unknown", err)
		}
		if all := reported.list(); len(all) != 1 || !errors.Is(all[0].Err, accrue.ErrUnknown) {
			t.Errorf("outcomes %+v", all)
		}
		ingest.check(t, map[string]int64{"foo": 4, "bar": 4})
	})
}

// A key is posted only while the system remembers it.
func TestStopsRetryingBeforeTheHorizon(t *testing.T) {
	t.Parallel()
	const horizon = 5 * time.Minute
	for name, tc := range map[string]struct {
		fault func(n int, w http.ResponseWriter, r *http.Request)
		tries int // at least
		took  time.Duration
	}{
		"503":          {func(_ int, w http.ResponseWriter, _ *http.Request) { unavailable(w, unsure, 0) }, 20, horizon / 10 * 8},
		"lost replies": {func(int, http.ResponseWriter, *http.Request) { panic("lost") }, 20, horizon / 10 * 8},
		"no answer":    {func(_ int, _ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, 10, horizon / 10 * 8},
		"503 that may be counted, then 503 that is not": {func(n int, w http.ResponseWriter, _ *http.Request) {
			unavailable(w, []string{unsure, nothing}[min(1, n-1)], 0)
		}, 20, horizon / 10 * 8},
		// The next request would be too late, so there is no reason to wait.
		"a long wait": {func(_ int, w http.ResponseWriter, _ *http.Request) { unavailable(w, unsure, horizon) }, 1, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var at []time.Time
				keys := map[string]bool{}
				c, reported := start(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					at = append(at, time.Now())
					keys[r.Header.Get("Idempotency-Key")] = true
					tc.fault(len(at), w, r)
				}), accrue.Config{Horizon: horizon})
				add(t, c, "foo", 4)
				if err := c.Close(t.Context()); !errors.Is(err, accrue.ErrUnknown) {
					t.Errorf("Close() = %v, want %v", err, accrue.ErrUnknown)
				}
				took := time.Since(at[0])
				if last := at[len(at)-1].Sub(at[0]); last > horizon/10*9 || took > horizon/10*9+15*time.Second || took < tc.took {
					t.Errorf("the last of %d tries after %v, unknown after %v", len(at), last, took)
				}
				if len(at) < tc.tries || len(keys) != 1 {
					t.Errorf("%d tries with %d keys", len(at), len(keys))
				}
				if all := reported.list(); len(all) != 1 || all[0].Tries != len(at) || all[0].Took != took || !errors.Is(all[0].Err, accrue.ErrUnknown) {
					t.Errorf("outcomes %+v, want %d tries in %v", all, len(at), took)
				}
			})
		})
	}
}

// The horizon begins with the first request that may have arrived: an outage before it costs only time.
func TestRetriesPostsThatNeverArrived(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]func(w http.ResponseWriter) bool{
		"full": func(w http.ResponseWriter) bool { return unavailable(w, nothing, time.Second) },
		"429":  func(w http.ResponseWriter) bool { w.WriteHeader(http.StatusTooManyRequests); return true },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				begun := time.Now()
				ingest := newCountingIngest()
				ingest.before = func(_ int, w http.ResponseWriter) bool { return time.Since(begun) < 3*time.Hour && fault(w) }
				c, _ := start(t, ingest, accrue.Config{Queue: 3})
				for range 10 {
					add(t, c, "foo", 1)
				}
				if err := c.Close(t.Context()); err != nil {
					t.Error(err)
				}
				ingest.check(t, map[string]int64{"foo": 10})
			})
		})
	}
}

func TestPausesGrowAndHonourRetryAfter(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		gaps := func(fault func(n int, w http.ResponseWriter) bool) []time.Duration {
			ingest := newCountingIngest()
			ingest.before = fault
			c, _ := start(t, ingest, accrue.Config{})
			add(t, c, "foo", 4)
			if err := c.Close(t.Context()); err != nil {
				t.Error(err)
			}
			var gaps []time.Duration
			at := ingest.asked()
			for i := 1; i < len(at); i++ {
				gaps = append(gaps, at[i].Sub(at[i-1]))
			}
			return gaps
		}
		growing := gaps(func(n int, w http.ResponseWriter) bool { return n < 20 && unavailable(w, nothing, 0) })
		exact := 0
		for i, gap := range growing {
			center := min(10*time.Second, 100*time.Millisecond<<min(i, 20))
			if gap < center/2 || gap > center*3/2+time.Nanosecond {
				t.Errorf("pause %d is %v, want %v give or take a half", i, gap, center)
			}
			if gap == center {
				exact++
			}
		}
		if exact > len(growing)/2 {
			t.Errorf("pauses are not spread: %v", growing)
		}
		var asked []time.Duration
		for _, value := range []string{"7", "date"} {
			for range 5 {
				asked = append(asked, gaps(func(n int, w http.ResponseWriter) bool {
					if n > 1 {
						return false
					}
					if value == "date" {
						w.Header().Set("Retry-After", time.Now().Add(7*time.Second).UTC().Format(http.TimeFormat))
					} else {
						w.Header().Set("Retry-After", value)
					}
					w.WriteHeader(http.StatusServiceUnavailable)
					return true
				})...)
			}
		}
		for _, gap := range asked {
			if gap < 6*time.Second || gap > 11*time.Second {
				t.Errorf("retried after %v, want at least 7 s", gap)
			}
		}
		slices.Sort(asked)
		if len(slices.Compact(asked)) < 5 {
			t.Errorf("all retried together: %v", asked)
		}
	})
}

func TestFullQueueBlocksAddAndLosesNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ingest := newCountingIngest()
		open := make(chan struct{})
		ingest.before = func(int, http.ResponseWriter) bool { <-open; return false }
		c, _ := start(t, ingest, accrue.Config{Batch: 10, Queue: 20, Posts: 2, Timeout: 15 * time.Second, Horizon: time.Minute})
		taken := int64(0)
		for {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			err := c.Add(ctx, accrue.Entry{Name: "foo", Value: 1})
			cancel()
			if err != nil {
				if !errors.Is(err, accrue.ErrFull) || !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("Add() = %v, want %v", err, accrue.ErrFull)
				}
				break
			}
			taken++
		}
		// Two batches under way, one that is full, and the queue.
		if taken != 50 || c.Waiting() != 20 {
			t.Errorf("took %d, %d wait, want 50 and 20", taken, c.Waiting())
		}
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		if err := c.Add(ended, accrue.Entry{Name: "foo", Value: 1}); !errors.Is(err, context.Canceled) || errors.Is(err, accrue.ErrFull) {
			t.Errorf("Add() of an ended context = %v", err)
		}
		time.AfterFunc(5*time.Second, func() { close(open) })
		begun := time.Now()
		for range 100 {
			add(t, c, "foo", 1)
		}
		if took := time.Since(begun); took < 5*time.Second || took > 6*time.Second {
			t.Errorf("waited for %v, want 5 s", took)
		}
		if err := c.Close(t.Context()); err != nil {
			t.Error(err)
		}
		ingest.check(t, map[string]int64{"foo": taken + 100})
	})
}

func TestPostsFullBatchesAtOnceAndOthersAfterLinger(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ingest := newCountingIngest()
		c, reported := start(t, ingest, accrue.Config{Batch: 5, Linger: 100 * time.Millisecond})
		begun := time.Now()
		for range 7 { // five leave at once
			add(t, c, "foo", 1)
		}
		if err := c.Add(t.Context(), accrue.Entry{Contributor: "ada"}); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		if got := reported.list(); len(got) != 1 || len(got[0].Entries) != 5 || time.Since(begun) != 0 {
			t.Errorf("after %v: %v", time.Since(begun), got)
		}
		time.Sleep(101 * time.Millisecond)
		if got := reported.list(); len(got) != 3 {
			t.Errorf("after %v: %v, want the two increments and the contribution too", time.Since(begun), got)
		}
		add(t, c, "foo", 1)
		begun = time.Now()
		if err := c.Close(t.Context()); err != nil || time.Since(begun) > 0 {
			t.Errorf("Close() = %v after %v: there is nothing to wait for", err, time.Since(begun))
		}
		ingest.check(t, map[string]int64{"foo": 8})
	})
}

func TestAddRefusesInvalidEntries(t *testing.T) {
	t.Parallel()
	ingest := newCountingIngest()
	c, _ := start(t, ingest, accrue.Config{})
	for _, tc := range []struct {
		entry accrue.Entry
		want  string
	}{
		{accrue.Entry{}, "name must be"},
		{accrue.Entry{Name: "fo", Value: 1}, "name must be"},
		{accrue.Entry{Name: "foo"}, "value must be"},
		{accrue.Entry{Name: "foo", Value: 10}, "value must be"},
		{accrue.Entry{Value: 1, Contributor: "ada"}, "name must be"},
		{accrue.Entry{Name: "foo", Value: 1, Contributor: "a\nb"}, "contributor must be"},
		{accrue.Entry{Contributor: "\xff"}, "contributor must be"},
		{accrue.Entry{Name: "foo", Value: 1, ID: "a b"}, "id must be"},
		{accrue.Entry{ID: "a"}, "name must be"},
	} {
		if err := c.Add(t.Context(), tc.entry); !errors.Is(err, accrue.ErrInvalid) || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("Add(%+v) = %v, want %q", tc.entry, err, tc.want)
		}
	}
	if err := c.Close(t.Context()); err != nil || len(ingest.asked()) > 0 {
		t.Errorf("Close() = %v after %d posts", err, len(ingest.asked()))
	}
}

func TestCloseEndsWithItsContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ingest := newCountingIngest()
		ingest.before = func(_ int, w http.ResponseWriter) bool { return unavailable(w, unsure, 0) }
		c, reported := start(t, ingest, accrue.Config{Batch: 2, Posts: 1})
		for range 5 {
			add(t, c, "foo", 1)
		}
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		begun := time.Now()
		err := c.Close(ctx)
		if took := time.Since(begun); took != 3*time.Second {
			t.Errorf("took %v, want 3 s", took)
		}
		if !errors.Is(err, accrue.ErrUnknown) || !errors.Is(err, accrue.ErrNotCounted) ||
			!strings.Contains(err.Error(), "2 entries: possibly counted") || !strings.Contains(err.Error(), "3 entries: not counted") {
			t.Errorf("Close() = %v, want two unknown and three not counted", err)
		}
		if again := c.Close(t.Context()); again.Error() != err.Error() {
			t.Errorf("Close() = %v, the second time %v", err, again)
		}
		if err := c.Add(t.Context(), accrue.Entry{Name: "foo", Value: 1}); !errors.Is(err, accrue.ErrClosed) {
			t.Errorf("Add() = %v, want %v", err, accrue.ErrClosed)
		}
		entries := 0
		for _, o := range reported.list() {
			entries += len(o.Entries)
		}
		if entries != 5 {
			t.Errorf("outcomes of %d entries, want 5", entries)
		}
	})
}

// Add either takes an entry, which is counted, or returns ErrClosed.
func TestEntriesAddedDuringCloseAreCountedOrNotTaken(t *testing.T) {
	t.Parallel()
	for range 50 {
		synctest.Test(t, func(t *testing.T) {
			ingest := newCountingIngest()
			ingest.before = func(int, http.ResponseWriter) bool { time.Sleep(time.Millisecond); return false }
			c, _ := start(t, ingest, accrue.Config{Batch: 3, Queue: 4, Posts: 1})
			var adding sync.WaitGroup
			var mu sync.Mutex
			taken := int64(0)
			for range 4 {
				adding.Go(func() {
					for {
						err := c.Add(t.Context(), accrue.Entry{Name: "foo", Value: 1})
						if err != nil {
							if !errors.Is(err, accrue.ErrClosed) {
								t.Error(err)
							}
							return
						}
						mu.Lock()
						taken++
						mu.Unlock()
					}
				})
			}
			time.Sleep(rand.N(20 * time.Millisecond))
			if err := c.Close(t.Context()); err != nil {
				t.Error(err)
			}
			adding.Wait()
			if taken > 0 {
				ingest.check(t, map[string]int64{"foo": taken})
			}
		})
	}
}

// refuseDial is a dial of a port on which nothing listens.
func refuseDial(context.Context, string, string) (net.Conn, error) {
	return nil, &net.OpError{Op: "dial", Net: "tcp", Err: errors.New("connection refused")}
}

func TestRefusedConnectionIsNotCounted(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, err := accrue.New(accrue.Config{URL: "http://ingest", Transport: &http.Transport{DialContext: refuseDial}})
		if err != nil {
			t.Fatal(err)
		}
		add(t, c, "foo", 1)
		time.Sleep(time.Hour) // no horizon has begun
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := c.Close(ctx); !errors.Is(err, accrue.ErrNotCounted) || errors.Is(err, accrue.ErrUnknown) {
			t.Errorf("Close() = %v, want %v", err, accrue.ErrNotCounted)
		}
	})
}

// http.Transport may have sent the request on another connection before its dial is refused.
func TestRefusedConnectionAfterALostOneIsUnknown(t *testing.T) {
	t.Parallel()
	ingest := newCountingIngest()
	var down atomic.Bool
	ingest.after = func(n int, w http.ResponseWriter) bool {
		if n == 1 {
			return false
		}
		down.Store(true)
		conn, _, err := w.(http.Hijacker).Hijack()
		if err == nil {
			_ = conn.Close()
		}
		return true
	}
	server := httptest.NewServer(ingest)
	defer server.Close()
	transport := &http.Transport{DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
		if down.Load() {
			return refuseDial(ctx, network, address)
		}
		return new(net.Dialer).DialContext(ctx, network, address)
	}}
	defer transport.CloseIdleConnections()
	reported := &outcomes{}
	c, err := accrue.New(accrue.Config{URL: server.URL, Transport: transport, Report: reported.report, Linger: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	add(t, c, "foo", 1)
	for deadline := time.Now().Add(10 * time.Second); len(reported.list()) == 0 && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond) // until the first post has left its connection to the second
	}
	add(t, c, "foo", 1)
	for deadline := time.Now().Add(10 * time.Second); !down.Load() && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if err := c.Close(ctx); !errors.Is(err, accrue.ErrUnknown) || errors.Is(err, accrue.ErrNotCounted) {
		t.Errorf("Close() = %v, want %v", err, accrue.ErrUnknown)
	}
	ingest.check(t, map[string]int64{"foo": 2})
}

func TestPostsContributorsUnchanged(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		contributor := rapid.OneOf(rapid.String(), rapid.StringOf(rapid.RuneFrom([]rune(`"\/<>&{}[]: `+"\u2028😀\ufffd")))).Draw(rt, "contributor")
		named := rapid.Bool().Draw(rt, "named")
		if contributor == "" || len([]rune(contributor)) > accrue.MaxContributorLength || strings.ContainsFunc(contributor, unicode.IsControl) {
			rt.Skip()
		}
		ingest := newCountingIngest()
		c, _ := start(t, ingest, accrue.Config{})
		e := accrue.Entry{Contributor: contributor}
		if named {
			e.Name, e.Value = "foo", 4
		}
		if err := errors.Join(c.Add(t.Context(), e), c.Close(t.Context())); err != nil {
			rt.Fatal(err)
		}
		if ingest.people[contributor] != 1 || len(ingest.people) != 1 || ingest.faults != nil {
			rt.Fatalf("counted %v, want %q; %v", ingest.people, contributor, ingest.faults)
		}
		for _, body := range ingest.bodies {
			if !json.Valid([]byte(body)) {
				rt.Fatalf("not JSON: %s", body)
			}
		}
	})
}

func TestBodiesStayBelowTheLimit(t *testing.T) {
	t.Parallel()
	ingest := newCountingIngest()
	c, reported := start(t, ingest, accrue.Config{Batch: accrue.MaxBatch})
	for i := range 5 * accrue.MaxBatch {
		e := accrue.Entry{
			Name: "abcdefghijklmno", Value: 9, Contributor: strings.Repeat("𝒳", accrue.MaxContributorLength),
			ID: fmt.Sprintf("%d%s", 10_000+i, strings.Repeat(`"`, accrue.MaxIDLength-5)),
		}
		if err := c.Add(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.Close(t.Context()); err != nil {
		t.Error(err)
	}
	ingest.check(t, map[string]int64{"abcdefghijklmno": 45 * accrue.MaxBatch})
	if posts := len(ingest.asked()); posts != len(ingest.sizes) || posts != len(reported.list()) || posts < 6 {
		t.Errorf("%d posts, %d of them taken", posts, len(ingest.sizes))
	}
}

// As when a producer is killed and adds the same entries again.
func TestCountsAnIDOnceAcrossClients(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ingest := newCountingIngest()
		for range 2 {
			c, _ := start(t, ingest, accrue.Config{Batch: 3})
			for i := range 10 {
				if err := c.Add(t.Context(), accrue.Entry{Name: "foo", Value: 4, ID: fmt.Sprintf(`order-"%d"`, i)}); err != nil {
					t.Error(err)
				}
			}
			if err := c.Close(t.Context()); err != nil {
				t.Error(err)
			}
		}
		ingest.check(t, map[string]int64{"foo": 40})
	})
}

func TestNewReportsAllInvalidSettings(t *testing.T) {
	t.Parallel()
	_, err := accrue.New(accrue.Config{
		URL: "ingest:8080", Batch: 1001, Linger: time.Hour, Queue: -1, Posts: 1001, Horizon: time.Second, Timeout: time.Minute,
	})
	for _, name := range []string{"URL", "Batch", "Linger", "Queue", "Posts", "Horizon", "Timeout"} {
		if err == nil || !strings.Contains(err.Error(), name+" must be") {
			t.Errorf("New() = %v, which does not name %s", err, name)
		}
	}
	for _, url := range []string{"", "ftp://ingest", "http://", "https://ingest?x=1", ":"} {
		if _, err := accrue.New(accrue.Config{URL: url}); err == nil {
			t.Errorf("New() accepts the address %q", url)
		}
	}
}
