package local

import (
	"context"
	"io"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// lines is an output that is read while it is written.
type lines struct {
	written chan struct{}

	mu sync.Mutex
	b  strings.Builder
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case l.written <- struct{}{}:
	default: // there is a token already
	}
	return l.b.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// await waits for a text in the output and returns its parts.
func (l *lines) await(t *testing.T, pattern string) []string {
	t.Helper()
	patience := time.After(30 * time.Second)
	for {
		if found := regexp.MustCompile(pattern).FindStringSubmatch(l.String()); found != nil {
			return found
		}
		select {
		case <-l.written:
		case <-patience:
			t.Fatalf("nothing like %s within 30 s in:\n%s", pattern, l)
		}
	}
}

// The three curl commands of the README, and a fourth.
func TestRecognizesThreeContributionsOnce(t *testing.T) {
	t.Parallel()
	ctx, stop := context.WithCancel(t.Context())
	stdout := &lines{written: make(chan struct{}, 1)}
	ended := make(chan error, 1)
	go func() {
		ended <- run(ctx, map[string]string{"WINDOW": "100ms", "REFRESH": "20ms"}, "127.0.0.1:0", 0, "", stdout, io.Discard)
	}()
	ingest := stdout.await(t, `post +(http://\S+)/increments\n`)[1]
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	for range 4 {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, ingest+"/contributions", strings.NewReader(`{"contributor":"ada"}`))
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Content-Type", "application/json")
		response, err := client.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
		if response.StatusCode != http.StatusAccepted {
			t.Errorf("a contribution was answered %d", response.StatusCode)
		}
	}
	stdout.await(t, `recognized "ada" for reaching tier 3, with [34] contributions, at \S+\n`)
	stop()
	if err := <-ended; err != nil {
		t.Errorf("run() = %v", err)
	}
	if n := strings.Count(stdout.String(), "recognized "); n != 1 {
		t.Errorf("printed %d recognitions:\n%s", n, stdout)
	}
}

func TestTotalsSurviveARestart(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	for _, want := range []string{`{"foo":4}`, `{"foo":8}`} {
		ctx, stop := context.WithCancel(t.Context())
		stdout, stderr := &lines{written: make(chan struct{}, 1)}, &lines{written: make(chan struct{}, 1)}
		ended := make(chan error, 1)
		go func() {
			ended <- run(ctx, map[string]string{"WINDOW": "100ms", "REFRESH": "20ms", "LOG_FORMAT": "json"}, "127.0.0.1:0", 0, folder, stdout, stderr)
		}()
		ingest, query := stdout.await(t, `post +(http://\S+)/increments\n`)[1], stdout.await(t, `read +(http://\S+)/stats\n`)[1]
		if want != `{"foo":4}` {
			stderr.await(t, `found 0 messages waiting, totals as of \d\d:\d\d:\d\d`)
		}
		client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, ingest+"/increments", strings.NewReader(`{"name":"foo","value":4}`))
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Content-Type", "application/json")
		response, err := client.Do(request)
		if err != nil || response.StatusCode != http.StatusAccepted {
			t.Fatalf("an increment was answered %v: %v", response, err)
		}
		_ = response.Body.Close()
		var body []byte
		for patience := time.Now().Add(30 * time.Second); strings.TrimSpace(string(body)) != want && time.Now().Before(patience); time.Sleep(10 * time.Millisecond) {
			if request, err = http.NewRequestWithContext(t.Context(), http.MethodGet, query+"/stats", http.NoBody); err != nil {
				t.Fatal(err)
			}
			if response, err = client.Do(request); err == nil {
				body, _ = io.ReadAll(response.Body)
				_ = response.Body.Close()
			}
		}
		if strings.TrimSpace(string(body)) != want {
			t.Errorf("totals are %s, want %s", body, want)
		}
		stop()
		if err := <-ended; err != nil {
			t.Errorf("run() = %v", err)
		}
	}
}

func TestOneAddressServesEverything(t *testing.T) {
	t.Parallel()
	ctx, stop := context.WithCancel(t.Context())
	stdout := &lines{written: make(chan struct{}, 1)}
	ended := make(chan error, 1)
	go func() {
		ended <- run(ctx, map[string]string{"WINDOW": "100ms", "REFRESH": "20ms"}, "127.0.0.1:0", 0, "", stdout, io.Discard)
	}()
	address := stdout.await(t, `look +(http://\S+)/\n`)[1]
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	get := func(path string) (int, string) {
		t.Helper()
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address+path, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		response, err := client.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close() //nolint:errcheck // read
		body, err := io.ReadAll(response.Body)
		if err != nil {
			t.Fatal(err)
		}
		return response.StatusCode, string(body)
	}
	for patience := time.Now().Add(30 * time.Second); time.Now().Before(patience); time.Sleep(10 * time.Millisecond) {
		if status, _ := get("/health/ready"); status == http.StatusOK {
			break
		}
	}
	for path, want := range map[string]string{
		"/": "<title>Accrue</title>", "/stats": "{", "/tags": `"tags"`, "/health/live": "", "/health/ready": "",
		"/docs/index.html": "swagger", "/metrics": "accrue_build_info",
	} {
		if status, body := get(path); status != http.StatusOK || !strings.Contains(body, want) {
			t.Errorf("GET %s = %d %.100s, want %q", path, status, body, want)
		}
	}
	if status, _ := get("/increments"); status != http.StatusMethodNotAllowed {
		t.Errorf("GET /increments = %d, want 405", status)
	}
	for _, metric := range []string{"accrue_pending_bytes", "accrue_messages_pulled_total", "accrue_view_age_seconds"} {
		if _, body := get("/metrics"); !strings.Contains(body, metric) {
			t.Errorf("/metrics lacks %s of one of the services", metric)
		}
	}
	_, text := get("/openapi.json")
	document, err := openapi3.NewLoader().LoadFromData([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	if err := document.Validate(t.Context()); err != nil {
		t.Errorf("the merged OpenAPI document is not valid: %v", err)
	}
	for _, path := range []string{"/increments", "/contributions/batch", "/stats", "/tags/{name}/history", "/health/ready"} {
		if document.Paths.Value(path) == nil {
			t.Errorf("the merged OpenAPI document lacks %s", path)
		}
	}
	stop()
	if err := <-ended; err != nil {
		t.Errorf("run() = %v", err)
	}
}
