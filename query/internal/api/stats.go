package api

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cespare/xxhash/v2"
	"github.com/gin-gonic/gin"

	"github.com/accrue/accrue/pkg/problem"
	"github.com/accrue/accrue/query/internal/view"
)

const (
	// asOfHeader says of which time an answer is, by the store's clock.
	asOfHeader = "X-As-Of"
	// asOfFormat is RFC 3339 with milliseconds, in UTC.
	asOfFormat = "2006-01-02T15:04:05.000Z"
)

// stats answers /stats: every tag with its total, as one object. A version of the view is rendered once, when it is first
// asked for, however many ask.
type stats struct {
	views      Views
	compressor *compressor
	last       atomic.Pointer[rendered]
	// rendering is held by the one request that renders.
	rendering sync.Mutex
}

// rendered is the answer of one version of the view. It does not change.
type rendered struct {
	version uint64
	asOf    time.Time
	body    []byte
	// compressed returns the body's gzip form. It is made once, when it is first asked for.
	compressed func() []byte
	// etag is made of the body alone, so that all instances agree.
	etag string
}

func (s *stats) answer(c *gin.Context) {
	if d := refuseParameters(c.Request); d != nil {
		d.Write(c.Writer)
		return
	}
	latest, asOf := s.latest(c.Request.Context())
	if latest == nil {
		problem.Unavailable("the totals have not been read yet", time.Second).Write(c.Writer)
		return
	}
	h := c.Writer.Header()
	body, etag, compressed := latest.body, latest.etag, false
	if len(body) >= minCompressed && acceptsGzip(c.Request.Header.Values("Accept-Encoding")) {
		// Weak, since a strong one is of one form's bytes alone.
		body, etag, compressed = nil, "W/"+etag, true
	}
	h.Set("ETag", etag)
	h.Add("Vary", "Accept-Encoding")
	h.Set("Cache-Control", "no-cache") // keep it, and ask each time whether it still holds
	h.Set(asOfHeader, asOf.UTC().Format(asOfFormat))
	if matches(c.Request.Header.Values("If-None-Match"), latest.etag) {
		c.Status(http.StatusNotModified)
		return
	}
	if compressed {
		body = latest.compressed()
		h.Set("Content-Encoding", "gzip")
	}
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	c.Status(http.StatusOK)
	_, _ = c.Writer.Write(body) // the server drops it for HEAD; on an error the client is gone: nobody to tell
}

// latest returns the latest view, rendered, and the time that it is of; nil before the first view.
func (s *stats) latest(ctx context.Context) (*rendered, time.Time) {
	v := s.views.View(ctx)
	if v.Version() == 0 {
		return nil, time.Time{}
	}
	return s.of(v)
}

// of returns v rendered, or a later view if another request was faster, and the time that it is of.
func (s *stats) of(v *view.View) (*rendered, time.Time) {
	r := s.last.Load()
	if r == nil || r.version < v.Version() {
		r = s.render(v)
	}
	if r.version > v.Version() {
		return r, r.asOf
	}
	return r, v.AsOf()
}

// render returns v as it is answered, or a later version if there is one by now.
func (s *stats) render(v *view.View) *rendered {
	s.rendering.Lock()
	defer s.rendering.Unlock()
	if r := s.last.Load(); r != nil && r.version >= v.Version() {
		return r
	}
	body := encode(v.Tags())
	r := &rendered{
		version: v.Version(), asOf: v.AsOf(), body: body, etag: fmt.Sprintf(`"%016x"`, xxhash.Sum64(body)),
		compressed: sync.OnceValue(func() []byte { return s.compressor.compress(body) }),
	}
	s.last.Store(r)
	return r
}

// encode returns tags as one JSON object of totals, in their order. Names need no escaping: what the aggregator counts is
// of letters and underscores.
func encode(tags []view.Tag) []byte {
	size := len("{}")
	for _, t := range tags {
		size += len(t.Name) + len(`"":1234567,`) // enough as a rule; append sees to the rest
	}
	b := append(make([]byte, 0, size), '{')
	for i, t := range tags {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, '"')
		b = append(b, t.Name...)
		b = append(b, `":`...)
		b = strconv.AppendInt(b, t.Total, 10)
	}
	return append(b, '}')
}

// matches says whether the lines of a header If-None-Match name etag or everything (RFC 9110, section 13.1.2). The
// comparison is weak, as it must be there: a proxy that compresses makes a strong tag weak. What follows a fault in a
// line does not count.
func matches(lines []string, etag string) bool {
	for _, line := range lines {
		for {
			line = strings.TrimLeft(line, " \t,")
			if strings.HasPrefix(line, "*") {
				return true
			}
			opaque, ok := strings.CutPrefix(strings.TrimPrefix(line, "W/"), `"`)
			if !ok {
				break
			}
			end := strings.IndexFunc(opaque, func(r rune) bool { return r <= ' ' || r == '"' || r == 0x7f })
			if end < 0 || opaque[end] != '"' {
				break
			}
			if `"`+opaque[:end]+`"` == etag {
				return true
			}
			line = opaque[end+1:]
		}
	}
	return false
}
