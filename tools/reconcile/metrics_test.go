package reconcile

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/accrue/accrue/tools/cli"
)

// service serves the metrics that it has at the time of the request.
func service(t *testing.T, metrics func() string) string {
	t.Helper()
	mux := http.NewServeMux()
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, metrics()) })
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	return server.URL
}

func fixed(text string) func() string { return func() string { return text } }

func ingestMetrics(ok, failed int) string {
	return fmt.Sprintf(`# TYPE accrue_publish_window_bytes gauge
accrue_publish_window_bytes 1e+06
# TYPE accrue_publish_entries_total counter
accrue_publish_entries_total{result="ok"} %d
accrue_publish_entries_total{result="failed"} %d
`, ok, failed)
}

func aggregatorMetrics(counted, rejected, repeated, unknown int) string {
	return fmt.Sprintf(`# TYPE accrue_entries_counted_total counter
accrue_entries_counted_total %d
# TYPE accrue_entries_rejected_total counter
accrue_entries_rejected_total{reason="full"} %d
accrue_entries_rejected_total{reason="refused"} 0
# TYPE accrue_keys_repeated_total counter
accrue_keys_repeated_total %d
# TYPE accrue_commits_total counter
accrue_commits_total{result="ok",trigger="age"} 9
accrue_commits_total{result="unknown",trigger="age"} %d
`, counted, rejected, repeated, unknown)
}

func TestReconcileMetrics(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		ingests, aggregators []string
		code                 int
		prints               string
	}{
		"all is settled": {
			[]string{ingestMetrics(60, 0), ingestMetrics(40, 0)}, []string{aggregatorMetrics(80, 7, 3, 0), aggregatorMetrics(10, 0, 0, 0)}, 0,
			"accepted 100 = counted 90 + rejected 7 + repeated 3 + in flight 0\n",
		},
		"one is lost": {
			[]string{ingestMetrics(100, 0)}, []string{aggregatorMetrics(89, 7, 3, 0)}, 1,
			"in flight 1\naccrue reconcile: entries are in flight for too long, or lost",
		},
		"one is counted twice": {[]string{ingestMetrics(100, 0)}, []string{aggregatorMetrics(91, 7, 3, 0)}, 1, "more was counted than was accepted"},
		"a publish that failed was in": {
			[]string{ingestMetrics(90, 10)}, []string{aggregatorMetrics(95, 0, 0, 0)}, 0, "in flight -5 (10 more were published or not)",
		},
		"a Commit whose reply was lost": {[]string{ingestMetrics(100, 0)}, []string{aggregatorMetrics(90, 0, 0, 1)}, 1, "compare with --archive"},
		"no aggregator":                 {[]string{ingestMetrics(100, 0)}, nil, 1, "none of the addresses has metrics of an aggregator"},
		"no ingest":                     {nil, []string{aggregatorMetrics(1, 0, 0, 0)}, 1, "none of the addresses has metrics of ingest"},
		"no metrics":                    {[]string{"<html>"}, nil, 1, "read the metrics of http://127.0.0.1:"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			arguments := []string{"--wait", "0s"}
			for _, text := range append(test.ingests, test.aggregators...) {
				arguments = append(arguments, "--metrics", service(t, fixed(text)))
			}
			var output bytes.Buffer
			code := cli.Execute(t.Context(), Command(nil), arguments, &output, &output)
			if code != test.code || !strings.Contains(strings.ReplaceAll(output.String(), "reconcile: ", "accrue reconcile: "), test.prints) {
				t.Errorf("the exit code is %d, want %d; %q is not in\n%s", code, test.code, test.prints, &output)
			}
		})
	}
}

// Under load something is always in flight. What was accepted when the command began is counted in the end.
func TestReconcileMetricsUnderLoad(t *testing.T) {
	t.Parallel()
	var accepted, counted atomic.Int64
	accepted.Store(1_000)
	both := service(t, func() string {
		defer accepted.Add(500)
		defer counted.Add(500)
		return ingestMetrics(int(accepted.Load()), 0) + aggregatorMetrics(int(counted.Load()), 0, 0, 0)
	})
	var stdout, stderr bytes.Buffer
	if code := cli.Execute(t.Context(), Command(nil), []string{"--metrics", both + "/metrics", "--json"}, &stdout, &stderr); code != 0 {
		t.Errorf("the exit code is %d: %s", code, &stderr)
	}
	if !strings.Contains(stdout.String(), `"in_flight": 1000`) || !strings.Contains(stderr.String(), "counted 500") {
		t.Errorf("printed %s\n%s", &stdout, &stderr)
	}
}

func TestReconcileRefusesFlagsThatContradict(t *testing.T) {
	t.Parallel()
	for _, arguments := range [][]string{
		{"--metrics", "localhost:8080"},
		{"--metrics", "http://127.0.0.1:1", "--archive", "-"},
		{"--project", "p", "--subscription", "s"},
		{"--project", "p", "--subscription", "s", "--archive", "-"},
		{"--data", t.TempDir(), "--subscription", "s", "--archive", "a.json"},
	} {
		var stdout, stderr bytes.Buffer
		if code := cli.Execute(t.Context(), Command(nil), arguments, &stdout, &stderr); code != 2 {
			t.Errorf("%q: the exit code is %d: %s", arguments, code, &stderr)
		}
	}
}
