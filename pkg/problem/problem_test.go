package problem_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/accrue/accrue/pkg/problem"
)

func TestWrite(t *testing.T) {
	t.Parallel()
	d := problem.New(http.StatusUnprocessableEntity, "1 item is wrong", problem.Fault{Pointer: "#/increments/3/value", Detail: "must be 1"})
	w := httptest.NewRecorder()
	d.Write(w)
	if got, want := w.Header().Get("Content-Type"), "application/problem+json"; got != want {
		t.Errorf("Content-Type = %q, want %q", got, want)
	}
	var got map[string]any
	if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	if got["status"] != 422.0 || got["title"] != "Unprocessable Entity" || got["type"] != "about:blank" {
		t.Errorf("document = %v", got)
	}
	if errs, _ := got["errors"].([]any); len(errs) != 1 || errs[0].(map[string]any)["pointer"] != "#/increments/3/value" {
		t.Errorf("errors = %v", got["errors"])
	}
}

func TestRetryAfterIsInWholeSecondsAndNeverZero(t *testing.T) {
	t.Parallel()
	for after, want := range map[time.Duration]string{time.Millisecond: "1", time.Second: "1", 1500 * time.Millisecond: "2", 0: ""} {
		w := httptest.NewRecorder()
		problem.Unavailable("full", after).Write(w)
		if got := w.Header().Get("Retry-After"); got != want || w.Code != http.StatusServiceUnavailable {
			t.Errorf("Unavailable(%v): %d with Retry-After %q, want 503 with %q", after, w.Code, got, want)
		}
	}
}
