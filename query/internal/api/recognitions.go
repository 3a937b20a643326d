package api

import (
	"context"
	"fmt"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/accrue/accrue/pkg/store"
)

// An answer has defaultLatest recognitions unless the request asks for another number; more than maxLatest are cut to that.
const defaultLatest, maxLatest = 20, 100

// latestBody is a recognition in the list of the latest.
//
//	@Description	A contributor's recognition.
type latestBody struct {
	// The contributor's id, as it was posted.
	Contributor string `json:"contributor" validate:"required" example:"ada"`
	recognitionBody
} //	@name	LatestRecognition

// latestRecognitions is the answer.
//
//	@Description	The latest recognitions.
type latestRecognitions struct {
	// The recognitions, the latest first.
	Recognitions []latestBody `json:"recognitions" validate:"required" extensions:"x-go-maxitems=maxLatest"`
	freshness
} //	@name	LatestRecognitions

// recognitions answers /recognitions: the latest, in one page. To receive all of them, subscribe to the topic.
func (s *contributors) recognitions(c *gin.Context) {
	size := defaultLatest
	if d := readParameters(c.Request, map[string]parameter{parameterPageSize: readPageSize(&size, maxLatest)}); d != nil {
		d.Write(c.Writer)
		return
	}
	type result struct {
		latest []store.Recognition
		asOf   time.Time
	}
	found, err := do(c.Request.Context(), s.reads, fmt.Sprint("recognitions ", size), func(ctx context.Context) (result, int, error) {
		latest, asOf, err := s.store.Latest(ctx, size)
		return result{latest, asOf}, len(latest), err
	})
	if err != nil {
		s.reads.refuse(c, err)
		return
	}
	body := latestRecognitions{make([]latestBody, len(found.latest)), freshnessOf(found.asOf)}
	for i, r := range found.latest {
		body.Recognitions[i] = latestBody{r.Contributor, recognitionOf(r)}
	}
	answerJSON(c, found.asOf, body)
}
