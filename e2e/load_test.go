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

// load posts batches to one ingest at a time and sums what was answered 202.
type load struct {
	moving sync.RWMutex // read-locked by posts in flight
	url    string

	stop  chan struct{}
	group sync.WaitGroup

	mu sync.Mutex
	// accepted has the sums of posts answered 202, unknown those of posts without a definite answer.
	accepted, unknown map[string]int64
	posts             int
	unexpected        []string // answers other than 202 and 503
}

// startLoad starts posters that post small batches with pauses until finish is called.
func startLoad(t *testing.T, ingest *process, posters int, pause time.Duration) *load {
	t.Helper()
	l := &load{stop: make(chan struct{}), accepted: map[string]int64{}, unknown: map[string]int64{}}
	l.moveTo(ingest)
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

// moveTo waits for the posts in flight and sends later ones to another ingest. Without the wait a post could reach a connection
// that the stopping server has just closed, and would get no answer.
func (l *load) moveTo(ingest *process) {
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
		l.unexpected = append(l.unexpected, fmt.Sprintf("%d %s", r.status, r.body))
	}
}

func add(sums, values map[string]int64) {
	for name, value := range values {
		sums[name] += value
	}
}

// finish ends the load and returns the accepted sums. It fails the test if a post had no definite answer.
func (l *load) finish(t *testing.T) (want map[string]int64) {
	t.Helper()
	close(l.stop)
	l.group.Wait()
	for _, answer := range l.unexpected {
		t.Errorf("a post was answered %s", answer)
	}
	var sum int64
	for _, n := range l.accepted {
		sum += n
	}
	t.Logf("%d posts, %d accepted in %d tags", l.posts, sum, len(l.accepted))
	if sum == 0 || len(l.unknown) > 0 {
		t.Errorf("%d accepted; posts without a definite answer: %v", sum, l.unknown)
	}
	return l.accepted
}
