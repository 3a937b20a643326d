package api

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strconv"
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
	// Changes returns what the total of a tag changed in each period from one time to another.
	Changes(ctx context.Context, v *view.View, tag string, r checkpoint.Resolution, from, to time.Time) ([]int64, error)
}

// settled is how long after its end a period may still change: a Commit has its time from when it was begun.
const settled = 15 * time.Second

// resolutions are the values of the parameter resolution, and what is answered of each without the parameter from.
func resolutions() map[string]struct {
	resolution checkpoint.Resolution
	usual      time.Duration
} {
	return map[string]struct {
		resolution checkpoint.Resolution
		usual      time.Duration
	}{
		"minute": {checkpoint.Minute, time.Hour},
		"hour":   {checkpoint.Hour, 24 * time.Hour},
	}
}

// history answers /tags/{name}/history.
type history struct {
	tags    *tags
	changes History
	outage  *logging.Outage
}

// historyRequest is what a request asks for: periods from one time to another, which are beginnings of periods.
type historyRequest struct {
	name       string // of the resolution
	resolution checkpoint.Resolution
	from, to   time.Time
}

func (h *history) answer(c *gin.Context) {
	v := h.tags.latest(c)
	if v == nil {
		return
	}
	request, d := historyOf(c.Request, v.AsOf())
	if d != nil {
		d.Write(c.Writer)
		return
	}
	name, err := url.PathUnescape(c.Param("name"))
	if _, found := search(v.Tags(), name); err != nil || !found {
		problem.New(http.StatusNotFound, "there is no tag of this name").Write(c.Writer)
		return
	}
	ctx, cancel := context.WithTimeout(c.Request.Context(), readTimeout)
	defer cancel()
	changes, err := h.changes.Changes(ctx, v, name, request.resolution, request.from, request.to)
	if err != nil {
		if c.Request.Context().Err() == nil {
			h.outage.Failed(err, func(e *zerolog.Event) { e.Ctx(c.Request.Context()) })
		}
		problem.Unavailable("the store does not answer", time.Second).Write(c.Writer)
		return
	}
	h.outage.Succeeded()
	body := append(make([]byte, 0, 256+4*len(changes)), `{"name":"`...)
	body = append(body, name...)
	body = append(body, `","resolution":"`...)
	body = append(body, request.name...)
	body = append(body, `","from":"`...)
	body = request.from.AppendFormat(body, time.RFC3339)
	body = append(body, `","to":"`...)
	body = request.to.AppendFormat(body, time.RFC3339)
	body = append(body, `","complete_to":"`...)
	body = request.resolution.Begin(v.AsOf().Add(-settled)).AppendFormat(body, time.RFC3339)
	body = append(body, `","changes":[`...)
	for i, change := range changes {
		if i > 0 {
			body = append(body, ',')
		}
		body = strconv.AppendInt(body, change, 10)
	}
	h.tags.answer(c, append(body, ']'), v.AsOf())
}

// historyOf returns what a request asks for, or a problem that names every parameter at fault. A beginning that is older
// than what is kept, and an end after the open period, are moved to where there is something to say.
func historyOf(r *http.Request, asOf time.Time) (historyRequest, *problem.Document) {
	chosen := resolutions()["minute"]
	request := historyRequest{name: "minute"}
	readTime := func(t *time.Time) parameter {
		return func(value string) string {
			parsed, err := time.Parse(time.RFC3339, value)
			if err != nil {
				return "must be a time as in RFC 3339: 2026-11-23T08:00:00Z"
			}
			*t = parsed.UTC()
			return ""
		}
	}
	d := readParameters(r, map[string]parameter{
		"resolution": func(value string) string {
			known, ok := resolutions()[value]
			if !ok {
				return "must be minute or hour"
			}
			chosen, request.name = known, value
			return ""
		},
		"from": readTime(&request.from),
		"to":   readTime(&request.to),
	})
	if d != nil {
		return request, d
	}
	request.resolution = chosen.resolution
	period := time.Duration(chosen.resolution)
	latest := chosen.resolution.Begin(asOf).Add(period)
	if request.to.IsZero() {
		request.to = latest
	}
	if request.from.IsZero() {
		request.from = request.to.Add(-chosen.usual)
	}
	if !request.from.Before(request.to) {
		return request, problem.New(http.StatusBadRequest, "a parameter is wrong",
			problem.Fault{Parameter: "from", Detail: errOrder.Error()})
	}
	request.from = chosen.resolution.Begin(request.from)
	if end := chosen.resolution.Begin(request.to); end.Before(request.to) {
		request.to = end.Add(period)
	}
	if request.to.After(latest) {
		request.to = latest
	}
	if oldest := latest.Add(-store.Retention(chosen.resolution)); request.from.Before(oldest) {
		request.from = oldest
	}
	if request.to.Before(request.from) { // all of it is too old, or yet to come
		request.to = request.from
	}
	return request, nil
}

var errOrder = errors.New("must be before to")
