package e2e_test

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	spans "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"
)

// logLine is what every line of every service has, and what some have.
type logLine struct {
	Severity, Message, Time, Service string
	Trace                            string `json:"logging.googleapis.com/trace"`
	Count, Sum                       int64
}

// checkLine says what a line of a service lacks.
func checkLine(service, line string) error {
	var l logLine
	if err := json.Unmarshal([]byte(line), &l); err != nil {
		return fmt.Errorf("no JSON: %w", err)
	}
	if _, err := time.Parse(time.RFC3339Nano, l.Time); err != nil {
		return fmt.Errorf("time: %w", err)
	}
	severities := []string{"DEBUG", "INFO", "NOTICE", "WARNING", "ERROR", "CRITICAL"}
	if l.Message == "" || l.Service != service || !slices.Contains(severities, l.Severity) {
		return errors.New("message, service or severity is missing or wrong") //nolint:err113 // for people
	}
	return nil
}

// The lines in which ingest accounts for what it published add up to what was answered 202, to the unit, and so to the
// totals: the log-based metric in terraform/logs.tf sums them.
func TestTheLogSumsWhatWasAccepted(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	s.subscribe(t)
	ingest, query := s.start(t, "ingest"), s.start(t, "query")
	s.start(t, "aggregator")
	load := startLoad(t, ingest, 4, 5*time.Millisecond)
	time.Sleep(3 * time.Second) //nolint:forbidigo // the load runs
	want := load.finish(t)
	awaitStats(t, query, want, 30*time.Second)
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
		t.Errorf("%d lines sum to %d, accepted was %d", lines, logged, accepted)
	}
	t.Logf("%d lines sum to %d", lines, logged)
}

// receiver takes spans by OTLP and keeps them.
type receiver struct {
	collector.UnimplementedTraceServiceServer
	host string
	mu   sync.Mutex
	got  []*spans.Span
}

func startReceiver(t *testing.T) *receiver {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r, server := &receiver{host: listener.Addr().String()}, grpc.NewServer()
	collector.RegisterTraceServiceServer(server, r)
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	t.Cleanup(func() {
		server.Stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return r
}

func (r *receiver) Export(_ context.Context, request *collector.ExportTraceServiceRequest) (*collector.ExportTraceServiceResponse, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, resource := range request.GetResourceSpans() {
		for _, scope := range resource.GetScopeSpans() {
			r.got = append(r.got, scope.GetSpans()...)
		}
	}
	return &collector.ExportTraceServiceResponse{}, nil
}

// of returns the spans of a name that belong to a trace, or are linked to it.
func (r *receiver) of(name, trace string) (found []*spans.Span) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range r.got {
		linked := slices.ContainsFunc(s.GetLinks(), func(l *spans.Span_Link) bool { return hex.EncodeToString(l.GetTraceId()) == trace })
		if s.GetName() == name && (hex.EncodeToString(s.GetTraceId()) == trace || linked) {
			found = append(found, s)
		}
	}
	return found
}

// Two requests of one window, each with a traceparent, are followed by their trace ids from the POST to the Commit: through
// the logs, and through the spans and their links.
func TestARequestIsFollowedByItsTrace(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	receiver := startReceiver(t)
	s.variables["OTEL_EXPORTER_OTLP_ENDPOINT"] = "http://" + receiver.host
	s.variables["OTEL_BSP_SCHEDULE_DELAY"] = "200"
	s.variables["PARTITIONS"] = "1"
	aggregator, ingest, query := s.start(t, "aggregator"), s.start(t, "ingest"), s.start(t, "query")
	traces := []string{"4bf92f3577b34da6a3ce929d0e0e4736", "0af7651916cd43dd8448eb211c80319c"}
	for _, trace := range traces {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, ingest.url+"/increments", strings.NewReader(`{"name":"foo","value":4}`))
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Content-Type", "application/json")
		request.Header.Set("traceparent", "00-"+trace+"-00f067aa0ba902b7-01")
		if r, err := do(request); err != nil || r.status != http.StatusAccepted {
			t.Fatalf("%d, %v", r.status, err)
		}
	}
	awaitStats(t, query, map[string]int64{"foo": 8}, 10*time.Second)
	for _, trace := range traces {
		for _, p := range []*process{ingest, aggregator, query} {
			await(t, "the trace "+trace+" in the log of "+p.name, 10*time.Second, func() error {
				for line := range strings.Lines(p.logged()) {
					var l logLine
					if json.Unmarshal([]byte(line), &l) == nil && l.Trace == "projects/"+s.project+"/traces/"+trace {
						return nil
					}
				}
				return errors.New("no line has it") //nolint:err113 // for people
			})
		}
		for _, name := range []string{"POST /increments", "publish", "commit"} {
			await(t, "the span "+name+" of "+trace, 10*time.Second, func() error {
				if len(receiver.of(name, trace)) == 0 {
					return errors.New("there is none") //nolint:err113 // for people
				}
				return nil
			})
		}
	}
	if request := receiver.of("POST /increments", traces[0])[0]; hex.EncodeToString(request.GetParentSpanId()) != "00f067aa0ba902b7" {
		t.Errorf("the request's span has parent %x", request.GetParentSpanId())
	}
}

// metricRow is one row of the table in docs/metrics.md: | `name` | services | kind | ...
var metricRow = regexp.MustCompile("(?m)^\\| `([a-z_]+)` \\| ([a-z, ]+) \\| ([a-z]+) \\|")

// What docs/metrics.md lists is what a running system exposes: none missing, none undocumented.
func TestTheTableOfMetricsIsWhatIsExposed(t *testing.T) {
	t.Parallel()
	table, err := os.ReadFile(filepath.Join("..", "docs", "metrics.md"))
	if err != nil {
		t.Fatal(err)
	}
	documented := make(map[string]map[string]string) // kinds by service and name
	for _, row := range metricRow.FindAllStringSubmatch(string(table), -1) {
		for _, service := range strings.Split(row[2], ", ") {
			if documented[service] == nil {
				documented[service] = make(map[string]string)
			}
			documented[service][row[1]] = row[3]
		}
	}
	s := newSystem(t)
	services := []*process{s.start(t, "aggregator"), s.start(t, "ingest"), s.start(t, "query")}
	for i := range 3 { // so that everything has something to tell
		mustPost(t, services[1].url+"/increments", fmt.Sprintf(`{"name":"foo","value":%d,"contributor":"ada"}`, i+1))
	}
	awaitStats(t, services[2], map[string]int64{"foo": 6}, 10*time.Second)
	for _, p := range services {
		await(t, "the metrics of "+p.name, 10*time.Second, func() error {
			body, err := get(p.url + "/metrics")
			if err != nil {
				return err
			}
			exposed := make(map[string]string)
			for line := range strings.Lines(body) {
				if fields := strings.Fields(line); len(fields) == 4 && fields[1] == "TYPE" && strings.HasPrefix(fields[2], "accrue_") {
					exposed[fields[2]] = fields[3]
				}
			}
			var differing []string
			for name, kind := range exposed {
				if documented[p.name][name] != kind {
					differing = append(differing, fmt.Sprintf("%s is a %s, documented as %q", name, kind, documented[p.name][name]))
				}
			}
			for name := range documented[p.name] {
				if exposed[name] == "" {
					differing = append(differing, name+" is documented and not exposed")
				}
			}
			if slices.Sort(differing); len(differing) > 0 {
				return errors.New(strings.Join(differing, "\n")) //nolint:err113 // for people
			}
			return nil
		})
	}
}
