package web

import (
	"errors"
	"maps"
	"net/http"
	"strings"

	"github.com/gin-gonic/gin"
	"github.com/rs/zerolog"

	"github.com/accrue/accrue/pkg/logging"
)

// recovery answers with refuse for a handler that panics. The panic is logged with its stack, in the form that Error Reporting
// groups by; repeated panics are summarized. If the answer has begun, the connection is closed instead: a part of an answer
// must not look complete.
func recovery(log zerolog.Logger, refuse gin.HandlerFunc) gin.HandlerFunc {
	panics := logging.NewPanics(log)
	return func(c *gin.Context) {
		defer func() {
			cause := recover()
			if cause == nil {
				return
			}
			if err, ok := cause.(error); ok && errors.Is(err, http.ErrAbortHandler) { // net/http's way to close the connection
				panic(cause)
			}
			panics.Recovered(cause, func(e *zerolog.Event) { e.Ctx(traced(c)).Str("path", c.FullPath()) })
			if c.Writer.Written() {
				panic(http.ErrAbortHandler)
			}
			// Drop the headers of the lost answer, except those that let a page read this one.
			maps.DeleteFunc(c.Writer.Header(), func(name string, _ []string) bool {
				return name != "Vary" && !strings.HasPrefix(name, "Access-Control-")
			})
			refuse(c)
			c.Abort()
		}()
		c.Next()
	}
}
