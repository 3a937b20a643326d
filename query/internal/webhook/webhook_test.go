package webhook

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"github.com/accrue/accrue/pkg/broker"
	"github.com/accrue/accrue/pkg/database/databasetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// receiver is a receiver that the test steers, without a network: the clock is simulated.
type receiver struct {
	name string
	mu   sync.Mutex
	// answer is called for each request, with the id of its event, and returns the status.
	answer func(ctx context.Context, id string) int
	// got counts the requests of each event that were answered 2xx, and tried all of them.
	got, tried map[string]int
	underWay   int
	most       int // at the same time
}

func newReceiver(name string) *receiver {
	return &receiver{
		name: name, got: make(map[string]int), tried: make(map[string]int),
		answer: func(context.Context, string) int { return http.StatusNoContent },
	}
}

func (r *receiver) RoundTrip(request *http.Request) (*http.Response, error) {
	var e struct {
		ID string `json:"id"`
	}
	body, err := io.ReadAll(request.Body)
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(body, &e); err != nil || e.ID != request.Header.Get("Webhook-Id") {
		return nil, errors.New("not an event")
	}
	r.mu.Lock()
	answer := r.answer
	r.tried[e.ID]++
	r.underWay++
	r.most = max(r.most, r.underWay)
	r.mu.Unlock()
	status := answer(request.Context(), e.ID)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.underWay--
	if err := request.Context().Err(); err != nil {
		return nil, err
	}
	if status/100 == 2 {
		r.got[e.ID]++
	}
	recorder := httptest.NewRecorder()
	recorder.WriteHeader(status)
	return recorder.Result(), nil
}

func (r *receiver) steer(answer func(ctx context.Context, id string) int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.answer = answer
}

// counts returns how many events were taken, by how many requests.
func (r *receiver) counts() (events, requests, tries int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, n := range r.got {
		requests += n
	}
	for _, n := range r.tried {
		tries += n
	}
	return len(r.got), requests, tries
}

// events returns how many events were tried.
func (r *receiver) events() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.tried)
}

func (r *receiver) want(t *testing.T, events, requests int) {
	t.Helper()
	if n, of, _ := r.counts(); n != events || of != requests {
		t.Errorf("%s has %d events by %d requests, want %d by %d", r.name, n, of, events, requests)
	}
}

func down(context.Context, string) int { return http.StatusServiceUnavailable }

// rig runs webhooks on an embedded topic.
type rig struct {
	t       *testing.T
	topic   *databasetest.Topic
	sources map[string]Source
	logged  *lockedBuffer
	stop    func()
}

// lockedBuffer is a buffer that is read while it is written.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// newRig subscribes receivers to a topic. It must be called in a bubble, and so must stop.
func newRig(t *testing.T, receivers ...*receiver) *rig {
	t.Helper()
	r := &rig{t: t, topic: databasetest.NewTopic(t), sources: make(map[string]Source), logged: new(lockedBuffer)}
	for _, to := range receivers {
		r.sources[to.name] = r.topic.Subscribe(AckDeadline)
	}
	return r
}

// start begins to post. A kill leaves everything leased, as if the process had ended at once.
func (r *rig) start(receivers ...*receiver) *Webhooks {
	r.t.Helper()
	all := make([]Receiver, len(receivers))
	for i, to := range receivers {
		all[i] = Receiver{Name: to.name, URL: "http://" + to.name + "/", Secrets: [][]byte{[]byte("secret")}}
	}
	w, err := New(all, Parts{Sources: r.sources, Log: zerolog.New(r.logged)})
	if err != nil {
		r.t.Fatal(err)
	}
	for i, to := range receivers {
		w.senders[i].transport = to
	}
	ctx, cancel := context.WithCancel(r.t.Context())
	ended := make(chan error, 1)
	go func() { ended <- w.Run(ctx) }()
	r.stop = func() {
		cancel()
		if err := <-ended; err != nil {
			r.t.Error(err)
		}
	}
	return w
}

func (r *rig) publish(ids ...string) {
	r.t.Helper()
	messages := make([]broker.Message, len(ids))
	for i, id := range ids {
		messages[i] = recognized(id)
	}
	if err := r.topic.Publish(r.t.Context(), messages); err != nil {
		r.t.Fatal(err)
	}
}

func numbered(n int) []string {
	ids := make([]string, n)
	for i := range ids {
		ids[i] = fmt.Sprint("event ", i)
	}
	return ids
}

// waiting returns the number of messages of a receiver that are not acknowledged.
func (r *rig) waiting(of *receiver) int {
	held, ok := r.sources[of.name].(interface {
		Held(ctx context.Context) (int, error)
	})
	if !ok {
		r.t.Fatal("the subscription does not say what it holds")
	}
	n, err := held.Held(r.t.Context())
	if err != nil {
		r.t.Fatal(err)
	}
	return n
}

func TestAReceiverThatFailsForAMinuteGetsEveryEventOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		crm := newReceiver("crm")
		r := newRig(t, crm)
		r.start(crm)
		r.publish(numbered(20)...)
		time.Sleep(time.Second)
		crm.want(t, 20, 20)
		crm.steer(down)
		for i := range 60 {
			r.publish(fmt.Sprint("late ", i))
			time.Sleep(time.Second)
		}
		crm.want(t, 20, 20)
		crm.steer(func(context.Context, string) int { return http.StatusOK })
		time.Sleep(2 * time.Minute)
		crm.want(t, 80, 80)
		if n := r.waiting(crm); n != 0 {
			t.Errorf("%d messages are not acknowledged", n)
		}
		r.stop()
		// A line says that it fails, and another one every ten seconds; one that it works again.
		if got := r.logged.String(); strings.Count(got, "cannot post") < 1 || strings.Count(got, "cannot post") > 7 || !strings.Contains(got, "works again") {
			t.Errorf("logged %s", got)
		}
	})
}

func TestCopiesOfAnEventArePostedOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		crm := newReceiver("crm")
		crm.steer(func(context.Context, string) int {
			time.Sleep(time.Second)
			return http.StatusOK
		})
		r := newRig(t, crm)
		r.start(crm)
		r.publish("a1", "b2", "a1") // at once
		time.Sleep(500 * time.Millisecond)
		r.publish("a1") // while it is being posted
		time.Sleep(10 * time.Second)
		r.publish("a1", "b2") // later
		time.Sleep(10 * time.Second)
		crm.want(t, 2, 2)
		if n := r.waiting(crm); n != 0 {
			t.Errorf("%d messages are not acknowledged", n)
		}
		r.stop()
	})
}

// A receiver whose answers are lost gets an event again, with the same id.
func TestAnEventIsPostedAgainUntilItsAnswerArrives(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		crm := newReceiver("crm")
		seen := make(map[string]int)
		var mu sync.Mutex
		crm.steer(func(ctx context.Context, id string) int {
			mu.Lock()
			seen[id]++
			lost := seen[id] < 3
			mu.Unlock()
			if lost {
				<-ctx.Done() // the answer never arrives
			}
			return http.StatusOK
		})
		r := newRig(t, crm)
		r.start(crm)
		r.publish("a1")
		time.Sleep(time.Minute)
		crm.want(t, 1, 1)
		r.stop()
		if seen["a1"] != 3 || len(seen) != 1 {
			t.Errorf("seen %v, want a1 three times", seen)
		}
	})
}

func TestReceiversDoNotSlowEachOther(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		hangs, fails, works := newReceiver("hangs"), newReceiver("fails"), newReceiver("works")
		hangs.steer(func(ctx context.Context, _ string) int { <-ctx.Done(); return 0 })
		fails.steer(down)
		r := newRig(t, hangs, fails, works)
		r.start(hangs, fails, works)
		r.publish(numbered(1000)...)
		time.Sleep(time.Second)
		works.want(t, 1000, 1000)
		time.Sleep(time.Hour)
		hangs.want(t, 0, 0)
		fails.want(t, 0, 0)
		if r.waiting(fails) != 1000 || fails.events() > maxHeld {
			t.Errorf("%d wait, %d were tried, want 1000, and %d at most", r.waiting(fails), fails.events(), maxHeld)
		}
		fails.steer(func(context.Context, string) int { return http.StatusOK })
		time.Sleep(2 * maxBackoff)
		fails.want(t, 1000, 1000)
		r.stop()
		if hangs.most != atOnce {
			t.Errorf("%d requests at the same time, want %d", hangs.most, atOnce)
		}
	})
}

func TestAnEventIsDeadAfterADay(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		crm := newReceiver("crm")
		crm.steer(func(_ context.Context, id string) int {
			if id == "bad" {
				return http.StatusBadRequest
			}
			return http.StatusOK
		})
		r := newRig(t, crm)
		w := r.start(crm)
		r.publish("good", "bad")
		time.Sleep(23*time.Hour + 59*time.Minute)
		if n := r.waiting(crm); n != 1 || w.senders[0].dead.Load() != 0 {
			t.Errorf("before a day %d messages wait, %d are dead", n, w.senders[0].dead.Load())
		}
		if age := w.senders[0].heldAge(); age < 23*time.Hour {
			t.Errorf("the oldest is %v old", age)
		}
		time.Sleep(10 * time.Minute)
		if n := r.waiting(crm); n != 0 || w.senders[0].dead.Load() != 1 {
			t.Errorf("after a day %d messages wait, %d are dead", n, w.senders[0].dead.Load())
		}
		_, _, tries := crm.counts()
		if tries < 250 || tries > 700 { // one every 2.5 to 5 minutes
			t.Errorf("%d requests in a day", tries)
		}
		r.publish("good again")
		time.Sleep(time.Minute)
		crm.want(t, 2, 2)
		r.stop()
		line := r.logged.String()
		if strings.Count(line, "gave up") != 1 || !strings.Contains(line, `"event":"bad"`) || strings.Contains(line, "ada") {
			t.Errorf("logged %s", line)
		}
	})
}

// An instance that is stopped gives back what it has not posted, and one that follows posts it at once.
func TestAStopLosesNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		crm := newReceiver("crm")
		crm.steer(down)
		r := newRig(t, crm)
		r.start(crm)
		r.publish(numbered(50)...)
		time.Sleep(time.Minute)
		began := time.Now()
		r.stop()
		if took := time.Since(began); took > 8*time.Second {
			t.Errorf("the stop took %v", took)
		}
		crm.steer(func(context.Context, string) int { return http.StatusOK })
		r.start(crm)
		time.Sleep(5 * time.Second) // much less than a lease
		crm.want(t, 50, 50)
		r.stop()
	})
}

// An answer that arrives while the process stops still counts.
func TestAStopWaitsForAnswers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		crm := newReceiver("crm")
		crm.steer(func(context.Context, string) int {
			time.Sleep(drain / 2)
			return http.StatusOK
		})
		r := newRig(t, crm)
		r.start(crm)
		r.publish("a1")
		time.Sleep(100 * time.Millisecond)
		r.stop()
		crm.want(t, 1, 1)
		if n := r.waiting(crm); n != 0 {
			t.Errorf("%d messages are not acknowledged", n)
		}
	})
}

// lostSource is a subscription whose extensions and acknowledgements can be lost.
type lostSource struct {
	Source
	mu   sync.Mutex
	lost bool
}

var errLost = errors.New("lost")

func (s *lostSource) failing() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lost {
		return errLost
	}
	return nil
}

func (s *lostSource) Extend(ctx context.Context, receipts []string, d time.Duration) error {
	if err := s.failing(); err != nil {
		return err
	}
	return s.Source.Extend(ctx, receipts, d)
}

func (s *lostSource) Acknowledge(ctx context.Context, receipts []string) error {
	if err := s.failing(); err != nil {
		return err
	}
	return s.Source.Acknowledge(ctx, receipts)
}

// While the broker takes no acknowledgement and no extension, messages come again and again. Each event is posted once.
func TestRedeliveriesAreNotPosted(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		crm := newReceiver("crm")
		crm.steer(func(_ context.Context, id string) int {
			if id == "a1" {
				return http.StatusOK
			}
			return http.StatusServiceUnavailable
		})
		r := newRig(t, crm)
		source := &lostSource{Source: r.sources["crm"], lost: true}
		r.sources["crm"] = source
		w := r.start(crm)
		r.publish("a1", "b2")
		time.Sleep(time.Hour)
		crm.want(t, 1, 1)
		w.senders[0].mu.Lock()
		if held := w.senders[0].held[eventKey{"/accrue/query", "b2"}]; len(held.receipts) != 1 {
			t.Errorf("%d receipts are held of one message", len(held.receipts))
		}
		w.senders[0].mu.Unlock()
		source.mu.Lock()
		source.lost = false
		source.mu.Unlock()
		crm.steer(func(context.Context, string) int { return http.StatusOK })
		time.Sleep(time.Hour)
		crm.want(t, 2, 2)
		r.stop()
		r.sources["crm"] = source.Source
		if n := r.waiting(crm); n != 0 {
			t.Errorf("%d messages are not acknowledged", n)
		}
	})
}

func TestMessagesThatAreNoEventsAreDropped(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		crm := newReceiver("crm")
		r := newRig(t, crm)
		r.start(crm)
		if err := r.topic.Publish(t.Context(), []broker.Message{{Data: []byte("garbage")}, recognized("a1")}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		crm.want(t, 1, 1)
		if n := r.waiting(crm); n != 0 {
			t.Errorf("%d messages are not acknowledged", n)
		}
		r.stop()
	})
}
