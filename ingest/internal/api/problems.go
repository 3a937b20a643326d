package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/accrue/accrue/ingest/internal/batching"
	"github.com/accrue/accrue/pkg/increment"
	"github.com/accrue/accrue/pkg/problem"
)

// retryAfter is how long a producer should wait before it tries a 503 again: by then the next publishes have ended.
const retryAfter = time.Second

// problemOf is the one place that maps errors to statuses. An error that it does not know is a 500, without its text.
func problemOf(err error) *problem.Document {
	var invalid *invalidError
	switch {
	case errors.As(err, &invalid) && invalid.malformed:
		return problem.New(http.StatusBadRequest, "The body is malformed. Nothing was counted.", invalid.faults...)
	case errors.As(err, &invalid):
		return problem.New(http.StatusUnprocessableEntity, "The body breaks a rule. Nothing was counted.", invalid.faults...)
	case errors.Is(err, errKey):
		return problem.New(http.StatusBadRequest, "A header is malformed. Nothing was counted.",
			problem.Fault{Parameter: keyHeader, Detail: increment.ErrKey.Error() + ", once, bare or in quotes"})
	case errors.Is(err, errBody):
		return problem.New(http.StatusBadRequest, "The body ended before it was complete. Nothing was counted.")
	case errors.Is(err, errTooLarge):
		return problem.New(http.StatusRequestEntityTooLarge,
			fmt.Sprintf("The body is larger than %d bytes. Nothing was counted.", maxBody))
	case errors.Is(err, errMediaType):
		return problem.New(http.StatusUnsupportedMediaType,
			"The Content-Type must be application/json, in UTF-8, without a Content-Encoding. Nothing was counted.")
	case errors.Is(err, batching.ErrFull):
		return problem.Unavailable("Too much is waiting to be published. "+problem.NothingCounted, retryAfter)
	case errors.Is(err, batching.ErrStopped):
		return problem.Unavailable("This instance is stopping. "+problem.NothingCounted, retryAfter)
	case errors.Is(err, batching.ErrPublish):
		return problem.Unavailable("Publishing failed. Whether this is counted is not known.", retryAfter)
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return problem.Unavailable("The request ended before its publish. Whether this is counted is not known.", retryAfter)
	default:
		return problem.New(http.StatusInternalServerError, "")
	}
}
