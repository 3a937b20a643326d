package api

import (
	"context"
	"net/http"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/rs/zerolog"

	"github.com/accrue/accrue/pkg/checkpoint"
	"github.com/accrue/accrue/pkg/logging"
	"github.com/accrue/accrue/pkg/problem"
	"github.com/accrue/accrue/pkg/store"
	"github.com/accrue/accrue/query/internal/view"
)

// History is what the API needs to know of the past.
type History interface {
	// Changes returns how much the total of a tag changed in each period from one time to another.
	Changes(ctx context.Context, v *view.View, tag string, r checkpoint.Resolution, from, to time.Time) ([]int64, error)
}

// settled is how long after its end a period may still change: a Commit has the time at which it was begun.
const settled = 15 * time.Second

// history answers /tags/{name}/history.
type history struct {
	views   Views
	changes History
	outage  *logging.Outage
}

// TagHistory is what a tag was counted up, period by period.
//
//	@Description	What a tag was counted up, period by period.
type TagHistory struct {
	// The tag's name.
	Name string `json:"name" validate:"required" example:"foo"`
	// The length of a period.
	Resolution string `json:"resolution" validate:"required" enums:"minute,hour"`
	// When the first period begins.
	From string `json:"from" validate:"required" format:"date-time" example:"2026-11-23T06:00:00Z"`
	// When the last period ends.
	To string `json:"to" validate:"required" format:"date-time" example:"2026-11-23T09:00:00Z"`
	// What is before this time does not change any more.
	CompleteTo string `json:"complete_to" validate:"required" format:"date-time" example:"2026-11-23T08:00:00Z"`
	// What the total changed in each period, in order.
	Changes []int64 `json:"changes" validate:"required"`
	freshness
} //	@name	TagHistory

func (h *history) get(c *gin.Context) {
	v, tag, ok := find(c, h.views)
	if !ok {
		return
	}
	request, d := historyOf(c.Request, v.AsOf())
	if d != nil {
		d.Write(c.Writer)
		return
	}
	// A client that half-closes its connection ends the request's context, and still waits for the answer.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(c.Request.Context()), readTimeout)
	defer cancel()
	changes, err := h.changes.Changes(ctx, v, tag.Name, request.resolution, request.from, request.to)
	if err != nil {
		h.outage.Failed(err, func(e *zerolog.Event) { e.Ctx(c.Request.Context()) })
		problem.Unavailable("the store does not answer", time.Second).Write(c.Writer)
		return
	}
	h.outage.Succeeded()
	answerJSON(c, v.AsOf(), TagHistory{
		Name: tag.Name, Resolution: request.name, From: request.from.Format(time.RFC3339), To: request.to.Format(time.RFC3339),
		CompleteTo: request.resolution.Begin(v.AsOf().Add(-settled)).Format(time.RFC3339), Changes: changes, freshness: freshnessOf(v.AsOf()),
	})
}

// historyRequest asks for the periods from one time to another, both of which are beginnings of periods.
type historyRequest struct {
	name       string // of the resolution
	resolution checkpoint.Resolution
	from, to   time.Time
}

// historyOf returns what a request asks for, or a problem that names every wrong parameter. Times before the oldest period
// that is kept, and after the open one, are moved there.
func historyOf(r *http.Request, asOf time.Time) (historyRequest, *problem.Document) {
	request := historyRequest{name: "minute", resolution: checkpoint.Minute}
	var from, to *time.Time
	d := readParameters(r, map[string]parameter{
		"resolution": readChoice(&request.name, "minute", "hour"), "from": readTime(&from), "to": readTime(&to),
	})
	if d == nil && from != nil && to != nil && !from.Before(*to) {
		d = wrongParameter(problem.Fault{Parameter: "from", Detail: "must be before to"})
	}
	if d != nil {
		return request, d
	}
	usual := time.Hour
	if request.name == "hour" {
		request.resolution, usual = checkpoint.Hour, 24*time.Hour
	}
	period := time.Duration(request.resolution)
	latest := request.resolution.Begin(asOf).Add(period)
	oldest := latest.Add(-store.Retention(request.resolution))
	clamp := func(t time.Time) time.Time {
		if t.Before(oldest) {
			return oldest
		}
		if t.After(latest) {
			return latest
		}
		return t
	}
	if to == nil {
		to = &latest
	}
	end := clamp(*to)
	begin := end.Add(-usual)
	if from != nil {
		begin = *from
	}
	request.from = request.resolution.Begin(clamp(begin))
	if request.to = request.resolution.Begin(end); request.to.Before(end) {
		request.to = request.to.Add(period)
	}
	return request, nil
}
