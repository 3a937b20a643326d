package simulate

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/accrue/accrue/aggregator"
	"github.com/accrue/accrue/ingest"
	"github.com/accrue/accrue/pkg/broker"
	brokerembedded "github.com/accrue/accrue/pkg/broker/embedded"
	"github.com/accrue/accrue/pkg/database/databasetest"
	"github.com/accrue/accrue/pkg/service"
	storeembedded "github.com/accrue/accrue/pkg/store/embedded"
	"github.com/accrue/accrue/pkg/store/storetest"
	"github.com/accrue/accrue/query"
)

// slots is how many of each service run.
const slots = 2

// stopTime is how long a service may take to stop: Cloud Run kills it after ten seconds.
const stopTime = 10 * time.Second

// service names.
const (
	ingests     = "ingest"
	aggregators = "aggregator"
	queries     = "query"
)

// instance is one life of a service.
type instance struct {
	link    *link
	handler http.Handler
	cancel  context.CancelFunc
	gone    chan struct{} // closed when it is killed
	ended   chan error
	// wrong is by how much the clock of an ingest is wrong.
	wrong atomic.Int64
}

func (in *instance) wait() error { return <-in.ended }

// world is the broker, the store, and the services.
type world struct {
	t       *testing.T
	seed    uint64
	tally   *tally
	weather *weather
	store   storetest.Store

	increments, dead, recognitions             *brokerembedded.Topic
	subscription, letters, recognized, archive *brokerembedded.Subscription
	broker                                     *brokerembedded.Broker
	log                                        zerolog.Logger
	lines                                      *lines
	ending                                     sync.WaitGroup

	mu        sync.Mutex
	lives     int
	links     []*link
	instances map[string]*instance // by service and slot
	ledger    ledger
	found     []string
}

// lines keeps what the services log as errors.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.b.Len() > 1<<20 {
		return len(p), nil
	}
	return l.b.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// newWorld makes a world whose store is wrapped by plant, if that is not nil.
func newWorld(t *testing.T, seed uint64, tally *tally, plant func(storetest.Store) storetest.Store) *world {
	t.Helper()
	w := &world{
		t: t, seed: seed, tally: tally, weather: &weather{down: make(map[string]outage)}, instances: make(map[string]*instance), lines: &lines{},
		ledger: newLedger(),
	}
	w.log = zerolog.New(w.lines).Level(zerolog.ErrorLevel)
	d := databasetest.Open(t)
	w.store = storeembedded.New(d)
	if plant != nil {
		w.store = plant(w.store)
	}
	w.broker = brokerembedded.New(d)
	w.increments, w.dead, w.recognitions = w.broker.Topic("increments"), w.broker.Topic("dead"), w.broker.Topic("recognitions")
	var faults [4]error
	w.subscription, faults[0] = w.broker.Subscribe(t.Context(), "increments", "aggregator", aggregator.AckDeadline)
	w.letters, faults[1] = w.broker.Subscribe(t.Context(), "dead", "redrive", time.Minute)
	w.recognized, faults[2] = w.broker.Subscribe(t.Context(), "recognitions", "print", time.Minute)
	w.archive, faults[3] = w.broker.Subscribe(t.Context(), "increments", "archive", time.Hour)
	if err := errors.Join(faults[:]...); err != nil {
		t.Fatal(err)
	}
	return w
}

// faulty notes what is not as it must be.
func (w *world) faulty(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.found) < 20 {
		w.found = append(w.found, fmt.Sprintf(format, args...))
	}
}

func (w *world) faults() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return strings.Join(w.found, "\n")
}

// link makes the link of a new life.
func (w *world) link(name string) (l *link, life int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.lives++
	l = newLink(w.weather, w.tally, w.seed, name+strconv.Itoa(w.lives))
	w.links = append(w.links, l)
	return l, w.lives
}

func slotName(service string, slot int) string { return service + " " + strconv.Itoa(slot) }

// start starts a service. The random source decides its settings.
func (w *world) start(name string, slot int, random *rand.Rand) {
	l, life := w.link(slotName(name, slot))
	variables := map[string]string{
		"GOOGLE_CLOUD_PROJECT": "simulation", "PARTITIONS": strconv.Itoa(4), "INCREMENTS_TOPIC": "increments",
	}
	if name == ingests && random.IntN(3) == 0 {
		variables["PARTITIONS"] = strconv.Itoa(2 + random.IntN(4))
		w.tally.add(divided)
	}
	if name == aggregators && random.IntN(3) == 0 {
		variables["TAG_DOCUMENTS"] = "5s"
		w.tally.add(owed)
	}
	in := &instance{link: l, gone: make(chan struct{}), ended: make(chan error, 1)}
	run, err := w.assemble(name, in, variables, random)
	if err != nil {
		w.faulty("life %d: start %s: %v", life, name, err)
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	in.cancel = cancel
	go func() { in.ended <- run(ctx) }()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.instances[slotName(name, slot)] = in
}

// hours is up to an hour, to either side.
func hours(random *rand.Rand) int64 { return random.Int64N(int64(2*time.Hour)) - int64(time.Hour) }

func (w *world) assemble(name string, in *instance, variables map[string]string, random *rand.Rand) (func(context.Context) error, error) {
	f := in.link.faults
	switch name {
	case ingests:
		var config ingest.Config
		if err := service.Load(variables, &config); err != nil {
			return nil, err
		}
		config.Port = service.NoPort
		topic := &clocked{Topic: f.Topic(w.increments), link: in.link, by: &in.wrong}
		if random.IntN(3) == 0 {
			in.wrong.Store(hours(random))
		}
		s, err := ingest.New(config, ingest.Parts{Publisher: topic, Log: w.log})
		if err != nil {
			return nil, err
		}
		in.handler = s.Handler()
		return s.Run, nil
	case aggregators:
		var config aggregator.Config
		if err := service.Load(variables, &config); err != nil {
			return nil, err
		}
		config.Port = service.NoPort
		s, err := aggregator.New(config, aggregator.Parts{
			Source: &source{Subscription: f.Subscription(w.subscription), link: in.link, random: rand.New(rand.NewPCG(in.link.seed, 1))},
			Ledger: f.Store(w.store), DeadLetters: f.Topic(w.dead), Log: w.log,
		})
		if err != nil {
			return nil, err
		}
		return s.Run, nil
	default:
		var config query.Config
		if err := service.Load(variables, &config); err != nil {
			return nil, err
		}
		config.Port = service.NoPort
		s, err := query.New(config, query.Parts{Documents: f.Store(w.store), Events: f.Topic(w.recognitions), Log: w.log})
		if err != nil {
			return nil, err
		}
		in.handler = s.Handler()
		return s.Run, nil
	}
}

// take removes the instance of a slot, if one runs there.
func (w *world) take(name string, slot int) *instance {
	w.mu.Lock()
	defer w.mu.Unlock()
	in := w.instances[slotName(name, slot)]
	delete(w.instances, slotName(name, slot))
	return in
}

func (w *world) running(name string, slot int) *instance {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.instances[slotName(name, slot)]
}

// kill ends a service with all that it holds.
func (w *world) kill(name string, slot int) {
	in := w.take(name, slot)
	if in == nil {
		return
	}
	w.tally.add(killed)
	in.link.kill()
	close(in.gone)
	in.cancel()
	w.ending.Go(func() { _ = in.wait() }) // its goroutines, which have no effect any more
}

// stop asks a service to end, and checks that it does in time.
func (w *world) stop(name string, slot int) {
	in := w.take(name, slot)
	if in == nil {
		return
	}
	w.tally.add(stopped)
	began := time.Now()
	in.cancel()
	if err := in.wait(); err != nil {
		w.faulty("%s ended with %v", name, err)
	}
	if took := time.Since(began); took > stopTime {
		w.faulty("%s took %v to stop", name, took)
	}
}

// outcome is what an answer, or none, says.
type outcome int

const (
	accepted outcome = iota
	uncounted
	unknown
)

// post posts to an ingest as a client with a deadline does.
func (w *world) post(slot int, path, key, body string) outcome {
	in := w.running(ingests, slot)
	if in == nil {
		return uncounted // the connection is refused
	}
	request := httptest.NewRequestWithContext(context.Background(), http.MethodPost, path, strings.NewReader(body))
	request.Header.Set("Content-Type", "application/json")
	if key != "" {
		request.Header.Set("Idempotency-Key", key)
	}
	answer := w.serve(in, request)
	switch {
	case answer == nil:
		return unknown
	case answer.Code == http.StatusAccepted:
		return accepted
	case answer.Code == http.StatusServiceUnavailable && bytes.Contains(answer.Body.Bytes(), []byte(`"counted":"no"`)):
		return uncounted
	case answer.Code == http.StatusServiceUnavailable:
		return unknown
	default:
		w.faulty("POST %s = %d %s", path, answer.Code, answer.Body)
		return unknown
	}
}

// clientTimeout is how long clients wait for an answer.
const clientTimeout = 30 * time.Second

// serve has a request answered, or returns nil if the service dies before, or the client gives up.
func (w *world) serve(in *instance, request *http.Request) *httptest.ResponseRecorder {
	answers := make(chan *httptest.ResponseRecorder, 1)
	w.ending.Go(func() {
		recorder := httptest.NewRecorder()
		in.handler.ServeHTTP(recorder, request)
		answers <- recorder
	})
	patience := time.NewTimer(clientTimeout)
	defer patience.Stop()
	select {
	case answer := <-answers:
		select {
		case <-in.gone: // the answer of a dead process arrives nowhere
			return nil
		default:
			return answer
		}
	case <-in.gone:
		return nil
	case <-patience.C:
		return nil
	}
}

// get returns the body of a query's answer, or nil.
func (w *world) get(slot int, path string) []byte {
	in := w.running(queries, slot)
	if in == nil {
		return nil
	}
	answer := w.serve(in, httptest.NewRequestWithContext(context.Background(), http.MethodGet, path, http.NoBody))
	if answer == nil || answer.Code != http.StatusOK {
		return nil
	}
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		return nil
	}
	return body
}

// pull returns everything that waits in a subscription, by data.
func pull(t *testing.T, s *brokerembedded.Subscription) (all []broker.Delivery) {
	t.Helper()
	for {
		deliveries, err := s.Pull(t.Context(), broker.MaxPull)
		if err != nil {
			t.Fatal(err)
		}
		if len(deliveries) == 0 {
			return all
		}
		receipts := make([]string, len(deliveries))
		for i := range deliveries {
			receipts[i] = deliveries[i].Receipt
		}
		if err := s.Acknowledge(t.Context(), receipts); err != nil {
			t.Fatal(err)
		}
		all = append(all, deliveries...)
	}
}

// ledger is what producers know: for each tag what was accepted, and what may have been counted at most.
type ledger struct {
	mu            sync.Mutex
	least, most   map[string]int64
	contributions map[string]int64
	letters       map[string]bool
	posts         int
}

func newLedger() ledger {
	return ledger{
		least: make(map[string]int64), most: make(map[string]int64), contributions: make(map[string]int64), letters: make(map[string]bool),
	}
}

func (l *ledger) add(tag string, least, most int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.least[tag] += least
	l.most[tag] += most
}

// check compares totals with what may have been counted, and with what was seen before.
func (l *ledger) check(totals, seen map[string]int64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for tag, total := range totals {
		if total > l.most[tag] {
			return fmt.Errorf("%s is %d, and only %d were ever posted", tag, total, l.most[tag])
		}
	}
	for tag, total := range seen {
		if totals[tag] < total {
			return fmt.Errorf("%s is %d, and was %d", tag, totals[tag], total)
		}
	}
	return nil
}
