package e2e_test

import (
	"context"
	"crypto/sha256"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	"google.golang.org/protobuf/proto"

	"github.com/accrue/accrue/pkg/broker"
	"github.com/accrue/accrue/pkg/broker/pubsub"
)

// subscribe makes the subscription with the shortest lease that there is, so that what a killed process held comes again
// within the test, and the dead-letter topic with a subscription of its own.
func (s *system) subscribe(t *testing.T) (client *pubsub.Client) {
	t.Helper()
	client, err := pubsub.Connect(t.Context(), s.project, s.pubSub)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := client.Close(); err != nil {
			t.Error(err)
		}
	})
	for subscription, topic := range map[string]string{"increments-aggregator": "increments", "letters": "increments-dead-letter"} {
		if err := client.EnsureTopic(t.Context(), topic); err != nil {
			t.Fatal(err)
		}
		if err := client.EnsureSubscription(t.Context(), subscription, topic, 10*time.Second); err != nil {
			t.Fatal(err)
		}
	}
	return client
}

// Two aggregators work on one subscription; one of them is killed every two seconds, and ingest is restarted once, with
// another instance in its place. Every sum is exact, and so is the second bookkeeping.
func TestKilledAggregatorsLoseAndDoubleNothing(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	s.subscribe(t)
	ingest, query := s.start(t, "ingest"), s.start(t, "query")
	aggregators := []*process{s.start(t, "aggregator"), s.start(t, "aggregator")}
	load := startLoad(t, ingest, 8, 10*time.Millisecond)
	for i := range 6 {
		time.Sleep(2 * time.Second) //nolint:forbidigo // the load runs
		victim := i % len(aggregators)
		aggregators[victim].kill()
		aggregators[victim] = s.start(t, "aggregator")
		if i == 3 {
			next := s.start(t, "ingest")
			load.to(next)
			ingest.stop()
		}
	}
	want := load.finish(t)
	awaitStats(t, query, want, 60*time.Second)
	for _, aggregator := range aggregators {
		aggregator.stop()
	}
	awaitStats(t, query, want, time.Second) // and stays exact
	s.audit(t)
}

// Pub/Sub delivers every message twice, and the reply to every Commit gets lost once, so that the client underneath sends
// it again. The guards, each taken out for one run:
//
//   - without the check of intervals (dropCounted drops nothing): 104 of 104 tags differ, by +536,972 of 111,630 accepted,
//     and it does not end there, since what cannot be dropped is counted with every delivery;
//   - without the precondition of the Commit (CurrentDocument left off): 104 of 104 tags differ, by -44,720 of 135,676
//     accepted: two aggregators overwrite each other's checkpoints.
func TestDoubledDeliveriesAndLostRepliesCountOnce(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	s.subscribe(t)
	doubled, lost := &doubledDeliveries{}, &lostReplies{}
	s.pubSub = startProxy(t, s.pubSub, doubled.fault).host
	s.firestore = startProxy(t, s.firestore, lost.fault).host
	ingest, query := s.start(t, "ingest"), s.start(t, "query")
	aggregators := []*process{s.start(t, "aggregator"), s.start(t, "aggregator")}
	load := startLoad(t, ingest, 8, 10*time.Millisecond)
	time.Sleep(10 * time.Second) //nolint:forbidigo // the load runs
	want := load.finish(t)
	awaitStats(t, query, want, 60*time.Second)
	for _, aggregator := range aggregators {
		aggregator.stop() // what it committed last
	}
	awaitStats(t, query, want, time.Second)
	s.audit(t)
	t.Logf("%d messages were delivered again, %d replies were lost", doubled.count.Load(), lost.count.Load())
	if doubled.count.Load() == 0 || lost.count.Load() == 0 {
		t.Error("the proxies did nothing")
	}
}

// doubledDeliveries adds to every Pull's reply what the one before brought.
type doubledDeliveries struct {
	count atomic.Int64
	mu    sync.Mutex
	last  []*pubsubpb.ReceivedMessage
}

func (d *doubledDeliveries) fault(method string, _, reply []byte) ([]byte, error) {
	if !strings.HasSuffix(method, "/Pull") {
		return reply, nil
	}
	var response pubsubpb.PullResponse
	if err := proto.Unmarshal(reply, &response); err != nil {
		return nil, err
	}
	d.mu.Lock()
	again := d.last
	d.last = slices.Clone(response.GetReceivedMessages())
	d.mu.Unlock()
	d.count.Add(int64(len(again)))
	response.ReceivedMessages = append(response.GetReceivedMessages(), again...)
	return proto.Marshal(&response)
}

// lostReplies loses the first reply to every Commit, which is in by then.
type lostReplies struct {
	count atomic.Int64
	seen  sync.Map
}

func (l *lostReplies) fault(method string, request, reply []byte) ([]byte, error) {
	if !strings.HasSuffix(method, "/Commit") {
		return reply, nil
	}
	if _, again := l.seen.LoadOrStore(sha256.Sum256(request), true); again {
		return reply, nil
	}
	l.count.Add(1)
	return nil, errReplyLost
}

func TestWhatIsNoMessageIsDeadLetteredAndStopsNothing(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	client := s.subscribe(t)
	ingest, query := s.start(t, "ingest"), s.start(t, "query")
	s.start(t, "aggregator")
	if err := client.Topic("increments").Publish(t.Context(), []broker.Message{{Data: []byte("garbage")}}); err != nil {
		t.Fatal(err)
	}
	mustPost(t, ingest.url+"/increments", `{"name":"___","value":4}`)
	mustPost(t, ingest.url+"/increments", `{"name":"__init__","value":4}`)
	awaitStats(t, query, map[string]int64{"___": 4, "__init__": 4}, 10*time.Second)
	await(t, "the dead letter", 10*time.Second, func() error {
		letters, err := client.Subscription("letters").Pull(t.Context(), 10)
		if err == nil && (len(letters) != 1 || string(letters[0].Data) != "garbage" || letters[0].Attributes["reason"] == "") {
			err = fmt.Errorf("letters: %v", letters)
		}
		return err
	})
}

// While Firestore does not answer, query serves its last view, says how old it is, and is not ready; what is posted
// meanwhile is counted afterwards.
func TestFirestoreAway(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	proxy := startProxy(t, s.firestore, nil)
	s.firestore = proxy.host
	ingest, query := s.start(t, "ingest"), s.start(t, "query")
	aggregator := s.start(t, "aggregator")
	mustPost(t, ingest.url+"/increments", `{"name":"foo","value":4}`)
	awaitStats(t, query, map[string]int64{"foo": 4}, 10*time.Second)

	proxy.interrupt()
	mustPost(t, ingest.url+"/increments", `{"name":"foo","value":5}`)
	for _, p := range []*process{query, aggregator} {
		await(t, p.name+" says that it is not ready", 20*time.Second, func() error {
			r, err := getAny(p.url + "/health/ready")
			if err == nil && r.status != http.StatusServiceUnavailable {
				err = fmt.Errorf("%d %s", r.status, r.body)
			}
			return err
		})
		if _, err := get(p.url + "/health/live"); err != nil {
			t.Errorf("%s is not live: %v", p.name, err)
		}
	}
	r, err := getAny(query.url + "/stats")
	asOf, _ := time.Parse(time.RFC3339, r.header.Get("X-As-Of"))
	if err != nil || r.body != `{"foo":4}` || time.Since(asOf) < time.Second {
		t.Errorf("/stats while Firestore is away: %s as of %v, %v", r.body, asOf, err)
	}

	proxy.restore()
	awaitStats(t, query, map[string]int64{"foo": 9}, 60*time.Second)
	await(t, "ready again", 10*time.Second, func() error {
		_, err := get(query.url + "/health/ready")
		return err
	})
	s.audit(t)
}

// While Pub/Sub does not answer, posts are refused after the publish's deadline, with the time to come again.
func TestPubSubAway(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	proxy := startProxy(t, s.pubSub, nil)
	s.pubSub = proxy.host
	ingest := s.start(t, "ingest")
	proxy.interrupt()
	started := time.Now()
	r, err := post(ingest.url+"/increments", `{"name":"foo","value":5}`)
	if took := time.Since(started); err != nil || r.status != http.StatusServiceUnavailable || r.header.Get("Retry-After") == "" || took > 7*time.Second {
		t.Errorf("a post while Pub/Sub is away: %d, Retry-After %q, %v after %v", r.status, r.header.Get("Retry-After"), err, took)
	}
	if r, err := getAny(ingest.url + "/health/ready"); err != nil || r.status != http.StatusServiceUnavailable {
		t.Errorf("ready while Pub/Sub is away: %d %s %v", r.status, r.body, err)
	}
	if _, err := get(ingest.url + "/health/live"); err != nil {
		t.Errorf("not live while Pub/Sub is away: %v", err)
	}
	proxy.restore()
	await(t, "posts are taken again", 10*time.Second, func() error {
		r, err := post(ingest.url+"/increments", `{"name":"foo","value":5}`)
		if err == nil && r.status != http.StatusAccepted {
			err = fmt.Errorf("%d %s", r.status, r.body)
		}
		return err
	})
}

func getAny(url string) (response, error) {
	request, err := http.NewRequestWithContext(context.Background(), http.MethodGet, url, http.NoBody)
	if err != nil {
		return response{}, err
	}
	return do(request)
}
