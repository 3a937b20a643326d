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

// refusedByRules is the Firebase client's code of what the rules refuse.
const refusedByRules = "permission-denied"

// An app that speaks Firestore sees a total change that came the whole way, and can do nothing else, by the rules that are
// deployed.
func TestFirebaseClientsReadTotalsAndNothingElse(t *testing.T) {
	t.Parallel()
	requireFirebase(t)
	s := newSystemOn(t, emulatortest.FirestoreWithRules(t, filepath.Join("..", "deployments", "firestore.rules")))
	ingest, query := s.start(t, "ingest"), s.start(t, "query")
	s.start(t, "aggregator")

	app := startFirebase(t, s)
	totals := app.watch("foo")
	totals.await(t, 0) // nobody has posted, and nothing is there
	for _, step := range []struct{ value, total int64 }{{4, 4}, {9, 13}, {1, 14}} {
		posted := time.Now()
		mustPost(t, ingest.url+"/increments", fmt.Sprintf(`{"name":"foo","value":%d}`, step.value))
		totals.await(t, step.total)
		t.Logf("%d is seen %v after the post", step.total, time.Since(posted).Round(time.Millisecond))
	}

	// A contributor who is recognized, so that what is refused below is there to be read.
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

	other := startFirebase(t, s) // writes show in a client's own subscriptions until they are refused
	for _, tc := range []struct{ op, path, code, result string }{
		{"get", "tags/t-foo", "", `"total":14`},
		{"get", "tags/t-bar", "", "null"},
		{"list100", "tags", "", `["t-foo"]`},
		{"listen", "tags", "", `["t-foo"]`},
		// All tags at once would be a bill at every change.
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

	// Nothing of that has changed anything, and the subscription lives.
	mustPost(t, ingest.url+"/increments", `{"name":"foo","value":2}`)
	totals.await(t, 16)
	awaitStats(t, query, map[string]int64{"foo": 16}, 10*time.Second)
	s.audit(t)
	app.end()
	other.end()
}

// The page that docs/firebase.md shows reads totals by the code that is tested here.
func TestTheFirebaseGuideShowsWhatIsTested(t *testing.T) {
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
		t.Errorf("docs/firebase.md does not name the version that is tested, %s", want)
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
		t.Fatalf("it needs Node and `npm ci --prefix e2e/firebase`: %v", err)
	default:
		t.Skipf("left out: it needs Node and `npm ci --prefix e2e/firebase` (%v)", err)
	}
}

// firebase is a Firebase client in a Node process: firebase/client.js.
type firebase struct {
	t     *testing.T
	cmd   *exec.Cmd
	input io.WriteCloser
	said  strings.Builder // what it has written to stderr
	done  chan struct{}   // closed when it has ended

	mu      sync.Mutex
	last    int
	results map[int]chan firebaseResult // by the id of the operation
}

// firebaseResult is a value, or the SDK's code of an error.
type firebaseResult struct {
	ID   int             `json:"id"`
	OK   json.RawMessage `json:"ok"`
	Code string          `json:"code"`
}

// startFirebase runs a client without credentials of a system's database, until end or the end of the test.
func startFirebase(t *testing.T, s *system) *firebase {
	t.Helper()
	f := &firebase{t: t, done: make(chan struct{}), results: map[int]chan firebaseResult{}}
	f.cmd = exec.Command("node", "client.js", s.firestore, s.project)
	f.cmd.Dir = "firebase"
	f.cmd.Stderr = &f.said
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
			_ = f.cmd.Process.Kill() // it may have ended by itself
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
		f.t.Errorf("the Firebase client ended with %v: %s", err, f.said.String())
	}
}

// begin has the client do something, and returns where its results come.
func (f *firebase) begin(op, path string) <-chan firebaseResult {
	f.t.Helper()
	results := make(chan firebaseResult, 64)
	f.mu.Lock()
	f.last++
	id := f.last
	f.results[id] = results
	f.mu.Unlock()
	if _, err := fmt.Fprintf(f.input, "{\"id\":%d,\"op\":%q,\"path\":%q}\n", id, op, path); err != nil {
		f.t.Fatalf("the Firebase client does not listen: %v", err)
	}
	return results
}

// do has the client do something, once, and waits for the result.
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
	f.t.Fatalf("%s %s: no result\n%s", op, path, f.said.String())
	return firebaseResult{}
}

// refuses checks that the rules refuse something.
func (f *firebase) refuses(op, path string) {
	f.t.Helper()
	if got := f.do(op, path); got.Code != refusedByRules {
		f.t.Errorf("%s %s: %s %s, want %s", op, path, got.Code, got.OK, refusedByRules)
	}
}

// end closes the client's input and checks that it ends well.
func (f *firebase) end() {
	f.t.Helper()
	if err := f.input.Close(); err != nil {
		f.t.Errorf("end the Firebase client: %v", err)
	}
	select {
	case <-f.done:
	case <-time.After(20 * time.Second):
		f.t.Errorf("the Firebase client does not end")
	}
}

// subscription is a tag's total as a client sees it.
type subscription struct {
	name string
	of   *firebase
	seen <-chan firebaseResult
}

func (f *firebase) watch(name string) subscription {
	f.t.Helper()
	return subscription{name, f, f.begin("watch", name)}
}

// await waits until the client sees a total. It may have seen any others before.
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
			t.Fatalf("the client ended: %s", s.of.said.String())
		case <-limit:
			t.Fatalf("the client sees %s of %s, want %d", last, s.name, want)
		}
	}
}
