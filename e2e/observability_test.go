package e2e_test

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	spans "go.opentelemetry.io/proto/otlp/trace/v1"

	"github.com/accrue/accrue/pkg/telemetry/telemetrytest"
)

// logLine has the fields of log lines that the tests check.
type logLine struct {
	Severity, Message, Time, Service string
	Labels                           struct{ Service, Instance string }    `json:"logging.googleapis.com/labels"`
	SourceLocation                   struct{ File, Line, Function string } `json:"logging.googleapis.com/sourceLocation"`
	ServiceContext                   struct{ Service string }
	Trace                            string `json:"logging.googleapis.com/trace"`
	SpanID                           string `json:"logging.googleapis.com/spanId"`
	Sampled                          *bool  `json:"logging.googleapis.com/trace_sampled"`
	HTTPRequest                      *struct {
		RequestMethod, RequestURL, Latency, Protocol string
		Status                                       int
	}
	Count, Sum int64
}

var (
	traceForm   = regexp.MustCompile(`^projects/[a-z0-9-]+/traces/[0-9a-f]{32}$`)
	spanForm    = regexp.MustCompile(`^[0-9a-f]{16}$`)
	latencyForm = regexp.MustCompile(`^[0-9]+\.[0-9]+s$`)
)

// checkLine checks that a log line has the fields that Cloud Logging and Error Reporting read.
func checkLine(service, line string) error {
	var l logLine
	if err := json.Unmarshal([]byte(line), &l); err != nil {
		return fmt.Errorf("not JSON: %w", err)
	}
	if _, err := time.Parse(time.RFC3339Nano, l.Time); err != nil {
		return fmt.Errorf("time: %w", err)
	}
	severities := []string{"DEBUG", "INFO", "NOTICE", "WARNING", "ERROR", "CRITICAL"}
	rank := slices.Index(severities, l.Severity)
	var errs []error
	check := func(ok bool, field string) {
		if !ok {
			errs = append(errs, fmt.Errorf("missing, invalid or unexpected %s", field))
		}
	}
	check(rank >= 0, "severity")
	check(l.Message != "", "message")
	check(l.Service == service && l.Labels.Service == service && l.Labels.Instance != "", "service, or its labels")
	check((l.SourceLocation.File != "" && l.SourceLocation.Line != "" && l.SourceLocation.Function != "") == (rank >= 3), "sourceLocation")
	check((l.ServiceContext.Service == service) == (rank >= 4), "serviceContext")
	traced := l.Trace != "" || l.SpanID != "" || l.Sampled != nil
	check(!traced || traceForm.MatchString(l.Trace) && spanForm.MatchString(l.SpanID) && l.Sampled != nil, "trace")
	if r := l.HTTPRequest; r != nil {
		check(r.RequestMethod != "" && strings.HasPrefix(r.RequestURL, "/") && r.Status > 0 && latencyForm.MatchString(r.Latency) && r.Protocol != "", "httpRequest")
	}
	return errors.Join(errs...)
}

// The sums in ingest's "published" lines add up to what was answered 202. A log-based metric in terraform/logs.tf adds them up. The
// counters of the services agree.
func TestPublishedLogLinesSumToAccepted(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	s.subscribe(t)
	ingest, query := s.start(t, "ingest"), s.start(t, "query")
	aggregator := s.start(t, "aggregator")
	load := startLoad(t, ingest, 4, 5*time.Millisecond)
	time.Sleep(3 * time.Second) // the load runs
	s.auditMetrics(t, ingest.url, aggregator.url)
	want := load.finish(t)
	awaitStats(t, query, want, 30*time.Second)
	s.auditMetrics(t, ingest.url, aggregator.url)
	ingest.stop()
	var accepted, logged, lines int64
	for _, n := range want {
		accepted += n
	}
	for line := range strings.Lines(ingest.logged()) {
		var l logLine
		if json.Unmarshal([]byte(line), &l) == nil && l.Message == "published" {
			logged += l.Sum
			lines++
		}
	}
	if logged != accepted || lines == 0 {
		t.Errorf("%d lines sum to %d, want %d", lines, logged, accepted)
	}
	t.Logf("%d lines sum to %d", lines, logged)
}

// Three requests in one window, each with its own trace, can be followed from the POST to the Commit: by the trace ids in the
// logs of ingest and the aggregator, and by the spans. The last request has Google's older trace header.
func TestRequestsAreTracedToTheCommit(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	received, endpoint := telemetrytest.StartGRPC(t)
	s.variables["OTEL_EXPORTER_OTLP_ENDPOINT"] = endpoint
	s.variables["OTEL_EXPORTER_OTLP_PROTOCOL"] = "grpc"
	s.variables["OTEL_BSP_SCHEDULE_DELAY"] = "200"
	s.variables["PARTITIONS"] = "1"
	aggregator, ingest, query := s.start(t, "aggregator"), s.start(t, "ingest"), s.start(t, "query")
	traces := []string{"4bf92f3577b34da6a3ce929d0e0e4736", "0af7651916cd43dd8448eb211c80319c", "105445aa7843bc8bf206b12000100000"}
	for i, trace := range traces {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, ingest.url+"/increments",
			strings.NewReader(`{"name":"foo","value":4,"contributor":"ada@example.com"}`))
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Content-Type", "application/json")
		if i < 2 {
			request.Header.Set("traceparent", "00-"+trace+"-00f067aa0ba902b7-01")
		} else {
			request.Header.Set("X-Cloud-Trace-Context", trace+"/67667974448284343;o=1") // 00f067aa0ba902b7
		}
		if r, err := do(request); err != nil || r.status != http.StatusAccepted {
			t.Fatalf("%d, %v", r.status, err)
		}
	}
	awaitStats(t, query, map[string]int64{"foo": 12}, 10*time.Second)
	for _, trace := range traces {
		for _, step := range []struct {
			service *process
			message string
		}{{ingest, "in the topic"}, {aggregator, "committed"}} {
			await(t, "trace "+trace+" in the log of "+step.service.name, 10*time.Second, func() error {
				for line := range strings.Lines(step.service.logged()) {
					var l logLine
					if json.Unmarshal([]byte(line), &l) == nil && l.Trace == "projects/"+s.project+"/traces/"+trace && l.Message == step.message {
						return nil
					}
				}
				return fmt.Errorf("no line %q", step.message)
			})
		}
		for _, name := range []string{"POST /increments", "publish", "commit"} {
			await(t, "span "+name+" of "+trace, 10*time.Second, func() error {
				if len(received.Of(name, trace)) == 0 {
					return errors.New("not received")
				}
				return nil
			})
		}
		if span := received.Of("POST /increments", trace)[0]; hex.EncodeToString(span.GetParentSpanId()) != "00f067aa0ba902b7" {
			t.Errorf("span of the request has parent %x", span.GetParentSpanId())
		}
	}
	// The publish and the Commit of all three requests continue the first trace: each span leads up to its request.
	parents := map[string]string{"publish": "POST /increments", "commit": "publish"}
	for name, parent := range parents {
		for _, span := range received.Named(name) {
			if hex.EncodeToString(span.GetTraceId()) != traces[0] {
				continue
			}
			if !slices.ContainsFunc(received.Of(parent, traces[0]), func(p *spans.Span) bool {
				return slices.Equal(p.GetSpanId(), span.GetParentSpanId()) && p.GetStartTimeUnixNano() <= span.GetEndTimeUnixNano()
			}) {
				t.Errorf("%v has no parent %s", span, parent)
			}
		}
	}
}

// metricRow matches a row of the table in docs/metrics.md: | `name` | services | kind | unit | labels | ...
var metricRow = regexp.MustCompile("(?m)^\\| `([a-z_]+)` \\| ([a-z, ]+) \\| ([a-z]+) \\| ([A-Za-z ]+) \\| ([`a-z_, ]*)\\|")

// exposedMetric has the properties of a metric that the table and the exposition must agree on.
type exposedMetric struct{ kind, labels string }

// labelForm matches the labels in a line of an exposition.
var labelForm = regexp.MustCompile(`[{,]([a-z_]+)="`)

// exposed returns the metrics of Accrue in an exposition.
func exposed(body string) map[string]exposedMetric {
	metrics := make(map[string]exposedMetric)
	for line := range strings.Lines(body) {
		if fields := strings.Fields(line); len(fields) == 4 && fields[1] == "TYPE" && strings.HasPrefix(fields[2], "accrue_") {
			metrics[fields[2]] = exposedMetric{kind: fields[3]}
		}
	}
	for line := range strings.Lines(body) {
		name, _, _ := strings.Cut(strings.Fields(line)[0], "{")
		for _, suffix := range []string{"", "_bucket"} {
			m, ok := metrics[strings.TrimSuffix(name, suffix)]
			if !ok {
				continue
			}
			var labels []string
			for _, label := range labelForm.FindAllStringSubmatch(line, -1) {
				if label[1] != "le" {
					labels = append(labels, label[1])
				}
			}
			slices.Sort(labels)
			m.labels = strings.Join(labels, ", ")
			metrics[strings.TrimSuffix(name, suffix)] = m
		}
	}
	return metrics
}

// docs/metrics.md lists exactly the metrics that a running system exposes, with their kinds and labels.
func TestMetricsTableEqualsExposedMetrics(t *testing.T) {
	t.Parallel()
	table, err := os.ReadFile(filepath.Join("..", "docs", "metrics.md"))
	if err != nil {
		t.Fatal(err)
	}
	documented := make(map[string]map[string]exposedMetric) // by service and name
	for _, row := range metricRow.FindAllStringSubmatch(string(table), -1) {
		if unit := row[4]; (unit == "seconds" || unit == "bytes") && !strings.Contains(row[1], "_"+unit) {
			t.Errorf("%s is documented in %s", row[1], unit)
		}
		labels := strings.FieldsFunc(row[5], func(r rune) bool { return strings.ContainsRune("`, ", r) })
		slices.Sort(labels)
		for _, service := range strings.Split(row[2], ", ") {
			if documented[service] == nil {
				documented[service] = make(map[string]exposedMetric)
			}
			documented[service][row[1]] = exposedMetric{row[3], strings.Join(labels, ", ")}
		}
	}
	s := newSystem(t)
	s.variables["RECOGNITION_WEBHOOKS"] = "nobody=http://127.0.0.1:1/"
	s.variables["RECOGNITION_WEBHOOK_SECRETS"] = "nobody=whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	services := []*process{s.start(t, "aggregator"), s.start(t, "ingest"), s.start(t, "query")}
	for i := range 3 { // so that every metric has a value
		mustPost(t, services[1].url+"/increments", fmt.Sprintf(`{"name":"foo","value":%d,"contributor":"ada"}`, i+1))
	}
	awaitStats(t, services[2], map[string]int64{"foo": 6}, 10*time.Second)
	for _, p := range services {
		await(t, "documented metrics of "+p.name, 10*time.Second, func() error {
			body, err := get(p.url + "/metrics")
			if err != nil {
				return err
			}
			var differing []string
			got, want := exposed(body), documented[p.name]
			for name, m := range got {
				if want[name] != m {
					differing = append(differing, fmt.Sprintf("%s is %+v, documented as %+v", name, m, want[name]))
				}
			}
			for name := range want {
				if got[name] == (exposedMetric{}) {
					differing = append(differing, name+" is documented but not exposed")
				}
			}
			if slices.Sort(differing); len(differing) > 0 {
				return errors.New(strings.Join(differing, "\n"))
			}
			return nil
		})
	}
}
