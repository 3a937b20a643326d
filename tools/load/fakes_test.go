package load

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/accrue/accrue/pkg/problem"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakeSystem counts what is posted to it and makes the totals visible at intervals, as the real one does. Its hooks make it
// fail.
type fakeSystem struct {
	// window is how long counted increments stay invisible.
	window time.Duration
	// times returns how often an increment is counted, once if nil. It is called for each increment, the n-th from 1.
	times func(n int, name string) int64
	// answer, if it returns not 0, is the status of the n-th post from 1; the increments are counted if counted is true.
	answer func(n int) (status int, detail string, counted bool)
	// slow, if not 0, is how many tags become visible in one window.
	slow int
	// noETag makes it ignore entity tags.
	noETag bool

	mu         sync.Mutex
	posts      int
	increments int
	reads      int
	unchanged  int
	keys       map[string]bool // of posts that were counted
	totals     map[string]int64
	visible    map[string]int64
	at         time.Time // when visible was taken from totals
}

func newFakeSystem() *fakeSystem {
	return &fakeSystem{window: time.Second, keys: make(map[string]bool), totals: make(map[string]int64), visible: make(map[string]int64)}
}

func (f *fakeSystem) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch r.Method + " " + r.URL.Path {
	case "POST /increments":
		var i item
		f.count(w, "", []*item{&i}, json.NewDecoder(r.Body).Decode(&i))
	case "POST /increments/batch":
		var batch struct {
			Increments []*item `json:"increments"`
		}
		err := json.NewDecoder(r.Body).Decode(&batch)
		f.count(w, r.Header.Get("Idempotency-Key"), batch.Increments, err)
	case "GET /stats":
		f.stats(w, r)
	default:
		http.NotFound(w, r)
	}
}

func (f *fakeSystem) count(w http.ResponseWriter, key string, items []*item, err error) {
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	f.posts++
	status, detail, counted := http.StatusAccepted, "", true
	if f.answer != nil {
		if s, d, c := f.answer(f.posts); s != 0 {
			status, detail, counted = s, d, c
		}
	}
	if counted && !f.keys[key] {
		f.keys[key] = key != ""
		for _, i := range items {
			f.increments++
			times := int64(1)
			if f.times != nil {
				times = f.times(f.increments, i.Name)
			}
			if times > 0 {
				f.totals[i.Name] += times * i.Value
			}
		}
	}
	if status != http.StatusAccepted {
		problem.New(status, detail).Write(w)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	fmt.Fprint(w, detail)
}

func (f *fakeSystem) stats(w http.ResponseWriter, r *http.Request) {
	f.reads++
	if time.Since(f.at) >= f.window {
		f.show()
	}
	body, err := json.Marshal(f.visible)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	etag := fmt.Sprintf(`"%x"`, body)
	if r.Header.Get("If-None-Match") == etag && !f.noETag {
		f.unchanged++
		w.WriteHeader(http.StatusNotModified)
		return
	}
	w.Header().Set("ETag", etag)
	_, _ = w.Write(body) // the test has gone
}

// show makes visible what was counted.
func (f *fakeSystem) show() {
	f.at = time.Now()
	if f.slow == 0 {
		f.visible = maps.Clone(f.totals)
		return
	}
	shown := 0
	for name, total := range f.totals {
		if f.visible[name] != total && shown < f.slow {
			f.visible[name] = total
			shown++
		}
	}
}

// services are the ways to f without a network, so that a test can be in a bubble.
func (f *fakeSystem) services() services {
	return services{
		ingest: func(path string) (server, func()) { return directServer{f, "/" + path}, func() {} },
		query:  directTransport{f}, producer: directTransport{f},
		reach: func(context.Context) error { return nil },
	}
}

// directServer posts by a call. It takes a millisecond.
type directServer struct {
	handler http.Handler
	path    string
}

func (d directServer) post(body []byte) (answer, error) {
	time.Sleep(time.Millisecond)
	w := httptest.NewRecorder()
	d.handler.ServeHTTP(w, httptest.NewRequest(http.MethodPost, d.path, bytes.NewReader(body)))
	return answer{w.Code, -1, w.Body.Bytes()}, nil
}

// directTransport makes requests by a call.
type directTransport struct{ handler http.Handler }

func (d directTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	w := httptest.NewRecorder()
	d.handler.ServeHTTP(w, r)
	return w.Result(), nil
}
