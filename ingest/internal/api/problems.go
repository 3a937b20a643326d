package api

import (
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/accrue/accrue/ingest/internal/batching"
	"github.com/accrue/accrue/ingest/internal/names"
	"github.com/accrue/accrue/pkg/increment"
	"github.com/accrue/accrue/pkg/problem"
)

// The errors of requests whose body was not decoded.
var (
	errKey        = errors.New("invalid idempotency key")
	errMediaType  = errors.New("unsupported media type")
	errEncoding   = errors.New("unsupported content encoding")
	errTooLarge   = errors.New("body too large")
	errIncomplete = errors.New("incomplete body")
	errSlow       = errors.New("body took too long")
	errGzip       = errors.New("body is not gzip")
)

// retryAfter is how long a producer should wait after a 503: the publishes in progress have ended by then.
const retryAfter = time.Second

// problemOf maps every error to its problem document. An unknown error is a 500, without its text.
func problemOf(err error) *problem.Document {
	var invalid *invalidError
	var many *names.TooManyError
	switch {
	case errors.As(err, &invalid) && invalid.malformed:
		return refused(http.StatusBadRequest, "malformed-body", "The body is malformed.", invalid.faults...)
	case errors.As(err, &invalid):
		return refused(http.StatusUnprocessableEntity, "invalid-items", "The body breaks a rule.", invalid.faults...)
	case errors.Is(err, errKey):
		return refused(http.StatusBadRequest, "malformed-header", "A header is malformed.",
			problem.Fault{Parameter: keyHeader, Detail: increment.ErrKey.Error() + ", once, bare or in quotes"})
	case errors.Is(err, errGzip):
		return refused(http.StatusBadRequest, "malformed-body", "The body is not gzip, or it is damaged.")
	case errors.Is(err, errIncomplete):
		return refused(http.StatusBadRequest, "incomplete-body", "The body ended before it was complete.")
	case errors.Is(err, errSlow):
		return refused(http.StatusRequestTimeout, "slow-body", "The body took too long.")
	case errors.Is(err, errTooLarge):
		return refused(http.StatusRequestEntityTooLarge, "body-too-large", fmt.Sprintf("The body is larger than %d bytes.", maxBody))
	case errors.Is(err, errMediaType):
		return refused(http.StatusUnsupportedMediaType, "unsupported-media-type",
			"The Content-Type must be application/json, text/plain, or for a batch also application/x-ndjson, in UTF-8.")
	case errors.Is(err, errEncoding):
		return refused(http.StatusUnsupportedMediaType, "unsupported-encoding", "The Content-Encoding must be gzip or identity.")
	case errors.As(err, &many):
		d := refused(http.StatusTooManyRequests, "too-many-new-tags",
			fmt.Sprintf("The body has %d tags that this server has not seen, and it takes %d new ones a minute.", many.New, many.PerMinute))
		d.RetryAfter = max(many.RetryAfter, time.Second)
		return d
	case errors.Is(err, batching.ErrFull):
		return unavailable("overloaded", "Too much is waiting to be published.")
	case errors.Is(err, batching.ErrStopped):
		return unavailable("stopping", "This instance is stopping.")
	case errors.Is(err, batching.ErrRefused):
		return unavailable("publish-refused", "The broker refused the publish.")
	case errors.Is(err, batching.ErrPublish):
		d := unavailable("publish-failed", "The publish failed.")
		d.Detail, d.Counted = "The publish failed. Whether this is counted is not known.", problem.CountedUnknown
		return d
	default:
		d := problem.New(http.StatusInternalServerError, problem.Internal)
		d.Type, d.Counted = problem.TypeOf("internal-error"), problem.CountedUnknown
		return d
	}
}

// refused returns the problem of a request of which nothing is counted.
func refused(status int, kind, detail string, faults ...problem.Fault) *problem.Document {
	d := problem.New(status, detail+" "+problem.NothingCounted, faults...)
	d.Type, d.Counted = problem.TypeOf(kind), problem.CountedNo
	return d
}

// unavailable returns the problem of a request of which nothing is counted, and which may succeed later.
func unavailable(kind, detail string) *problem.Document {
	d := refused(http.StatusServiceUnavailable, kind, detail)
	d.RetryAfter = retryAfter
	return d
}
