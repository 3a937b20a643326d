package api

import (
	"bytes"
	"encoding/json"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/accrue/accrue/pkg/content"
)

const (
	// asOfHeader holds the time that an answer is of, by the store's clock.
	asOfHeader = "X-As-Of"
	// timeFormat is RFC 3339 with milliseconds, in UTC.
	timeFormat = "2006-01-02T15:04:05.000Z"
)

func formatTime(t time.Time) string { return t.UTC().Format(timeFormat) }

// freshness is how old an answer is. It ends every body that is not a bare map.
type freshness struct {
	// When the answer was read, by the database's clock.
	AsOf string `json:"as_of" validate:"required" format:"date-time" example:"2026-11-23T08:01:44.133Z"`
	// How many milliseconds ago that was when it was answered.
	LagMS int64 `json:"lag_ms" validate:"required" example:"120" minimum:"0"`
}

func freshnessOf(asOf time.Time) freshness {
	return freshness{AsOf: formatTime(asOf), LagMS: max(0, time.Since(asOf).Milliseconds())}
}

// answerJSON answers with a body that ends with its freshness. The entity tag is of what comes before, and weak: the same
// content has the same tag, however old it is.
func answerJSON(c *gin.Context, asOf time.Time, body any) {
	encoded, err := json.Marshal(body)
	if err != nil {
		panic(err) // strings and numbers: no error
	}
	fresh := max(0, bytes.LastIndex(encoded, []byte(`,"as_of":"`)))
	answer(c, asOf, content.New(encoded, "W/"+content.Tag(encoded[:fresh])))
}

// answer answers with a JSON body of a time.
func answer(c *gin.Context, asOf time.Time, body *content.Body) {
	h := c.Writer.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-cache") // keep it, and revalidate it each time
	h.Set(asOfHeader, formatTime(asOf))
	body.Serve(c.Writer, c.Request)
}
