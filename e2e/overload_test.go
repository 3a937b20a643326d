package e2e_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/accrue/accrue/tools/emulator/emulatortest"
)

// overloadFor returns how long the tests of this file overload, if make overload runs them.
func overloadFor(t *testing.T) time.Duration {
	t.Helper()
	emulatortest.Firestore(t) // skips the test, or fails it in CI, if there is no emulator
	d, err := time.ParseDuration(os.Getenv("OVERLOAD"))
	if err != nil {
		t.Skip("OVERLOAD is not set; it measures latency, which needs an idle machine: make overload")
	}
	return d
}

// memory is the limit of ingest's container in terraform/variables.tf, and its soft limit what the service derives from it.
const memory, softMemory = 512 << 20, "460MiB"

// narrow lets so many bytes of publishes through in a second, one publish after the other.
type narrow struct {
	perSecond int
	turn      chan struct{}
}

func (n *narrow) handle(ctx context.Context, c *rpc) error {
	if strings.HasSuffix(c.method, "/Publish") {
		select {
		case n.turn <- struct{}{}:
		case <-ctx.Done():
			return ctx.Err()
		}
		time.Sleep(time.Duration(len(c.request)) * time.Second / time.Duration(n.perSecond))
		<-n.turn
	}
	return c.exchange(ctx, func(reply []byte) error { return c.client.SendMsg(&reply) })
}

// offered is what was answered to a load that does not wait for answers.
type offered struct {
	mu                sync.Mutex
	accepted, refused []time.Duration
	other             map[string]int
	waiting, most     atomic.Int64
}

// offer posts bodies at a rate for the duration d, however long the answers take, and waits for the last answer.
func offer(t *testing.T, url, body string, rate int, d time.Duration) *offered {
	t.Helper()
	o := &offered{other: make(map[string]int)}
	client := &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 10_000, DisableCompression: true}}
	defer client.CloseIdleConnections()
	var posts sync.WaitGroup
	began := time.Now()
	for sent := 0; time.Since(began) < d; sent++ {
		if ahead := time.Duration(sent)*time.Second/time.Duration(rate) - time.Since(began); ahead > 0 {
			time.Sleep(ahead)
		}
		posts.Go(func() { o.post(client, url, body) })
	}
	posts.Wait()
	return o
}

func (o *offered) post(client *http.Client, url, body string) {
	o.most.Store(max(o.most.Load(), o.waiting.Add(1))) // for people
	defer o.waiting.Add(-1)
	began := time.Now()
	status := 0
	response, err := client.Post(url, "application/json", strings.NewReader(body))
	if err == nil {
		status = response.StatusCode
		_, err = io.Copy(io.Discard, response.Body)
		err = errors.Join(err, response.Body.Close())
	}
	took := time.Since(began)
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case err != nil:
		o.other[err.Error()]++
	case status == http.StatusAccepted:
		o.accepted = append(o.accepted, took)
	case status == http.StatusServiceUnavailable, status == http.StatusTooManyRequests:
		o.refused = append(o.refused, took)
	default:
		o.other[strconv.Itoa(status)]++
	}
}

// at returns a quantile of durations, which it sorts.
func at(all []time.Duration, q float64) time.Duration {
	if len(all) == 0 {
		return 0
	}
	slices.Sort(all)
	return all[int(q*float64(len(all)-1))].Round(time.Millisecond / 10)
}

func (o *offered) String() string {
	return fmt.Sprintf("%d accepted, p50 %v, p99 %v, max %v; %d refused, p50 %v, p99 %v, max %v; at most %d waited; others %v",
		len(o.accepted), at(o.accepted, .5), at(o.accepted, .99), at(o.accepted, 1),
		len(o.refused), at(o.refused, .5), at(o.refused, .99), at(o.refused, 1), o.most.Load(), o.other)
}

// watchMemory returns a function that ends the watching of a process and returns its most resident memory in bytes.
func (p *process) watchMemory(t *testing.T) func() int64 {
	t.Helper()
	var most int64
	var watching sync.WaitGroup
	stop := make(chan struct{})
	watching.Go(func() {
		for {
			most = max(most, p.rss(t))
			select {
			case <-stop:
				return
			case <-time.After(100 * time.Millisecond):
			}
		}
	})
	end := sync.OnceFunc(func() { close(stop); watching.Wait() })
	t.Cleanup(end)
	return func() int64 { end(); return most }
}

// Pub/Sub takes a limited number of bytes a second, and three times as much is posted. What it takes is accepted, in time; the rest
// is refused at once. Afterwards everything is normal within two windows, and exact.
func TestThreeTimesWhatIsTaken(t *testing.T) {
	overloaded := overloadFor(t)
	const (
		perSecond = 4 << 20
		items     = 20
	)
	s := newSystem(t)
	s.pubSub, _ = startPubSubServer(t) // the emulator keeps every message
	aggregator := s.start(t, "aggregator")
	query := s.start(t, "query")
	s.variables["GOMEMLIMIT"] = softMemory
	slow := &narrow{perSecond: perSecond, turn: make(chan struct{}, 1)}
	direct := s.pubSub
	s.pubSub = startHandlingProxy(t, direct, slow.handle).host
	ingest := s.start(t, "ingest")

	item := fmt.Sprintf(`{"name":"foo","value":1,"contributor":%q}`, strings.Repeat("𝒳", 128))
	body := `{"increments":[` + item + strings.Repeat(","+item, items-1) + `]}`
	entries := items * (512 + 20)
	taken := perSecond / entries // posts a second
	url := ingest.url + "/increments/batch"
	resident := ingest.watchMemory(t)
	warm := offer(t, url, body, taken/2, 2*time.Second)
	before := offer(t, url, body, taken/2, 5*time.Second)
	during := offer(t, url, body, 3*taken, overloaded)
	ended := time.Now()
	time.Sleep(2 * time.Second) // two windows
	after := offer(t, url, body, taken/2, 5*time.Second)
	bytes := resident()
	t.Logf("Pub/Sub takes %d posts/s; half of it: %v", taken, before)
	t.Logf("three times it for %v: %v", overloaded, during)
	t.Logf("half of it, two windows later: %v; at most %d MiB resident", after, bytes>>20)
	var accepted int64
	for _, o := range []*offered{warm, before, during, after} {
		accepted += int64(len(o.accepted) * items)
		if len(o.other) > 0 {
			t.Errorf("other answers: %v", o.other)
		}
	}
	awaitSum(t, query, accepted, time.Minute)
	t.Logf("exact %.1f s after the overload", time.Since(ended).Seconds())
	s.auditMetrics(t, ingest.url, aggregator.url)
	if n := len(during.accepted); n < int(overloaded.Seconds())*taken/2 {
		t.Errorf("%d posts were accepted, want %d at least: half of what Pub/Sub takes", n, int(overloaded.Seconds())*taken/2)
	}
	if p99 := at(during.accepted, .99); p99 > 2*time.Second {
		t.Errorf("accepted within %v, want 2 s", p99)
	}
	if p99 := at(during.refused, .99); len(during.refused) == 0 || p99 > time.Second {
		t.Errorf("%d refused, within %v, want 1 s", len(during.refused), p99)
	}
	if p99 := at(after.accepted, .99); len(after.refused) > 0 || p99 > max(3*at(before.accepted, .99), 100*time.Millisecond) {
		t.Errorf("two windows after the overload: %v; before it: %v", after, before)
	}
	if bytes > memory {
		t.Errorf("ingest took %d bytes, want at most %d", bytes, memory)
	}
}

// Ten thousand idle connections, thousands that never send their whole header, and bodies that are small until they are inflated:
// memory stays bounded, and posts are answered as before.
func TestIdleConnectionsAndBombs(t *testing.T) {
	overloadFor(t)
	const (
		idle, half    = 10_000, 2000
		bombs, atOnce = 500, 32
		inflated      = 200 << 20
	)
	s := newSystem(t)
	s.variables["GOMEMLIMIT"] = softMemory
	s.start(t, "aggregator")
	ingest, query := s.start(t, "ingest"), s.start(t, "query")
	body := `{"name":"foo","value":1}`
	rate := func() *offered { return offer(t, ingest.url+"/increments", body, 500, 3*time.Second) }
	accepted := 0
	checked := func(what string, o *offered) {
		t.Logf("%s: %v; %d MiB resident", what, o, ingest.rss(t)>>20)
		if accepted += len(o.accepted); len(o.refused) > 0 || len(o.other) > 0 || at(o.accepted, .99) > time.Second {
			t.Errorf("%s: %v", what, o)
		}
	}
	resident := ingest.watchMemory(t)
	rate() // warms up
	before := rate()
	checked("before", before)
	address := strings.TrimPrefix(ingest.url, "http://")
	var all []net.Conn
	t.Cleanup(func() {
		for _, connection := range all {
			_ = connection.Close()
		}
	})
	dial := func(text string) net.Conn {
		t.Helper()
		connection, err := net.Dial("tcp", address)
		if err == nil {
			all = append(all, connection)
			_, err = io.WriteString(connection, text)
		}
		if err != nil {
			t.Fatal(err)
		}
		return connection
	}
	for range idle {
		connection := dial("GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n")
		if n, err := connection.Read(make([]byte, 1<<10)); err != nil || n == 0 {
			t.Fatalf("no answer: %v", err)
		}
	}
	checked(fmt.Sprintf("%d idle connections", idle), rate())
	halfOpen := make([]net.Conn, half)
	for i := range halfOpen {
		halfOpen[i] = dial("POST /increments HTTP/1.1\r\nHost: x\r\nContent-Ty")
	}
	checked(fmt.Sprintf("%d more that send half a header", half), rate())

	var bomb bytes.Buffer
	writer := gzip.NewWriter(&bomb)
	_, err := io.Copy(writer, io.LimitReader(spaces{}, inflated))
	if err = errors.Join(err, writer.Close()); err != nil {
		t.Fatal(err)
	}
	var exploding sync.WaitGroup
	fuses := make(chan struct{}, atOnce)
	throw := func() {
		fuses <- struct{}{}
		exploding.Go(func() {
			defer func() { <-fuses }()
			request, err := http.NewRequest(http.MethodPost, ingest.url+"/increments/batch", bytes.NewReader(bomb.Bytes()))
			if err != nil {
				t.Error(err)
				return
			}
			request.Header.Set("Content-Type", "application/json")
			request.Header.Set("Content-Encoding", "gzip")
			if r, err := do(request); err == nil && r.status != http.StatusRequestEntityTooLarge && r.status != http.StatusServiceUnavailable {
				t.Errorf("a bomb was answered %d %s", r.status, r.body)
			}
		})
	}
	exploding.Go(func() {
		for range bombs {
			throw()
		}
	})
	checked(fmt.Sprintf("%d bombs of %d KB, %d MiB each when inflated", bombs, bomb.Len()>>10, inflated>>20), rate())
	exploding.Wait()
	for _, connection := range halfOpen { // the server ends them
		if err := connection.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, connection); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatal("a connection with half a header is open after 20 s")
		}
	}
	await(t, "everything counted", 30*time.Second, func() error {
		got, err := stats(query)
		if err == nil && got["foo"] < int64(accepted) {
			err = fmt.Errorf("%d of %d", got["foo"], accepted)
		}
		return err
	})
	if bytes := resident(); bytes > memory {
		t.Errorf("ingest took %d bytes, want at most %d", bytes, memory)
	} else {
		t.Logf("at most %d MiB resident", bytes>>20)
	}
}

// spaces is a body without an end.
type spaces struct{}

func (spaces) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = ' '
	}
	return len(b), nil
}
