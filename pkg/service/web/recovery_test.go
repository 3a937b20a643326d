package web

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/accrue/accrue/pkg/logging"
	"github.com/accrue/accrue/pkg/problem"
)

// panicking serves a request with a handler that calls before and then panics. Onward is the panic that reaches the server,
// if any.
func panicking(t *testing.T, with any, before func(*gin.Context)) (w *httptest.ResponseRecorder, log string, onward any) {
	t.Helper()
	var buffer bytes.Buffer
	router := gin.New()
	router.Use(recovery(logging.New(&buffer, "query", map[string]string{"GOOGLE_CLOUD_PROJECT": "p"}), new(API).answer(http.StatusInternalServerError, "internal-error", problem.Internal)))
	router.GET("/stats", func(c *gin.Context) {
		before(c)
		panic(with)
	})
	w = httptest.NewRecorder()
	func() {
		defer func() { onward = recover() }()
		request := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/stats", http.NoBody)
		request.Header.Set("X-Cloud-Trace-Context", "4bf92f3577b34da6a3ce929d0e0e4736/17;o=0")
		router.ServeHTTP(w, request)
	}()
	return w, buffer.String(), onward
}

func TestPanicIsAnswered500AndLoggedWithItsStack(t *testing.T) {
	t.Parallel()
	w, log, onward := panicking(t, "out of cheese", func(c *gin.Context) {
		c.Writer.Header().Set("ETag", `"of the lost answer"`)
		c.Writer.Header().Set("Access-Control-Allow-Origin", "*")
		c.Writer.Header().Set("Vary", "Origin")
	})
	if w.Header().Get("Access-Control-Allow-Origin") != "*" || w.Header().Get("Vary") != "Origin" {
		t.Errorf("a page cannot read the answer: %v", w.Header())
	}
	if w.Code != http.StatusInternalServerError || w.Header().Get("Content-Type") != problem.ContentType || onward != nil {
		t.Errorf("%d %v, then %v, want a 500 problem", w.Code, w.Header(), onward)
	}
	if strings.Contains(w.Body.String(), "cheese") || w.Header().Get("ETag") != "" {
		t.Errorf("the answer shows internals: %v %s", w.Header(), w.Body)
	}
	for _, want := range []string{
		"panic: out of cheese", "goroutine ", "recovery_test.go", `"path":"/stats"`,
		`"logging.googleapis.com/trace":"projects/p/traces/4bf92f3577b34da6a3ce929d0e0e4736"`, `"serviceContext":{"service":"query"}`,
	} {
		if !strings.Contains(log, want) {
			t.Errorf("the log lacks %q: %s", want, log)
		}
	}
}

func TestPanicAfterTheHeaderClosesTheConnection(t *testing.T) {
	t.Parallel()
	_, log, onward := panicking(t, "out of cheese", func(c *gin.Context) { c.String(http.StatusOK, "half") })
	if onward != http.ErrAbortHandler || !strings.Contains(log, "out of cheese") { //nolint:errorlint // the very value
		t.Errorf("went on with %v, want %v; log: %s", onward, http.ErrAbortHandler, log)
	}
}

func TestAbortedAnswerIsNotLogged(t *testing.T) {
	t.Parallel()
	_, log, onward := panicking(t, http.ErrAbortHandler, func(*gin.Context) {})
	if onward != http.ErrAbortHandler || log != "" { //nolint:errorlint // the very value
		t.Errorf("went on with %v, want %v; log: %s", onward, http.ErrAbortHandler, log)
	}
}

func TestRepeatedPanicsAreSummarized(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var buffer bytes.Buffer
		router := gin.New()
		router.Use(recovery(logging.New(&buffer, "query", nil), new(API).answer(http.StatusInternalServerError, "internal-error", problem.Internal)))
		router.GET("/stats", func(*gin.Context) { panic("out of cheese") })
		for range 250 { // 25 s
			get(t, router, "/stats", "")
			time.Sleep(100 * time.Millisecond)
		}
		var panics []float64
		for line := range strings.Lines(buffer.String()) {
			var fields struct{ Panics float64 }
			if err := json.Unmarshal([]byte(line), &fields); err != nil {
				t.Fatal(err)
			}
			panics = append(panics, fields.Panics)
		}
		if !slices.Equal(panics, []float64{1, 100, 100}) {
			t.Errorf("lines report %v panics, want 1, 100 and 100", panics)
		}
	})
}
