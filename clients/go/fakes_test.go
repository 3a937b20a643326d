package accrue_test

import (
	"encoding/json"
	"fmt"
	"io"
	"log"
	"maps"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/accrue/accrue/clients/go"
)

// countingIngest accepts batches as ingest does: it counts each item of a key once.
type countingIngest struct {
	// before and after may answer in place of ingest, before or after everything is counted. They get the number of the
	// post, from 1, and report whether they have answered.
	before, after func(n int, w http.ResponseWriter) bool
	// rule, if not nil, refuses entries.
	rule func(accrue.Entry) error

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
		return // the client is gone
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
		status.write(w)
		return
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(http.StatusAccepted)
	_, _ = io.WriteString(w, `{"accepted":1}`)
}

func (i *countingIngest) count(r *http.Request, body []byte) *refusal {
	i.mu.Lock()
	defer i.mu.Unlock()
	key := r.Header.Get("Idempotency-Key")
	if first, ok := i.bodies[key]; ok && first != string(body) {
		i.faults = append(i.faults, fmt.Sprintf("key %s with body %s and with %s", key, first, body))
	}
	i.bodies[key] = string(body)
	if len(key) < 20 || r.Header.Get("Content-Type") != "application/json" || r.Method != http.MethodPost {
		i.faults = append(i.faults, fmt.Sprintf("%s with %v", r.Method, r.Header))
	}
	if len(body) > 1<<20 {
		return &refusal{Status: http.StatusRequestEntityTooLarge}
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
		if r.URL.Path != "/"+list+"/batch" || len(items) < 1 || len(items) > accrue.MaxBatch {
			i.faults = append(i.faults, fmt.Sprintf("%d %s at %s", len(items), list, r.URL.Path))
		}
		var faults []accrue.Fault
		for n, item := range items {
			if i.rule != nil {
				if err := i.rule(accrue.Entry(item)); err != nil {
					faults = append(faults, accrue.Fault{Pointer: fmt.Sprintf("#/%s/%d/name", list, n), Detail: err.Error()})
				}
			}
		}
		if faults != nil {
			return &refusal{Status: http.StatusUnprocessableEntity, Detail: "The body breaks a rule. Nothing was counted.", Errors: faults}
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

// check compares the totals.
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

// asked returns the times of all posts.
func (i *countingIngest) asked() []time.Time {
	i.mu.Lock()
	defer i.mu.Unlock()
	return append([]time.Time(nil), i.at...)
}

// direct is a transport that calls the handler, so that tests can use synctest. A handler that panics loses the reply. It does
// not trace connections.
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
		<-answered // the server finishes, and the client does not know
		return nil, r.Context().Err()
	}
	if panicked != nil {
		panic(panicked)
	}
	return w.Result(), nil
}

// outcomes collects outcomes.
type outcomes struct {
	mu  sync.Mutex
	all []accrue.Outcome
}

func (o *outcomes) report(outcome accrue.Outcome) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.all = append(o.all, outcome)
}

func (o *outcomes) list() []accrue.Outcome {
	o.mu.Lock()
	defer o.mu.Unlock()
	return append([]accrue.Outcome(nil), o.all...)
}

// start returns a client whose requests are calls of the handler.
func start(t *testing.T, handler http.Handler, config accrue.Config) (*accrue.Client, *outcomes) {
	t.Helper()
	reported := &outcomes{}
	config.URL, config.Transport, config.Report = "http://ingest", direct{handler}, reported.report
	c, err := accrue.New(config)
	if err != nil {
		t.Fatal(err)
	}
	return c, reported
}

func add(t *testing.T, c *accrue.Client, name string, value int64) {
	t.Helper()
	if err := c.Add(t.Context(), accrue.Entry{Name: name, Value: value}); err != nil {
		t.Fatal(err)
	}
}

// unavailable answers 503 with a detail.
func unavailable(w http.ResponseWriter, detail string, after time.Duration) bool {
	if after > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int((after+time.Second-1)/time.Second)))
	}
	(&refusal{Status: http.StatusServiceUnavailable, Detail: detail}).write(w)
	return true
}

// refusal is a problem document.
type refusal struct {
	Status  int            `json:"status"`
	Detail  string         `json:"detail,omitempty"`
	Counted string         `json:"counted,omitempty"`
	Errors  []accrue.Fault `json:"errors,omitempty"`
}

func (r *refusal) write(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(r.Status)
	_ = json.NewEncoder(w).Encode(r)
}

func discardLog() *log.Logger { return log.New(io.Discard, "", 0) }
