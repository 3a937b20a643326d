package e2e_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/chromedp/cdproto/audits"
	"github.com/chromedp/chromedp"
)

const typescriptClient = "../clients/typescript"

// requireTypeScriptClient skips the test if the TypeScript client is not built or Node is not installed. In CI it fails.
func requireTypeScriptClient(t *testing.T) {
	t.Helper()
	_, err := exec.LookPath("node")
	if err == nil {
		_, err = os.Stat(typescriptClient + "/dist/index.js")
	}
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skipf("%v: run `npm ci && npm run build` in clients/typescript", err)
	}
}

// countAll is a function for the TypeScript client that adds many increments in small batches and reports its progress.
const countAll = `
async function countAll(Client, url, entries, progress) {
	let counted = 0, retries = 0
	const client = new Client({ url, batch: 20, queue: 500, posts: 2,
		report: ({ entries, error }) => progress({ counted: error ? counted : counted += entries.length, retries, error: error?.message }),
		reportRetry: () => progress({ counted, retries: ++retries }) })
	for (let i = 0; i < entries; i++) {
		await client.room()
		client.add(i % 10 === 0 ? { name: "ballz", value: 9, contributor: "ada" } : { name: "foo", value: 1 })
		if (i % 100 === 0) {
			await new Promise(resolve => setTimeout(resolve, 15))
		}
	}
	await client.close()
	progress({ counted, retries, done: true })
}`

// progress is the progress of countAll.
type progress struct {
	Counted, Retries int
	Error            string
	Done             bool
}

const tsEntries = 10_000

// killIngestTwice kills and restarts ingest after a fifth and after half of the entries of countAll, and waits until it is done.
func killIngestTwice(t *testing.T, s *system, ingest *process, state func() progress) {
	t.Helper()
	address, err := url.Parse(ingest.url)
	if err != nil {
		t.Fatal(err)
	}
	reached := func(what string, limit time.Duration, condition func(progress) bool) {
		await(t, what, limit, func() error {
			p := state()
			if p.Error != "" {
				t.Fatalf("the client reports %s", p.Error)
			}
			if !condition(p) {
				return fmt.Errorf("%+v", p)
			}
			return nil
		})
	}
	for _, at := range []int{tsEntries / 5, tsEntries / 2} {
		reached(fmt.Sprintf("%d entries counted", at), time.Minute, func(p progress) bool { return p.Counted >= at })
		before := state().Retries
		ingest.kill()
		reached("a retry", time.Minute, func(p progress) bool { return p.Retries > before })
		ingest = s.startAt(t, "ingest", address.Port())
	}
	reached("the end of the program", 2*time.Minute, func(p progress) bool { return p.Done })
	if p := state(); p.Counted != tsEntries {
		t.Errorf("the client reports %d entries as counted, want %d", p.Counted, tsEntries)
	}
}

func awaitTSTotals(t *testing.T, query *process) {
	t.Helper()
	awaitStats(t, query, map[string]int64{"foo": tsEntries * 9 / 10, "ballz": 9 * tsEntries / 10}, 30*time.Second)
	body, err := get(query.url + "/contributors/ada")
	if want := fmt.Sprintf(`"contributions":%d,`, tsEntries/10); err != nil || !strings.Contains(body, want) {
		t.Errorf("%s %v, want %s", body, err, want)
	}
}

// A Node program counts with the TypeScript client while ingest is killed twice.
func TestTypeScriptClientInNodeCountsThroughKills(t *testing.T) {
	t.Parallel()
	requireTypeScriptClient(t)
	s := newSystem(t)
	ingest, query := s.start(t, "ingest"), s.start(t, "query")
	s.start(t, "aggregator")
	program := countAll + `
const { Client } = await import(process.argv[1])
await countAll(Client, process.argv[2], +process.argv[3], p => console.log(JSON.stringify(p)))`
	library, err := filepath.Abs(typescriptClient + "/dist/index.js")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("node", "--input-type=module", "--eval", program, library, ingest.url, fmt.Sprint(tsEntries))
	cmd.Stderr = os.Stderr
	output, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var last progress
	ended := make(chan error, 1)
	go func() {
		lines := bufio.NewScanner(output)
		for lines.Scan() {
			mu.Lock()
			_ = json.Unmarshal(lines.Bytes(), &last) // the test notices missing progress
			mu.Unlock()
		}
		ended <- cmd.Wait()
	}()
	t.Cleanup(func() { _ = cmd.Process.Kill() }) // it may have exited
	killIngestTwice(t, s, ingest, func() progress {
		mu.Lock()
		defer mu.Unlock()
		return last
	})
	if err := <-ended; err != nil {
		t.Error(err)
	}
	awaitTSTotals(t, query)
}

// serveTypeScriptClient serves the client, its examples and an empty page on their own origin.
func serveTypeScriptClient(t *testing.T) string {
	t.Helper()
	mux := http.NewServeMux()
	mux.Handle("/", http.FileServer(http.Dir(typescriptClient)))
	mux.HandleFunc("/empty", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		_, _ = w.Write([]byte(`<!doctype html><html lang="en"><link rel="icon" href="data:,"><title>Another origin</title>`))
	})
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	return server.URL
}

// A page of another origin counts with the TypeScript client while ingest is killed twice.
func TestTypeScriptClientInABrowserCountsThroughKills(t *testing.T) {
	t.Parallel()
	requireTypeScriptClient(t)
	s := newSystem(t)
	ingest, query := s.start(t, "ingest"), s.start(t, "query")
	s.start(t, "aggregator")
	b := openBrowser(t, serveTypeScriptClient(t)+"/empty")
	b.allowFailedRequests(true)
	evaluate[bool](b, countAll+fmt.Sprintf(`; globalThis.progress = {counted: 0, retries: 0}
		import("/dist/index.js").then(({Client}) => countAll(Client, %q, %d, p => Object.assign(globalThis.progress, p)))
			.catch(e => globalThis.progress.error = String(e)); true`, ingest.url, tsEntries))
	killIngestTwice(t, s, ingest, func() (p progress) {
		if err := json.Unmarshal([]byte(evaluate[string](b, `JSON.stringify(globalThis.progress)`)), &p); err != nil {
			t.Fatal(err)
		}
		return p
	})
	awaitTSTotals(t, query)
	b.close()
}

// When its page closes, the client sends waiting entries, and those in flight a second time. Everything counts once.
func TestTypeScriptClientSendsTheRestWhenThePageCloses(t *testing.T) {
	t.Parallel()
	requireTypeScriptClient(t)
	s := newSystem(t)
	ingest, query := s.start(t, "ingest"), s.start(t, "query")
	s.start(t, "aggregator")
	page := serveTypeScriptClient(t)
	b := openBrowser(t, page+"/empty")
	b.allowFailedRequests(true)
	b.tolerate(audits.InspectorIssueCodeGenericIssue) // about navigation without user interaction
	begin := func() {
		evaluate[bool](b, fmt.Sprintf(`globalThis.state = "", import("/dist/index.js").then(({Client}) => {
			globalThis.add = (name, n) => { for (let i = 0; i < n; i++) client.add({name, value: 1}) }
			globalThis.client = new Client({url: %q, batch: 100})
			globalThis.state = "begun"
		}), true`, ingest.url))
		b.await("state", "begun")
	}

	// A page that has not posted anything closes.
	begin()
	evaluate[bool](b, `add("waiting", 600), location.href = "/empty?1", true`)
	awaitStats(t, query, map[string]int64{"waiting": 600}, 30*time.Second)

	// A page with requests in flight closes, which aborts them.
	b.await(`location.search`, "?1")
	begin()
	evaluate[bool](b, `add("before", 1), client.flush().then(() => globalThis.state = "flushed"), true`)
	b.await("state", "flushed")
	if err := ingest.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	evaluate[bool](b, `add("under_way", 300), true`)
	await(t, "requests in flight", patience, func() error {
		if got := evaluate[string](b, `String(client.waiting)`); got != "0" {
			return fmt.Errorf("%s entries waiting", got)
		}
		return nil
	})
	evaluate[bool](b, `add("last", 50), location.href = "/empty?2", true`)
	b.await(`location.search`, "?2")
	if err := ingest.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	awaitStats(t, query, map[string]int64{"waiting": 600, "before": 1, "under_way": 300, "last": 50}, 30*time.Second)
	b.close()
}

// Increments in beacons are counted. Without a preflight request a beacon can only send text.
func TestBeaconsAreCounted(t *testing.T) {
	t.Parallel()
	requireTypeScriptClient(t)
	s := newSystem(t)
	ingest, query := s.start(t, "ingest"), s.start(t, "query")
	s.start(t, "aggregator")
	b := openBrowser(t, serveTypeScriptClient(t)+"/empty")
	b.tolerate(audits.InspectorIssueCodeGenericIssue) // about the answer, which no page reads
	b.await(fmt.Sprintf(`String(navigator.sendBeacon(%q, JSON.stringify({name: "foo", value: 4, id: "beacon"})))`, ingest.url+"/increments"), "true")
	awaitStats(t, query, map[string]int64{"foo": 4}, 30*time.Second)
	b.close()

	// With a list of origins, pages of other origins are refused.
	s.variables["CORS_ORIGINS"] = "https://example.com"
	listed := s.start(t, "ingest")
	for origin, want := range map[string]int{"https://example.com": http.StatusAccepted, "https://elsewhere.org": http.StatusForbidden} {
		request, err := http.NewRequest(http.MethodPost, listed.url+"/increments", strings.NewReader(`{"name":"foo","value":1}`))
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Content-Type", "text/plain;charset=UTF-8")
		request.Header.Set("Origin", origin)
		if r, err := do(request); err != nil || r.status != want {
			t.Errorf("%s: %d %s %v, want %d", origin, r.status, r.body, err, want)
		}
	}
	awaitStats(t, query, map[string]int64{"foo": 5}, 30*time.Second)
}

// The examples in the client's README equal the files and work.
func TestTypeScriptExamples(t *testing.T) {
	t.Parallel()
	requireTypeScriptClient(t)
	readme, err := os.ReadFile(typescriptClient + "/README.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"count.js", "watch.js", "page.html"} {
		example, err := os.ReadFile(filepath.Join(typescriptClient, "examples", name))
		if err != nil {
			t.Fatal(err)
		}
		shown := strings.TrimSuffix(string(example), "</html>\n")
		if _, body, ok := strings.Cut(shown, "</title>\n"); ok {
			shown = body
		}
		if !strings.Contains(string(readme), shown) {
			t.Errorf("README.md does not show examples/%s", name)
		}
	}

	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	address := freeAddress(t)
	_, port, _ := strings.Cut(address, ":")
	accrue := exec.CommandContext(ctx, filepath.Join(binaries, "accrue"), "run", "--port", port, "--data", "")
	accrue.Env = []string{"HOME=" + t.TempDir()}
	if err := accrue.Start(); err != nil {
		t.Fatal(err)
	}
	defer accrue.Wait() //nolint:errcheck // killed
	defer stop()
	await(t, "accrue run", patience, func() error {
		_, err := get("http://" + address + "/health/ready")
		return err
	})

	watch := exec.CommandContext(ctx, "node", "examples/watch.js")
	count := exec.CommandContext(ctx, "node", "examples/count.js")
	for _, cmd := range []*exec.Cmd{watch, count} {
		cmd.Dir = typescriptClient
		cmd.Env = append(os.Environ(), "ACCRUE_URL=http://"+address)
		cmd.Stderr = os.Stderr
	}
	output, err := watch.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := watch.Start(); err != nil {
		t.Fatal(err)
	}
	defer watch.Wait() //nolint:errcheck // killed
	defer stop()
	if counted, err := count.Output(); err != nil || string(counted) != strings.Repeat("500 counted\n", 4) {
		t.Errorf("count.js: %s %v", counted, err)
	}
	lines := bufio.NewScanner(output)
	for lines.Scan() && lines.Text() != "1 tags, foo is 8000" {
		t.Log(lines.Text())
	}
	if lines.Text() != "1 tags, foo is 8000" {
		t.Errorf("watch.js: the last line is %q", lines.Text())
	}

	b := openBrowser(t, serveTypeScriptClient(t)+"/examples/page.html?url=http://"+address)
	b.await(`document.querySelector("output").value`, "0")
	b.do(chromedp.Click(chromedp.CSS("button")), chromedp.Click(chromedp.CSS("button")))
	b.await(`document.querySelector("output").value`, "2")
	b.close()
}
