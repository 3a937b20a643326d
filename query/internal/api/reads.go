package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/rs/zerolog"
	"golang.org/x/time/rate"

	"github.com/accrue/accrue/pkg/logging"
	"github.com/accrue/accrue/pkg/problem"
	"github.com/accrue/accrue/pkg/store"
)

const (
	// readTimeout bounds one read of the store, and the wait for its turn.
	readTimeout = 3 * time.Second
	// maxReads bounds the concurrent reads, and so what their pages take of the memory, some 2 MiB each.
	maxReads = 32
	// sharedFor is how long requests for the same thing share a read: each document read is billed.
	sharedFor = time.Second
	// documentsPerSecond and documentsAtOnce bound the documents read for requests. Each read is charged when it is done,
	// so that up to maxReads of them can exceed the bound, which later requests then wait for.
	documentsPerSecond, documentsAtOnce = 1000, 5000
)

// errBudget is returned when requests have read as many documents as they may.
var errBudget = errors.New("read budget exceeded")

// reads reads the store for requests. Identical reads are shared for a second, and all together are bounded.
type reads struct {
	slots  chan struct{} // holds a token for each read in progress
	budget *rate.Limiter
	outage *logging.Outage

	mu     sync.Mutex
	shared map[string]*read
}

// read is a read in progress, or its result.
type read struct {
	done  chan struct{} // closed when the result is there
	value any
	err   error
}

func newReads(log zerolog.Logger) *reads {
	return &reads{
		slots: make(chan struct{}, maxReads), budget: rate.NewLimiter(documentsPerSecond, documentsAtOnce),
		outage: logging.NewOutage(log, zerolog.WarnLevel, "read contributors or recognitions"), shared: make(map[string]*read),
	}
}

// do returns the result of call, which returns how many documents it read, or of the same call for another request, named
// by key, of the last second. It does not end with the request: others share it, and a client that half-closes its
// connection ends the request's context and still waits for the answer. It takes up to readTimeout.
func do[T any](ctx context.Context, s *reads, key string, call func(context.Context) (T, int, error)) (T, error) {
	s.mu.Lock()
	r, ok := s.shared[key]
	if !ok {
		if s.budget.Tokens() < 1 {
			s.mu.Unlock()
			var none T
			return none, errBudget
		}
		r = &read{done: make(chan struct{}), err: context.Canceled}
		s.shared[key] = r
	}
	s.mu.Unlock()
	if ok {
		<-r.done
	} else {
		s.run(ctx, key, r, func(ctx context.Context) (any, int, error) { return call(ctx) })
	}
	value, _ := r.value.(T)
	return value, r.err
}

func (s *reads) run(ctx context.Context, key string, r *read, call func(context.Context) (any, int, error)) {
	forget := func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.shared, key)
	}
	defer func() {
		if r.err == nil || errors.Is(r.err, store.ErrNotFound) {
			s.outage.Succeeded()
			time.AfterFunc(sharedFor, forget)
		} else {
			forget()
		}
		close(r.done)
	}()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), readTimeout)
	defer cancel()
	select {
	case s.slots <- struct{}{}:
		defer func() { <-s.slots }()
	case <-ctx.Done():
		r.err = fmt.Errorf("wait for %d reads in progress: %w", maxReads, ctx.Err())
		return
	}
	var documents int
	r.value, documents, r.err = call(ctx)
	s.budget.ReserveN(time.Now(), max(1, documents))
}

// refuse answers for a read that failed.
func (s *reads) refuse(c *gin.Context, err error) {
	switch {
	case errors.Is(err, store.ErrNotFound):
		problem.New(http.StatusNotFound, "there is no contributor with this id").Write(c.Writer)
	case errors.Is(err, errBudget):
		overBudget(c)
	default:
		s.outage.Failed(err, func(e *zerolog.Event) { e.Ctx(c.Request.Context()).Str("path", c.FullPath()) })
		problem.Unavailable("the store does not answer", time.Second).Write(c.Writer)
	}
}

// overBudget answers that requests have read as many documents as they may.
func overBudget(c *gin.Context) {
	c.Header("Retry-After", "1")
	problem.New(http.StatusTooManyRequests, "too many documents are being read").Write(c.Writer)
}
