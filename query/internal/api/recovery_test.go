package api

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/gin-gonic/gin"
	"github.com/rs/zerolog"

	"github.com/accrue/accrue/pkg/problem"
)

// panicking answers a request by a handler that does what before says and then panics, and returns what went on to the
// server, if anything did.
func panicking(t *testing.T, with any, before func(*gin.Context)) (w *httptest.ResponseRecorder, log string, onward any) {
	t.Helper()
	var buffer bytes.Buffer
	router := gin.New()
	router.Use(recovery(zerolog.New(&buffer)))
	router.GET("/stats", func(c *gin.Context) {
		before(c)
		panic(with)
	})
	w = httptest.NewRecorder()
	func() {
		defer func() { onward = recover() }()
		router.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/stats", http.NoBody))
	}()
	return w, buffer.String(), onward
}

func TestAPanicIsAnswered500AndLoggedWithItsStack(t *testing.T) {
	t.Parallel()
	w, log, onward := panicking(t, "out of cheese", func(c *gin.Context) {
		c.Writer.Header().Set("ETag", `"of the answer that never came"`)
		c.Writer.Header().Set("Access-Control-Allow-Origin", "*")
		c.Writer.Header().Set("Vary", "Origin")
	})
	if w.Header().Get("Access-Control-Allow-Origin") != "*" || w.Header().Get("Vary") != "Origin" {
		t.Errorf("a page could not read the answer: %v", w.Header())
	}
	if w.Code != http.StatusInternalServerError || w.Header().Get("Content-Type") != problem.ContentType || onward != nil {
		t.Errorf("%d %v, then %v, want a 500 problem", w.Code, w.Header(), onward)
	}
	if strings.Contains(w.Body.String(), "cheese") || w.Header().Get("ETag") != "" {
		t.Errorf("the answer tells of what happened inside: %v %s", w.Header(), w.Body)
	}
	for _, want := range []string{"panic: out of cheese", "goroutine ", "recovery_test.go", `"path":"/stats"`} {
		if !strings.Contains(log, want) {
			t.Errorf("the log lacks %q: %s", want, log)
		}
	}
}

func TestAPanicWithinAnAnswerCutsTheConnection(t *testing.T) {
	t.Parallel()
	_, log, onward := panicking(t, "out of cheese", func(c *gin.Context) { c.String(http.StatusOK, "half") })
	if onward != http.ErrAbortHandler || !strings.Contains(log, "out of cheese") { //nolint:errorlint // the very value
		t.Errorf("went on with %v, want %v; log: %s", onward, http.ErrAbortHandler, log)
	}
}

func TestAnAbortedAnswerStaysAbortedAndIsNoFault(t *testing.T) {
	t.Parallel()
	_, log, onward := panicking(t, http.ErrAbortHandler, func(*gin.Context) {})
	if onward != http.ErrAbortHandler || log != "" { //nolint:errorlint // the very value
		t.Errorf("went on with %v, want %v; log: %s", onward, http.ErrAbortHandler, log)
	}
}
