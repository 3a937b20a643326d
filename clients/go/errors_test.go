package accrue_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/accrue/accrue/clients/go"
)

func TestReportsAWrongAddressAtOnce(t *testing.T) {
	t.Parallel()
	plain := httptest.NewServer(http.NotFoundHandler())
	defer plain.Close()
	secure := httptest.NewUnstartedServer(http.NotFoundHandler())
	secure.Config.ErrorLog = discardLog()
	secure.StartTLS()
	defer secure.Close()
	for name, tc := range map[string]struct {
		url   string
		dial  func(context.Context, string, string) (net.Conn, error)
		cause string
	}{
		"https for an http server": {strings.Replace(plain.URL, "http:", "https:", 1), nil, "server gave HTTP response to HTTPS client"},
		"unknown certificate":      {secure.URL, nil, "certificate"},
		"unknown host": {"http://ingest.invalid", func(context.Context, string, string) (net.Conn, error) {
			return nil, &net.OpError{Op: "dial", Net: "tcp", Err: &net.DNSError{Err: "no such host", Name: "ingest.invalid", IsNotFound: true}}
		}, "ingest.invalid: no such host"},
	} {
		t.Run(name, func(t *testing.T) {
			reported := &outcomes{}
			config := accrue.Config{URL: tc.url, Report: reported.report}
			if tc.dial != nil {
				config.Transport = &http.Transport{DialContext: tc.dial}
			}
			c, err := accrue.New(config)
			if err != nil {
				t.Fatal(err)
			}
			add(t, c, "foo", 1)
			for _, err := range []error{c.Close(t.Context()), reported.list()[0].Err} {
				if !errors.Is(err, accrue.ErrNotCounted) || errors.Is(err, accrue.ErrUnknown) || !strings.Contains(err.Error(), tc.cause) {
					t.Errorf("error %v, want %v with %q", err, accrue.ErrNotCounted, tc.cause)
				}
			}
			if tries := reported.list()[0].Tries; tries != 1 {
				t.Errorf("%d requests, want 1", tries)
			}
		})
	}
}

// A name that is gone for a while is an outage once the client was connected.
func TestRetriesAnUnknownHostAfterAConnection(t *testing.T) {
	t.Parallel()
	ingest := newCountingIngest()
	server := httptest.NewServer(ingest)
	defer server.Close()
	var mu sync.Mutex
	dials := 0
	transport := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
		mu.Lock()
		defer mu.Unlock()
		if dials++; dials == 2 {
			return nil, &net.DNSError{Err: "no such host", Name: "ingest", IsNotFound: true}
		}
		return new(net.Dialer).DialContext(ctx, network, address)
	}}
	c, err := accrue.New(accrue.Config{URL: server.URL, Transport: transport, Batch: 1, Posts: 1})
	if err != nil {
		t.Fatal(err)
	}
	add(t, c, "foo", 1)
	add(t, c, "foo", 1)
	if err := c.Close(t.Context()); err != nil {
		t.Error(err)
	}
	ingest.check(t, map[string]int64{"foo": 2})
	if dials != 3 {
		t.Errorf("%d dials, want 3", dials)
	}
}

// A connection that is never established is an outage: nothing can have been counted, also when the request timed out.
func TestTimeoutWhileConnectingIsNotCounted(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var causes []error
		c, err := accrue.New(accrue.Config{
			URL: "http://ingest", Horizon: time.Minute,
			Transport: &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) {
				time.Sleep(time.Minute)
				return nil, &net.OpError{Op: "dial", Net: "tcp", Err: errors.New("timed out")}
			}},
			ReportRetry: func(r accrue.Retry) { causes = append(causes, r.Err) },
		})
		if err != nil {
			t.Fatal(err)
		}
		add(t, c, "foo", 1)
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		if err := c.Close(ctx); !errors.Is(err, accrue.ErrNotCounted) || errors.Is(err, accrue.ErrUnknown) || !strings.Contains(err.Error(), context.DeadlineExceeded.Error()) {
			t.Errorf("Close() = %v, want %v with its cause", err, accrue.ErrNotCounted)
		}
		time.Sleep(time.Minute) // until the last dial ends
		if len(causes) < 100 || !errors.Is(causes[0], context.DeadlineExceeded) {
			t.Errorf("%d retries, want at least 100", len(causes))
		}
	})
}

func TestReportsForeignAnswersAfterAMinute(t *testing.T) {
	t.Parallel()
	for status, counted := range map[int]bool{200: true, 301: false, 403: false, 404: false, 413: false} {
		synctest.Test(t, func(t *testing.T) {
			requests := 0
			c, reported := start(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				requests++
				w.Header().Set("Retry-After", "3600")
				w.WriteHeader(status)
			}), accrue.Config{})
			add(t, c, "foo", 4)
			err := c.Close(t.Context())
			o := reported.list()[0]
			if o.Took < 30*time.Second || o.Took > time.Minute || o.Tries != requests || requests < 3 {
				t.Errorf("%d: reported after %v and %d requests", status, o.Took, requests)
			}
			var refused *accrue.RefusedError
			if counted != errors.Is(err, accrue.ErrUnknown) || counted == errors.As(err, &refused) ||
				!strings.Contains(err.Error(), "not an answer of Accrue") {
				t.Errorf("%d: Close() = %v", status, err)
			}
		})
	}
}

func TestCountedFieldDecidesWhetherAPostMayHaveArrived(t *testing.T) {
	t.Parallel()
	for counted, want := range map[string]error{"no": accrue.ErrNotCounted, "unknown": accrue.ErrUnknown, "": accrue.ErrUnknown} {
		for _, status := range []int{408, 500, 503} {
			synctest.Test(t, func(t *testing.T) {
				c, _ := start(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
					(&refusal{Status: status, Counted: counted}).write(w)
				}), accrue.Config{})
				add(t, c, "foo", 4)
				ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
				defer cancel()
				if err := c.Close(ctx); !errors.Is(err, want) {
					t.Errorf("%d with counted %q: Close() = %v, want %v", status, counted, err, want)
				}
			})
		}
	}
}

func TestReportsRetries(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ingest := newCountingIngest()
		ingest.before = func(n int, w http.ResponseWriter) bool { return n < 3 && unavailable(w, nothing, 2*time.Second) }
		var retries []accrue.Retry
		c, err := accrue.New(accrue.Config{
			URL: "http://ingest", Transport: direct{ingest}, Posts: 1,
			ReportRetry: func(r accrue.Retry) { retries = append(retries, r) },
		})
		if err != nil {
			t.Fatal(err)
		}
		add(t, c, "foo", 4)
		add(t, c, "foo", 4)
		if err := c.Close(t.Context()); err != nil {
			t.Error(err)
		}
		if len(retries) != 2 {
			t.Fatalf("%d retries, want 2", len(retries))
		}
		for i, r := range retries {
			if r.Entries != 2 || r.Tries != i+1 || r.Wait < 2*time.Second || !strings.Contains(r.Err.Error(), "503") {
				t.Errorf("retry %d: %+v", i, r)
			}
		}
	})
}

func TestFlush(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ingest := newCountingIngest()
		ingest.before = func(int, http.ResponseWriter) bool { time.Sleep(time.Second); return false }
		c, _ := start(t, ingest, accrue.Config{Batch: 10, Linger: time.Minute, Posts: 2, Queue: 100})
		if err := c.Flush(t.Context()); err != nil {
			t.Errorf("Flush() of nothing = %v", err)
		}
		begin := time.Now()
		for range 45 { // five batches by two posters: 3 s
			add(t, c, "foo", 1)
		}
		if err := c.Add(t.Context(), accrue.Entry{Contributor: "ada"}); err != nil {
			t.Error(err)
		}
		if err := c.Flush(t.Context()); err != nil {
			t.Errorf("Flush() = %v", err)
		}
		if took := time.Since(begin); took != 3*time.Second {
			t.Errorf("Flush() took %v, want 3 s", took)
		}
		ingest.check(t, map[string]int64{"foo": 45})

		add(t, c, "foo", 1)
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if err := c.Flush(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Flush() = %v, want %v", err, context.DeadlineExceeded)
		}
		if err := c.Close(t.Context()); err != nil {
			t.Errorf("Close() = %v", err)
		}
		ingest.check(t, map[string]int64{"foo": 46})
		if err := c.Flush(t.Context()); !errors.Is(err, accrue.ErrClosed) {
			t.Errorf("Flush() = %v, want %v", err, accrue.ErrClosed)
		}
	})
}

func TestFlushReturnsFailuresSinceTheLastFlush(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ingest := newCountingIngest()
		ingest.rule = func(e accrue.Entry) error {
			if e.Name == "bad" {
				return errors.New("must not be bad")
			}
			return nil
		}
		c, _ := start(t, ingest, accrue.Config{})
		var refused *accrue.RefusedError
		add(t, c, "bad", 1)
		if err := c.Flush(t.Context()); !errors.As(err, &refused) {
			t.Errorf("Flush() = %v, want a refusal", err)
		}
		add(t, c, "good", 1)
		if err := c.Flush(t.Context()); err != nil {
			t.Errorf("Flush() = %v", err)
		}
		if err := c.Close(t.Context()); !errors.As(err, &refused) || !strings.Contains(err.Error(), "1 entries") {
			t.Errorf("Close() = %v, want the refusal", err)
		}
	})
}

// Producers go on adding while others flush.
func TestFlushEndsWhileEntriesAreAdded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ingest := newCountingIngest()
		ingest.before = func(int, http.ResponseWriter) bool { time.Sleep(10 * time.Millisecond); return false }
		c, _ := start(t, ingest, accrue.Config{Batch: 5, Queue: 10, Posts: 2})
		var adding sync.WaitGroup
		for range 4 {
			adding.Go(func() {
				for range 200 {
					add(t, c, "foo", 1)
				}
			})
		}
		var flushing sync.WaitGroup
		for range 3 {
			flushing.Go(func() {
				for range 10 {
					begin := time.Now()
					if err := c.Flush(t.Context()); err != nil || time.Since(begin) > time.Second {
						t.Errorf("Flush() = %v after %v", err, time.Since(begin))
					}
				}
			})
		}
		flushing.Wait()
		adding.Wait()
		if err := c.Close(t.Context()); err != nil {
			t.Error(err)
		}
		ingest.check(t, map[string]int64{"foo": 800})
	})
}

func TestCloseNamesTheCause(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, err := accrue.New(accrue.Config{URL: "http://ingest", Transport: &http.Transport{DialContext: refuseDial}, Posts: 1, Batch: 1})
		if err != nil {
			t.Fatal(err)
		}
		for range 3 {
			add(t, c, "foo", 1)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		if err := c.Close(ctx); err == nil || !strings.Contains(err.Error(), "3 entries: not counted") || !strings.Contains(err.Error(), "connection refused") {
			t.Errorf("Close() = %v, want the number and the cause", err)
		}
	})
}
