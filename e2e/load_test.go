package e2e_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// load posts to whatever ingest it is pointed at, and knows what was answered 202.
type load struct {
	moving sync.RWMutex // held by posts while they are under way
	url    string

	stop  chan struct{}
	group sync.WaitGroup

	mu sync.Mutex
	// accepted is what must be counted, unknown what may be: posts whose connection broke before an answer.
	accepted, unknown map[string]int64
	posts             int
	faults            []string
}

// startLoad runs posters that post small batches with pauses, until finish.
func startLoad(t *testing.T, ingest *process, posters int, pause time.Duration) *load {
	t.Helper()
	l := &load{stop: make(chan struct{}), accepted: map[string]int64{}, unknown: map[string]int64{}}
	l.to(ingest)
	for range posters {
		l.group.Go(func() {
			for {
				l.post()
				select {
				case <-l.stop:
					return
				case <-time.After(pause):
				}
			}
		})
	}
	t.Cleanup(func() {
		select {
		case <-l.stop:
		default:
			close(l.stop)
		}
		l.group.Wait()
	})
	return l
}

// to points the posts that follow at another ingest, when those under way have ended: a server that stops closes idle
// connections, and a post that is just then sent on one has no answer, which is the network's doing and not the server's.
func (l *load) to(ingest *process) {
	l.moving.Lock()
	defer l.moving.Unlock()
	l.url = ingest.url
}

func (l *load) post() {
	values := map[string]int64{}
	var items []string
	for range 1 + rand.N(40) {
		name, value := "tag_"+string(rune('a'+rand.N(26)))+string(rune('a'+rand.N(4))), 1+rand.N[int64](9)
		values[name] += value
		items = append(items, fmt.Sprintf(`{"name":%q,"value":%d}`, name, value))
	}
	l.moving.RLock()
	r, err := post(l.url+"/increments/batch", `{"increments":[`+strings.Join(items, ",")+`]}`)
	l.moving.RUnlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.posts++
	var dial *net.OpError
	switch {
	case err == nil && r.status == http.StatusAccepted:
		add(l.accepted, values)
	case errors.As(err, &dial) && dial.Op == "dial": // nothing was sent
	case err == nil && r.status == http.StatusServiceUnavailable && strings.Contains(r.body, "Nothing was counted"):
	case err != nil, r.status == http.StatusServiceUnavailable:
		add(l.unknown, values)
	default:
		l.faults = append(l.faults, fmt.Sprintf("%d %s", r.status, r.body))
	}
}

func add(sums, values map[string]int64) {
	for name, value := range values {
		sums[name] += value
	}
}

// finish ends the load and returns what must have been counted. Tags of posts without an answer are left out, and
// there may be only a few of those.
func (l *load) finish(t *testing.T) (want map[string]int64) {
	t.Helper()
	close(l.stop)
	l.group.Wait()
	for _, fault := range l.faults {
		t.Errorf("a post was answered %s", fault)
	}
	var sum int64
	for _, n := range l.accepted {
		sum += n
	}
	t.Logf("%d posts, %d accepted in %d tags, %d tags with posts that had no answer", l.posts, sum, len(l.accepted), len(l.unknown))
	if sum == 0 || len(l.unknown) > 0 {
		t.Errorf("posts without an answer: %v", l.unknown)
	}
	return l.accepted
}
