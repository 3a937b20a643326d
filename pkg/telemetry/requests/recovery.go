package requests

import (
	"errors"
	"maps"
	"net/http"
	"strings"

	"github.com/gin-gonic/gin"
	"github.com/rs/zerolog"

	"github.com/accrue/accrue/pkg/logging"
)

// Recovery answers for a handler that panics, by refuse, and the process goes on. The panic is logged with its stack, in
// the form that Error Reporting groups by; many are summarised. An answer that has begun is cut with its connection: half
// of one must not look whole.
func Recovery(log zerolog.Logger, refuse func(*gin.Context)) gin.HandlerFunc {
	panics := logging.NewPanics(log)
	return func(c *gin.Context) {
		defer func() {
			cause := recover()
			if cause == nil {
				return
			}
			if err, ok := cause.(error); ok && errors.Is(err, http.ErrAbortHandler) { // net/http's own way to cut a connection
				panic(cause)
			}
			panics.Recovered(cause, func(e *zerolog.Event) { e.Ctx(traced(c)).Str("path", c.FullPath()) })
			if c.Writer.Written() {
				panic(http.ErrAbortHandler)
			}
			// What is there is of the answer that was being made, but for what lets a page read this one.
			maps.DeleteFunc(c.Writer.Header(), func(name string, _ []string) bool {
				return name != "Vary" && !strings.HasPrefix(name, "Access-Control-")
			})
			refuse(c)
			c.Abort()
		}()
		c.Next()
	}
}
