package view_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"github.com/accrue/accrue/pkg/checkpoint"
	"github.com/accrue/accrue/pkg/store"
	"github.com/accrue/accrue/query/internal/view"
)

const every = 500 * time.Millisecond

var errDown = errors.New("the store is down")

// steeredStore has one partition with one tag. The test can fail, delay and block its reads, whose times it records.
type steeredStore struct {
	mu    sync.Mutex
	total int64
	err   error
	takes time.Duration
	hangs bool
	reads []time.Time
}

func (s *steeredStore) Totals(ctx context.Context) ([]store.PartitionTotals, time.Time, error) {
	s.mu.Lock()
	now := time.Now()
	s.reads = append(s.reads, now)
	total, err, takes, hangs := s.total, s.err, s.takes, s.hangs
	s.mu.Unlock()
	if hangs {
		<-ctx.Done()
		return nil, time.Time{}, ctx.Err()
	}
	select {
	case <-time.After(takes):
	case <-ctx.Done():
		return nil, time.Time{}, ctx.Err()
	}
	if err != nil {
		return nil, time.Time{}, err
	}
	return []store.PartitionTotals{{
		Revision:   store.Revision{UpdateTime: epoch.Add(time.Duration(total))},
		AcceptedAt: epoch,
		Totals:     []checkpoint.Total{{Name: "foo", Total: total, Increments: total, UpdatedAt: epoch}},
	}}, now, nil
}

func (s *steeredStore) steer(change func(s *steeredStore)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(s)
}

// takeReads returns when the reads began since it was last called.
func (s *steeredStore) takeReads() []time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	reads := s.reads
	s.reads = nil
	return reads
}

func newRefresher(t *testing.T, s view.Reader, log io.Writer) *view.Refresher {
	t.Helper()
	r, err := view.NewRefresher(s, every, nil, zerolog.New(log))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// run starts a refresher of s in the test's bubble, where time.Sleep advances a fake clock.
func run(t *testing.T, s view.Reader) (r *view.Refresher, log *bytes.Buffer) {
	t.Helper()
	log = new(bytes.Buffer)
	r = newRefresher(t, s, log)
	start(t, r)
	return r, log
}

func start(t *testing.T, r *view.Refresher) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run() = %v", err)
		}
	})
	synctest.Wait()
}

// gaps are the times between reads.
func gaps(reads []time.Time) []time.Duration {
	var between []time.Duration
	for i := 1; i < len(reads); i++ {
		between = append(between, reads[i].Sub(reads[i-1]))
	}
	return between
}

// total returns the total of the one tag, or -1.
func total(v *view.View) int64 {
	if len(v.Tags()) == 0 {
		return -1
	}
	return v.Tags()[0].Total
}

func TestRefresherReadsAtASteadyRateUnderAnyLoad(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &steeredStore{takes: 100 * time.Millisecond}
		r, _ := run(t, s)
		for second := range int64(200) { // longer than it takes to become quiet
			s.steer(func(s *steeredStore) { s.total = second / 100 })
			time.Sleep(time.Second)
			for range 100 {
				if v := r.View(t.Context()); total(v) != second/100 || time.Since(v.AsOf()) > every+s.takes {
					t.Fatalf("the view has counted %d as of %v ago, want %d", total(v), time.Since(v.AsOf()), second/100)
				}
			}
		}
		reads := s.takeReads()
		for i, gap := range gaps(reads) {
			if gap != every {
				t.Errorf("%v between reads %d and %d, want %v", gap, i, i+1, every)
			}
		}
		if len(reads) < 400 {
			t.Errorf("%d reads in 200 s, want 400", len(reads))
		}
	})
}

func TestViewBeforeTheFirstReadIsEmptyAndNotReady(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &steeredStore{takes: time.Second}
		r, _ := run(t, s)
		if v := r.View(t.Context()); v.Version() != 0 || len(v.Tags()) != 0 {
			t.Errorf("version %d with %v, want none", v.Version(), v.Tags())
		}
		if r.Check(t.Context()) == nil {
			t.Error("Check() = nil before the first read")
		}
		time.Sleep(1500 * time.Millisecond)
		if v := r.View(t.Context()); v.Version() != 1 {
			t.Errorf("version %d, want 1", v.Version())
		}
		if err := r.Check(t.Context()); err != nil {
			t.Errorf("Check() = %v", err)
		}
	})
}

func TestRefresherKeepsTheLastViewWhileReadsFail(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &steeredStore{total: 13}
		r, log := run(t, s)
		asOf := r.View(t.Context()).AsOf()
		s.steer(func(s *steeredStore) { s.err = errDown })

		time.Sleep(4*every - time.Millisecond)
		if err := r.Check(t.Context()); err != nil {
			t.Errorf("Check() = %v after a few missed refreshes", err)
		}
		time.Sleep(10 * time.Minute)
		if err := r.Check(t.Context()); !errors.Is(err, errDown) || !strings.Contains(err.Error(), "failed for 10m1") {
			t.Errorf("Check() = %v, want %v for some ten minutes", err, errDown)
		}
		before := time.Now()
		if v := r.View(t.Context()); total(v) != 13 || v.AsOf() != asOf {
			t.Errorf("the view has counted %d as of %v, want 13 as of %v", total(v), v.AsOf(), asOf)
		}
		if waited := time.Since(before); waited != 0 {
			t.Errorf("View() waited %v for a store that is down", waited)
		}
		synctest.Wait()
		if got := strings.Count(log.String(), "\n"); got < 50 || got > 61 || !strings.Contains(log.String(), errDown.Error()) {
			t.Errorf("logged %d lines, want the first failure and a summary every ten seconds:\n%s", got, log)
		}

		log.Reset()
		s.steer(func(s *steeredStore) { s.err, s.total = nil, 14 })
		time.Sleep(6 * time.Second)
		if v := r.View(t.Context()); total(v) != 14 {
			t.Errorf("the view has counted %d, want 14", total(v))
		}
		if err := r.Check(t.Context()); err != nil {
			t.Errorf("Check() = %v after the recovery", err)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if got := strings.Count(log.String(), "\n"); got != 1 || !strings.Contains(log.String(), `"level":"info"`) {
			t.Errorf("logged %d lines, want the recovery alone:\n%s", got, log)
		}
	})
}

func TestRefresherBacksOffWhileReadsFail(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &steeredStore{err: errDown}
		r, _ := run(t, s)
		for range 600 {
			time.Sleep(100 * time.Millisecond)
			r.View(t.Context()) // requests do not shorten the backoff
		}
		between := gaps(s.takeReads())
		for i, gap := range between {
			most := min(every<<min(i, 10), 5*time.Second)
			if gap < most/2 || gap > most {
				t.Errorf("%v before attempt %d, want %v to %v", gap, i+2, most/2, most)
			}
		}
		if last := between[len(between)-5:]; slices.Min(last) == slices.Max(last) {
			t.Errorf("%v between the last attempts: no jitter", last)
		}
		if err := r.Check(t.Context()); !errors.Is(err, errDown) {
			t.Errorf("Check() = %v, want %v", err, errDown)
		}

		// The next outage begins with a short wait again.
		s.steer(func(s *steeredStore) { s.err = nil })
		time.Sleep(10 * time.Second)
		s.steer(func(s *steeredStore) { s.err = errDown })
		s.takeReads()
		time.Sleep(5 * time.Second)
		if between := gaps(s.takeReads()); len(between) == 0 || between[0] > every {
			t.Errorf("%v between the first attempts of a new outage, want %v at most at first", between, every)
		}
	})
}

func TestHangingReadTimesOut(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &steeredStore{hangs: true}
		r, _ := run(t, s)
		time.Sleep(2*time.Second - time.Millisecond)
		if err := r.Check(t.Context()); err == nil || errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Check() = %v, want that there is no view yet", err)
		}
		time.Sleep(2 * time.Millisecond)
		if err := r.Check(t.Context()); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Check() = %v, want %v", err, context.DeadlineExceeded)
		}
		s.steer(func(s *steeredStore) { s.hangs = false })
		time.Sleep(every)
		if v := r.View(t.Context()); v.Version() != 1 {
			t.Errorf("version %d, want 1", v.Version())
		}
	})
}

func TestRefresherLogsNoFailureWhenItsContextEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		log := new(bytes.Buffer)
		r := newRefresher(t, &steeredStore{hangs: true}, log)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		began := time.Now()
		if err := r.Run(ctx); err != nil || time.Since(began) != time.Second || log.Len() > 0 {
			t.Errorf("Run() = %v after %v, want nil after 1s; log: %s", err, time.Since(began), log)
		}
	})
}

func TestRefresherReadsLessOftenWhenIdle(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &steeredStore{}
		r, _ := run(t, s)
		time.Sleep(time.Minute - time.Millisecond)
		s.takeReads()
		time.Sleep(46 * time.Second)
		want := []time.Duration{1e9, 2e9, 4e9, 8e9, 10e9, 10e9, 10e9}
		for i, gap := range gaps(s.takeReads()) {
			if gap != want[i] {
				t.Errorf("%v before quiet read %d, want %v", gap, i+1, want[i])
			}
		}
		time.Sleep(8 * time.Second)
		if reads := s.takeReads(); len(reads) > 0 { // the view is several refreshes old
			t.Errorf("%d reads within 8 s of quiet", len(reads))
		}
		if err := r.Check(t.Context()); err != nil {
			t.Errorf("Check() = %v in quiet times", err)
		}

		// A change brings the rate back, and so it stays for another minute.
		s.steer(func(s *steeredStore) { s.total++ })
		time.Sleep(10 * time.Second)
		s.takeReads()
		time.Sleep(50 * time.Second)
		if got := len(s.takeReads()); got != 100 {
			t.Errorf("%d reads in the 50 s after a change, want 100", got)
		}
	})
}

func TestWatchersSeeEveryReadAndKeepTheRate(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &steeredStore{total: 1}
		r, _ := run(t, s)
		s.takeReads()
		var watchers sync.WaitGroup
		for range 100 {
			watchers.Go(func() {
				for began := time.Now(); time.Since(began) < 5*time.Minute; {
					before := time.Now()
					v, replaced := r.Watch()
					<-replaced
					if time.Since(before) != every {
						t.Errorf("version %d was replaced after %v, want %v", v.Version(), time.Since(before), every)
					}
				}
			})
		}
		watchers.Wait()
		if got := len(s.takeReads()); got != 600 {
			t.Errorf("%d reads in five minutes for 100 who watch, want 600", got)
		}
		s.steer(func(s *steeredStore) { s.total, s.err = 2, errDown })
		_, replaced := r.Watch()
		<-replaced // by a read that failed
		if v, _ := r.Watch(); total(v) != 1 {
			t.Errorf("the view has counted %d, want 1 while reads fail", total(v))
		}
	})
}

func TestRequestsWhenIdleShareOneReadAndRestoreTheRate(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &steeredStore{total: 1, takes: 50 * time.Millisecond}
		r, _ := run(t, s)
		time.Sleep(5*time.Minute + 3*time.Second)
		s.steer(func(s *steeredStore) { s.total = 2 })
		s.takeReads()

		var requests sync.WaitGroup
		for range 100 {
			requests.Go(func() {
				before := time.Now()
				if v := r.View(t.Context()); total(v) != 2 || time.Since(before) != s.takes {
					t.Errorf("the view has counted %d after %v, want 2 after %v", total(v), time.Since(before), s.takes)
				}
			})
		}
		requests.Wait()
		time.Sleep(every - s.takes - time.Millisecond)
		if got := len(s.takeReads()); got != 1 {
			t.Errorf("%d reads for 100 requests, want 1", got)
		}
		time.Sleep(50 * time.Second)
		if got := len(s.takeReads()); got != 100 {
			t.Errorf("%d reads in the 50 s after a request, want 100", got)
		}
	})
}

func TestRequestsWhenIdleUseAViewThatIsFreshEnough(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &steeredStore{takes: 50 * time.Millisecond}
		r, _ := run(t, s)
		time.Sleep(5 * time.Minute)
		for s.takeReads(); len(s.takeReads()) == 0; {
			time.Sleep(100 * time.Millisecond)
		}
		time.Sleep(every)
		before := time.Now()
		r.View(t.Context())
		if waited := time.Since(before); waited > 0 || len(s.takeReads()) > 0 {
			t.Errorf("waited %v for a view that was one refresh old", waited)
		}
	})
}

func TestRequestsWhenIdleWaitForALimitedTime(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		patience time.Duration
		fault    func(*steeredStore)
		want     time.Duration
	}{
		"the store hangs":           {time.Hour, func(s *steeredStore) { s.hangs = true }, time.Second},
		"the store fails":           {time.Hour, func(s *steeredStore) { s.err = errDown }, 0},
		"the client's context ends": {100 * time.Millisecond, func(s *steeredStore) { s.hangs = true }, 100 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := &steeredStore{total: 1}
				r, _ := run(t, s)
				time.Sleep(5*time.Minute + 3*time.Second)
				s.steer(tc.fault)
				ctx, cancel := context.WithTimeout(t.Context(), tc.patience)
				defer cancel()
				before := time.Now()
				if v := r.View(ctx); total(v) != 1 || time.Since(before) != tc.want {
					t.Errorf("the view has counted %d after %v, want 1 after %v", total(v), time.Since(before), tc.want)
				}
			})
		})
	}
}

// For any sequence of requests and changes, no answer is older than two refreshes at the time of its request, and no two
// reads begin less than one refresh apart.
func TestAnswersAreNeverStalerThanPromised(t *testing.T) {
	t.Parallel()
	for range 5 {
		synctest.Test(t, func(t *testing.T) {
			s := &steeredStore{}
			r, _ := run(t, s)
			for began := time.Now(); time.Since(began) < 30*time.Minute; {
				// From a burst to several minutes, evenly by order of magnitude.
				time.Sleep(time.Millisecond << rand.N(18))
				asked := time.Now()
				if age := asked.Sub(r.View(t.Context()).AsOf()); age > 2*every {
					t.Fatalf("an answer was %v old", age)
				}
				if rand.N(4) == 0 {
					s.steer(func(s *steeredStore) { s.total++ })
				}
			}
			for i, gap := range gaps(s.takeReads()) {
				if gap < every {
					t.Errorf("%v between reads %d and %d", gap, i, i+1)
				}
			}
		})
	}
}
