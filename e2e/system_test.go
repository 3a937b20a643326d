// Package e2e tests the running system from the outside. The three services run as processes on the Cloud SDK's emulators;
// the tests send HTTP requests and signals.
package e2e_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/accrue/accrue/pkg/checkpoint"
	"github.com/accrue/accrue/pkg/store/firestore"
	"github.com/accrue/accrue/tools/emulator/emulatortest"
)

// binaries is the folder of the programs under test, which are built once.
var binaries string

func TestMain(m *testing.M) {
	folder, err := os.MkdirTemp("", "accrue-e2e-")
	if err == nil {
		binaries = folder
		err = build()
	}
	if err == nil { // tests mostly wait: one more than there are processors, unless the command line says otherwise
		err = flag.Set("test.parallel", strconv.Itoa(runtime.GOMAXPROCS(0)+1))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "prepare the tests:", err)
		os.Exit(1)
	}
	emulatortest.Main(m,
		// Idle connections of the HTTP client.
		goleak.IgnoreAnyFunction("net/http.(*persistConn).readLoop"), goleak.IgnoreAnyFunction("net/http.(*persistConn).writeLoop"),
		goleak.Cleanup(func(code int) {
			if err := os.RemoveAll(binaries); err != nil {
				fmt.Fprintln(os.Stderr, err)
			}
			os.Exit(code)
		}))
}

// build builds the programs as deployments/Dockerfile does.
func build() error {
	for _, program := range []string{"ingest/cmd/ingest", "aggregator/cmd/aggregator", "query/cmd/query", "tools/accrue"} {
		cmd := exec.Command("go", "build", "-trimpath", "-o", filepath.Join(binaries, filepath.Base(program)), "./"+program)
		cmd.Dir = ".."
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if output, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w\n%s", program, err, output)
		}
	}
	return nil
}

// system is a project on the emulators, and the settings of its services.
type system struct {
	project, pubSub, firestore string
	// store is the address of the Firestore emulator. The field firestore, which the services use, may be a proxy in front of it.
	store string
	// variables are additional environment variables of every process.
	variables map[string]string
}

func newSystem(t *testing.T) *system {
	t.Helper()
	return newSystemOn(t, emulatortest.Firestore(t))
}

// newSystemOn returns a system on a Firestore emulator that it does not share with all tests.
func newSystemOn(t *testing.T, firestore string) *system {
	t.Helper()
	return &system{
		project: emulatortest.Project(t), pubSub: emulatortest.PubSub(t), firestore: firestore, store: firestore,
		variables: map[string]string{},
	}
}

// process is one running service.
type process struct {
	t       *testing.T
	name    string
	cmd     *exec.Cmd
	url     string
	done    chan struct{} // closed after it has exited and its log is read
	waitErr error
	// contract compares the process with the OpenAPI document that it serves.
	contract *contract

	mu  sync.Mutex
	log []string
}

// start runs a service and waits until it is ready. A process that still runs at the end of the test is killed.
func (s *system) start(t *testing.T, service string) *process {
	t.Helper()
	p := s.launch(t, service)
	await(t, service+" ready", 30*time.Second, func() error {
		_, err := get(p.url + "/health/ready")
		return err
	})
	return p
}

// launch is start, and waits only until the service listens.
func (s *system) launch(t *testing.T, service string) *process {
	t.Helper()
	p := &process{t: t, name: service, done: make(chan struct{})}
	p.cmd = exec.Command(filepath.Join(binaries, service))
	variables := map[string]string{
		"GOOGLE_CLOUD_PROJECT": s.project, "PUBSUB_EMULATOR_HOST": s.pubSub, "FIRESTORE_EMULATOR_HOST": s.firestore, "PORT": "0",
	}
	maps.Copy(variables, s.variables)
	for name, value := range variables {
		p.cmd.Env = append(p.cmd.Env, name+"="+value)
	}
	output, err := p.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.cmd.Stdout = p.cmd.Stderr // anything on stdout is checked as a log line
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ports := make(chan int, 1)
	go p.read(output, ports)
	t.Cleanup(p.end)
	select {
	case port := <-ports:
		p.url = fmt.Sprintf("http://127.0.0.1:%d", port)
	case <-p.done:
		t.Fatalf("%s exited at startup: %v\n%s", service, p.waitErr, p.logged())
	case <-time.After(30 * time.Second):
		t.Fatalf("%s does not listen\n%s", service, p.logged())
	}
	p.contract = transport.readContract(t, strings.TrimPrefix(p.url, "http://"))
	return p
}

// maxLine is the maximum length of a log line in bytes. It has room for long stack traces.
const maxLine = 1 << 20

// read collects the log and sends the port when the process logs it.
func (p *process) read(output io.Reader, ports chan<- int) {
	defer close(p.done)
	lines := bufio.NewScanner(output)
	lines.Buffer(nil, maxLine)
	for lines.Scan() {
		p.mu.Lock()
		p.log = append(p.log, lines.Text())
		p.mu.Unlock()
		var line struct {
			Message string `json:"message"`
			Port    int    `json:"port"`
		}
		if json.Unmarshal(lines.Bytes(), &line) == nil && line.Message == "serving" {
			ports <- line.Port
		}
	}
	p.waitErr = p.cmd.Wait()
}

func (p *process) logged() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.Join(p.log, "\n")
}

// end kills the process if it still runs, checks its log, and prints the log if the test failed.
func (p *process) end() {
	select {
	case <-p.done:
	default:
		p.kill()
	}
	if p.contract != nil && p.contract.document != nil {
		p.contract.report(p.t, p.name)
	}
	log := p.logged()
	for line := range strings.Lines(log) {
		if err := checkLine(p.name, line); err != nil {
			p.t.Errorf("%s logged a malformed line: %v: %s", p.name, err, line)
		}
	}
	if id, found := transport.contributorIn(log); found {
		p.t.Errorf("%s logged a contributor: %s", p.name, id)
	}
	if p.t.Failed() {
		p.t.Logf("log of %s:\n%s", p.name, p.logged())
	}
}

// kill sends SIGKILL and waits for the process.
func (p *process) kill() {
	_ = p.cmd.Process.Kill() // it may have exited
	<-p.done
}

// stop sends SIGTERM and checks that the process exits with code 0 within 8 s.
func (p *process) stop() {
	p.t.Helper()
	started := time.Now()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		p.t.Errorf("stop %s: %v", p.name, err)
	}
	select {
	case <-p.done:
		if p.waitErr != nil {
			p.t.Errorf("%s exited: %v", p.name, p.waitErr)
		}
		if took := time.Since(started); took > 8*time.Second {
			p.t.Errorf("%s took %v to stop; Cloud Run allows 10 s", p.name, took)
		}
	case <-time.After(20 * time.Second):
		p.kill()
		p.t.Errorf("%s did not stop", p.name)
	}
}

// transport compares all exchanges of the tests with the documents of the services.
var transport = &contractTransport{
	RoundTripper: &http.Transport{MaxIdleConnsPerHost: 64, DisableCompression: true},
	contracts:    make(map[string]*contract), contributors: make(map[string]bool),
}

// client sends all requests of the tests.
var client = &http.Client{Timeout: 20 * time.Second, Transport: transport}

// response is an answer with its whole body.
type response struct {
	status int
	header http.Header
	body   string
}

func do(request *http.Request) (response, error) {
	r, err := client.Do(request)
	if err != nil {
		return response{}, err
	}
	defer r.Body.Close() //nolint:errcheck // read
	body, err := io.ReadAll(r.Body)
	return response{r.StatusCode, r.Header, string(body)}, err
}

// get returns the body of a 200 answer, and an error for any other status.
func get(url string) (string, error) {
	request, err := http.NewRequest(http.MethodGet, url, http.NoBody)
	if err != nil {
		return "", err
	}
	r, err := do(request)
	if err == nil && r.status != http.StatusOK {
		err = fmt.Errorf("GET %s: %d %s", url, r.status, r.body)
	}
	return r.body, err
}

func post(url, body string) (response, error) {
	request, err := http.NewRequest(http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		return response{}, err
	}
	request.Header.Set("Content-Type", "application/json")
	return do(request)
}

func mustPost(t *testing.T, url, body string) {
	t.Helper()
	if r, err := post(url, body); err != nil || r.status != http.StatusAccepted {
		t.Fatalf("POST %s %s: %d %s %v", url, body, r.status, r.body, err)
	}
}

func stats(query *process) (map[string]int64, error) {
	body, err := get(query.url + "/stats")
	if err != nil {
		return nil, err
	}
	var totals map[string]int64
	return totals, json.Unmarshal([]byte(body), &totals)
}

// await calls condition until it returns nil. After limit it fails the test with condition's last error.
func await(t *testing.T, what string, limit time.Duration, condition func() error) {
	t.Helper()
	deadline := time.Now().Add(limit)
	for {
		err := condition()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %v: %v", what, limit, err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// awaitStats waits until /stats equals want.
func awaitStats(t *testing.T, query *process, want map[string]int64, limit time.Duration) {
	t.Helper()
	await(t, "exact totals", limit, func() error {
		got, err := stats(query)
		if err != nil {
			return err
		}
		return difference(got, want)
	})
}

func difference(got, want map[string]int64) error {
	var differing []string
	var excess int64
	for name := range maps.Keys(union(got, want)) {
		if got[name] != want[name] {
			differing = append(differing, fmt.Sprintf("%s is %d, want %d", name, got[name], want[name]))
			excess += got[name] - want[name]
		}
	}
	if differing == nil {
		return nil
	}
	slices.Sort(differing)
	return fmt.Errorf("%d of %d tags differ, by %+d in all: %s",
		len(differing), len(want), excess, strings.Join(differing[:min(len(differing), 5)], "; "))
}

func union(a, b map[string]int64) map[string]int64 {
	both := maps.Clone(a)
	if both == nil {
		both = map[string]int64{}
	}
	maps.Copy(both, b)
	return both
}

// audit checks that the tags' documents, the totals of the checkpoints and the history of both resolutions agree. Every Commit
// writes all of them, each in its own way.
func (s *system) audit(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	documents, err := firestore.Connect(ctx, s.project, "(default)", s.store)
	if err != nil {
		t.Fatal(err)
	}
	defer documents.Close() //nolint:errcheck // read only
	tags, errTags := documents.Tags(ctx)
	partitions, _, errPartitions := documents.Totals(ctx)
	if err := errors.Join(errTags, errPartitions); err != nil {
		t.Fatal(err)
	}
	totals, increments := map[string]int64{}, map[string]int64{}
	for _, partition := range partitions {
		if partition.Err != nil {
			t.Errorf("partition %d: %v", partition.Partition, partition.Err)
		}
		for _, total := range partition.Totals {
			totals[total.Name] += total.Total
			increments[total.Name] += total.Increments
		}
	}
	documentTotals, documentIncrements := map[string]int64{}, map[string]int64{}
	for _, tag := range tags {
		documentTotals[tag.Name], documentIncrements[tag.Name] = tag.Total, tag.Increments
	}
	if err := errors.Join(difference(documentTotals, totals), difference(documentIncrements, increments)); err != nil {
		t.Errorf("the tags' documents disagree with the checkpoints: %v", err)
	}
	for _, resolution := range checkpoint.Resolutions() {
		changes := map[string]int64{}
		for _, partition := range partitions {
			for _, total := range partition.Totals {
				changes[total.Name] += total.Open(resolution)
			}
			now := time.Now()
			periods, err := documents.History(ctx, partition.Partition, resolution, now.Add(-12*time.Hour), now)
			if err != nil {
				t.Fatal(err)
			}
			for _, p := range periods {
				of, err := checkpoint.UnpackChanges(p.Changes)
				if err != nil {
					t.Fatal(err)
				}
				for _, change := range of {
					changes[change.Name] += change.Change
				}
			}
		}
		if err := difference(changes, totals); err != nil {
			t.Errorf("the periods of %v do not add up to the totals: %v", time.Duration(resolution), err)
		}
	}
}
