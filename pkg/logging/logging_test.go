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

	"github.com/accrue/accrue/pkg/logging"
	"github.com/accrue/accrue/pkg/tracecontext"
)

// lines are what was written, one object a line.
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

// only returns the one line that was written.
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

func TestALineHasWhatCloudLoggingReads(t *testing.T) {
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
			t.Errorf("%s: a source location: %v", name, located)
		}
		if _, reported := line["serviceContext"]; reported != (tc.severity == "ERROR") {
			t.Errorf("%s: a service context: %v", name, reported)
		}
	}
}

func TestAWorkerPoolsRevisionIsNamed(t *testing.T) {
	t.Parallel()
	var written bytes.Buffer
	log := logging.New(&written, "aggregator", map[string]string{"CLOUD_RUN_REVISION": "aggregator-2"})
	log.Info().Msg("hello")
	if labels := dict(t, only(t, &written), "logging.googleapis.com/labels"); labels["revision"] != "aggregator-2" {
		t.Errorf("labels = %v", labels)
	}
}

// A device that is no terminal is for machines: /dev/null is one, and what is written there is what is written elsewhere.
func TestADeviceIsNoTerminal(t *testing.T) {
	t.Parallel()
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close() //nolint:errcheck // nothing is in it
	var copied bytes.Buffer
	log := logging.New(null, "ingest", variables).Output(&copied)
	log.Info().Msg(logging.Published)
	if line := only(t, &copied); line["message"] != logging.Published || line["logging.googleapis.com/labels"] == nil {
		t.Errorf("line = %v", line)
	}
}

func TestInstancesAreToldApart(t *testing.T) {
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

func TestALineOfAContextBelongsToItsTrace(t *testing.T) {
	t.Parallel()
	var written bytes.Buffer
	trace, ok := tracecontext.Parse("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
	if !ok {
		t.Fatal("no trace")
	}
	log := logging.New(&written, "ingest", variables)
	log.Info().Ctx(tracecontext.With(t.Context(), trace)).Msg("hello")
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
		t.Errorf("a line without a trace: %v", line)
	}
}

// A warning's place is where it was logged, however many hands it went through here.
func TestASourceLocationIsThatOfTheCaller(t *testing.T) {
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
		if function, _ := at["function"].(string); !strings.Contains(function, "logging_test.TestASourceLocationIsThatOfTheCaller") {
			t.Errorf("%s: function = %v", name, at["function"])
		}
	}
}

func TestAPanicIsOneLineWithItsStack(t *testing.T) {
	t.Parallel()
	var written bytes.Buffer
	log := logging.New(&written, "ingest", variables)
	func() {
		defer func() { logging.Panic(context.Background(), log, recover()) }()
		panic("oh")
	}()
	line := only(t, &written)
	message, _ := line["message"].(string)
	if !strings.HasPrefix(message, "panic: oh\n\ngoroutine ") || !strings.Contains(message, "TestAPanicIsOneLineWithItsStack") {
		t.Errorf("message = %q", message)
	}
	service := dict(t, line, "serviceContext")
	if line["severity"] != "ERROR" || service["service"] != "ingest" || service["version"] != "ingest-00007" {
		t.Errorf("line = %v", line)
	}
}

func TestAFatalErrorIsReported(t *testing.T) {
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

// A long outage that works now and then is told in few lines, and no failure is missing from them.
func TestAnOutageIsToldInFewLines(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var written bytes.Buffer
		outage := logging.NewOutage(logging.New(&written, "aggregator", variables), zerolog.WarnLevel, "commit")
		outage.Succeeded() // nothing to say
		if first := outage.Failed(io.EOF, nil); !first || !outage.Lasts() {
			t.Errorf("Failed() = %v, lasts %v", first, outage.Lasts())
		}
		line := only(t, &written)
		if line["message"] != "cannot commit" || line["failures"] != 1.0 || line["severity"] != "WARNING" || line["error"] != "EOF" {
			t.Errorf("first line = %v", line)
		}
		written.Reset()
		for range 250 { // 25 s
			time.Sleep(100 * time.Millisecond)
			if outage.Failed(io.EOF, func(e *zerolog.Event) { e.Int("partition", 7) }) {
				t.Error("a later failure is the first")
			}
		}
		told := lines(t, &written)
		if len(told) != 2 || told[0]["failures"] != 100.0 || told[1]["failures"] != 100.0 || told[1]["partition"] != 7.0 {
			t.Errorf("in 25 s: %v", told)
		}
		written.Reset()
		outage.Succeeded()
		outage.Succeeded()
		line = only(t, &written)
		if line["message"] != "works again: commit" || line["failures"] != 251.0 || line["failed_ms"] != 25000.0 || outage.Lasts() {
			t.Errorf("last line = %v", line)
		}
		written.Reset()
		for range 100 { // 10 s of failing and working in turns
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
		if told := lines(t, &written); len(told) > 4 || failures == 0 {
			t.Errorf("failing in turns, in 10 s: %d lines that tell of %v failures\n%s", len(told), failures, &written)
		}
	})
}

// A library may say the same of every request: a line a second tells of it at most.
func TestWhatLibrariesSayIsBounded(t *testing.T) {
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
		told := lines(t, &written)
		if len(told) < 10 || len(told) > 15 {
			t.Errorf("%d lines in 10 s", len(told))
		}
		said := len(told)
		for _, line := range told {
			dropped, _ := line["dropped"].(float64)
			said += int(dropped)
			if line["message"] != "http: something about a request" || line["severity"] != "WARNING" {
				t.Errorf("line = %v", line)
			}
		}
		if said < 900 || said > 1000 {
			t.Errorf("the lines tell of %d texts, of 1000", said)
		}
	})
}

func TestALongTextIsCutToALine(t *testing.T) {
	t.Parallel()
	var written bytes.Buffer
	if _, err := logging.Writer(logging.New(&written, "ingest", variables)).Write(bytes.Repeat([]byte("é"), 1<<20)); err != nil {
		t.Fatal(err)
	}
	if text, _ := only(t, &written)["message"].(string); len(text) < 16<<10 || len(text) > 17<<10 {
		t.Errorf("the line's message has %d bytes", len(text))
	}
}

func BenchmarkPublishedLine(b *testing.B) {
	log := logging.New(io.Discard, "ingest", variables)
	b.ReportAllocs()
	for b.Loop() {
		log.Info().Uint32("partition", 7).Uint64("sequence", 812).Int("count", 40).Int("sum", 200).Int("bytes", 812).Msg(logging.Published)
	}
}
