package telemetry_test

import (
	"bytes"
	"context"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	spans "go.opentelemetry.io/proto/otlp/trace/v1"

	"github.com/accrue/accrue/pkg/logging"
	"github.com/accrue/accrue/pkg/telemetry"
	"github.com/accrue/accrue/pkg/telemetry/telemetrytest"
	"github.com/accrue/accrue/pkg/tracecontext"
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

// Two services in one process do not share metrics.
func TestTelemetriesAreApart(t *testing.T) {
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
			t.Error("another one's metric is among these")
		}
	}
}

func TestWhichTracesAreFollowed(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		settings telemetry.Settings
		came     func() tracecontext.Trace
		of       int
		low      int
		high     int
	}{
		"asked for, ten a second":        {telemetry.Settings{}, func() tracecontext.Trace { return tracecontext.New(true) }, 1000, 10, 12},
		"not asked for, nothing exports": {telemetry.Settings{}, func() tracecontext.Trace { return tracecontext.New(false) }, 1000, 0, 0},
		"no trace, nothing exports":      {telemetry.Settings{}, func() tracecontext.Trace { return tracecontext.Trace{} }, 1000, 0, 0},
		"not asked for, a tenth":         {telemetry.Settings{Ratio: 0.1}, func() tracecontext.Trace { return tracecontext.New(false) }, 10_000, 850, 1150},
		"no trace, a tenth":              {telemetry.Settings{Ratio: 0.1}, func() tracecontext.Trace { return tracecontext.Trace{} }, 10_000, 850, 1150},
		"asked for too often, a tenth":   {telemetry.Settings{Ratio: 0.1}, func() tracecontext.Trace { return tracecontext.New(true) }, 10_000, 850, 1170},
		"not asked for, all":             {telemetry.Settings{Ratio: 1}, func() tracecontext.Trace { return tracecontext.New(false) }, 1000, 1000, 1000},
		"no trace, all":                  {telemetry.Settings{Ratio: 1}, func() tracecontext.Trace { return tracecontext.Trace{} }, 1000, 1000, 1000},
	} {
		made := start(t, tc.settings, zerolog.Nop())
		followed := 0
		for range tc.of {
			if made.Follow(tc.came()) {
				followed++
			}
		}
		if followed < tc.low || followed > tc.high {
			t.Errorf("%s: %d of %d are followed, want %d to %d", name, followed, tc.of, tc.low, tc.high)
		}
	}
}

// All services that meet a trace decide alike, or it would have holes.
func TestServicesDecideAlike(t *testing.T) {
	t.Parallel()
	a, b := start(t, telemetry.Settings{Ratio: 0.5}, zerolog.Nop()), start(t, telemetry.Settings{Ratio: 0.5}, zerolog.Nop())
	for range 1000 {
		if came := tracecontext.New(false); a.Follow(came) != b.Follow(came) {
			t.Fatalf("trace %v is followed by one alone", came)
		}
	}
}

// Without a receiver a trace goes on as it came, so that log lines can be found by it.
func TestATraceGoesOnWithoutSpans(t *testing.T) {
	t.Parallel()
	made, came := start(t, telemetry.Settings{}, zerolog.Nop()), tracecontext.New(true)
	ctx, span := made.Start(t.Context(), "work", came, nil)
	if got := tracecontext.From(ctx); got != came || span.IsRecording() {
		t.Errorf("Start() goes on as %v, want %v", got, came)
	}
	span.End()
}

func TestNilIsOff(t *testing.T) {
	t.Parallel()
	var off *telemetry.Telemetry
	if off.Handler() != nil || off.Follow(tracecontext.New(true)) {
		t.Error("nil exposes or follows")
	}
	if _, err := off.Meter().Int64Counter("accrue_things"); err != nil {
		t.Error(err)
	}
	ctx, span := off.Start(t.Context(), "work", tracecontext.New(true), nil)
	if span.End(); tracecontext.From(ctx).Valid() {
		t.Error("nil makes a trace")
	}
	if err := off.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
}

// Not parallel, as the next: the exporter reads the environment.
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

// testExport checks what is received of three spans.
func testExport(t *testing.T, received *telemetrytest.Receiver, settings telemetry.Settings) {
	t.Helper()
	made := start(t, settings, zerolog.Nop())
	came, other := tracecontext.New(true), tracecontext.New(true)
	ctx, outer := made.Start(t.Context(), "outer", came, []tracecontext.Trace{other})
	_, inner := made.Start(ctx, "inner", tracecontext.From(ctx), nil)
	inner.End()
	outer.End()
	_, root := made.Start(ctx, "root", tracecontext.Trace{}, nil)
	root.End()
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
	if !slices.Equal(o.GetTraceId(), came.ID[:]) || !slices.Equal(o.GetParentSpanId(), came.Span[:]) {
		t.Errorf("outer is of trace %x, parent %x, want %v", o.GetTraceId(), o.GetParentSpanId(), came)
	}
	if len(o.GetLinks()) != 1 || !slices.Equal(o.GetLinks()[0].GetTraceId(), other.ID[:]) {
		t.Errorf("outer is linked to %v, want %v", o.GetLinks(), other)
	}
	if !slices.Equal(i.GetTraceId(), came.ID[:]) || !slices.Equal(i.GetParentSpanId(), o.GetSpanId()) {
		t.Errorf("inner is of trace %x, parent %x", i.GetTraceId(), i.GetParentSpanId())
	}
	if slices.Equal(r.GetTraceId(), came.ID[:]) || len(r.GetParentSpanId()) != 0 {
		t.Error("root is not the root of a trace of its own")
	}
}

// A receiver that is not there costs spans, and neither the stop's time nor lines without end.
func TestAReceiverThatIsNotThereHoldsNothingUp(t *testing.T) {
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
	for _, grpc := range []bool{false, true} {
		var written bytes.Buffer
		made, err := telemetry.New(t.Context(), "ingest", telemetry.Settings{Export: true, GRPC: grpc, Ratio: 1}, logging.New(&written, "ingest", nil))
		if err != nil {
			t.Fatal(err)
		}
		for range 100 {
			_, span := made.Start(t.Context(), "work", tracecontext.Trace{}, nil)
			span.End()
		}
		before := time.Now()
		_ = made.Shutdown(t.Context()) // how it ends is of no matter here
		if took := time.Since(before); took > 3*time.Second {
			t.Errorf("gRPC %v: Shutdown() took %v", grpc, took)
		}
		if n := strings.Count(written.String(), "\n"); n > 1 {
			t.Errorf("gRPC %v: %d lines:\n%s", grpc, n, &written)
		}
	}
}

func BenchmarkFollow(b *testing.B) {
	for name, settings := range map[string]telemetry.Settings{"off": {}, "hundredth": {Ratio: 0.01}} {
		b.Run(name, func(b *testing.B) {
			made, err := telemetry.New(b.Context(), "ingest", settings, zerolog.New(io.Discard))
			if err != nil {
				b.Fatal(err)
			}
			followed := 0
			for b.Loop() {
				if made.Follow(tracecontext.Trace{}) {
					followed++
				}
			}
			if part := float64(followed) / float64(b.N); b.N > 100_000 && math.Abs(part-settings.Ratio) > 0.002 {
				b.Errorf("%v are followed", part)
			}
		})
	}
}
