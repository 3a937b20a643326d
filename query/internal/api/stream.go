package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cespare/xxhash/v2"
	"github.com/gin-gonic/gin"

	"github.com/accrue/accrue/pkg/problem"
	"github.com/accrue/accrue/pkg/service"
	"github.com/accrue/accrue/query/internal/view"
)

const (
	// maxReaders bounds the open streams: each holds a connection, some 20 KiB.
	maxReaders = 2000
	// readersRetry is the Retry-After of a refused stream.
	readersRetry = 10 * time.Second
	// changesEvery is the shortest time between two events of one stream.
	changesEvery = time.Second
	// heartbeatEvery is the longest silence on a stream: proxies close silent connections after some 30 s or more.
	heartbeatEvery = 15 * time.Second
	// streamFor is how long a stream lasts: less than the hour after which Cloud Run cuts any request.
	streamFor = 55 * time.Minute
	// reconnectAfter is the time after which a reader should reconnect.
	reconnectAfter = 2 * time.Second
	// chunk bounds one write, and chunkTimeout its duration: a reader slower than 4 KiB/s, once the buffers of the
	// network are full, is dropped. It is shorter than a stop's drain, so that no reader delays a stop.
	chunk, chunkTimeout = 16 << 10, 4 * time.Second
	// maxRenderedChanges bounds the renderings that are kept. Readers that keep up need a few.
	maxRenderedChanges = 16
)

// stream answers /stats/stream: the totals as server-sent events (WHATWG HTML, section 9.2), first all of them, then the
// changes. A reader has no queue: an event holds what has changed since the reader's last one, so a slow reader gets fewer
// events with the same outcome. All readers share the view, and cause no reads of the store.
type stream struct {
	views Views
	stats *stats
	// process distinguishes this process's versions from those of others: an event's id is process-version, or process-choice-version.
	process string
	readers atomic.Int64

	mu sync.Mutex
	// rendered are the changes from earlier versions to the version to; nil where all totals are needed.
	rendered map[uint64][]byte
	to       uint64
}

func (s *stream) get(c *gin.Context) {
	// The parameter is for readers that cannot set the header.
	lastID := ""
	var tags choice
	known := map[string]parameter{"lastEventId": readText(&lastID)}
	tags.parameters(known)
	d := readParameters(c.Request, known)
	if d == nil {
		d = tags.fault()
	}
	if d != nil {
		d.Write(c.Writer)
		return
	}
	if header := c.GetHeader("Last-Event-ID"); header != "" {
		lastID = header
	}
	defer s.readers.Add(-1)
	if s.readers.Add(1) > maxReaders {
		problem.Unavailable("too many open streams", readersRetry).Write(c.Writer)
		return
	}
	h := c.Writer.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-store, no-transform") // a proxy that compresses would hold events back
	h.Set("X-Accel-Buffering", "no")                 // nor may nginx buffer them
	c.Status(http.StatusOK)
	if c.Request.Method == http.MethodHead {
		return
	}
	_ = s.serve(c.Request.Context(), c.Writer, lastID, &tags) // the reader has gone, or the stream has ended
}

// serve sends events until the reader disconnects or stops reading, streamFor has passed, or the server stops, and returns
// the reason.
func (s *stream) serve(ctx context.Context, w http.ResponseWriter, lastID string, tags *choice) error {
	ctx, cancel := context.WithTimeout(ctx, streamFor)
	defer cancel()
	r := &reader{writer: w, controller: http.NewResponseController(w), gone: ctx.Done(), stopping: service.Stopping(ctx)}
	if err := r.send(fmt.Appendf(nil, "retry: %d\n\n", reconnectAfter.Milliseconds())); err != nil {
		return err
	}
	lastAt := time.Now()
	s.views.View(ctx) // in quiet times the view may be old: this request refreshes it, like any other
	ids := s.ids(tags)
	sent, known := version(ids, lastID)
	for {
		v, replaced := s.views.Watch()
		wait := heartbeatEvery - time.Since(lastAt)
		switch {
		case v.Version() > 0 && (!known || v.Version() != sent):
			e := s.event(v, sent, known, tags)
			if e.totals == nil { // no chosen tag has changed
				sent = e.version
				break
			}
			f := freshnessOf(e.asOf)
			head := fmt.Appendf(nil, "event: %s\nid: %s%d\ndata: {\"as_of\":%q,\"lag_ms\":%d,\"totals\":", e.kind, ids, e.version, f.AsOf, f.LagMS)
			if err := r.send(head, e.totals, []byte("}\n\n")); err != nil {
				return err
			}
			sent, known, lastAt = e.version, true, time.Now()
			replaced, wait = nil, changesEvery // the next event has what changes meanwhile
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

// ids returns how the ids of events begin. Those of other tags begin otherwise: an event that was read of one choice says
// nothing about another.
func (s *stream) ids(tags *choice) string {
	if tags.all() {
		return s.process + "-"
	}
	return fmt.Sprintf("%s-%016x-", s.process, xxhash.Sum64String(strings.Join(tags.names, ",")+" "+tags.prefix))
}

// version returns the version of an event's id, if it begins like the ids of this process and choice.
func version(ids, id string) (uint64, bool) {
	digits, ok := strings.CutPrefix(id, ids)
	if !ok {
		return 0, false
	}
	version, err := strconv.ParseUint(digits, 10, 64)
	return version, err == nil
}

// event brings a reader to the totals of a version.
type event struct {
	kind    string
	version uint64
	asOf    time.Time
	totals  []byte // shared by all readers of all tags; nil if none of the chosen ones has changed
}

// event returns the event that brings a reader of some tags from the version since, or from none, to that of v or a later one.
func (s *stream) event(v *view.View, since uint64, known bool, tags *choice) event {
	if !tags.all() {
		if changed, ok := v.ChangesSince(since); known && ok {
			e := event{"changes", v.Version(), v.AsOf(), nil}
			if changed = tags.of(changed); len(changed) > 0 {
				e.totals = encode(changed)
			}
			return e
		}
		return event{"snapshot", v.Version(), v.AsOf(), encode(tags.of(v.Tags()))}
	}
	if known {
		if changes, ok := s.changes(v, since); ok {
			return event{"changes", v.Version(), v.AsOf(), changes}
		}
	}
	all, asOf := s.stats.of(v)
	return event{"snapshot", all.version, asOf, all.body.Bytes()}
}

// changes returns the totals that have changed since a version, rendered once for all readers, or false if all totals are
// needed.
func (s *stream) changes(v *view.View, since uint64) ([]byte, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if v.Version() > s.to {
		s.to, s.rendered = v.Version(), make(map[uint64][]byte)
	}
	changes, ok := s.rendered[since]
	if !ok || v.Version() != s.to { // not rendered yet, or of an earlier view
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

var errEnded = errors.New("the reader has gone, the stream has lasted its time, or the server stops")

// reader is one open stream.
type reader struct {
	writer         http.ResponseWriter
	controller     *http.ResponseController
	gone, stopping <-chan struct{}
}

// send writes the parts in chunks, each with its own deadline, so that progress counts and not length.
func (r *reader) send(parts ...[]byte) error {
	for _, part := range parts {
		for piece := range slices.Chunk(part, chunk) {
			select {
			case <-r.stopping: // readers ignore a truncated event
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

// wait returns nil after the given time, or when replaced is closed.
func (r *reader) wait(replaced <-chan struct{}, longest time.Duration) error {
	timer := time.NewTimer(longest)
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
