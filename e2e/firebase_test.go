package e2e_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/accrue/accrue/tools/emulator/emulatortest"
)

// refusedByRules is the error code of the Firebase client for what the security rules refuse.
const refusedByRules = "permission-denied"

// Under the deployed security rules a Firebase client sees totals change, and can do nothing else.
func TestFirebaseClientsOnlyReadTotals(t *testing.T) {
	t.Parallel()
	requireFirebase(t)
	s := newSystemOn(t, emulatortest.FirestoreWithRules(t, filepath.Join("..", "deployments", "firestore.rules")))
	ingest, query := s.start(t, "ingest"), s.start(t, "query")
	s.start(t, "aggregator")

	app := startFirebase(t, s)
	totals := app.watch("foo")
	totals.await(t, 0) // nothing is posted yet
	for _, step := range []struct{ value, total int64 }{{4, 4}, {9, 13}, {1, 14}} {
		posted := time.Now()
		mustPost(t, ingest.url+"/increments", fmt.Sprintf(`{"name":"foo","value":%d}`, step.value))
		totals.await(t, step.total)
		t.Logf("total %d seen %v after the post", step.total, time.Since(posted).Round(time.Millisecond))
	}

	// Recognize a contributor, so that the documents that are refused below exist.
	for range 3 {
		mustPost(t, ingest.url+"/contributions", `{"contributor":"ada"}`)
	}
	await(t, "a recognition", 20*time.Second, func() error {
		body, err := get(query.url + "/contributors/ada")
		if err == nil && !strings.Contains(body, `"recognized_tier":3`) {
			err = fmt.Errorf("ada is not recognized: %s", body)
		}
		return err
	})

	other := startFirebase(t, s) // not app: a client's subscriptions show its own writes until they are refused
	for _, tc := range []struct{ op, path, code, result string }{
		{"get", "tags/t-foo", "", `"total":14`},
		{"get", "tags/t-bar", "", "null"},
		{"list100", "tags", "", `["t-foo"]`},
		{"listen", "tags", "", `["t-foo"]`},
		// Unlimited queries of all tags would be billed at every change.
		{"list", "tags", refusedByRules, ""},
		{"list101", "tags", refusedByRules, ""},
		{"count", "tags", refusedByRules, ""},
		{"get", "tags/t-foo/any/thing", refusedByRules, ""},
		{"group", "tags", refusedByRules, ""},
	} {
		if got := other.do(tc.op, tc.path); got.Code != tc.code || !strings.Contains(string(got.OK), tc.result) {
			t.Errorf("%s %s: %s %s, want %q %s", tc.op, tc.path, got.Code, got.OK, tc.code, tc.result)
		}
	}
	for _, path := range []string{
		"partitions/0", "partitions/15", "partitions/0/minutes/29000000", "partitions/0/hours/480000", "partitions/0/keys/1",
		"contributors/c-ada", "recognitions/c-ada:3", "anything/else",
	} {
		for _, op := range []string{"get", "set", "merge", "update", "delete", "batch", "transaction"} {
			other.refuses(op, path)
		}
	}
	for _, path := range []string{
		"partitions", "partitions/0/minutes", "partitions/0/hours", "partitions/0/keys", "contributors", "recognitions", "anything",
	} {
		for _, op := range []string{"list", "list100", "listen", "count", "add"} {
			other.refuses(op, path)
		}
		other.refuses("group", path[strings.LastIndexByte(path, '/')+1:])
	}
	for _, op := range []string{"set", "merge", "update", "increment", "delete", "batch", "transaction"} {
		other.refuses(op, "tags/t-foo")
		other.refuses(op, "tags/t-new")
	}
	other.refuses("add", "tags")

	// None of this changed anything, and the subscription still works.
	mustPost(t, ingest.url+"/increments", `{"name":"foo","value":2}`)
	totals.await(t, 16)
	awaitStats(t, query, map[string]int64{"foo": 16}, 10*time.Second)
	s.audit(t)
	app.end()
	other.end()
}

// docs/firebase.md shows the code that is tested here.
func TestFirebaseGuideShowsTestedCode(t *testing.T) {
	t.Parallel()
	guide, errGuide := os.ReadFile(filepath.Join("..", "docs", "firebase.md"))
	code, errCode := os.ReadFile(filepath.Join("firebase", "watch.js"))
	manifest, errManifest := os.ReadFile(filepath.Join("firebase", "package.json"))
	if err := errors.Join(errGuide, errCode, errManifest); err != nil {
		t.Fatal(err)
	}
	indentation := regexp.MustCompile(`(?m)^ +`)
	_, function, _ := strings.Cut(indentation.ReplaceAllString(string(code), ""), "export function ")
	if function == "" || !strings.Contains(indentation.ReplaceAllString(string(guide), ""), function) {
		t.Errorf("docs/firebase.md does not show\n%s", function)
	}
	var of struct {
		Dependencies struct {
			Firebase string `json:"firebase"`
		} `json:"dependencies"`
	}
	if err := json.Unmarshal(manifest, &of); err != nil {
		t.Fatal(err)
	}
	if want := "/firebasejs/" + of.Dependencies.Firebase + "/"; of.Dependencies.Firebase == "" || !strings.Contains(string(guide), want) {
		t.Errorf("docs/firebase.md does not use the tested version, %s", want)
	}
}

// requireFirebase skips the test where Node or the Firebase SDK is not installed, and fails it in CI.
func requireFirebase(t *testing.T) {
	t.Helper()
	_, errNode := exec.LookPath("node")
	_, errSDK := os.Stat(filepath.Join("firebase", "node_modules", "firebase"))
	switch err := errors.Join(errNode, errSDK); {
	case err == nil:
	case os.Getenv("CI") == "true":
		t.Fatalf("needs Node and `npm ci --prefix e2e/firebase`: %v", err)
	default:
		t.Skipf("needs Node and `npm ci --prefix e2e/firebase`: %v", err)
	}
}

// firebase is a Firebase client, firebase/client.js, in a Node process.
type firebase struct {
	t      *testing.T
	cmd    *exec.Cmd
	input  io.WriteCloser
	stderr strings.Builder
	done   chan struct{} // closed after it has exited

	mu      sync.Mutex
	last    int
	results map[int]chan firebaseResult // by operation id
}

// firebaseResult is the value or the error code of an operation.
type firebaseResult struct {
	ID   int             `json:"id"`
	OK   json.RawMessage `json:"ok"`
	Code string          `json:"code"`
}

// startFirebase starts a client of the system's database without credentials. It runs until end or the end of the test.
func startFirebase(t *testing.T, s *system) *firebase {
	t.Helper()
	f := &firebase{t: t, done: make(chan struct{}), results: map[int]chan firebaseResult{}}
	f.cmd = exec.Command("node", "client.js", s.firestore, s.project)
	f.cmd.Dir = "firebase"
	f.cmd.Stderr = &f.stderr
	var errIn, errOut error
	var output io.Reader
	f.input, errIn = f.cmd.StdinPipe()
	output, errOut = f.cmd.StdoutPipe()
	if err := errors.Join(errIn, errOut, f.cmd.Start()); err != nil {
		t.Fatal(err)
	}
	go f.read(output)
	t.Cleanup(func() {
		select {
		case <-f.done:
		default:
			_ = f.cmd.Process.Kill() // it may have exited
			<-f.done
		}
	})
	return f
}

func (f *firebase) read(output io.Reader) {
	defer close(f.done)
	for lines := bufio.NewScanner(output); lines.Scan(); {
		var r firebaseResult
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			f.t.Errorf("the Firebase client printed %s", lines.Bytes())
			continue
		}
		f.mu.Lock()
		results := f.results[r.ID]
		f.mu.Unlock()
		results <- r
	}
	if err := f.cmd.Wait(); err != nil && f.t.Context().Err() == nil {
		f.t.Errorf("the Firebase client exited: %v: %s", err, f.stderr.String())
	}
}

// begin starts an operation and returns the channel of its results.
func (f *firebase) begin(op, path string) <-chan firebaseResult {
	f.t.Helper()
	results := make(chan firebaseResult, 64)
	f.mu.Lock()
	f.last++
	id := f.last
	f.results[id] = results
	f.mu.Unlock()
	if _, err := fmt.Fprintf(f.input, "{\"id\":%d,\"op\":%q,\"path\":%q}\n", id, op, path); err != nil {
		f.t.Fatalf("send to the Firebase client: %v", err)
	}
	return results
}

// do runs an operation and returns its result.
func (f *firebase) do(op, path string) firebaseResult {
	f.t.Helper()
	results := f.begin(op, path)
	ctx, cancel := context.WithTimeout(f.t.Context(), 30*time.Second)
	defer cancel()
	select {
	case r := <-results:
		return r
	case <-f.done:
	case <-ctx.Done():
	}
	f.t.Fatalf("%s %s: no result\n%s", op, path, f.stderr.String())
	return firebaseResult{}
}

// refuses checks that the rules refuse an operation.
func (f *firebase) refuses(op, path string) {
	f.t.Helper()
	if got := f.do(op, path); got.Code != refusedByRules {
		f.t.Errorf("%s %s: %s %s, want %s", op, path, got.Code, got.OK, refusedByRules)
	}
}

// end closes the client's input and waits until it exits.
func (f *firebase) end() {
	f.t.Helper()
	if err := f.input.Close(); err != nil {
		f.t.Errorf("close the input of the Firebase client: %v", err)
	}
	select {
	case <-f.done:
	case <-time.After(20 * time.Second):
		f.t.Errorf("the Firebase client does not exit")
	}
}

// subscription is a client's subscription to the total of a tag.
type subscription struct {
	name string
	of   *firebase
	seen <-chan firebaseResult
}

func (f *firebase) watch(name string) subscription {
	f.t.Helper()
	return subscription{name, f, f.begin("watch", name)}
}

// await waits until the client sees a total and ignores others before it.
func (s subscription) await(t *testing.T, want int64) {
	t.Helper()
	limit := time.After(20 * time.Second)
	for last := "nothing"; ; {
		select {
		case r := <-s.seen:
			if last = string(r.OK); last == fmt.Sprint(want) {
				return
			}
			if r.Code != "" {
				t.Fatalf("the subscription to %s ended with %s", s.name, r.Code)
			}
		case <-s.of.done:
			t.Fatalf("the Firebase client exited: %s", s.of.stderr.String())
		case <-limit:
			t.Fatalf("last total of %s is %s, want %d", s.name, last, want)
		}
	}
}
