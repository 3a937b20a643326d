package query_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"github.com/accrue/accrue/pkg/broker"
	brokerembedded "github.com/accrue/accrue/pkg/broker/embedded"
	"github.com/accrue/accrue/pkg/checkpoint"
	"github.com/accrue/accrue/pkg/database/databasetest"
	"github.com/accrue/accrue/pkg/service"
	"github.com/accrue/accrue/pkg/store"
	storeembedded "github.com/accrue/accrue/pkg/store/embedded"
	"github.com/accrue/accrue/query"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// failingStore is a store that the test can make fail or hang.
type failingStore struct {
	*storeembedded.Store
	down, hangs atomic.Bool
	// damaged makes the checkpoint of partition 3 unreadable.
	damaged atomic.Bool
}

var errDown = errors.New("the store is down")

func (s *failingStore) Totals(ctx context.Context) ([]store.PartitionTotals, time.Time, error) {
	if err := s.Check(ctx); err != nil {
		return nil, time.Time{}, err
	}
	all, asOf, err := s.Store.Totals(ctx)
	if s.damaged.Load() {
		for i := range all {
			if p := &all[i]; p.Partition == 3 {
				*p = store.PartitionTotals{Partition: 3, Revision: p.Revision, Err: checkpoint.ErrCorrupt}
			}
		}
	}
	return all, asOf, err
}

func (s *failingStore) Check(ctx context.Context) error {
	if s.hangs.Load() {
		<-ctx.Done()
		return ctx.Err()
	}
	if s.down.Load() {
		return errDown
	}
	return nil
}

// count commits one more increment of value to a tag in a partition.
func (s *failingStore) count(t *testing.T, partition uint32, name string, value int64) {
	t.Helper()
	s.commit(t, partition, []checkpoint.Delta{{Name: name, Value: value, Increments: 1}})
}

func (s *failingStore) commit(t *testing.T, partition uint32, deltas []checkpoint.Delta, contributors ...store.Contributions) {
	t.Helper()
	state, err := s.Load(t.Context(), partition)
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.Commit(t.Context(), store.Commit{
		Partition: partition, Revision: state.Revision, Tags: deltas, Contributors: contributors,
		Next: state.Checkpoint.Next(time.Now(), time.Hour, nil, deltas),
	})
	if err != nil {
		t.Fatal(err)
	}
}

// start runs a query on s until the test ends, and returns its address.
func start(t *testing.T, s *failingStore) (url string) {
	t.Helper()
	url, _ = startWithEvents(t, s)
	return url
}

// startWithEvents also returns a subscription to the events.
func startWithEvents(t *testing.T, s *failingStore) (url string, events *brokerembedded.Subscription) {
	t.Helper()
	topic := databasetest.NewTopic(t)
	events = topic.Subscribe(time.Minute)
	service, err := query.New(query.Config{Refresh: 20 * time.Millisecond, RecognitionTiers: []int64{3}}, query.Parts{
		Documents: s, Events: topic,
		Checks: []service.Check{{Name: "firestore", Check: s.Check}}, Log: zerolog.Nop(),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- service.Run(ctx) }()
	t.Cleanup(func() {
		http.DefaultClient.CloseIdleConnections()
		stopped := time.Now()
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run() = %v", err)
		}
		if took := time.Since(stopped); took > 8*time.Second {
			t.Errorf("the stop took %v", took)
		}
	})
	return "http://localhost:" + strconv.Itoa(service.Port()), events
}

type answer struct {
	status int
	header http.Header
	body   string
}

func get(t *testing.T, url string) answer {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(response.Body)
	if err := errors.Join(err, response.Body.Close()); err != nil {
		t.Fatal(err)
	}
	return answer{response.StatusCode, response.Header, string(body)}
}

// await repeats a request until the answer is as wanted.
func await(t *testing.T, url string, wanted func(answer) bool) answer {
	t.Helper()
	const patience = 10 * time.Second
	for began := time.Now(); ; {
		got := get(t, url)
		if wanted(got) {
			return got
		}
		if time.Since(began) > patience {
			t.Fatalf("%s is still %d %s", url, got.status, got.body)
		}
	}
}

func status(want int) func(answer) bool { return func(a answer) bool { return a.status == want } }

func body(want string) func(answer) bool { return func(a answer) bool { return a.body == want } }

func TestServiceServesWhatIsCommitted(t *testing.T) {
	t.Parallel()
	s := &failingStore{Store: databasetest.Store(t)}
	url := start(t, s)
	await(t, url+"/stats", body("{}"))
	s.count(t, 15, "foo", 4)
	s.count(t, 12, "ballz", 9)
	await(t, url+"/stats", body(`{"ballz":9,"foo":4}`))
	s.count(t, 15, "foo", 9)
	s.count(t, 3, "foo", 1) // counted when there were other partitions
	await(t, url+"/stats", body(`{"ballz":9,"foo":14}`))
	if got := get(t, url+service.ReadyPath); got.status != http.StatusOK {
		t.Errorf("ready: %d %s", got.status, got.body)
	}
}

func TestServiceServesTheLastViewWhileTheStoreIsDown(t *testing.T) {
	t.Parallel()
	s := &failingStore{Store: databasetest.Store(t)}
	s.count(t, 0, "foo", 4)
	url := start(t, s)
	await(t, url+service.ReadyPath, status(http.StatusOK))

	s.down.Store(true)
	notReady := await(t, url+service.ReadyPath, func(a answer) bool { return strings.Contains(a.body, "old") })
	if notReady.status != http.StatusServiceUnavailable || !strings.Contains(notReady.body, errDown.Error()) {
		t.Errorf("ready: %d %s, want 503 with the error", notReady.status, notReady.body)
	}
	first := get(t, url+"/stats")
	asOf, err := time.Parse(time.RFC3339, first.header.Get("X-As-Of"))
	if first.status != http.StatusOK || first.body != `{"foo":4}` || err != nil || time.Since(asOf) < 80*time.Millisecond {
		t.Errorf("stats: %d %s as of %v, want the last view and its age", first.status, first.body, asOf)
	}
	if got := get(t, url+service.LivePath); got.status != http.StatusOK {
		t.Errorf("live: %d", got.status)
	}

	s.down.Store(false)
	s.count(t, 0, "foo", 1)
	await(t, url+"/stats", body(`{"foo":5}`))
	await(t, url+service.ReadyPath, status(http.StatusOK))
}

func TestServiceGoesOnWithTheOtherPartitionsWhenOneIsUnreadable(t *testing.T) {
	t.Parallel()
	s := &failingStore{Store: databasetest.Store(t)}
	s.count(t, 3, "foo", 4)
	s.count(t, 12, "ballz", 9)
	s.damaged.Store(true)
	url := start(t, s)
	await(t, url+"/stats", body(`{"ballz":9}`))
	s.count(t, 12, "ballz", 1)
	await(t, url+"/stats", body(`{"ballz":10}`))
	ready := await(t, url+service.ReadyPath, func(a answer) bool { return strings.Contains(a.body, "degraded") })
	if ready.status != http.StatusOK || !strings.Contains(ready.body, "partition 3") {
		t.Errorf("ready: %d %s, want 200 that names partition 3", ready.status, ready.body)
	}
	s.damaged.Store(false)
	await(t, url+"/stats", body(`{"ballz":10,"foo":4}`))
	await(t, url+service.ReadyPath, func(a answer) bool { return !strings.Contains(a.body, "degraded") })
}

func TestServiceIsLiveButNotReadyBeforeItsFirstRead(t *testing.T) {
	t.Parallel()
	s := &failingStore{Store: databasetest.Store(t)}
	s.hangs.Store(true)
	url := start(t, s)
	await(t, url+service.LivePath, status(http.StatusOK))
	if got := get(t, url+"/stats"); got.status != http.StatusServiceUnavailable || got.header.Get("Retry-After") != "1" {
		t.Errorf("stats: %d, Retry-After %q, want 503 and 1", got.status, got.header.Get("Retry-After"))
	}
	if got := get(t, url+service.ReadyPath); got.status != http.StatusServiceUnavailable {
		t.Errorf("ready: %d, want 503", got.status)
	}
}

func TestServiceRecognizesContributorsAndShowsThem(t *testing.T) {
	t.Parallel()
	s := &failingStore{Store: databasetest.Store(t)}
	url, events := startWithEvents(t, s)
	for range 3 {
		s.commit(t, 0, nil, store.Contributions{Contributor: "a/b", Contributions: 1})
	}
	got := await(t, url+"/contributors/a%2Fb", func(a answer) bool { return strings.Contains(a.body, `"recognized_tier":3`) })
	if !strings.Contains(got.body, `"recognitions":[{"tier":3,"contributions":3,`) {
		t.Errorf("contributor: %s", got.body)
	}
	var published []broker.Delivery
	for began := time.Now(); len(published) == 0 && time.Since(began) < 10*time.Second; {
		var err error
		if published, err = events.Pull(t.Context(), 10); err != nil {
			t.Fatal(err)
		}
	}
	if len(published) != 1 || !strings.HasPrefix(string(published[0].Data), `{"contributor":"a/b","tier":3,"contributions":3,`) ||
		published[0].Attributes["ce-type"] != "dev.accrue.contributor.recognized.v1" {
		t.Errorf("published %v", published)
	}
	if got := get(t, url+"/contributors"); !strings.Contains(got.body, `[{"id":"a/b","contributions":3,"recognized_tier":3,`) {
		t.Errorf("contributors: %s", got.body)
	}
}

func TestNewReportsATakenPort(t *testing.T) {
	t.Parallel()
	url := start(t, &failingStore{Store: databasetest.Store(t)})
	port, err := strconv.Atoi(url[strings.LastIndexByte(url, ':')+1:])
	if err != nil {
		t.Fatal(err)
	}
	if _, err := query.New(query.Config{Config: service.Config{Port: port}, Refresh: time.Second}, query.Parts{Documents: databasetest.Store(t)}); err == nil {
		t.Error("New() = nil on a port that is taken")
	}
}
