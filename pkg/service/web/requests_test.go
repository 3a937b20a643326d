package web

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/rs/zerolog"
	"go.opentelemetry.io/otel/trace"

	"github.com/accrue/accrue/pkg/logging"
	"github.com/accrue/accrue/pkg/service"
	"github.com/accrue/accrue/pkg/telemetry"
)

// serve returns a router with a few routes.
func serve(t *testing.T, log zerolog.Logger) *gin.Engine {
	t.Helper()
	measured, err := telemetry.New(t.Context(), "query", telemetry.Settings{}, log)
	if err != nil {
		t.Fatal(err)
	}
	engine := Base{Log: log, Telemetry: measured, Checks: []service.Check{
		{Name: "firestore", Check: func(context.Context) error { return errors.New("no answer") }},
	}}.Router(API{Streams: []string{"/stream"}})
	engine.GET("/contributors/:id", func(c *gin.Context) {
		if c.Param("id") == "bad" {
			c.Status(http.StatusServiceUnavailable)
			return
		}
		c.String(http.StatusOK, trace.SpanContextFromContext(c.Request.Context()).TraceID().String()+" "+strconv.FormatBool(trace.SpanContextFromContext(c.Request.Context()).IsSampled()))
	})
	wait := func(c *gin.Context) { time.Sleep(2 * time.Second); c.Status(http.StatusOK) }
	engine.GET("/slow", wait)
	engine.GET("/stream", wait)
	return engine
}

func get(t *testing.T, handler http.Handler, path, traceparent string) string {
	t.Helper()
	request := httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, http.NoBody)
	if traceparent != "" {
		request.Header.Set("traceparent", traceparent)
	}
	answer := httptest.NewRecorder()
	handler.ServeHTTP(answer, request)
	return answer.Body.String()
}

func lines(t *testing.T, written *bytes.Buffer) []map[string]any {
	t.Helper()
	var all []map[string]any
	for line := range strings.Lines(written.String()) {
		var fields map[string]any
		if err := json.Unmarshal([]byte(line), &fields); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		all = append(all, fields)
	}
	return all
}

func TestRequestsAreMeasuredByRouteAndStatus(t *testing.T) {
	t.Parallel()
	engine := serve(t, zerolog.Nop())
	for _, path := range []string{"/contributors/grace_hopper", "/contributors/bob", "/contributors/bad", "/nothing/grace_hopper", "/health/ready"} {
		get(t, engine, path, "")
	}
	exposed := get(t, engine, "/metrics", "")
	for _, want := range []string{
		`accrue_http_request_duration_seconds_count{route="/contributors/:id",status="200"} 2`,
		`accrue_http_request_duration_seconds_count{route="/contributors/:id",status="503"} 1`,
		`accrue_http_request_duration_seconds_count{route="none",status="404"} 1`,
		`accrue_http_request_duration_seconds_count{route="/health/ready",status="503"} 1`,
	} {
		if !strings.Contains(exposed, want+"\n") {
			t.Errorf("the metrics lack %s:\n%s", want, exposed)
		}
	}
	if strings.Contains(exposed, "grace_hopper") {
		t.Error("the metrics name a contributor")
	}
}

func TestFailuresAndSlowAnswersAreLogged(t *testing.T) {
	t.Parallel()
	const parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00"
	synctest.Test(t, func(t *testing.T) {
		var written bytes.Buffer
		engine := serve(t, logging.New(&written, "query", map[string]string{"GOOGLE_CLOUD_PROJECT": "p"}))
		for _, path := range []string{"/contributors/ada", "/nothing", "/stream", "/health/ready"} {
			get(t, engine, path, parent)
		}
		if all := lines(t, &written); len(all) != 0 {
			t.Errorf("logged %v for requests that succeeded, were not found, or are streams", all)
		}
		for range 100 {
			get(t, engine, "/contributors/bad", parent)
		}
		get(t, engine, "/contributors/ada", parent)
		all := lines(t, &written)
		if len(all) != 2 || all[0]["message"] != "cannot answer requests" || all[0]["severity"] != "WARNING" ||
			all[1]["message"] != "works again: answer requests" || all[1]["failures"] != 100.0 {
			t.Fatalf("logged %v", all)
		}
		request, _ := all[0]["httpRequest"].(map[string]any)
		for name, want := range map[string]any{
			"requestMethod": "GET", "requestUrl": "/contributors/:id", "status": 503.0, "latency": "0.000000s", "protocol": "HTTP/1.1",
		} {
			if request[name] != want {
				t.Errorf("httpRequest.%s = %v, want %v", name, request[name], want)
			}
		}
		if got := all[0]["logging.googleapis.com/trace"]; got != "projects/p/traces/4bf92f3577b34da6a3ce929d0e0e4736" {
			t.Errorf("trace = %v", got)
		}
		if strings.Contains(written.String(), "bad") {
			t.Error("the log names a contributor")
		}

		written.Reset()
		get(t, engine, "/slow", "")
		all = lines(t, &written)
		if len(all) != 1 || all[0]["message"] != "cannot answer requests within a second" {
			t.Fatalf("logged %v", all)
		}
		if request, _ := all[0]["httpRequest"].(map[string]any); request["latency"] != "2.000000s" {
			t.Errorf("httpRequest = %v", request)
		}
	})
}

func TestHandlersSeeSampledTraces(t *testing.T) {
	t.Parallel()
	engine := serve(t, zerolog.Nop())
	const id = "4bf92f3577b34da6a3ce929d0e0e4736"
	for flag, want := range map[string]string{"01": id + " true", "00": strings.Repeat("0", 32) + " false"} {
		if got := get(t, engine, "/contributors/ada", "00-"+id+"-00f067aa0ba902b7-"+flag); got != want {
			t.Errorf("with flag %s the handler sees %s, want %s", flag, got, want)
		}
	}
}

func BenchmarkRequest(b *testing.B) {
	handle := func(c *gin.Context) { c.Status(http.StatusAccepted) }
	gin.SetMode(gin.ReleaseMode)
	bare := gin.New()
	bare.GET("/", handle)
	measured, err := telemetry.New(b.Context(), "ingest", telemetry.Settings{}, zerolog.Nop())
	if err != nil {
		b.Fatal(err)
	}
	watched := Base{Log: zerolog.Nop(), Telemetry: measured}.Router(API{})
	watched.GET("/", handle)
	for name, engine := range map[string]*gin.Engine{"bare": bare, "observed": watched} {
		b.Run(name, func(b *testing.B) {
			request := httptest.NewRequest(http.MethodGet, "/", http.NoBody)
			request.Header.Set("Traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00") // as behind Cloud Run's front end
			answer := httptest.NewRecorder()
			b.ReportAllocs()
			for b.Loop() {
				engine.ServeHTTP(answer, request)
			}
		})
	}
}
