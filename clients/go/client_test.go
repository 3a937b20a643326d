package client_test

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

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/accrue/accrue/clients/go"
	"github.com/accrue/accrue/pkg/increment"
	"github.com/accrue/accrue/pkg/problem"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	nothing = "Too much is waiting. " + problem.NothingCounted
	unsure  = "Publishing failed. Whether this is counted is not known."
)

// A server that refuses for a while, answers late, loses replies after it has counted, and says that it does not know:
// what it has counted in the end is what was added, each once.
func TestSumsAreExactWhateverIsLost(t *testing.T) {
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
					time.Sleep(20 * time.Second) // longer than a producer waits
				}
				return false
			}
			c, told := start(t, ingest, client.Config{Batch: 7, Queue: 20, Posts: 3})
			want, people := map[string]int64{}, int64(0)
			var mu sync.Mutex
			var adding sync.WaitGroup
			for range 5 {
				adding.Go(func() {
					for range 60 {
						e := client.Entry{Name: "tag_" + string('a'+rand.N[rune](4)), Value: 1 + rand.N[int64](9)}
						switch rand.N(4) {
						case 0:
							e.Contributor = "ada"
						case 1:
							e = client.Entry{Contributor: "ada"}
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
			for _, o := range told.told() {
				entries += len(o.Entries)
				if o.Err != nil {
					t.Error(o.Err)
				}
			}
			if entries != 300 {
				t.Errorf("told of %d entries, want 300", entries)
			}
		})
	}
}

// The same over a network, with connections that are cut, and a server that goes away and comes back.
func TestSumsAreExactOverANetwork(t *testing.T) {
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
	told := &outcomes{}
	c, err := client.New(client.Config{URL: server.URL, Batch: 10, Linger: time.Millisecond, Report: told.report})
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
		t.Skipf("somebody else took %s meanwhile: %v", address, err)
	}
	again := &httptest.Server{Listener: listener, Config: &http.Server{Handler: ingest}}
	again.Start()
	defer again.Close()
	if err := c.Close(t.Context()); err != nil {
		t.Error(err)
	}
	ingest.check(t, map[string]int64{"foo": 3000})
	tries := 0
	for _, o := range told.told() {
		tries += o.Tries
	}
	t.Logf("1,000 entries in %d posts, %d tries, %d arrived", len(told.told()), tries, len(ingest.asked()))
}

func TestAnAnswerDecides(t *testing.T) {
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
	for name, tc := range map[string]struct {
		before func(int, http.ResponseWriter) bool
		tries  int
		status int // of a refusal
	}{
		"202":                     {nil, 1, 0},
		"400":                     {answer(400), 1, 400},
		"401":                     {answer(401), 1, 401},
		"404":                     {answer(404), 1, 404},
		"422 that points nowhere": {answer(422), 1, 422},
		"422 that points beyond": {func(_ int, w http.ResponseWriter) bool {
			problem.New(http.StatusUnprocessableEntity, "", problem.Fault{Pointer: "#/increments/1/name"}, problem.Fault{Pointer: "#/increments/-1"}).Write(w)
			return true
		}, 1, 422},
		"200 of somebody else":      {answer(200), 1, 200},
		"a redirect":                {answer(307, "Location", "http://elsewhere/"), 1, 307},
		"408":                       {answer(408), 2, 0},
		"425":                       {answer(425), 2, 0},
		"429":                       {answer(429), 2, 0},
		"500":                       {answer(500), 2, 0},
		"502 of a proxy":            {answer(502, "Content-Type", "text/html"), 2, 0},
		"503":                       {func(n int, w http.ResponseWriter) bool { return n == 1 && unavailable(w, unsure, 0) }, 2, 0},
		"503, nothing was counted":  {func(n int, w http.ResponseWriter) bool { return n == 1 && unavailable(w, nothing, 0) }, 2, 0},
		"a problem that is no JSON": {answer(500, "Content-Type", "application/problem+json"), 2, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				refused := &client.RefusedError{}
				ingest := newCountingIngest()
				ingest.before = tc.before
				c, told := start(t, ingest, client.Config{})
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
				if all := told.told(); len(all) != 1 || all[0].Tries != tc.tries || len(all[0].Entries) != 1 ||
					(tc.status != 0) != errors.As(all[0].Err, &refused) {
					t.Errorf("told %+v, want one outcome of %d tries", all, tc.tries)
				}
			})
		})
	}
}

// What ingest refuses although it looked right must not take the others with it.
func TestARefusedEntryDoesNotSinkTheOthers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ingest := newCountingIngest()
		ingest.rule = func(e client.Entry) error {
			if strings.HasPrefix(e.Name, "bad") {
				return errors.New("must not be bad")
			}
			return nil
		}
		c, told := start(t, ingest, client.Config{Batch: 10})
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
		var refused *client.RefusedError
		if !errors.As(err, &refused) || !strings.Contains(err.Error(), fmt.Sprintf("%d entries: refused: 422", bad)) {
			t.Errorf("Close() = %v", err)
		}
		for _, o := range told.told() {
			switch {
			case o.Err == nil:
				if slices.ContainsFunc(o.Entries, func(e client.Entry) bool { return e.Name != "good" }) {
					t.Errorf("accepted %v", o.Entries)
				}
			case !errors.As(o.Err, &refused) || len(o.Entries) != 1 || o.Entries[0].Name != "bad_one" ||
				len(refused.Faults) != 1 || refused.Faults[0] != (problem.Fault{Pointer: "#/name", Detail: "must not be bad"}):
				t.Errorf("%v: %v, want a refusal that points to the name", o.Entries, o.Err)
			}
		}
	})
}

func TestABodyThatIsTooLargeIsHalved(t *testing.T) {
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
		c, _ := start(t, proxy, client.Config{})
		for range 20 {
			add(t, c, "foo", 1)
		}
		if err := c.Add(t.Context(), client.Entry{Contributor: strings.Repeat("𝒳", increment.MaxContributorLength)}); err != nil {
			t.Error(err)
		}
		var refused *client.RefusedError
		if err := c.Close(t.Context()); !errors.As(err, &refused) || refused.Status != 413 || !strings.Contains(err.Error(), "1 entries") {
			t.Errorf("Close() = %v, want one entry that is too large by itself", err)
		}
		small.check(t, map[string]int64{"foo": 20})
	})
}

// A refusal after a try that may be counted says nothing about that try.
func TestARefusalAfterALostReplyIsUnknown(t *testing.T) {
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
				problem.New(http.StatusUnprocessableEntity, "", problem.Fault{Pointer: "#/increments/0/name", Detail: "a new rule"}).Write(w)
			}
			return n == 2
		}
		c, told := start(t, ingest, client.Config{})
		add(t, c, "foo", 4)
		add(t, c, "bar", 4)
		if err := c.Close(t.Context()); !errors.Is(err, client.ErrUnknown) || !strings.Contains(err.Error(), "2 entries") {
			t.Errorf("Close() = %v, want two that are unknown", err)
		}
		if all := told.told(); len(all) != 1 || !errors.Is(all[0].Err, client.ErrUnknown) {
			t.Errorf("told %+v", all)
		}
		ingest.check(t, map[string]int64{"foo": 4, "bar": 4})
	})
}

// The same key is posted for as long as the system knows it and no longer.
func TestTriesEndBeforeTheHorizon(t *testing.T) {
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
		"503 once, and never again sure": {func(n int, w http.ResponseWriter, _ *http.Request) {
			unavailable(w, []string{unsure, nothing}[min(1, n-1)], 0)
		}, 20, horizon / 10 * 8},
		// The next try would be too late: there is nothing to wait for.
		"a long wait": {func(_ int, w http.ResponseWriter, _ *http.Request) { unavailable(w, unsure, horizon) }, 1, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var at []time.Time
				keys := map[string]bool{}
				c, told := start(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					at = append(at, time.Now())
					keys[r.Header.Get("Idempotency-Key")] = true
					tc.fault(len(at), w, r)
				}), client.Config{Horizon: horizon})
				add(t, c, "foo", 4)
				if err := c.Close(t.Context()); !errors.Is(err, client.ErrUnknown) {
					t.Errorf("Close() = %v, want %v", err, client.ErrUnknown)
				}
				took := time.Since(at[0])
				if last := at[len(at)-1].Sub(at[0]); last > horizon/10*9 || took > horizon/10*9+15*time.Second || took < tc.took {
					t.Errorf("the last of %d tries after %v, unknown after %v", len(at), last, took)
				}
				if len(at) < tc.tries || len(keys) != 1 {
					t.Errorf("%d tries with %d keys", len(at), len(keys))
				}
				if all := told.told(); len(all) != 1 || all[0].Tries != len(at) || all[0].Took != took || !errors.Is(all[0].Err, client.ErrUnknown) {
					t.Errorf("told %+v, want %d tries in %v", all, len(at), took)
				}
			})
		})
	}
}

// As long as nothing can have arrived, no horizon has begun: an outage costs nothing but time.
func TestWhatCannotHaveArrivedIsTriedOn(t *testing.T) {
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
				c, _ := start(t, ingest, client.Config{Queue: 3})
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

func TestPausesGrowAndAreHonoured(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		gaps := func(fault func(n int, w http.ResponseWriter) bool) []time.Duration {
			ingest := newCountingIngest()
			ingest.before = fault
			c, _ := start(t, ingest, client.Config{})
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
				t.Errorf("came back after %v, was asked for 7 s", gap)
			}
		}
		slices.Sort(asked)
		if len(slices.Compact(asked)) < 5 {
			t.Errorf("all come back together: %v", asked)
		}
	})
}

func TestAFullQueueSlowsDownAndLosesNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ingest := newCountingIngest()
		open := make(chan struct{})
		ingest.before = func(int, http.ResponseWriter) bool { <-open; return false }
		c, _ := start(t, ingest, client.Config{Batch: 10, Queue: 20, Posts: 2, Timeout: 15 * time.Second, Horizon: time.Minute})
		taken := int64(0)
		for {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			err := c.Add(ctx, client.Entry{Name: "foo", Value: 1})
			cancel()
			if err != nil {
				if !errors.Is(err, client.ErrFull) || !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("Add() = %v, want %v", err, client.ErrFull)
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
		if err := c.Add(ended, client.Entry{Name: "foo", Value: 1}); !errors.Is(err, context.Canceled) || errors.Is(err, client.ErrFull) {
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

func TestEntriesWaitForEachOtherAndNotForLong(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ingest := newCountingIngest()
		c, told := start(t, ingest, client.Config{Batch: 5, Linger: 100 * time.Millisecond})
		begun := time.Now()
		for range 7 { // five leave at once
			add(t, c, "foo", 1)
		}
		if err := c.Add(t.Context(), client.Entry{Contributor: "ada"}); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		if got := told.told(); len(got) != 1 || len(got[0].Entries) != 5 || time.Since(begun) != 0 {
			t.Errorf("after %v: %v", time.Since(begun), got)
		}
		time.Sleep(101 * time.Millisecond)
		if got := told.told(); len(got) != 3 {
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

func TestAddRefusesWhatIngestWould(t *testing.T) {
	t.Parallel()
	ingest := newCountingIngest()
	c, _ := start(t, ingest, client.Config{})
	for _, tc := range []struct {
		entry client.Entry
		want  error
	}{
		{client.Entry{}, increment.ErrName},
		{client.Entry{Name: "fo", Value: 1}, increment.ErrName},
		{client.Entry{Name: "foo"}, increment.ErrValue},
		{client.Entry{Name: "foo", Value: 10}, increment.ErrValue},
		{client.Entry{Value: 1, Contributor: "ada"}, increment.ErrName},
		{client.Entry{Name: "foo", Value: 1, Contributor: "a\nb"}, increment.ErrContributor},
		{client.Entry{Contributor: "\xff"}, increment.ErrContributorEncoding},
		{client.Entry{Name: "foo", Value: 1, ID: "a b"}, increment.ErrKey},
		{client.Entry{ID: "a"}, increment.ErrName},
	} {
		if err := c.Add(t.Context(), tc.entry); !errors.Is(err, tc.want) {
			t.Errorf("Add(%+v) = %v, want %v", tc.entry, err, tc.want)
		}
	}
	if err := c.Close(t.Context()); err != nil || len(ingest.asked()) > 0 {
		t.Errorf("Close() = %v after %d posts", err, len(ingest.asked()))
	}
}

func TestCloseIsBoundedByItsContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ingest := newCountingIngest()
		ingest.before = func(_ int, w http.ResponseWriter) bool { return unavailable(w, unsure, 0) }
		c, told := start(t, ingest, client.Config{Batch: 2, Posts: 1})
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
		if !errors.Is(err, client.ErrUnknown) || !errors.Is(err, client.ErrNotCounted) ||
			!strings.Contains(err.Error(), "2 entries: whether") || !strings.Contains(err.Error(), "3 entries: not counted") {
			t.Errorf("Close() = %v, want two unknown and three not counted", err)
		}
		if again := c.Close(t.Context()); again.Error() != err.Error() {
			t.Errorf("Close() = %v, the second time %v", err, again)
		}
		if err := c.Add(t.Context(), client.Entry{Name: "foo", Value: 1}); !errors.Is(err, client.ErrClosed) {
			t.Errorf("Add() = %v, want %v", err, client.ErrClosed)
		}
		entries := 0
		for _, o := range told.told() {
			entries += len(o.Entries)
		}
		if entries != 5 {
			t.Errorf("told of %d entries, want 5", entries)
		}
	})
}

// Whoever adds while the client is closed is told the truth: taken and counted, or closed.
func TestWhatIsAddedDuringCloseIsCountedOrNotTaken(t *testing.T) {
	t.Parallel()
	for range 50 {
		synctest.Test(t, func(t *testing.T) {
			ingest := newCountingIngest()
			ingest.before = func(int, http.ResponseWriter) bool { time.Sleep(time.Millisecond); return false }
			c, _ := start(t, ingest, client.Config{Batch: 3, Queue: 4, Posts: 1})
			var adding sync.WaitGroup
			var mu sync.Mutex
			taken := int64(0)
			for range 4 {
				adding.Go(func() {
					for {
						err := c.Add(t.Context(), client.Entry{Name: "foo", Value: 1})
						if err != nil {
							if !errors.Is(err, client.ErrClosed) {
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

// nobody is a dial where nobody listens.
func nobody(context.Context, string, string) (net.Conn, error) {
	return nil, &net.OpError{Op: "dial", Net: "tcp", Err: errors.New("connection refused")}
}

// Where nobody listens, nothing can be counted, and Close says so.
func TestARefusedConnectionCountsNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, err := client.New(client.Config{URL: "http://ingest", Transport: &http.Transport{DialContext: nobody}})
		if err != nil {
			t.Fatal(err)
		}
		add(t, c, "foo", 1)
		time.Sleep(time.Hour) // no horizon has begun
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := c.Close(ctx); !errors.Is(err, client.ErrNotCounted) || errors.Is(err, client.ErrUnknown) {
			t.Errorf("Close() = %v, want %v", err, client.ErrNotCounted)
		}
	})
}

// A refused connection says nothing about the try on another one that http.Transport has made before.
func TestARefusedConnectionAfterALostOneIsUnknown(t *testing.T) {
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
			return nobody(ctx, network, address)
		}
		return new(net.Dialer).DialContext(ctx, network, address)
	}}
	defer transport.CloseIdleConnections()
	told := &outcomes{}
	c, err := client.New(client.Config{URL: server.URL, Transport: transport, Report: told.report, Linger: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	add(t, c, "foo", 1)
	for deadline := time.Now().Add(10 * time.Second); len(told.told()) == 0 && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond) // until the first post has left its connection to the second
	}
	add(t, c, "foo", 1)
	for deadline := time.Now().Add(10 * time.Second); !down.Load() && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if err := c.Close(ctx); !errors.Is(err, client.ErrUnknown) || errors.Is(err, client.ErrNotCounted) {
		t.Errorf("Close() = %v, want %v", err, client.ErrUnknown)
	}
	ingest.check(t, map[string]int64{"foo": 2})
}

func TestAnyContributorIsPostedAsItIs(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		contributor := rapid.OneOf(rapid.String(), rapid.StringOf(rapid.RuneFrom([]rune(`"\/<>&{}[]: `+"\u2028😀\ufffd")))).Draw(rt, "contributor")
		named := rapid.Bool().Draw(rt, "named")
		if increment.ValidateContributor(contributor) != nil {
			rt.Skip()
		}
		ingest := newCountingIngest()
		c, _ := start(t, ingest, client.Config{})
		e := client.Entry{Contributor: contributor}
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
				rt.Fatalf("no JSON: %s", body)
			}
		}
	})
}

// However long the ids are, a body is not larger than ingest takes.
func TestNoBodyIsTooLarge(t *testing.T) {
	t.Parallel()
	ingest := newCountingIngest()
	c, told := start(t, ingest, client.Config{Batch: increment.MaxBatch})
	for i := range 5 * increment.MaxBatch {
		e := client.Entry{
			Name: "abcdefghijklmno", Value: 9, Contributor: strings.Repeat("𝒳", increment.MaxContributorLength),
			ID: fmt.Sprintf("%d%s", 10_000+i, strings.Repeat(`"`, increment.MaxKeyLength-5)),
		}
		if err := c.Add(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.Close(t.Context()); err != nil {
		t.Error(err)
	}
	ingest.check(t, map[string]int64{"abcdefghijklmno": 45 * increment.MaxBatch})
	if posts := len(ingest.asked()); posts != len(ingest.sizes) || posts != len(told.told()) || posts < 6 {
		t.Errorf("%d posts, %d of them taken", posts, len(ingest.sizes))
	}
}

// What two clients add with one ID, as a producer that was killed and began again, is counted once.
func TestAnIDIsCountedOnceWhoeverAddsIt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ingest := newCountingIngest()
		for range 2 {
			c, _ := start(t, ingest, client.Config{Batch: 3})
			for i := range 10 {
				if err := c.Add(t.Context(), client.Entry{Name: "foo", Value: 4, ID: fmt.Sprintf(`order-"%d"`, i)}); err != nil {
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

func TestNewReportsEveryFaultAtOnce(t *testing.T) {
	t.Parallel()
	_, err := client.New(client.Config{
		URL: "ingest:8080", Batch: 1001, Linger: time.Hour, Queue: -1, Posts: 1001, Horizon: time.Second, Timeout: time.Minute,
	})
	for _, name := range []string{"URL", "Batch", "Linger", "Queue", "Posts", "Horizon", "Timeout"} {
		if err == nil || !strings.Contains(err.Error(), name+" must be") {
			t.Errorf("New() = %v, which does not name %s", err, name)
		}
	}
	for _, url := range []string{"", "ftp://ingest", "http://", "https://ingest?x=1", ":"} {
		if _, err := client.New(client.Config{URL: url}); err == nil {
			t.Errorf("New() takes the address %q", url)
		}
	}
}
