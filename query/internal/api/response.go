package api

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/cespare/xxhash/v2"
	"github.com/gin-gonic/gin"
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

// responses answers requests: with an entity tag, 304 when it still holds, and compressed when the client accepts that.
type responses struct{ compressor compressor }

// json answers with a body that ends with its freshness. The entity tag is of what comes before, and weak: the same
// content has the same tag, however old it is.
func (s *responses) json(c *gin.Context, asOf time.Time, body any) {
	encoded, err := json.Marshal(body)
	if err != nil {
		panic(err) // strings and numbers: no error
	}
	content := encoded[:max(0, bytes.LastIndex(encoded, []byte(`,"as_of":"`)))]
	s.serve(c, encoded, fmt.Sprintf(`W/"%016x"`, xxhash.Sum64(content)), asOf, func() []byte { return s.compressor.compress(encoded) })
}

// serve answers a conditional request with a JSON body or, if the client accepts gzip, its compressed form.
func (s *responses) serve(c *gin.Context, body []byte, etag string, asOf time.Time, compressed func() []byte) {
	h := c.Writer.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-cache") // keep it, and revalidate it each time
	h.Set(asOfHeader, formatTime(asOf))
	h.Set("ETag", etag)
	h.Add("Vary", "Accept-Encoding")
	if lines := c.Request.Header["If-None-Match"]; len(lines) > 1 { // ServeContent reads the first line
		c.Request.Header.Set("If-None-Match", strings.Join(lines, ","))
	}
	content := io.ReadSeeker(bytes.NewReader(body))
	if len(body) >= minCompressed && acceptsGzip(c.Request.Header.Values("Accept-Encoding")) {
		h.Set("Content-Encoding", "gzip")
		if etag[0] != 'W' {
			h.Set("ETag", "W/"+etag) // a strong one identifies the bytes of one encoding
		}
		content = &lazyReader{content: func() []byte {
			b := compressed()
			h.Set("Content-Length", strconv.Itoa(len(b)))
			return b
		}}
	}
	http.ServeContent(c.Writer, c.Request, "", time.Time{}, content)
}

// lazyReader reads content that is made when it is first needed, which is not the case when the answer is 304.
type lazyReader struct {
	content func() []byte
	io.ReadSeeker
}

func (r *lazyReader) Seek(offset int64, whence int) (int64, error) {
	if r.ReadSeeker == nil {
		r.ReadSeeker = bytes.NewReader(r.content())
	}
	return r.ReadSeeker.Seek(offset, whence)
}
