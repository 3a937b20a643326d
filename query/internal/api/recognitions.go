package api

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/accrue/accrue/pkg/increment"
	"github.com/accrue/accrue/pkg/problem"
	"github.com/accrue/accrue/pkg/store"
)

// A page has defaultRecognitions recognitions unless the request asks for another number; more than maxRecognitions are cut to that.
const defaultRecognitions, maxRecognitions = 20, 100

// contributorRecognition is a recognition in a list.
//
//	@Description	A contributor's recognition.
type contributorRecognition struct {
	// The contributor's id, as it was posted.
	Contributor string `json:"contributor" validate:"required" example:"ada"`
	recognitionBody
} //	@name	ContributorRecognition

// recognitionPage is a page of recognitions.
//
//	@Description	A page of recognitions.
type recognitionPage struct {
	// The recognitions, the latest first.
	Recognitions []contributorRecognition `json:"recognitions" validate:"required" extensions:"x-go-maxitems=maxRecognitions"`
	// The page_token of the next page, if there is one.
	NextPageToken string `json:"next_page_token,omitempty" example:"eyJsIjoicmVjb2duaXRpb25zIiwidiI6MTc5NTQyMDkwMjA1MzAwMCwiaSI6IjM6YWRhIn0"`
	freshness
} //	@name	RecognitionPage

// recognitionsRequest asks for a page of recognitions.
type recognitionsRequest struct {
	filter store.RecognitionFilter
	after  store.Recognition
	size   int
	// list names the list for page tokens.
	list string
}

// read reads the parameters of a request, or returns a problem.
func (r *recognitionsRequest) read(c *gin.Context) *problem.Document {
	r.size = defaultRecognitions
	var since *time.Time
	var token string
	d := readParameters(c.Request, map[string]parameter{
		"tier": readTier(&r.filter.Tier), "since": readTime(&since), "contributor": readContributor(&r.filter.Contributor),
		parameterPageSize: readPageSize(&r.size, maxRecognitions), parameterPageToken: readText(&token),
	})
	if d != nil {
		return d
	}
	r.list = "recognitions"
	if r.filter.Tier != 0 {
		r.list += fmt.Sprint(" tier ", r.filter.Tier)
	}
	if since != nil {
		if r.filter.Since = since.Truncate(time.Microsecond); since.Before(time.Unix(0, 0)) { // the store may refuse such a time
			r.filter.Since = time.Unix(0, 0)
		}
		r.list += " since " + since.Format(time.RFC3339Nano)
	}
	if r.filter.Contributor != "" {
		r.list += " of " + r.filter.Contributor
	}
	position, d := readCursor(r.list, token)
	if position == nil {
		return d
	}
	tier, contributor, _ := strings.Cut(position.ID, ":")
	n, err := strconv.ParseInt(tier, 10, 64)
	at := time.UnixMicro(position.Value)
	if err != nil || n < 1 || increment.ValidateContributor(contributor) != nil || at.Year() < 1 || at.Year() > 9999 { // not a token of this API
		return wrongParameter(problem.Fault{Parameter: parameterPageToken, Detail: "is invalid"})
	}
	r.after = store.Recognition{Contributor: contributor, Tier: n, RecognizedAt: at}
	return nil
}

// recognitions answers /recognitions: a page, the latest first, and the token of the next one if there is one.
func (s *contributors) recognitions(c *gin.Context) {
	media, ok := negotiate(c)
	if !ok {
		return
	}
	var request recognitionsRequest
	if d := request.read(c); d != nil {
		d.Write(c.Writer)
		return
	}
	type result struct {
		page []store.Recognition
		asOf time.Time
	}
	key := fmt.Sprintf("%s %d %d %d %q", request.list, request.size, request.after.RecognizedAt.UnixMicro(), request.after.Tier, request.after.Contributor)
	found, err := do(c.Request.Context(), s.reads, key, func(ctx context.Context) (result, int, error) {
		page, asOf, err := s.store.Recognitions(ctx, request.filter, request.after, request.size+1) // one more: is there a next page?
		documents := len(page)
		if request.filter.Contributor != "" { // all of theirs are read: one for each tier
			documents = max(documents, len(s.tiers))
		}
		return result{page, asOf}, documents, err
	})
	if err != nil {
		s.reads.refuse(c, err)
		return
	}
	body := recognitionPage{freshness: freshnessOf(found.asOf)}
	if len(found.page) > request.size {
		found.page = found.page[:request.size]
		last := found.page[request.size-1]
		body.NextPageToken = cursor{
			List: request.list, Value: last.RecognizedAt.UnixMicro(), ID: fmt.Sprint(last.Tier, ":", last.Contributor),
		}.token()
	}
	body.Recognitions = make([]contributorRecognition, len(found.page))
	for i, r := range found.page {
		body.Recognitions[i] = contributorRecognition{r.Contributor, recognitionOf(r)}
	}
	if media != jsonType {
		answerList(c, found.asOf, media, list{[]string{"contributor", "tier", "contributions", "recognized_at"}, rowsOf(body.Recognitions)}, body.NextPageToken)
		return
	}
	answerJSON(c, found.asOf, body)
}
