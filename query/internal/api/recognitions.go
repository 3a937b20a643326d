package api

import (
	"context"
	"fmt"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/accrue/accrue/pkg/store"
)

const (
	// defaultLatest and maxLatest bound how many of the latest recognitions an answer has.
	defaultLatest, maxLatest = 20, 100
	// latestFor is how long all requests share one read of the latest recognitions: everybody who looks asks for the same
	// ones, time and again, and each is billed.
	latestFor = time.Second
)

// recognitions answers /recognitions: the latest, in one page. Who wants all of them subscribes to the topic.
type recognitions struct {
	store *contributors // reads take turns with those of contributors

	last atomic.Pointer[latestRead]
}

// latestRead is one read of the latest recognitions. It does not change.
type latestRead struct {
	began time.Time // by our clock
	size  int       // how many were asked for
	all   []store.Recognition
	asOf  time.Time
}

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

func (s *recognitions) list(c *gin.Context) {
	size := defaultLatest
	if d := readParameters(c.Request, map[string]parameter{
		parameterPageSize: func(value string) string {
			n, err := strconv.Atoi(value)
			if err != nil || n < 1 || n > maxLatest {
				return fmt.Sprintf("must be an integer from 1 to %d", maxLatest)
			}
			size = n
			return ""
		},
	}); d != nil {
		d.Write(c.Writer)
		return
	}
	latest, asOf, err := s.latest(c.Request.Context(), size)
	if err != nil {
		s.store.refuse(c, err)
		return
	}
	bodies := make([]latestBody, len(latest))
	for i, r := range latest {
		bodies[i] = latestBody{r.Contributor, recognitionBody{r.Tier, r.Contributions, formatTime(r.RecognizedAt)}}
	}
	writeJSON(c.Writer, latestRecognitions{bodies, freshnessOf(asOf)})
}

// latest returns up to size recognitions, and the time that they are of: from the last read, if that was less than
// latestFor ago and asked for as many.
func (s *recognitions) latest(ctx context.Context, size int) ([]store.Recognition, time.Time, error) {
	if last := s.last.Load(); last != nil && last.size >= size && time.Since(last.began) < latestFor {
		return last.all[:min(size, len(last.all))], last.asOf, nil
	}
	read := &latestRead{began: time.Now(), size: size}
	err := s.store.read(ctx, func(ctx context.Context) (err error) {
		read.all, read.asOf, err = s.store.store.Latest(ctx, size)
		return err
	})
	if err != nil {
		return nil, time.Time{}, err
	}
	s.last.Store(read)
	return read.all, read.asOf, nil
}
