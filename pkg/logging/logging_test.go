package logging_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"
	"go.opentelemetry.io/otel/trace"

	"github.com/accrue/accrue/pkg/logging"
)

// lines returns the lines written, one object each.
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

// only returns the only line written.
func only(t *testing.T, written *bytes.Buffer) map[string]any {
	t.Helper()
	all := lines(t, written)
	if len(all) != 1 {
		t.Fatalf("wrote %d lines, want one:\n%s", len(all), written)
	}
	return all[0]
}

func dict(t *testing.T, fields map[string]any, name string) map[string]any {
	t.Helper()
	found, ok := fields[name].(map[string]any)
	if !ok {
		t.Fatalf("%s = %v, want an object, in %v", name, fields[name], fields)
	}
	return found
}

var variables = map[string]string{"GOOGLE_CLOUD_PROJECT": "p", "K_REVISION": "ingest-00007"}

func TestLinesHaveTheFieldsOfCloudLogging(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		write    func(zerolog.Logger)
		severity string
	}{
		"info":  {func(log zerolog.Logger) { log.Info().Msg("hello") }, "INFO"},
		"debug": {func(log zerolog.Logger) { log.Debug().Msg("hello") }, "DEBUG"},
		"warn":  {func(log zerolog.Logger) { log.Warn().Msg("hello") }, "WARNING"},
		"error": {func(log zerolog.Logger) { log.Error().Msg("hello") }, "ERROR"},
	} {
		var written bytes.Buffer
		tc.write(logging.New(&written, "ingest", map[string]string{"LOG_LEVEL": "debug", "K_REVISION": "ingest-00007"}))
		line := only(t, &written)
		if line["severity"] != tc.severity || line["message"] != "hello" || line["service"] != "ingest" {
			t.Errorf("%s: %v", name, line)
		}
		if at, err := time.Parse(time.RFC3339Nano, line["time"].(string)); err != nil || time.Since(at) > time.Minute {
			t.Errorf("%s: time = %v, %v", name, line["time"], err)
		}
		labels := dict(t, line, "logging.googleapis.com/labels")
		if labels["service"] != "ingest" || labels["revision"] != "ingest-00007" || labels["instance"] == "" {
			t.Errorf("%s: labels = %v", name, labels)
		}
		if _, located := line["logging.googleapis.com/sourceLocation"]; located != (tc.severity == "WARNING" || tc.severity == "ERROR") {
			t.Errorf("%s: has a source location: %v", name, located)
		}
		if _, reported := line["serviceContext"]; reported != (tc.severity == "ERROR") {
			t.Errorf("%s: has a service context: %v", name, reported)
		}
	}
}

func TestWorkerPoolsNameTheirRevision(t *testing.T) {
	t.Parallel()
	var written bytes.Buffer
	log := logging.New(&written, "aggregator", map[string]string{"CLOUD_RUN_REVISION": "aggregator-2"})
	log.Info().Msg("hello")
	if labels := dict(t, only(t, &written), "logging.googleapis.com/labels"); labels["revision"] != "aggregator-2" {
		t.Errorf("labels = %v", labels)
	}
}

func TestDevicesThatAreNotTerminalsGetJSON(t *testing.T) {
	t.Parallel()
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close() //nolint:errcheck // nothing to lose
	var copied bytes.Buffer
	log := logging.New(null, "ingest", variables).Output(&copied)
	log.Info().Msg(logging.Published)
	if line := only(t, &copied); line["message"] != logging.Published || line["logging.googleapis.com/labels"] == nil {
		t.Errorf("line = %v", line)
	}
}

func TestInstancesHaveDifferentLabels(t *testing.T) {
	t.Parallel()
	instance := func() any {
		var written bytes.Buffer
		log := logging.New(&written, "ingest", variables)
		log.Info().Msg("hello")
		return dict(t, only(t, &written), "logging.googleapis.com/labels")["instance"]
	}
	if a, b := instance(), instance(); a == b {
		t.Errorf("two instances are both %v", a)
	}
}

func TestLinesNameTheTraceOfTheirContext(t *testing.T) {
	t.Parallel()
	var written bytes.Buffer
	ctx := trace.ContextWithSpanContext(t.Context(), trace.NewSpanContext(trace.SpanContextConfig{
		TraceID:    trace.TraceID{0x4b, 0xf9, 0x2f, 0x35, 0x77, 0xb3, 0x4d, 0xa6, 0xa3, 0xce, 0x92, 0x9d, 0x0e, 0x0e, 0x47, 0x36},
		SpanID:     trace.SpanID{0x00, 0xf0, 0x67, 0xaa, 0x0b, 0xa9, 0x02, 0xb7},
		TraceFlags: trace.FlagsSampled,
	}))
	log := logging.New(&written, "ingest", variables)
	log.Info().Ctx(ctx).Msg("hello")
	line := only(t, &written)
	for name, want := range map[string]any{
		"logging.googleapis.com/trace":         "projects/p/traces/4bf92f3577b34da6a3ce929d0e0e4736",
		"logging.googleapis.com/spanId":        "00f067aa0ba902b7",
		"logging.googleapis.com/trace_sampled": true,
	} {
		if line[name] != want {
			t.Errorf("%s = %v, want %v", name, line[name], want)
		}
	}
	written.Reset()
	log.Info().Ctx(t.Context()).Msg("hello")
	if line := only(t, &written); line["logging.googleapis.com/trace"] != nil {
		t.Errorf("line names a trace: %v", line)
	}
}

func TestSourceLocationIsThatOfTheCaller(t *testing.T) {
	t.Parallel()
	for name, write := range map[string]func(zerolog.Logger){
		"Msg":    func(log zerolog.Logger) { log.Warn().Msg("hello") },
		"Msgf":   func(log zerolog.Logger) { log.Error().Msgf("hello %d", 1) },
		"Send":   func(log zerolog.Logger) { log.Error().Send() },
		"outage": func(log zerolog.Logger) { logging.NewOutage(log, zerolog.WarnLevel, "go").Failed(io.EOF, nil) },
		"fatal":  func(log zerolog.Logger) { logging.Fatal(log, io.EOF, "stopped") },
	} {
		var written bytes.Buffer
		write(logging.New(&written, "ingest", variables))
		at := dict(t, only(t, &written), "logging.googleapis.com/sourceLocation")
		if file, _ := at["file"].(string); !strings.HasSuffix(file, "pkg/logging/logging_test.go") {
			t.Errorf("%s: file = %v", name, at["file"])
		}
		if line, ok := at["line"].(string); !ok || line == "" {
			t.Errorf("%s: line = %v, want a text", name, at["line"])
		}
		if function, _ := at["function"].(string); !strings.Contains(function, "logging_test.TestSourceLocationIsThatOfTheCaller") {
			t.Errorf("%s: function = %v", name, at["function"])
		}
	}
}

func TestPanicIsOneLineWithItsStack(t *testing.T) {
	t.Parallel()
	var written bytes.Buffer
	log := logging.New(&written, "ingest", variables)
	func() {
		defer func() { logging.Panic(context.Background(), log, recover()) }()
		panic("oh")
	}()
	line := only(t, &written)
	message, _ := line["message"].(string)
	if !strings.HasPrefix(message, "panic: oh\n\ngoroutine ") || !strings.Contains(message, "TestPanicIsOneLineWithItsStack") {
		t.Errorf("message = %q", message)
	}
	service := dict(t, line, "serviceContext")
	if line["severity"] != "ERROR" || service["service"] != "ingest" || service["version"] != "ingest-00007" {
		t.Errorf("line = %v", line)
	}
}

func TestFatalErrorIsReported(t *testing.T) {
	t.Parallel()
	var written bytes.Buffer
	logging.Fatal(logging.New(&written, "ingest", variables), errors.New("no port"), "stopped")
	line := only(t, &written)
	if line["severity"] != "CRITICAL" || line["message"] != "stopped: no port" || line["error"] != "no port" ||
		!strings.HasSuffix(line["@type"].(string), "ReportedErrorEvent") {
		t.Errorf("line = %v", line)
	}
	if at := dict(t, dict(t, line, "context"), "reportLocation"); at["filePath"] == "" || at["lineNumber"] == "" || at["functionName"] == "" {
		t.Errorf("reportLocation = %v", at)
	}
}

func TestLevels(t *testing.T) {
	t.Parallel()
	for level, want := range map[string]int{"debug": 4, "info": 3, "": 3, "loud": 3, "warn": 2, "error": 1} {
		var written bytes.Buffer
		log := logging.New(&written, "ingest", map[string]string{"LOG_LEVEL": level})
		log.Debug().Msg("d")
		log.Info().Msg("i")
		log.Warn().Msg("w")
		log.Error().Msg("e")
		if got := len(lines(t, &written)); got != want {
			t.Errorf("%q: %d lines, want %d", level, got, want)
		}
	}
}

// An outage logs few lines, and they count every failure.
func TestOutageLogsAtMostOneFailurePerInterval(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var written bytes.Buffer
		outage := logging.NewOutage(logging.New(&written, "aggregator", variables), zerolog.WarnLevel, "commit")
		outage.Succeeded() // logs nothing
		if first := outage.Failed(io.EOF, nil); !first || !outage.Failing() {
			t.Errorf("Failed() = %v, failing %v", first, outage.Failing())
		}
		line := only(t, &written)
		if line["message"] != "cannot commit" || line["failures"] != 1.0 || line["severity"] != "WARNING" || line["error"] != "EOF" {
			t.Errorf("first line = %v", line)
		}
		written.Reset()
		for range 250 { // 25 s
			time.Sleep(100 * time.Millisecond)
			if outage.Failed(io.EOF, func(e *zerolog.Event) { e.Int("partition", 7) }) {
				t.Error("a later failure is reported as the first")
			}
		}
		got := lines(t, &written)
		if len(got) != 2 || got[0]["failures"] != 100.0 || got[1]["failures"] != 100.0 || got[1]["partition"] != 7.0 {
			t.Errorf("in 25 s: %v", got)
		}
		written.Reset()
		outage.Succeeded()
		outage.Succeeded()
		line = only(t, &written)
		if line["message"] != "works again: commit" || line["failures"] != 251.0 || line["failed_ms"] != 25000.0 || outage.Failing() {
			t.Errorf("last line = %v", line)
		}
		written.Reset()
		for range 100 { // 10 s of flapping
			time.Sleep(100 * time.Millisecond)
			outage.Failed(io.EOF, nil)
			outage.Succeeded()
		}
		var failures float64
		for _, line := range lines(t, &written) {
			if line["message"] == "cannot commit" {
				failures += line["failures"].(float64)
			}
		}
		if got := lines(t, &written); len(got) > 4 || failures == 0 {
			t.Errorf("flapping for 10 s: %d lines with %v failures\n%s", len(got), failures, &written)
		}
	})
}

func TestWriterBoundsLibraryLogs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var written bytes.Buffer
		w := logging.Writer(logging.New(&written, "ingest", variables))
		for range 1000 { // 10 s
			if n, err := w.Write([]byte("http: something about a request\n")); err != nil || n != 32 {
				t.Errorf("Write() = %d, %v", n, err)
			}
			time.Sleep(10 * time.Millisecond)
		}
		got := lines(t, &written)
		if len(got) < 10 || len(got) > 15 {
			t.Errorf("%d lines in 10 s", len(got))
		}
		counted := len(got)
		for _, line := range got {
			dropped, _ := line["dropped"].(float64)
			counted += int(dropped)
			if line["message"] != "http: something about a request" || line["severity"] != "WARNING" {
				t.Errorf("line = %v", line)
			}
		}
		if counted < 900 || counted > 1000 {
			t.Errorf("the lines count %d of 1000 writes", counted)
		}
	})
}

func TestWriterTruncatesLongText(t *testing.T) {
	t.Parallel()
	var written bytes.Buffer
	if _, err := logging.Writer(logging.New(&written, "ingest", variables)).Write(bytes.Repeat([]byte("é"), 1<<20)); err != nil {
		t.Fatal(err)
	}
	if text, _ := only(t, &written)["message"].(string); len(text) < 16<<10 || len(text) > 17<<10 {
		t.Errorf("the message has %d bytes", len(text))
	}
}

func BenchmarkPublishedLine(b *testing.B) {
	log := logging.New(io.Discard, "ingest", variables)
	b.ReportAllocs()
	for b.Loop() {
		log.Info().Uint32("partition", 7).Uint64("sequence", 812).Int("count", 40).Int("sum", 200).Int("bytes", 812).Msg(logging.Published)
	}
}
