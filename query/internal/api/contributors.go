package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/rs/zerolog"

	"github.com/accrue/accrue/pkg/increment"
	"github.com/accrue/accrue/pkg/logging"
	"github.com/accrue/accrue/pkg/problem"
	"github.com/accrue/accrue/pkg/store"
)

// Contributors is what the API needs of the store. It is asked for each request anew, unlike the view.
type Contributors interface {
	// Standing returns a contributor with their recognitions, or store.ErrNotFound.
	Standing(ctx context.Context, contributor string) (store.Standing, error)
	// Contributors returns a page in an order: up to limit of those after one, and the time of the read.
	Contributors(ctx context.Context, order store.Order, after store.Contributor, limit int) ([]store.Contributor, time.Time, error)
	// Latest returns up to limit recognitions, the latest first, and the time of the read.
	Latest(ctx context.Context, limit int) ([]store.Recognition, time.Time, error)
}

const (
	// A page has minPageSize to maxPageSize items at most, as asked for, or else defaultPageSize.
	minPageSize, defaultPageSize, maxPageSize = 1, 100, 1000
	// readTimeout bounds one read of the store, and the wait for its turn.
	readTimeout = 3 * time.Second
	// maxReads is how many reads are under way at once: what pages can take of the memory, at some 2 MiB each, is bounded
	// by it, and what requests can cost.
	maxReads = 32

	parameterOrder, parameterPageSize, parameterPageToken = "order_by", "page_size", "page_token"
)

// contributors answers /contributors and /contributors/{id}.
type contributors struct {
	store  Contributors
	reads  chan struct{} // holds a token for each read under way
	outage *logging.Outage
}

func newContributors(s Contributors, log zerolog.Logger) *contributors {
	return &contributors{
		store: s, reads: make(chan struct{}, maxReads),
		outage: logging.NewOutage(log, zerolog.WarnLevel, "read contributors or recognitions"),
	}
}

// contributorBody is a contributor in a list.
//
//	@Description	A contributor.
type contributorBody struct {
	// The contributor's id, as it was posted.
	ID string `json:"id" validate:"required" example:"ada"`
	// How many contributions they have made.
	Contributions int64 `json:"contributions" validate:"required" example:"4" minimum:"1"`
	// The highest tier that they were recognized for, 0 for none.
	RecognizedTier int64 `json:"recognized_tier" validate:"required" example:"3" minimum:"0"`
	// When they last contributed, by the database's clock.
	UpdatedAt string `json:"updated_at" validate:"required" format:"date-time" example:"2026-11-23T08:01:41.566Z"`
} //	@name	Contributor

// recognitionBody is one tier that a contributor has reached.
//
//	@Description	A tier that a contributor was recognized for.
type recognitionBody struct {
	// The number of contributions that the recognition is for.
	Tier int64 `json:"tier" validate:"required" example:"3" minimum:"1"`
	// The number of contributions when it was made: the tier, or more.
	Contributions int64 `json:"contributions" validate:"required" example:"4" minimum:"1"`
	// When it was made, by the database's clock.
	RecognizedAt string `json:"recognized_at" validate:"required" format:"date-time" example:"2026-11-23T08:01:42.053Z"`
} //	@name	Recognition

// standing is a contributor as an answer by itself.
//
//	@Description	A contributor with their recognitions, and how old the answer is.
type standing struct {
	contributorBody
	// The tiers that they were recognized for, rising.
	Recognitions []recognitionBody `json:"recognitions" validate:"required"`
	freshness
} //	@name	Standing

// contributorPage is a page of contributors.
//
//	@Description	A page of contributors.
type contributorPage struct {
	// The contributors, in the order that was asked for.
	Contributors []contributorBody `json:"contributors" validate:"required" extensions:"x-go-maxitems=maxPageSize"`
	// The page_token of the next page, if there is one.
	NextPageToken string `json:"next_page_token,omitempty" example:"AWFkYQ"`
	freshness
} //	@name	ContributorPage

// freshness says of which time an answer is, by the store's clock, and how long ago that was, by ours.
type freshness struct {
	// When the answer was read, by the database's clock.
	AsOf string `json:"as_of" validate:"required" format:"date-time" example:"2026-11-23T08:01:44.133Z"`
	// How many milliseconds ago that was when it was answered.
	LagMS int64 `json:"lag_ms" validate:"required" example:"120" minimum:"0"`
}

func freshnessOf(asOf time.Time) freshness {
	return freshness{AsOf: formatTime(asOf), LagMS: max(0, time.Since(asOf).Milliseconds())}
}

func formatTime(t time.Time) string { return t.UTC().Format(asOfFormat) }

func bodyOf(c store.Contributor) contributorBody {
	return contributorBody{c.ID, c.Contributions, c.RecognizedTier, formatTime(c.UpdatedAt)}
}

// one answers /contributors/{id}. Ids are any text, so the path is taken as it was sent and decoded here: Gin would take
// a "+" for a space.
func (s *contributors) one(c *gin.Context) {
	if d := refuseParameters(c.Request); d != nil {
		d.Write(c.Writer)
		return
	}
	id, err := url.PathUnescape(c.Param("id"))
	if err != nil || increment.ValidateContributor(id) != nil {
		problem.New(http.StatusNotFound, "no contributor can have this id").Write(c.Writer)
		return
	}
	var found store.Standing
	err = s.read(c.Request.Context(), func(ctx context.Context) (err error) {
		found, err = s.store.Standing(ctx, id)
		return err
	})
	if err != nil {
		s.refuse(c, err)
		return
	}
	recognitions := make([]recognitionBody, len(found.Recognitions))
	for i, r := range found.Recognitions {
		recognitions[i] = recognitionBody{r.Tier, r.Contributions, formatTime(r.RecognizedAt)}
	}
	writeJSON(c.Writer, standing{bodyOf(found.Contributor), recognitions, freshnessOf(found.AsOf)})
}

// list answers /contributors: a page, and the token of the next one if there is one.
func (s *contributors) list(c *gin.Context) {
	p, d := pageOf(c.Request)
	if d != nil {
		d.Write(c.Writer)
		return
	}
	var page []store.Contributor
	var asOf time.Time
	err := s.read(c.Request.Context(), func(ctx context.Context) (err error) {
		page, asOf, err = s.store.Contributors(ctx, p.order, p.after, p.size+1) // one more, to see whether there is one
		return err
	})
	if err != nil {
		s.refuse(c, err)
		return
	}
	next := ""
	if len(page) > p.size {
		page = page[:p.size]
		next = encodeToken(p.order, page[p.size-1])
	}
	bodies := make([]contributorBody, len(page))
	for i, contributor := range page {
		bodies[i] = bodyOf(contributor)
	}
	writeJSON(c.Writer, contributorPage{bodies, next, freshnessOf(asOf)})
}

// read calls the store when it is this request's turn.
func (s *contributors) read(ctx context.Context, call func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	select {
	case s.reads <- struct{}{}:
		defer func() { <-s.reads }()
		err := call(ctx)
		if err == nil || errors.Is(err, store.ErrNotFound) {
			s.outage.Succeeded()
		}
		return err
	case <-ctx.Done():
		return fmt.Errorf("wait for %d reads under way: %w", maxReads, ctx.Err())
	}
}

// refuse answers for a read that failed.
func (s *contributors) refuse(c *gin.Context, err error) {
	if errors.Is(err, store.ErrNotFound) {
		problem.New(http.StatusNotFound, "there is no contributor with this id").Write(c.Writer)
		return
	}
	if c.Request.Context().Err() == nil { // else it is the client who has gone
		s.outage.Failed(err, func(e *zerolog.Event) { e.Ctx(c.Request.Context()).Str("path", c.FullPath()) })
	}
	problem.Unavailable("the store does not answer", time.Second).Write(c.Writer)
}

// pageRequest is what a request for a page asks for.
type pageRequest struct {
	order store.Order
	size  int
	after store.Contributor
}

// pageOf returns what a request asks for, or a problem that names every parameter at fault.
func pageOf(r *http.Request) (pageRequest, *problem.Document) {
	p := pageRequest{order: store.ByID, size: defaultPageSize}
	token := ""
	d := readParameters(r, map[string]parameter{
		parameterOrder: func(value string) string {
			p.order = store.Order(value)
			if p.order != store.ByID && p.order != store.ByContributions && p.order != store.ByContributionsDescending {
				return fmt.Sprintf("must be %s, %s or %s", store.ByID, store.ByContributions, store.ByContributionsDescending)
			}
			return ""
		},
		parameterPageSize: readPageSize(&p.size),
		parameterPageToken: func(value string) string {
			token = value
			return ""
		},
	})
	if d != nil || token == "" {
		return p, d
	}
	var err error
	if p.after, err = decodeToken(p.order, token); err != nil {
		return p, problem.New(http.StatusBadRequest, "a parameter is wrong",
			problem.Fault{Parameter: parameterPageToken, Detail: err.Error()})
	}
	return p, nil
}

// writeJSON answers 200 with a body that clients may keep and must revalidate, for which they get a new one.
func writeJSON(w http.ResponseWriter, body any) {
	encoded, err := json.Marshal(body)
	if err != nil { // strings and numbers alone: it cannot happen
		problem.New(http.StatusInternalServerError, "the answer could not be made").Write(w)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(len(encoded)))
	h.Set("Cache-Control", "no-cache")
	w.WriteHeader(http.StatusOK)
	_, _ = w.Write(encoded) // the server drops it for HEAD; on an error the client is gone: nobody to tell
}
