package client_test

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/accrue/accrue/clients/go"
	"github.com/accrue/accrue/pkg/increment"
	"github.com/accrue/accrue/pkg/problem"
)

// countingIngest takes batches as ingest does: it counts a key once, by its place in the batch.
type countingIngest struct {
	// before and after answer in the place of ingest: before, nothing is counted; after, all is. They get the number of the
	// post, from 1, and say whether they have answered.
	before, after func(n int, w http.ResponseWriter) bool
	// rule, if not nil, refuses more than package increment does.
	rule func(client.Entry) error

	mu     sync.Mutex
	posts  int
	at     []time.Time
	bodies map[string]string // by key
	keys   map[string]bool   // of items
	totals map[string]int64
	people map[string]int64
	sizes  []int
	faults []string
}

func newCountingIngest() *countingIngest {
	return &countingIngest{bodies: map[string]string{}, keys: map[string]bool{}, totals: map[string]int64{}, people: map[string]int64{}}
}

func (i *countingIngest) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the producer has gone
	}
	i.mu.Lock()
	i.posts++
	n := i.posts
	i.at = append(i.at, time.Now())
	i.mu.Unlock()
	if i.before != nil && i.before(n, w) {
		return
	}
	status := i.count(r, body)
	if i.after != nil && i.after(n, w) {
		return
	}
	if status != nil {
		status.Write(w)
		return
	}
	w.WriteHeader(http.StatusAccepted)
	_, _ = io.WriteString(w, `{"accepted":1}`)
}

func (i *countingIngest) count(r *http.Request, body []byte) *problem.Document {
	i.mu.Lock()
	defer i.mu.Unlock()
	key := r.Header.Get("Idempotency-Key")
	if first, ok := i.bodies[key]; ok && first != string(body) {
		i.faults = append(i.faults, fmt.Sprintf("key %s came with %s and with %s", key, first, body))
	}
	i.bodies[key] = string(body)
	if len(key) < 20 || r.Header.Get("Content-Type") != "application/json" || r.Method != http.MethodPost {
		i.faults = append(i.faults, fmt.Sprintf("%s with %v", r.Method, r.Header))
	}
	if len(body) > 1<<20 {
		return problem.New(http.StatusRequestEntityTooLarge, "")
	}
	type item struct {
		Name        string `json:"name"`
		Value       int64  `json:"value"`
		Contributor string `json:"contributor"`
		ID          string `json:"id"`
	}
	var lists map[string][]item
	if err := json.Unmarshal(body, &lists); err != nil || len(lists) != 1 {
		i.faults = append(i.faults, fmt.Sprintf("%v: %s", err, body))
	}
	for list, items := range lists {
		if r.URL.Path != "/"+list+"/batch" || len(items) < 1 || len(items) > increment.MaxBatch {
			i.faults = append(i.faults, fmt.Sprintf("%d %s at %s", len(items), list, r.URL.Path))
		}
		var faults []problem.Fault
		for n, item := range items {
			if i.rule != nil {
				if err := i.rule(client.Entry(item)); err != nil {
					faults = append(faults, problem.Fault{Pointer: fmt.Sprintf("#/%s/%d/name", list, n), Detail: err.Error()})
				}
			}
		}
		if faults != nil {
			return problem.New(http.StatusUnprocessableEntity, "The body breaks a rule. Nothing was counted.", faults...)
		}
		i.sizes = append(i.sizes, len(items))
		for n, item := range items {
			key := fmt.Sprint(key, " ", n)
			if item.ID != "" {
				key = item.ID
			}
			if i.keys[key] {
				continue
			}
			i.keys[key] = true
			if item.Name != "" {
				i.totals[item.Name] += item.Value
			}
			if item.Contributor != "" {
				i.people[item.Contributor]++
			}
		}
	}
	return nil
}

// check compares what was counted with what should be.
func (i *countingIngest) check(t *testing.T, totals map[string]int64) {
	t.Helper()
	i.mu.Lock()
	defer i.mu.Unlock()
	if !maps.Equal(i.totals, totals) {
		t.Errorf("counted %v, want %v", i.totals, totals)
	}
	for _, fault := range i.faults {
		t.Error(fault)
	}
}

// asked returns when posts came.
func (i *countingIngest) asked() []time.Time {
	i.mu.Lock()
	defer i.mu.Unlock()
	return append([]time.Time(nil), i.at...)
}

// direct carries requests by a call, so that a test can be in a bubble. A handler that panics loses its reply.
type direct struct{ handler http.Handler }

type lostError struct{}

func (lostError) Error() string { return "the connection broke" }

func (d direct) RoundTrip(r *http.Request) (response *http.Response, err error) {
	defer func() {
		if lost := recover(); lost != nil {
			response, err = nil, lostError{}
		}
	}()
	w := httptest.NewRecorder()
	answered := make(chan struct{})
	var panicked any
	go func() {
		defer close(answered)
		defer func() { panicked = recover() }()
		d.handler.ServeHTTP(w, r)
	}()
	select {
	case <-answered:
	case <-r.Context().Done():
		<-answered // the server goes on, and the producer does not know
		return nil, r.Context().Err()
	}
	if panicked != nil {
		panic(panicked)
	}
	return w.Result(), nil
}

// outcomes collects what Report is told.
type outcomes struct {
	mu  sync.Mutex
	all []client.Outcome
}

func (o *outcomes) report(outcome client.Outcome) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.all = append(o.all, outcome)
}

func (o *outcomes) told() []client.Outcome {
	o.mu.Lock()
	defer o.mu.Unlock()
	return append([]client.Outcome(nil), o.all...)
}

// start makes a client whose requests go to a handler by a call.
func start(t *testing.T, handler http.Handler, config client.Config) (*client.Client, *outcomes) {
	t.Helper()
	told := &outcomes{}
	config.URL, config.Transport, config.Report = "http://ingest", direct{handler}, told.report
	c, err := client.New(config)
	if err != nil {
		t.Fatal(err)
	}
	return c, told
}

func add(t *testing.T, c *client.Client, name string, value int64) {
	t.Helper()
	if err := c.Add(t.Context(), client.Entry{Name: name, Value: value}); err != nil {
		t.Fatal(err)
	}
}

// unavailable answers 503 with a detail.
func unavailable(w http.ResponseWriter, detail string, after time.Duration) bool {
	problem.Unavailable(detail, after).Write(w)
	return true
}
