package ingest_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"pgregory.net/rapid"

	"github.com/accrue/accrue/ingest"
	"github.com/accrue/accrue/pkg/broker"
	"github.com/accrue/accrue/pkg/problem"
)

// dial opens a connection to the service.
func (r *running) dial(t *testing.T) *net.TCPConn {
	t.Helper()
	connection, err := new(net.Dialer).DialContext(t.Context(), "tcp", strings.TrimPrefix(r.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = connection.Close() })
	return connection.(*net.TCPConn)
}

// rawPost is a POST of an increment as it is sent, padded to size bytes of body.
func rawPost(size int) string {
	return fmt.Sprintf("POST /increments HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s%s",
		size, foo, strings.Repeat(" ", size-len(foo)))
}

// answer reads the answer to a request.
func answer(t *testing.T, connection net.Conn) (status int, document problem.Document) {
	t.Helper()
	response, err := http.ReadResponse(bufio.NewReader(connection), nil)
	if err != nil {
		t.Errorf("no answer: %v", err)
		return 0, document
	}
	defer response.Body.Close() //nolint:errcheck // read to the end below
	body, err := io.ReadAll(response.Body)
	if err == nil {
		err = json.Unmarshal(body, &document)
	}
	if err != nil {
		t.Errorf("answer %q: %v", body, err)
	}
	return response.StatusCode, document
}

// A client may close its sending side after the request; it still gets its answer.
func TestAHalfClosedConnectionIsAnswered(t *testing.T) {
	t.Parallel()
	p := &heldPublisher{begun: make(chan struct{}), release: make(chan struct{})}
	service := run(t, settings(t), ingest.Parts{Publisher: p})
	connection := service.dial(t)
	if _, err := io.WriteString(connection, rawPost(len(foo))); err != nil {
		t.Fatal(err)
	}
	if err := connection.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	<-p.begun
	time.AfterFunc(50*time.Millisecond, func() { close(p.release) }) // the server has seen the end by then, or never does
	if status, _ := answer(t, connection); status != http.StatusAccepted {
		t.Errorf("status = %d, want 202", status)
	}
}

// hangingPublisher publishes nothing until its context ends.
type hangingPublisher struct{ begun atomic.Int32 }

func (p *hangingPublisher) Publish(ctx context.Context, _ []broker.Message) error {
	p.begun.Add(1)
	<-ctx.Done()
	return context.Cause(ctx)
}

func TestStopAnswersEveryPostThoughPubSubHangs(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("takes four seconds")
	}
	const posts = 50
	p := new(hangingPublisher)
	service := run(t, settings(t), ingest.Parts{Publisher: p})
	var waiting sync.WaitGroup
	for range posts {
		connection := service.dial(t)
		if _, err := io.WriteString(connection, rawPost(len(foo))); err != nil {
			t.Fatal(err)
		}
		waiting.Go(func() {
			if status, d := answer(t, connection); status != http.StatusServiceUnavailable || d.Counted == "" {
				t.Errorf("answer %d %+v, want a 503 that says what was counted", status, d)
			}
		})
		time.Sleep(3 * time.Millisecond) // in several groups
	}
	for p.begun.Load() < posts/2 {
		time.Sleep(time.Millisecond)
	}
	began := time.Now()
	service.stop()
	waiting.Wait()
	if took := time.Since(began); took > 6*time.Second {
		t.Errorf("the stop took %v", took)
	}
}

// Many uploads that never end take memory within the bound. Those beyond it are refused, and small posts go on.
func TestUnfinishedUploadsAreBounded(t *testing.T) { // not parallel: it measures the heap
	if testing.Short() {
		t.Skip("sends 500 MB")
	}
	const (
		connections = 500
		limit       = 32 << 20
		perUpload   = 64 << 10 // buffers and goroutines of a connection, of client and server
	)
	config := settings(t)
	config.PendingBytes = limit
	service := run(t, config, ingest.Parts{Publisher: instantPublisher{}})
	before := heap()
	var refused atomic.Int32
	var uploading sync.WaitGroup
	almost := []byte(rawPost(1 << 20))
	almost = almost[:len(almost)-1]
	for range connections {
		connection := service.dial(t)
		if err := connection.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
			t.Fatal(err)
		}
		done := make(chan struct{})
		go func() {
			defer close(done)
			response, err := http.ReadResponse(bufio.NewReader(connection), nil)
			if err != nil {
				return // an upload that was not refused
			}
			var d problem.Document
			if err := json.NewDecoder(response.Body).Decode(&d); err != nil || d.Status != http.StatusServiceUnavailable || d.Counted != problem.CountedNo {
				t.Errorf("answer %d %+v, %v", response.StatusCode, d, err)
			}
			refused.Add(1)
		}()
		if _, err := connection.Write(almost); err != nil {
			t.Errorf("the upload was cut off: %v", err)
		}
		uploading.Go(func() { <-done })
	}
	if got := heap() - before; got > limit+connections*perUpload {
		t.Errorf("the heap grew by %d MiB, want at most %d", got>>20, (limit+connections*perUpload)>>20)
	}
	if status, _ := service.post(t, "/increments", foo); status != http.StatusAccepted {
		t.Errorf("a small post was answered %d meanwhile", status)
	}
	if got := refused.Load(); got < connections-limit>>20 {
		t.Errorf("%d uploads were refused, want at least %d", got, connections-limit>>20)
	}
	service.cancel()
	t.Cleanup(uploading.Wait)
}

// heap returns the bytes in use after a collection.
func heap() int {
	runtime.GC()
	runtime.GC() // empties pools
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}

// serveRaw serves a request that is given as it is sent, and returns the status, or 0 if it is not HTTP.
func serveRaw(ctx context.Context, handler http.Handler, raw []byte) int {
	r, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(raw)))
	if err != nil {
		return 0
	}
	w := httptest.NewRecorder()
	handler.ServeHTTP(w, r.WithContext(ctx))
	return w.Code
}

func rawSeeds() []string {
	post := func(path, header, body string) string {
		return fmt.Sprintf("POST %s HTTP/1.1\r\nHost: x\r\n%sContent-Length: %d\r\n\r\n%s", path, header, len(body), body)
	}
	const jsonType, lines = "Content-Type: application/json\r\n", "Content-Type: application/x-ndjson\r\n"
	return []string{
		post("/increments", jsonType, foo),
		post("/increments", jsonType+"Idempotency-Key: \"order-17\"\r\n", `{"name":"foo","value":4,"contributor":"a\ud83d\ude00","id":"1"}`),
		post("/increments/batch", jsonType, `{"increments":[`+foo+`,{"name":"bar","value":1}]}`),
		post("/increments/batch", lines, foo+"\n"+foo+"\n"),
		post("/increments/batch", lines+"Content-Encoding: gzip\r\n", "\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff\x01\x00\x00\xff\xff\x00\x00\x00\x00\x00\x00\x00\x00"),
		post("/contributions", jsonType+"Traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n", `{"contributor":"ada"}`),
		"POST /contributions/batch HTTP/1.1\r\nHost: x\r\nContent-Type: application/json; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n" +
			"2d\r\n" + `{"contributions":[{"contributor":"ada"}     ]}` + "\r\n0\r\n\r\n",
		"GET /health/ready HTTP/1.1\r\nHost: x\r\n\r\n", "HEAD /openapi.json HTTP/1.1\r\nHost: x\r\nIf-None-Match: *\r\n\r\n",
	}
}

// FuzzRequests sends mutated requests. None is answered 5xx.
func FuzzRequests(f *testing.F) {
	for _, seed := range rawSeeds() {
		f.Add([]byte(seed))
	}
	handler := ingest.Baseline(zerolog.Nop())
	f.Fuzz(func(t *testing.T, raw []byte) {
		if status := serveRaw(t.Context(), handler, raw); status >= http.StatusInternalServerError {
			t.Errorf("%q was answered %d", raw, status)
		}
	})
}

func TestMutatedRequestsAreNotAnswered5xx(t *testing.T) {
	t.Parallel()
	handler := ingest.Baseline(zerolog.Nop())
	seeds := rawSeeds()
	answered := make(map[int]int)
	rapid.Check(t, func(rt *rapid.T) {
		raw := []byte(rapid.SampledFrom(seeds).Draw(rt, "seed"))
		for range rapid.IntRange(0, 4).Draw(rt, "mutations") {
			at := rapid.IntRange(0, len(raw)-1).Draw(rt, "at")
			switch rapid.IntRange(0, 2).Draw(rt, "kind") {
			case 0:
				raw[at] = rapid.Byte().Draw(rt, "byte")
			case 1:
				raw = append(raw[:at], raw[at+1:]...)
			default:
				raw = append(raw[:at], append([]byte{rapid.Byte().Draw(rt, "byte")}, raw[at:]...)...)
			}
		}
		status := serveRaw(t.Context(), handler, raw)
		answered[status]++
		if status >= http.StatusInternalServerError {
			rt.Errorf("%q was answered %d", raw, status)
		}
	})
	refused := 0
	for status, n := range answered {
		if status >= http.StatusBadRequest {
			refused += n
		}
	}
	if answered[http.StatusAccepted] == 0 || refused == 0 { // of a hundred requests some ten are accepted, and some twenty refused
		t.Errorf("answered %v, want some 202 and some 4xx", answered)
	}
}
