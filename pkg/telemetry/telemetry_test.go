package telemetry_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"math"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/goleak"

	spans "go.opentelemetry.io/proto/otlp/trace/v1"

	"github.com/accrue/accrue/pkg/logging"
	"github.com/accrue/accrue/pkg/telemetry"
	"github.com/accrue/accrue/pkg/telemetry/telemetrytest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestSettings(t *testing.T) {
	t.Parallel()
	const endpoint = "http://localhost:4317"
	for name, tc := range map[string]struct {
		variables map[string]string
		want      telemetry.Settings
		faults    []string
	}{
		"nothing":             {nil, telemetry.Settings{}, nil},
		"an endpoint":         {map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint}, telemetry.Settings{Export: true, Ratio: 0.01}, nil},
		"one for traces":      {map[string]string{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": endpoint}, telemetry.Settings{Export: true, Ratio: 0.01}, nil},
		"the default one":     {map[string]string{"OTEL_TRACES_EXPORTER": "otlp"}, telemetry.Settings{Export: true, Ratio: 0.01}, nil},
		"none":                {map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "OTEL_TRACES_EXPORTER": "none"}, telemetry.Settings{}, nil},
		"disabled":            {map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "OTEL_SDK_DISABLED": "true"}, telemetry.Settings{}, nil},
		"disabled not":        {map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "OTEL_SDK_DISABLED": "false"}, telemetry.Settings{Export: true, Ratio: 0.01}, nil},
		"a ratio":             {map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "OTEL_TRACES_SAMPLER_ARG": "0.5"}, telemetry.Settings{Export: true, Ratio: 0.5}, nil},
		"a ratio for nothing": {map[string]string{"OTEL_TRACES_SAMPLER_ARG": "0.5"}, telemetry.Settings{}, nil},
		"by gRPC":             {map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, telemetry.Settings{Export: true, GRPC: true, Ratio: 0.01}, nil},
		"all but traces by gRPC": {map[string]string{
			"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/protobuf",
		}, telemetry.Settings{Export: true, Ratio: 0.01}, nil},
		"everything wrong": {map[string]string{
			"OTEL_EXPORTER_OTLP_ENDPOINT": "localhost:4317", "OTEL_TRACES_EXPORTER": "zipkin", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/json",
			"OTEL_TRACES_SAMPLER": "parentbased_always_on", "OTEL_TRACES_SAMPLER_ARG": "1.5",
		}, telemetry.Settings{}, []string{
			"OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_TRACES_EXPORTER", "OTEL_EXPORTER_OTLP_PROTOCOL", "OTEL_TRACES_SAMPLER ", "OTEL_TRACES_SAMPLER_ARG",
		}},
		"no number": {map[string]string{"OTEL_TRACES_SAMPLER_ARG": "NaN"}, telemetry.Settings{}, []string{"OTEL_TRACES_SAMPLER_ARG"}},
	} {
		got, err := telemetry.SettingsOf(tc.variables)
		if got != tc.want || (err != nil) != (tc.faults != nil) {
			t.Errorf("%s: SettingsOf() = %+v, %v, want %+v", name, got, err, tc.want)
		}
		for _, fault := range tc.faults {
			if err != nil && !strings.Contains(err.Error(), fault) {
				t.Errorf("%s: %v does not name %s", name, err, fault)
			}
		}
	}
}

func start(t *testing.T, settings telemetry.Settings, log zerolog.Logger) *telemetry.Telemetry {
	t.Helper()
	made, err := telemetry.New(t.Context(), "ingest", settings, log)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := made.Shutdown(context.Background()); err != nil {
			t.Errorf("Shutdown() = %v", err)
		}
	})
	return made
}

func TestMetricsAreExposed(t *testing.T) {
	t.Parallel()
	made := start(t, telemetry.Settings{}, zerolog.Nop())
	counter, err := made.Meter().Int64Counter("accrue_things")
	if err != nil {
		t.Fatal(err)
	}
	counter.Add(t.Context(), 3)
	answer := httptest.NewRecorder()
	made.Handler().ServeHTTP(answer, httptest.NewRequest(http.MethodGet, telemetry.MetricsPath, http.NoBody))
	body := answer.Body.String()
	for _, want := range []string{"\naccrue_things_total 3\n", "\naccrue_build_info{go_version=\"go", "\ngo_memstats_heap_alloc_bytes ", "\nprocess_resident_memory_bytes "} {
		if !strings.Contains(body, want) {
			t.Errorf("the exposition lacks %q:\n%s", want, body)
		}
	}
	for _, unwanted := range []string{"otel_scope", "target_info"} {
		if strings.Contains(body, unwanted) {
			t.Errorf("the exposition has %q", unwanted)
		}
	}
}

func TestServicesInOneProcessHaveTheirOwnMetrics(t *testing.T) {
	t.Parallel()
	for range 2 {
		made := start(t, telemetry.Settings{}, zerolog.Nop())
		counter, err := made.Meter().Int64Counter("accrue_things")
		if err != nil {
			t.Fatal(err)
		}
		counter.Add(t.Context(), 1)
		answer := httptest.NewRecorder()
		made.Handler().ServeHTTP(answer, httptest.NewRequest(http.MethodGet, telemetry.MetricsPath, http.NoBody))
		if !strings.Contains(answer.Body.String(), "\naccrue_things_total 1\n") {
			t.Error("the metrics of two services are mixed")
		}
	}
}

// newTrace returns a trace context as a request brings it.
func newTrace(sampled bool) trace.SpanContext {
	config := trace.SpanContextConfig{SpanID: trace.SpanID{1}, TraceFlags: trace.TraceFlags(0).WithSampled(sampled), Remote: true}
	binary.BigEndian.PutUint64(config.TraceID[:], rand.Uint64())
	binary.BigEndian.PutUint64(config.TraceID[8:], rand.Uint64())
	return trace.NewSpanContext(config)
}

func TestShouldSampleForcedTracesAndARatioOfTheOthers(t *testing.T) {
	t.Parallel()
	none := func() trace.SpanContext { return trace.SpanContext{} }
	sampled := func() trace.SpanContext { return newTrace(true) }
	unsampled := func() trace.SpanContext { return newTrace(false) }
	for name, tc := range map[string]struct {
		settings telemetry.Settings
		came     func() trace.SpanContext
		of       int
		low      int
		high     int
	}{
		"forced, ten a second":       {telemetry.Settings{}, sampled, 1000, 10, 12},
		"not forced, no exporter":    {telemetry.Settings{}, unsampled, 1000, 0, 0},
		"no trace, no exporter":      {telemetry.Settings{}, none, 1000, 0, 0},
		"not forced, a tenth":        {telemetry.Settings{Ratio: 0.1}, unsampled, 10_000, 850, 1150},
		"no trace, a tenth":          {telemetry.Settings{Ratio: 0.1}, none, 10_000, 850, 1150},
		"forced beyond ten, a tenth": {telemetry.Settings{Ratio: 0.1}, sampled, 10_000, 850, 1170},
		"not forced, all":            {telemetry.Settings{Ratio: 1}, unsampled, 1000, 1000, 1000},
		"no trace, all":              {telemetry.Settings{Ratio: 1}, none, 1000, 1000, 1000},
	} {
		made := start(t, tc.settings, zerolog.Nop())
		got := 0
		for range tc.of {
			if made.ShouldSample(tc.came()) {
				got++
			}
		}
		if got < tc.low || got > tc.high {
			t.Errorf("%s: %d of %d are sampled, want %d to %d", name, got, tc.of, tc.low, tc.high)
		}
	}
}

// If services decided differently, traces would have holes.
func TestServicesSampleTheSameTraces(t *testing.T) {
	t.Parallel()
	a, b := start(t, telemetry.Settings{Ratio: 0.5}, zerolog.Nop()), start(t, telemetry.Settings{Ratio: 0.5}, zerolog.Nop())
	for range 1000 {
		came := newTrace(false)
		if a.ShouldSample(came) != b.ShouldSample(came) {
			t.Fatalf("only one service samples %v", came)
		}
	}
}

func TestTracesContinueWithoutAnExporter(t *testing.T) {
	t.Parallel()
	made, came := start(t, telemetry.Settings{}, zerolog.Nop()), newTrace(true)
	_, span := made.Tracer().Start(trace.ContextWithSpanContext(t.Context(), came), "work")
	if got := span.SpanContext(); got.TraceID() != came.TraceID() || !got.IsSampled() {
		t.Errorf("the trace continues as %v, want %v", got, came)
	}
}

func TestNilTelemetryIsOff(t *testing.T) {
	t.Parallel()
	var off *telemetry.Telemetry
	if off.Handler() != nil || off.ShouldSample(newTrace(true)) {
		t.Error("nil serves metrics or samples traces")
	}
	if _, err := off.Meter().Int64Counter("accrue_things"); err != nil {
		t.Error(err)
	}
	if err := off.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
}

// The next two are not parallel: the exporter reads the environment.
func TestSpansAreExportedByOTLP(t *testing.T) {
	for protocol, receive := range map[string]func(testing.TB) (*telemetrytest.Receiver, string){
		"grpc": telemetrytest.StartGRPC, "http/protobuf": telemetrytest.StartHTTP,
	} {
		t.Run(protocol, func(t *testing.T) {
			received, endpoint := receive(t)
			t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
			testExport(t, received, telemetry.Settings{Export: true, GRPC: protocol == "grpc", Ratio: 1})
		})
	}
}

// testExport checks what the receiver gets of three spans.
func testExport(t *testing.T, received *telemetrytest.Receiver, settings telemetry.Settings) {
	t.Helper()
	made := start(t, settings, zerolog.Nop())
	came, other := newTrace(true), newTrace(true)
	traceID, spanID := came.TraceID(), came.SpanID()
	ctx, outer := made.Tracer().Start(trace.ContextWithSpanContext(t.Context(), came), "outer", trace.WithLinks(trace.Link{SpanContext: other}))
	_, inner := made.Tracer().Start(ctx, "inner")
	inner.End()
	outer.End()
	_, root := made.Tracer().Start(t.Context(), "root")
	root.End()
	otherID := other.TraceID()
	if err := made.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	only := func(name string) *spans.Span {
		t.Helper()
		named := received.Named(name)
		if len(named) != 1 {
			t.Fatalf("received %v as %s", named, name)
		}
		return named[0]
	}
	o, i, r := only("outer"), only("inner"), only("root")
	if !slices.Equal(o.GetTraceId(), traceID[:]) || !slices.Equal(o.GetParentSpanId(), spanID[:]) {
		t.Errorf("outer is of trace %x, parent %x, want %v", o.GetTraceId(), o.GetParentSpanId(), came)
	}
	if len(o.GetLinks()) != 1 || !slices.Equal(o.GetLinks()[0].GetTraceId(), otherID[:]) {
		t.Errorf("outer is linked to %v, want %v", o.GetLinks(), other)
	}
	if !slices.Equal(i.GetTraceId(), traceID[:]) || !slices.Equal(i.GetParentSpanId(), o.GetSpanId()) {
		t.Errorf("inner is of trace %x, parent %x", i.GetTraceId(), i.GetParentSpanId())
	}
	if slices.Equal(r.GetTraceId(), traceID[:]) || len(r.GetParentSpanId()) != 0 {
		t.Error("root is not the root of a trace of its own")
	}
}

func TestMissingReceiverNeitherDelaysTheStopNorFloodsTheLog(t *testing.T) {
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
	for _, grpc := range []bool{false, true} {
		var written lockedBuffer
		made, err := telemetry.New(t.Context(), "ingest", telemetry.Settings{Export: true, GRPC: grpc, Ratio: 1}, logging.New(&written, "ingest", nil))
		if err != nil {
			t.Fatal(err)
		}
		for range 100 {
			_, span := made.Tracer().Start(t.Context(), "work")
			span.End()
		}
		before := time.Now()
		_ = made.Shutdown(t.Context()) // the error does not matter here
		if took := time.Since(before); took > 3*time.Second {
			t.Errorf("gRPC %v: Shutdown() took %v", grpc, took)
		}
		text := written.String()
		if n := strings.Count(text, "\n"); n > 1 {
			t.Errorf("gRPC %v: %d lines:\n%s", grpc, n, text)
		}
	}
}

// lockedBuffer is a buffer that is safe for concurrent use: a Shutdown whose time is over leaves the exporter at work.
type lockedBuffer struct {
	mutex  sync.Mutex
	buffer bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	return b.buffer.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	return b.buffer.String()
}

func BenchmarkShouldSample(b *testing.B) {
	for name, settings := range map[string]telemetry.Settings{"off": {}, "hundredth": {Ratio: 0.01}} {
		b.Run(name, func(b *testing.B) {
			made, err := telemetry.New(b.Context(), "ingest", settings, zerolog.New(io.Discard))
			if err != nil {
				b.Fatal(err)
			}
			sampled := 0
			for b.Loop() {
				if made.ShouldSample(trace.SpanContext{}) {
					sampled++
				}
			}
			if part := float64(sampled) / float64(b.N); b.N > 100_000 && math.Abs(part-settings.Ratio) > 0.002 {
				b.Errorf("%v are sampled", part)
			}
		})
	}
}
