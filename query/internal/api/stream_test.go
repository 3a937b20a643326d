package api_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"github.com/accrue/accrue/pkg/checkpoint"
	"github.com/accrue/accrue/pkg/service"
	"github.com/accrue/accrue/query/internal/view"
)

// pipes is a network in memory: what is written waits until it is read, and a test's clock stands meanwhile.
type pipes struct {
	accepted chan net.Conn
	closed   chan struct{}
	once     sync.Once
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case conn := <-p.accepted:
		return conn, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}
func (p *pipes) Close() error   { p.once.Do(func() { close(p.closed) }); return nil }
func (p *pipes) Addr() net.Addr { return &net.TCPAddr{} }

// servePipes answers requests over pipes, by a server with the time limits of httpserver, until the test ends.
func servePipes(t *testing.T, h http.Handler) *pipes {
	t.Helper()
	p := &pipes{accepted: make(chan net.Conn), closed: make(chan struct{})}
	server := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 30 * time.Second, WriteTimeout: time.Minute}
	done := make(chan error, 1)
	go func() { done <- server.Serve(p) }()
	t.Cleanup(func() {
		if err := errors.Join(server.Close(), <-done); !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
	return p
}

// stream is the client's end of an open stream.
type stream struct {
	t      *testing.T
	conn   net.Conn
	status int
	header http.Header
	body   *bufio.Reader
}

// open requests the stream on a new connection, with the given header lines, and with a query if the first begins with ?.
func (p *pipes) open(t *testing.T, lines ...string) *stream {
	t.Helper()
	client, server := net.Pipe()
	p.accepted <- server
	t.Cleanup(func() { _ = client.Close() })
	return openOn(t, client, lines...)
}

func openOn(t *testing.T, conn net.Conn, lines ...string) *stream {
	t.Helper()
	query := ""
	if len(lines) > 0 && strings.HasPrefix(lines[0], "?") {
		query, lines = lines[0], lines[1:]
	}
	if _, err := io.WriteString(conn, "GET /stats/stream"+query+" HTTP/1.1\r\nHost: query\r\n"+strings.Join(append(lines, "", ""), "\r\n")); err != nil {
		t.Fatal(err)
	}
	response, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: http.MethodGet})
	if err != nil {
		t.Fatal(err)
	}
	return &stream{t, conn, response.StatusCode, response.Header, bufio.NewReader(response.Body)}
}

// block returns the next block of lines, without the empty one that ends it.
func (s *stream) block() (string, error) {
	var block strings.Builder
	for {
		line, err := s.body.ReadString('\n')
		if err != nil {
			return block.String(), err
		}
		if line == "\n" {
			return block.String(), nil
		}
		block.WriteString(line)
	}
}

// event is what a client reads of an event.
type event struct {
	kind, id string
	data     struct {
		AsOf   time.Time        `json:"as_of"`
		LagMS  int64            `json:"lag_ms"`
		Totals map[string]int64 `json:"totals"`
	}
}

func parseEvent(block string) (e event, err error) {
	lines := strings.Split(strings.TrimSuffix(block, "\n"), "\n")
	if len(lines) != 3 {
		return e, fmt.Errorf("not an event: %q", block)
	}
	kind, ok1 := strings.CutPrefix(lines[0], "event: ")
	id, ok2 := strings.CutPrefix(lines[1], "id: ")
	data, ok3 := strings.CutPrefix(lines[2], "data: ")
	if !ok1 || !ok2 || !ok3 {
		return e, fmt.Errorf("not an event: %q", block)
	}
	e.kind, e.id = kind, id
	decoder := json.NewDecoder(strings.NewReader(data))
	decoder.DisallowUnknownFields()
	return e, decoder.Decode(&e.data)
}

// event returns the next event.
func (s *stream) event() event {
	s.t.Helper()
	block, err := s.block()
	if err != nil {
		s.t.Fatalf("%v after %q", err, block)
	}
	e, err := parseEvent(block)
	if err != nil {
		s.t.Fatal(err)
	}
	return e
}

// want reads the next event and checks what it says.
func (s *stream) want(kind string, version int, totals map[string]int64) event {
	s.t.Helper()
	e := s.event()
	if e.kind != kind || !strings.HasSuffix(e.id, fmt.Sprintf("-%d", version)) || !maps.Equal(e.data.Totals, totals) {
		s.t.Fatalf("%s %s of %v, want %s of version %d: %v", e.kind, e.id, e.data.Totals, kind, version, totals)
	}
	return e
}

// wantLine reads the next block and checks that it is one line.
func (s *stream) wantLine(want string) {
	s.t.Helper()
	if got, err := s.block(); err != nil || got != want+"\n" {
		s.t.Fatalf("%q, %v, want %q", got, err, want)
	}
}

// totals are one checkpoint's, sorted by name.
func totals(of map[string]int64) []checkpoint.Total {
	all := make([]checkpoint.Total, 0, len(of))
	for _, name := range []string{"ballz", "foo", "zoo"} {
		if n, ok := of[name]; ok {
			all = append(all, checkpoint.Total{Name: name, Total: n, Increments: n})
		}
	}
	return all
}

type counts = map[string]int64

func TestStreamSendsASnapshotAndThenChanges(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		views := empty()
		views.show(time.Now(), totals(counts{"ballz": 76, "foo": 13})...)
		time.Sleep(200 * time.Millisecond)
		s := servePipes(t, handler(views)).open(t)
		if s.status != http.StatusOK || s.header.Get("Content-Type") != "text/event-stream" || s.header.Get("Cache-Control") != "no-store, no-transform" || s.header.Get("X-Accel-Buffering") != "no" {
			t.Fatalf("%d %v", s.status, s.header)
		}
		s.wantLine("retry: 2000")
		first := s.want("snapshot", 1, counts{"ballz": 76, "foo": 13})
		if !first.data.AsOf.Equal(time.Now().Add(-200*time.Millisecond)) || first.data.LagMS != 200 {
			t.Errorf("as of %v, %d ms ago, want 200 ms ago", first.data.AsOf, first.data.LagMS)
		}

		opened := time.Now()
		for n := range int64(10) { // ten versions within the second
			time.Sleep(50 * time.Millisecond)
			views.show(time.Now(), totals(counts{"ballz": 76, "foo": 14 + n})...)
		}
		s.want("changes", 11, counts{"foo": 23})
		if since := time.Since(opened); since != time.Second {
			t.Errorf("the second event came after %v, want 1s", since)
		}

		time.Sleep(5 * time.Second)
		views.show(time.Now(), totals(counts{"ballz": 77, "foo": 23, "zoo": 1})...)
		changed := time.Now()
		s.want("changes", 12, counts{"ballz": 77, "zoo": 1})
		if since := time.Since(changed); since != 0 {
			t.Errorf("a change after a silence came after %v, want at once", since)
		}
	})
}

func TestSilentStreamSendsHeartbeats(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		views := empty()
		asOf := time.Now()
		views.show(asOf)
		s := servePipes(t, handler(views)).open(t)
		s.wantLine("retry: 2000")
		s.want("snapshot", 1, counts{})
		for range 10 { // longer than the server's own time limits
			before := time.Now()
			for range 14 {
				time.Sleep(time.Second)
				asOf = time.Now()
				views.show(asOf) // a read that found nothing
			}
			s.wantLine(": as of " + asOf.UTC().Format("2006-01-02T15:04:05.000Z"))
			if silence := time.Since(before); silence != 15*time.Second {
				t.Fatalf("a heartbeat after %v, want 15s", silence)
			}
		}
	})
}

func TestStreamContinuesAfterTheLastEvent(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		views := empty()
		views.show(time.Now(), totals(counts{"ballz": 76, "foo": 13})...)
		p := servePipes(t, handler(views))
		first := p.open(t)
		first.wantLine("retry: 2000")
		id := first.want("snapshot", 1, counts{"ballz": 76, "foo": 13}).id
		_ = first.conn.Close()

		upToDate := p.open(t, "Last-Event-ID: "+id)
		upToDate.wantLine("retry: 2000")
		time.Sleep(5 * time.Second)
		views.show(time.Now(), totals(counts{"ballz": 76, "foo": 14})...)
		upToDate.want("changes", 2, counts{"foo": 14})

		behind := p.open(t, "Last-Event-ID: "+id)
		behind.wantLine("retry: 2000")
		behind.want("changes", 2, counts{"foo": 14})

		process, _, _ := strings.Cut(id, "-")
		for name, id := range map[string]string{
			"of another process": "X" + id, "of the future": process + "-3", "no number": process + "-", "a negative one": process + "--1",
			"too large": process + "-99999999999999999999", "something else": "7", "empty": "",
		} {
			other := p.open(t, "Last-Event-ID: "+id)
			other.wantLine("retry: 2000")
			if e := other.event(); e.kind != "snapshot" || len(e.data.Totals) != 2 {
				t.Errorf("%s: %s of %v, want a snapshot", name, e.kind, e.data.Totals)
			}
		}

		time.Sleep(time.Second)
		views.show(time.Now(), totals(counts{"foo": 14})...) // a tag has left
		behind.want("snapshot", 3, counts{"foo": 14})
		since := p.open(t, "Last-Event-ID: "+id)
		since.wantLine("retry: 2000")
		since.want("snapshot", 3, counts{"foo": 14})
	})
}

func TestStreamTakesTheLastEventIDAsAParameter(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		views := empty()
		views.show(time.Now(), totals(counts{"foo": 13})...)
		p := servePipes(t, handler(views))
		first := p.open(t)
		first.wantLine("retry: 2000")
		one := first.want("snapshot", 1, counts{"foo": 13}).id
		time.Sleep(time.Second)
		views.show(time.Now(), totals(counts{"foo": 14})...)
		two := first.want("changes", 2, counts{"foo": 14}).id
		time.Sleep(time.Second)
		views.show(time.Now(), totals(counts{"foo": 14, "zoo": 1})...)
		for name, tc := range map[string]struct {
			lines []string
			want  counts
		}{
			"parameter":       {[]string{"?lastEventId=" + one}, counts{"foo": 14, "zoo": 1}},
			"header":          {[]string{"Last-Event-ID: " + two}, counts{"zoo": 1}},
			"the header wins": {[]string{"?lastEventId=" + one, "Last-Event-ID: " + two}, counts{"zoo": 1}},
		} {
			t.Log(name)
			s := p.open(t, tc.lines...)
			s.wantLine("retry: 2000")
			s.want("changes", 3, tc.want)
		}
	})
}

// Readers of some tags receive these alone, and nothing when others change.
func TestStreamOfSomeTags(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		views := empty()
		views.show(time.Now(), totals(counts{"ballz": 76, "foo": 13})...)
		p := servePipes(t, handler(views))
		named, prefixed := p.open(t, "?names=zoo,foo"), p.open(t, "?prefix=ba")
		named.wantLine("retry: 2000")
		prefixed.wantLine("retry: 2000")
		named.want("snapshot", 1, counts{"foo": 13})
		id := prefixed.want("snapshot", 1, counts{"ballz": 76}).id

		for n := range int64(5) {
			time.Sleep(2 * time.Second)
			views.show(time.Now(), totals(counts{"ballz": 76, "foo": 14 + n})...)
			named.want("changes", 2+int(n), counts{"foo": 14 + n})
		}
		time.Sleep(2 * time.Second)
		views.show(time.Now(), totals(counts{"ballz": 77, "foo": 18, "zoo": 1})...)
		named.want("changes", 7, counts{"zoo": 1})
		prefixed.want("changes", 7, counts{"ballz": 77})
		quiet := time.Now()
		time.Sleep(2 * time.Second)
		views.show(time.Now(), totals(counts{"ballz": 77, "foo": 19, "zoo": 1})...)
		named.want("changes", 8, counts{"foo": 19})
		if line, err := prefixed.block(); err != nil || !strings.HasPrefix(line, ": as of ") || time.Since(quiet) != 15*time.Second {
			t.Errorf("%q, %v after %v of silence, want a heartbeat", line, err, time.Since(quiet))
		}

		again := p.open(t, "?prefix=ba", "Last-Event-ID: "+id)
		again.wantLine("retry: 2000")
		again.want("changes", 8, counts{"ballz": 77})
		other := p.open(t, "?prefix=fo", "Last-Event-ID: "+id) // of another choice
		other.wantLine("retry: 2000")
		other.want("snapshot", 8, counts{"foo": 19})
		all := p.open(t, "Last-Event-ID: "+id)
		all.wantLine("retry: 2000")
		all.want("snapshot", 8, counts{"ballz": 77, "foo": 19, "zoo": 1})
		time.Sleep(2 * time.Second)
		views.show(time.Now(), totals(counts{"foo": 19})...) // tags have left
		again.want("snapshot", 9, counts{})
	})
}

func TestStreamEndsAfter55Minutes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		views := empty()
		views.show(time.Now(), totals(counts{"foo": 13})...)
		s := servePipes(t, handler(views)).open(t)
		began := time.Now()
		for time.Since(began) < time.Hour {
			if _, err := s.block(); err != nil {
				break
			}
		}
		if took := time.Since(began); took != 55*time.Minute {
			t.Errorf("the stream ended after %v, want 55m", took)
		}
	})
}

func TestStreamWaitsForTheFirstView(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		views := empty()
		s := servePipes(t, handler(views)).open(t)
		s.wantLine("retry: 2000")
		time.Sleep(3 * time.Second)
		views.show(time.Now(), totals(counts{"foo": 4})...)
		s.want("snapshot", 1, counts{"foo": 4})
	})
}

// A reader that pauses gets one event for all that it has missed; one that has stopped is dropped.
func TestSlowReaderGetsFewerEventsAndADeadOneIsDropped(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		views := large()
		ended := make(chan struct{})
		h := handler(views)
		s := servePipes(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			defer close(ended)
			h.ServeHTTP(w, r)
		})).open(t)
		s.wantLine("retry: 2000")
		s.event()
		for n := range int64(3) { // a pipe holds nothing: the write waits for the reader
			time.Sleep(time.Second)
			views.show(time.Now(), totals(counts{"foo": n})...)
		}
		if e := s.event(); e.kind != "snapshot" || e.data.Totals["foo"] != 0 { // 55,000 tags left with the first change
			t.Fatalf("%s %s of %d tags, want the snapshot that was being sent", e.kind, e.id, len(e.data.Totals))
		}
		s.want("changes", 4, counts{"foo": 2})

		views.show(time.Now(), totals(counts{"foo": 7})...)
		before := time.Now()
		<-ended
		if after := time.Since(before); after > 5*time.Second {
			t.Errorf("dropped after %v, want 1 s until the next event is due and then 4 s", after)
		}
	})
}

func TestStreamProblems(t *testing.T) {
	t.Parallel()
	address := serve(t, handler(example())) + "/stats/stream"
	wantProblem(t, request(t, http.MethodGet, address+"?since=3"), http.StatusBadRequest)
	wantProblem(t, request(t, http.MethodGet, address+"?names=foo&prefix=f"), http.StatusBadRequest)
	wantProblem(t, request(t, http.MethodPost, address), http.StatusMethodNotAllowed)
	if got := request(t, http.MethodHead, address); got.status != http.StatusOK || got.header.Get("Content-Type") != "text/event-stream" {
		t.Errorf("HEAD: %d %v", got.status, got.header)
	}
}

// A server that stops ends its streams at once, whole, and waits for none until the drain.
func TestStopEndsEveryStream(t *testing.T) {
	t.Parallel()
	server, err := service.NewServer(0, handler(example()), time.Minute, zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	stopped := make(chan error, 1)
	go func() { stopped <- server.Run(ctx) }()
	streams := make([]*stream, 0, 10)
	for range cap(streams) {
		conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", fmt.Sprintf("127.0.0.1:%d", server.Port()))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close() //nolint:errcheck // read
		s := openOn(t, conn)
		s.wantLine("retry: 2000")
		s.event()
		streams = append(streams, s)
	}
	began := time.Now()
	stop()
	if err := <-stopped; err != nil || time.Since(began) > 10*time.Second {
		t.Errorf("Run() = %v after %v", err, time.Since(began))
	}
	for _, s := range streams {
		if rest, err := io.ReadAll(s.body); err != nil || len(rest) > 0 {
			t.Errorf("the stream ended with %q, %v, want nothing more and a clean end", rest, err)
		}
	}
}

// watchedViews counts the requests for a view.
type watchedViews struct {
	*steppedViews
	asked atomic.Int64
}

func (w *watchedViews) View(ctx context.Context) *view.View {
	w.asked.Add(1)
	return w.steppedViews.View(ctx)
}

// Every reader ends with the exact totals, and the bubble with which the test ends holds no goroutine of any of them.
func TestThousandReadersGetExactTotals(t *testing.T) {
	t.Parallel()
	const readers, versions = 1000, 20
	synctest.Test(t, func(t *testing.T) {
		views := &watchedViews{steppedViews: empty()}
		views.show(time.Now(), totals(counts{"ballz": 1, "foo": 0})...)
		p := servePipes(t, handler(views))
		var all sync.WaitGroup
		for i := range readers {
			s := p.open(t)
			all.Go(func() {
				defer s.conn.Close() //nolint:errcheck // read
				have := make(counts)
				for have["foo"] < versions {
					block, err := s.block()
					if err != nil {
						t.Errorf("reader %d: %v", i, err)
						return
					}
					if strings.HasPrefix(block, "retry:") {
						continue
					}
					e, err := parseEvent(block)
					if err != nil {
						t.Errorf("reader %d: %v", i, err)
						return
					}
					if e.kind == "snapshot" && len(have) > 0 {
						t.Errorf("reader %d got a second snapshot", i)
					}
					maps.Copy(have, e.data.Totals)
					if i%10 == 0 && have["foo"]%3 == 0 {
						time.Sleep(2 * time.Second) // a slow one
					}
				}
				if want := (counts{"ballz": 1, "foo": versions, "zoo": versions / 2}); !maps.Equal(have, want) {
					t.Errorf("reader %d has %v, want %v", i, have, want)
				}
			})
		}
		for n := range int64(versions) {
			time.Sleep(500 * time.Millisecond)
			views.show(time.Now(), totals(counts{"ballz": 1, "foo": n + 1, "zoo": (n + 1) / 2})...)
		}
		all.Wait()
		if got := views.asked.Load(); got != readers {
			t.Errorf("%d requests for a view, want one per reader, who then watches", got)
		}
	})
}

func TestStreamsBeyondTheLimitAre503(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		views := example()
		h := handler(views)
		ctx, cancel := context.WithCancel(t.Context())
		var readers sync.WaitGroup
		for range 2000 {
			readers.Go(func() {
				h.ServeHTTP(&silentStream{silentWriter{header: make(http.Header)}}, httptest.NewRequestWithContext(ctx, http.MethodGet, "/stats/stream", http.NoBody))
			})
		}
		synctest.Wait()
		got := get(h, "/stats/stream")
		wantProblem(t, got, http.StatusServiceUnavailable)
		if got := got.header.Get("Retry-After"); got != "10" {
			t.Errorf("Retry-After = %q, want 10", got)
		}
		cancel()
		readers.Wait()
		s := servePipes(t, h).open(t)
		s.wantLine("retry: 2000")
	})
}

// silentStream is a silentWriter that streams.
type silentStream struct{ silentWriter }

func (*silentStream) SetWriteDeadline(time.Time) error { return nil }
func (*silentStream) Flush()                           {}
