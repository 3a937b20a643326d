package api

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/accrue/accrue/pkg/problem"
	"github.com/accrue/accrue/pkg/service"
	"github.com/accrue/accrue/query/internal/view"
)

const (
	// maxReaders bounds the readers of streams: each holds a connection, some 20 KiB.
	maxReaders = 2000
	// readersRetry is when a reader that found no room may come again.
	readersRetry = 10 * time.Second
	// changesEvery is the least time between two events of one reader.
	changesEvery = time.Second
	// heartbeatEvery is the longest silence on a stream: proxies cut silent connections after some 30 s and more.
	heartbeatEvery = 15 * time.Second
	// reconnectAfter is when a reader whose stream ended should come again.
	reconnectAfter = 2 * time.Second
	// chunk bounds one write, and chunkTimeout how long it may take: a reader slower than 4 KiB/s, once the buffers of the
	// network are full, is dropped. It is shorter than a stop's drain, so that no reader can hold up a stop.
	chunk, chunkTimeout = 16 << 10, 4 * time.Second
	// maxRenderedChanges bounds the renderings that are kept. Readers that keep pace need a few.
	maxRenderedChanges = 16
)

// stream answers /stats/stream: the totals as server-sent events (WHATWG HTML, section 9.2), first all of them, then what
// has changed. A reader has no queue: when its next event is due, it is sent what has changed since its last one, so a
// slow reader gets fewer events with the same outcome. Readers look at the view that everybody looks at; the store does
// not know how many there are.
type stream struct {
	views Views
	stats *stats
	// process tells this process's versions from those of others: an event's id is process-version.
	process string
	readers atomic.Int64

	mu sync.Mutex
	// rendered are the changes that made the version to of earlier versions; nil where only all totals will do.
	rendered map[uint64][]byte
	to       uint64
}

func (s *stream) answer(c *gin.Context) {
	if d := refuseParameters(c.Request); d != nil {
		d.Write(c.Writer)
		return
	}
	defer s.readers.Add(-1)
	if s.readers.Add(1) > maxReaders {
		problem.Unavailable("as many streams are open as can be served", readersRetry).Write(c.Writer)
		return
	}
	h := c.Writer.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-store")
	c.Status(http.StatusOK)
	if c.Request.Method == http.MethodHead {
		return
	}
	_ = s.serve(c.Writer, c.Request) // the reader has gone, or the server stops: nobody to tell
}

// serve sends events until the reader has gone or stopped reading, or the server stops, and returns why it ended.
func (s *stream) serve(w http.ResponseWriter, request *http.Request) error {
	ctx := request.Context()
	r := &reader{writer: w, controller: http.NewResponseController(w), gone: ctx.Done(), stopping: service.Stopping(ctx)}
	if err := r.send(fmt.Appendf(nil, "retry: %d\n\n", reconnectAfter.Milliseconds())); err != nil {
		return err
	}
	lastAt := time.Now()
	s.views.View(ctx) // in quiet times the view may be old: this request wakes whoever reads, like any other
	sent, known := s.version(request.Header.Get("Last-Event-ID"))
	for {
		v, replaced := s.views.Watch()
		wait := heartbeatEvery - time.Since(lastAt)
		switch {
		case v.Version() > 0 && (!known || v.Version() != sent):
			e := s.event(v, sent, known)
			head := fmt.Appendf(nil, "event: %s\nid: %s-%d\ndata: {", e.kind, s.process, e.version)
			head = append(appendFreshness(head, e.asOf), `,"totals":`...)
			if err := r.send(head, e.totals, []byte("}\n\n")); err != nil {
				return err
			}
			sent, known, lastAt = e.version, true, time.Now()
			replaced, wait = nil, changesEvery // what comes meanwhile is in the next event
		case wait <= 0:
			if err := r.send(fmt.Appendf(nil, ": as of %s\n\n", formatTime(v.AsOf()))); err != nil {
				return err
			}
			lastAt, wait = time.Now(), heartbeatEvery
		}
		if err := r.wait(replaced, wait); err != nil {
			return err
		}
	}
}

// version returns the version that the id of an event is of, if it is one of this process.
func (s *stream) version(id string) (uint64, bool) {
	digits, ok := strings.CutPrefix(id, s.process+"-")
	if !ok {
		return 0, false
	}
	version, err := strconv.ParseUint(digits, 10, 64)
	return version, err == nil
}

// event is what makes a reader have the totals of a version.
type event struct {
	kind    string
	version uint64
	asOf    time.Time
	totals  []byte // shared by all who are sent it
}

// event returns what makes a reader who has the version since, or knows none, have that of v or a later one.
func (s *stream) event(v *view.View, since uint64, known bool) event {
	if known {
		if changes, ok := s.changes(v, since); ok {
			return event{"changes", v.Version(), v.AsOf(), changes}
		}
	}
	all, asOf := s.stats.of(v)
	return event{"snapshot", all.version, asOf, all.body}
}

// changes returns the totals that have changed between two versions, rendered once for all readers, or false if only all
// totals will do.
func (s *stream) changes(v *view.View, since uint64) ([]byte, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if v.Version() > s.to {
		s.to, s.rendered = v.Version(), make(map[uint64][]byte)
	}
	changes, ok := s.rendered[since]
	if !ok || v.Version() != s.to { // not rendered yet, or of a view that is past
		if tags, possible := v.ChangesSince(since); possible {
			changes = encode(tags)
		} else {
			changes = nil
		}
		if v.Version() == s.to && len(s.rendered) < maxRenderedChanges {
			s.rendered[since] = changes
		}
	}
	return changes, changes != nil
}

// errEnded is the end of a stream that nobody is to blame for.
var errEnded = errors.New("the reader has gone or the server stops")

// reader is one open stream.
type reader struct {
	writer         http.ResponseWriter
	controller     *http.ResponseController
	gone, stopping <-chan struct{}
}

// send writes the parts, chunk by chunk, each with its own deadline, so that it is progress that counts and not length.
func (r *reader) send(parts ...[]byte) error {
	for _, part := range parts {
		for piece := range slices.Chunk(part, chunk) {
			select {
			case <-r.stopping: // an event that is cut off counts for nothing
				return errEnded
			default:
			}
			if err := r.controller.SetWriteDeadline(time.Now().Add(chunkTimeout)); err != nil {
				return fmt.Errorf("set the write deadline: %w", err)
			}
			if _, err := r.writer.Write(piece); err != nil {
				return fmt.Errorf("send: %w", err)
			}
		}
	}
	if err := r.controller.Flush(); err != nil { // within the last deadline
		return fmt.Errorf("send: %w", err)
	}
	return nil
}

// wait returns nil when it is time to look again: after the given time, or when replaced is closed.
func (r *reader) wait(replaced <-chan struct{}, most time.Duration) error {
	timer := time.NewTimer(most)
	defer timer.Stop()
	select {
	case <-replaced:
		return nil
	case <-timer.C:
		return nil
	case <-r.gone:
		return errEnded
	case <-r.stopping:
		return errEnded
	}
}
