// Package api is the HTTP API of ingest. It decodes strictly, refuses with problem documents that point to each fault, and
// answers 202 when the entries of a request are durable.
package api

import (
	"context"
	"errors"
	"io"
	"iter"
	"net/http"
	"strconv"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/rs/zerolog"

	"github.com/accrue/accrue/ingest/internal/batching"
	"github.com/accrue/accrue/ingest/internal/names"
	"github.com/accrue/accrue/ingest/internal/repeats"
	"github.com/accrue/accrue/pkg/logging"
	"github.com/accrue/accrue/pkg/message"
	"github.com/accrue/accrue/pkg/service/web"
)

const (
	incrementsPath    = "/increments"
	contributionsPath = "/contributions"
	batchPath         = "/batch" // below either

	// maxDiscard and discardTimeout bound how much of a refused body is read and dropped, so that a client that reads no
	// answer before it has sent everything gets one.
	maxDiscard     = 16 << 20
	discardTimeout = 2 * time.Second
)

// Counter counts entries. package batching implements it.
type Counter interface {
	// Reserve reserves n bytes for a body and reports whether there is room. Release gives them back.
	Reserve(n int) bool
	Release(n int)
	// Add returns nil when all entries are durable. It copies them. It returns soon, even if nothing answers, and its errors
	// are those of package batching.
	Add(ctx context.Context, entries []batching.Entry) error
}

// New returns the handler of all routes, which take the tags of tags.
func New(counter Counter, tags *names.Names, base web.Base) http.Handler {
	router := base.Router(web.API{Title: title, Document: document, Counts: true})
	a := &api{counter: counter, tags: tags, unexpected: logging.NewOutage(base.Log, zerolog.ErrorLevel, "answer a request, for an unexpected reason")}
	for path, kind := range map[string]*itemKind{incrementsPath: incrementKind(tags), contributionsPath: contributionKind()} {
		var known repeats.Memory // an increment and a contribution with the same key are two things
		router.POST(path, a.post(kind, false, &known))
		router.POST(path+batchPath, a.post(kind, true, &known))
	}
	return router
}

type api struct {
	counter Counter
	tags    *names.Names
	// unexpected reports the errors that have no problem document.
	unexpected *logging.Outage
}

// post returns the handler of requests with one item of a kind, or with a batch. Known remembers the keys of that kind.
func (a *api) post(kind *itemKind, batch bool, known *repeats.Memory) gin.HandlerFunc {
	return func(c *gin.Context) {
		entries, err := decode(c.Request, a.counter, kind, batch)
		if err != nil {
			a.refuseBody(c, err)
			return
		}
		if err := a.tags.Admit(tagsOf(entries)); err != nil {
			a.refuse(c, err)
			return
		}
		// The context of the request ends when the client closes its sending side, as some do after the request, but the
		// answer still reaches it: https://go.dev/issue/18527.
		if err := a.counter.Add(context.WithoutCancel(c.Request.Context()), entries); err != nil {
			a.refuse(c, err)
			return
		}
		body := append(make([]byte, 0, 64), `{"accepted":`...)
		body = strconv.AppendInt(body, int64(len(entries)), 10)
		if repeated := known.Add(keysOf(entries)); repeated > 0 {
			body = strconv.AppendInt(append(body, `,"repeated":`...), int64(repeated), 10)
		}
		body = append(body, '}')
		c.Writer.Header().Set("Content-Type", "application/json")
		c.Writer.WriteHeader(http.StatusAccepted)
		_, _ = c.Writer.Write(body) // a client that is gone needs no answer
	}
}

// tagsOf returns the tags of entries.
func tagsOf(entries []batching.Entry) iter.Seq[string] {
	return func(yield func(string) bool) {
		for i := range entries {
			if entries[i].Tag != "" && !yield(entries[i].Tag) {
				return
			}
		}
	}
}

// keysOf returns the keys of entries, which are zero for an entry without one.
func keysOf(entries []batching.Entry) iter.Seq[*message.Key] {
	return func(yield func(*message.Key) bool) {
		for i := range entries {
			if !yield(&entries[i].Key) {
				return
			}
		}
	}
}

// refuse answers with the problem document of err. Only unexpected errors are logged.
func (a *api) refuse(c *gin.Context, err error) {
	document := problemOf(err)
	if document.Status == http.StatusInternalServerError {
		a.unexpected.Failed(err, func(e *zerolog.Event) { e.Ctx(c.Request.Context()).Str("path", c.FullPath()) })
	}
	if document.Status == http.StatusUnsupportedMediaType {
		h := c.Writer.Header()
		h.Set("Accept-Post", accepted(c.FullPath()))
		h.Set("Accept-Encoding", "gzip, identity")
	}
	document.Write(c.Writer)
}

// refuseBody answers a request whose body cannot be counted. If much of the body has not been read, it answers first, and
// then reads and drops the rest, within bounds: most clients look for an answer only after they have sent everything.
func (a *api) refuseBody(c *gin.Context, err error) {
	r := c.Request
	var invalid *invalidError
	read := errors.As(err, &invalid) || errors.Is(err, errIncomplete) || errors.Is(err, errSlow)
	waits := r.Header.Get("Expect") != "" && r.ContentLength >= 0 // the client sends its body only if it is asked to
	if read || waits || r.ContentLength >= 0 && r.ContentLength <= maxPooled {
		a.refuse(c, err)
		return
	}
	connection := http.NewResponseController(c.Writer)
	_ = connection.EnableFullDuplex() // without it, the answer waits for a part of the body
	c.Writer.Header().Set("Connection", "close")
	a.refuse(c, err)
	_ = connection.Flush()
	_ = connection.SetReadDeadline(time.Now().Add(discardTimeout))
	_, _ = io.CopyN(io.Discard, r.Body, maxDiscard)
}
