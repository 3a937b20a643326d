package api

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/accrue/accrue/pkg/increment"
	"github.com/accrue/accrue/pkg/problem"
	"github.com/accrue/accrue/pkg/store"
)

// Contributors is what the API needs of the store.
type Contributors interface {
	// Standing returns a contributor with their recognitions, or store.ErrNotFound.
	Standing(ctx context.Context, contributor string) (store.Standing, error)
	// Contributors returns a page in an order: up to limit of those after one, and the time of the read.
	Contributors(ctx context.Context, order store.Order, after store.Contributor, limit int) ([]store.Contributor, time.Time, error)
	// ContributorsWith returns a page, by id, of those whose ids begin with a prefix, and the time of the read.
	ContributorsWith(ctx context.Context, prefix string, after store.Contributor, limit int) ([]store.Contributor, time.Time, error)
	// Recognitions returns a page, the latest first, of those of a filter, and the time of the read.
	Recognitions(ctx context.Context, filter store.RecognitionFilter, after store.Recognition, limit int) ([]store.Recognition, time.Time, error)
}

// contributors answers /contributors, /contributors/{id} and /recognitions, from the store.
type contributors struct {
	store Contributors
	reads *reads
	tiers []int64 // rising
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
	// The next tier that they can be recognized for, if there is one.
	NextTier int64 `json:"next_tier,omitempty" example:"10" minimum:"1"`
	// The tiers that they were recognized for, rising.
	Recognitions []recognitionBody `json:"recognitions" validate:"required"`
	freshness
} //	@name	Standing

// contributorPage is a page of contributors.
//
//	@Description	A page of contributors.
type contributorPage struct {
	// The contributors, in the requested order.
	Contributors []contributorBody `json:"contributors" validate:"required" extensions:"x-go-maxitems=maxPageSize"`
	// The page_token of the next page, if there is one.
	NextPageToken string `json:"next_page_token,omitempty" example:"eyJsIjoiY29udHJpYnV0b3JzIGlkIiwiaSI6ImFkYSJ9"`
	freshness
} //	@name	ContributorPage

func contributorOf(c store.Contributor) contributorBody {
	return contributorBody{c.ID, c.Contributions, c.RecognizedTier, formatTime(c.UpdatedAt)}
}

func recognitionOf(r store.Recognition) recognitionBody {
	return recognitionBody{r.Tier, r.Contributions, formatTime(r.RecognizedAt)}
}

// get answers /contributors/{id}. Ids are any text, so the path is unescaped here: Gin would take a "+" for a space.
func (s *contributors) get(c *gin.Context) {
	if d := readParameters(c.Request, nil); d != nil {
		d.Write(c.Writer)
		return
	}
	id, err := url.PathUnescape(c.Param("id"))
	if err != nil || increment.ValidateContributor(id) != nil {
		problem.New(http.StatusNotFound, "no contributor can have this id").Write(c.Writer)
		return
	}
	found, err := s.find(c.Request.Context(), id)
	if err != nil {
		s.reads.refuse(c, err)
		return
	}
	body := standing{
		contributorBody: contributorOf(found.Contributor), NextTier: s.next(found.RecognizedTier),
		Recognitions: make([]recognitionBody, len(found.Recognitions)), freshness: freshnessOf(found.AsOf),
	}
	for i, r := range found.Recognitions {
		body.Recognitions[i] = recognitionOf(r)
	}
	answerJSON(c, found.AsOf, body)
}

// next returns the tier after one, or 0 after the last.
func (s *contributors) next(tier int64) int64 {
	for _, next := range s.tiers {
		if next > tier {
			return next
		}
	}
	return 0
}

// list answers /contributors: a page, and the token of the next one if there is one.
func (s *contributors) list(c *gin.Context) {
	media, ok := negotiate(c)
	if !ok {
		return
	}
	order, prefix, size, token := string(store.ByID), "", pageSize, ""
	d := readParameters(c.Request, map[string]parameter{
		parameterPrefix:   readContributor(&prefix),
		parameterOrder:    readChoice(&order, string(store.ByID), string(store.ByContributions), string(store.ByContributionsDescending)),
		parameterPageSize: readPageSize(&size, maxPageSize), parameterPageToken: readText(&token),
	})
	if d == nil && prefix != "" && order != string(store.ByID) {
		d = wrongParameter(problem.Fault{Parameter: parameterPrefix, Detail: "needs the order by id"})
	}
	if d != nil {
		d.Write(c.Writer)
		return
	}
	listed := "contributors " + order + " " + prefix
	var after store.Contributor
	position, d := readCursor(listed, token)
	if d != nil {
		d.Write(c.Writer)
		return
	}
	if position != nil {
		after.ID, after.Contributions = position.ID, position.Value
		if increment.ValidateContributor(after.ID) != nil { // not a token of this API: the store may refuse such an id
			wrongParameter(problem.Fault{Parameter: parameterPageToken, Detail: "is invalid"}).Write(c.Writer)
			return
		}
	}
	type result struct {
		page []store.Contributor
		asOf time.Time
	}
	key := fmt.Sprintf("contributors %s %q %d %d %s", order, prefix, size, after.Contributions, after.ID)
	found, err := do(c.Request.Context(), s.reads, key, func(ctx context.Context) (r result, documents int, err error) {
		if prefix != "" {
			r.page, r.asOf, err = s.store.ContributorsWith(ctx, prefix, after, size+1) // one more: is there a next page?
		} else {
			r.page, r.asOf, err = s.store.Contributors(ctx, store.Order(order), after, size+1)
		}
		return r, len(r.page), err
	})
	if err != nil {
		s.reads.refuse(c, err)
		return
	}
	body := contributorPage{freshness: freshnessOf(found.asOf)}
	if len(found.page) > size {
		found.page = found.page[:size]
		last := cursor{List: listed, ID: found.page[size-1].ID}
		if order != string(store.ByID) {
			last.Value = found.page[size-1].Contributions
		}
		body.NextPageToken = last.token()
	}
	body.Contributors = make([]contributorBody, len(found.page))
	for i, contributor := range found.page {
		body.Contributors[i] = contributorOf(contributor)
	}
	if media != jsonType {
		answerList(c, found.asOf, media, list{[]string{"id", "contributions", "recognized_tier", "updated_at"}, rowsOf(body.Contributors)}, body.NextPageToken)
		return
	}
	answerJSON(c, found.asOf, body)
}
