package api

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"time"
	_ "time/tzdata" // not every system has the time zones

	"github.com/gin-gonic/gin"
	"github.com/rs/zerolog"

	"github.com/accrue/accrue/pkg/checkpoint"
	"github.com/accrue/accrue/pkg/logging"
	"github.com/accrue/accrue/pkg/problem"
	"github.com/accrue/accrue/pkg/store"
	"github.com/accrue/accrue/query/internal/history"
	"github.com/accrue/accrue/query/internal/view"
)

// History is what the API needs to know of the past.
type History interface {
	// Changes returns how much the total of each tag changed in each period from one time to another. The names are sorted.
	Changes(ctx context.Context, v *view.View, names []string, r checkpoint.Resolution, from, to time.Time) ([][]int64, error)
	// Sum returns how much the totals of all tags that have a prefix changed together.
	Sum(ctx context.Context, v *view.View, prefix string, r checkpoint.Resolution, from, to time.Time) ([]int64, error)
	// Gained returns how much the total of each tag of the view, in their order, changed from one time to another.
	Gained(ctx context.Context, v *view.View, r checkpoint.Resolution, from, to time.Time) ([]int64, error)
}

const (
	// settled is how long after its end a period may still change: a Commit has the time at which it was begun.
	settled                          = 15 * time.Second
	resolutionMinute, resolutionHour = "minute", "hour"
	resolutionDay                    = "day"
)

// pasts answers /history and /tags/{name}/history.
type pasts struct {
	views   Views
	changes History
	outage  *logging.Outage
}

// periods say which periods an answer is of.
type periods struct {
	// The length of a period.
	Resolution string `json:"resolution" validate:"required" enums:"minute,hour,day"`
	// The time zone that days are of.
	TimeZone string `json:"time_zone" validate:"required" example:"UTC"`
	// When the first period begins.
	From string `json:"from" validate:"required" format:"date-time" example:"2026-11-23T06:00:00Z"`
	// When the last period ends.
	To string `json:"to" validate:"required" format:"date-time" example:"2026-11-23T09:00:00Z"`
	// What is before this time does not change any more.
	CompleteTo string `json:"complete_to" validate:"required" format:"date-time" example:"2026-11-23T08:00:00Z"`
	// When each day begins: not all are of the same length. Only with the resolution day.
	Starts []string `json:"starts,omitempty" format:"date-time"`
}

// TagHistory is what a tag was counted up, period by period.
//
//	@Description	What a tag was counted up, period by period.
type TagHistory struct {
	// The tag's name.
	Name string `json:"name" validate:"required" example:"foo"`
	periods
	// What the total changed in each period, in order.
	Changes []int64 `json:"changes" validate:"required"`
	// The total with which the changes agree. What a later total has more was counted since.
	Total int64 `json:"total" validate:"required" example:"13" minimum:"1"`
	freshness
} //	@name	TagHistory

// TagChanges is one tag of a history of several.
//
//	@Description	What one of several tags was counted up.
type TagChanges struct {
	// The tag's name.
	Name string `json:"name" validate:"required" example:"foo"`
	// What the total changed in each period, in order.
	Changes []int64 `json:"changes" validate:"required"`
} //	@name	TagChanges

// SumHistory is what several tags were counted up together, period by period.
//
//	@Description	What tags were counted up together, period by period.
type SumHistory struct {
	periods
	// What the totals changed together in each period, in order.
	Changes []int64 `json:"changes" validate:"required"`
	// The sum of the totals, with which the changes agree.
	Total int64 `json:"total" validate:"required" example:"89" minimum:"0"`
	// How many increments the tags have had together.
	Increments int64 `json:"increments" validate:"required" example:"22" minimum:"0"`
	// The tags of the parameter names, sorted, each by itself. A tag that was never counted has zeros.
	Tags []TagChanges `json:"tags,omitempty" extensions:"x-go-maxitems=maxNames"`
	freshness
} //	@name	SumHistory

// tag answers /tags/{name}/history.
func (h *pasts) tag(c *gin.Context) {
	media, ok := negotiate(c)
	if !ok {
		return
	}
	v, tag, ok := find(c, h.views)
	if !ok {
		return
	}
	request, d := historyOf(c.Request, v.AsOf(), nil)
	if d != nil {
		d.Write(c.Writer)
		return
	}
	changes, ok := readPast(h, c, func(ctx context.Context) ([][]int64, error) {
		return h.changes.Changes(ctx, v, []string{tag.Name}, request.resolution, request.from, request.to)
	})
	if !ok {
		return
	}
	perPeriod := request.perPeriod(changes[0])
	if media != jsonType {
		answerList(c, v.AsOf(), media, request.changesOf(nil, []TagChanges{{tag.Name, perPeriod}}), "")
		return
	}
	answerJSON(c, v.AsOf(), TagHistory{tag.Name, request.periods(v.AsOf()), perPeriod, tag.Total, freshnessOf(v.AsOf())})
}

// all answers /history.
func (h *pasts) all(c *gin.Context) {
	media, ok := negotiate(c)
	if !ok {
		return
	}
	v := latest(c, h.views)
	if v == nil {
		return
	}
	var tags choice
	request, d := historyOf(c.Request, v.AsOf(), &tags)
	if d != nil {
		d.Write(c.Writer)
		return
	}
	changes, ok := readPast(h, c, func(ctx context.Context) ([][]int64, error) {
		if tags.names != nil {
			return h.changes.Changes(ctx, v, tags.names, request.resolution, request.from, request.to)
		}
		sum, err := h.changes.Sum(ctx, v, tags.prefix, request.resolution, request.from, request.to)
		return [][]int64{sum}, err
	})
	if !ok {
		return
	}
	body := SumHistory{periods: request.periods(v.AsOf()), freshness: freshnessOf(v.AsOf())}
	for i, name := range tags.names {
		of := TagChanges{name, request.perPeriod(changes[i])}
		body.Tags = append(body.Tags, of)
		if i == 0 {
			body.Changes = slices.Clone(of.Changes)
			continue
		}
		for at, change := range of.Changes {
			body.Changes[at] += change
		}
	}
	if tags.names == nil {
		body.Changes = request.perPeriod(changes[0])
	}
	if media != jsonType {
		answerList(c, v.AsOf(), media, request.changesOf(body.Changes, body.Tags), "")
		return
	}
	for _, tag := range tags.of(v.Tags()) {
		body.Total += tag.Total
		body.Increments += tag.Increments
	}
	answerJSON(c, v.AsOf(), body)
}

// readPast returns the result of a call, or answers with a problem and returns false.
func readPast[T any](h *pasts, c *gin.Context, call func(context.Context) (T, error)) (T, bool) {
	// A client that half-closes its connection ends the request's context, and still waits for the answer.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(c.Request.Context()), readTimeout)
	defer cancel()
	found, err := call(ctx)
	switch {
	case err == nil:
		h.outage.Succeeded()
		return found, true
	case errors.Is(err, history.ErrBudget):
		overBudget(c)
	default:
		h.outage.Failed(err, func(e *zerolog.Event) { e.Ctx(c.Request.Context()) })
		problem.Unavailable("the store does not answer", time.Second).Write(c.Writer)
	}
	return found, false
}

// historyRequest asks for the periods from one time to another, both of which are beginnings of periods.
type historyRequest struct {
	name       string // of the resolution
	zone       *time.Location
	resolution checkpoint.Resolution // of what is read
	from, to   time.Time
	days       []time.Time // the beginnings of the days, for the resolution day
}

// historyOf returns what a request asks for, or a problem that names every wrong parameter. It reads which tags into tags,
// if that is not nil. Times before the oldest period that is kept, and after the open one, are moved there.
func historyOf(r *http.Request, asOf time.Time, tags *choice) (historyRequest, *problem.Document) {
	request := historyRequest{name: resolutionMinute, zone: time.UTC, resolution: checkpoint.Minute}
	var from, to *time.Time
	known := map[string]parameter{
		"resolution": readChoice(&request.name, resolutionMinute, resolutionHour, resolutionDay), "from": readTime(&from), "to": readTime(&to),
		"time_zone": readZone(&request.zone),
	}
	if tags != nil {
		tags.parameters(known)
	}
	d := readParameters(r, known)
	if d == nil && from != nil && to != nil && !from.Before(*to) {
		d = wrongParameter(problem.Fault{Parameter: "from", Detail: "must be before to"})
	}
	if d == nil && tags != nil {
		d = tags.fault()
	}
	if d != nil {
		return request, d
	}
	usual := time.Hour
	switch request.name {
	case resolutionHour:
		request.resolution, usual = checkpoint.Hour, 24*time.Hour
	case resolutionDay:
		request.resolution, usual = checkpoint.Hour, store.Retention(checkpoint.Hour)
	}
	period := time.Duration(request.resolution)
	latest := request.resolution.Begin(asOf).Add(period)
	oldest := latest.Add(-store.Retention(request.resolution))
	if request.name == resolutionDay {
		latest = beginOfDay(dayAt(asOf, request.zone)+1, request.zone)
	}
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
	if request.name == resolutionDay {
		request.days, request.to = daysBetween(clamp(begin), end, oldest, request.zone)
		if request.from = request.to; len(request.days) > 0 {
			request.from = request.days[0]
		}
		return request, nil
	}
	request.from = request.resolution.Begin(clamp(begin))
	if request.to = request.resolution.Begin(end); request.to.Before(end) {
		request.to = request.to.Add(period)
	}
	return request, nil
}

// periods describes the periods of an answer.
func (r *historyRequest) periods(asOf time.Time) periods {
	complete := r.resolution.Begin(asOf.Add(-settled))
	if r.name == resolutionDay {
		complete = beginOfDay(dayAt(complete, r.zone), r.zone)
	}
	p := periods{
		Resolution: r.name, TimeZone: r.zone.String(), From: r.from.Format(time.RFC3339), To: r.to.Format(time.RFC3339),
		CompleteTo: complete.Format(time.RFC3339),
	}
	for _, begin := range r.days {
		p.Starts = append(p.Starts, begin.Format(time.RFC3339))
	}
	return p
}

// perPeriod returns the changes of the requested periods, from those of the periods that were read.
func (r *historyRequest) perPeriod(changes []int64) []int64 {
	if r.name != resolutionDay {
		return changes
	}
	days := make([]int64, len(r.days))
	day := 0
	for i, change := range changes {
		begin := r.from.Add(time.Duration(i) * time.Duration(r.resolution))
		for day+1 < len(r.days) && !begin.Before(r.days[day+1]) {
			day++
		}
		days[day] += change
	}
	return days
}
