package e2e_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// released is the commit of version 0.1.
const released = "ac59e2d"

// buildReleased builds the services of version 0.1. It skips the test in a clone that lacks the commit.
func buildReleased(t *testing.T) (folder string) {
	t.Helper()
	folder = t.TempDir()
	source := filepath.Join(folder, "source")
	if err := os.Mkdir(source, 0o700); err != nil {
		t.Fatal(err)
	}
	archive := exec.CommandContext(t.Context(), "sh", "-c", `git -C .. archive "$1" | tar -x -C "$2"`, "sh", released, source)
	if output, err := archive.CombinedOutput(); err != nil || len(output) > 0 {
		t.Skipf("the commit of version 0.1 is not in this clone: %s", output)
	}
	for _, service := range []string{"ingest", "aggregator", "query"} {
		build := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-o", filepath.Join(folder, service), "./"+service+"/cmd/"+service)
		build.Dir = source
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if output, err := build.CombinedOutput(); err != nil {
			t.Fatalf("build %s of version 0.1: %v\n%s", service, err, output)
		}
	}
	return folder
}

// startReleased starts a service of version 0.1, and returns its address and what ends it.
func (s *system) startReleased(t *testing.T, folder, service string) (url string, end func()) {
	t.Helper()
	command := exec.Command(filepath.Join(folder, service))
	variables := map[string]string{
		"GOOGLE_CLOUD_PROJECT": s.project, "PUBSUB_EMULATOR_HOST": s.pubSub, "FIRESTORE_EMULATOR_HOST": s.firestore, "PORT": "0",
	}
	maps.Copy(variables, s.variables)
	for name, value := range variables {
		command.Env = append(command.Env, name+"="+value)
	}
	output, err := command.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	ports, done := make(chan int, 1), make(chan struct{})
	go func() {
		defer close(done)
		for lines := bufio.NewScanner(output); lines.Scan(); {
			var line struct {
				Message string `json:"message"`
				Port    int    `json:"port"`
			}
			if json.Unmarshal(lines.Bytes(), &line) == nil && line.Port > 0 {
				select {
				case ports <- line.Port:
				default:
				}
			}
		}
		_ = command.Wait()
	}()
	end = func() {
		_ = command.Process.Kill()
		<-done
	}
	t.Cleanup(end)
	select {
	case port := <-ports:
		url = fmt.Sprintf("http://127.0.0.1:%d", port)
	case <-done:
		t.Fatalf("%s of version 0.1 ended", service)
	case <-time.After(30 * time.Second):
		t.Fatalf("%s of version 0.1 does not serve", service)
	}
	await(t, service+" of version 0.1 ready", 30*time.Second, func() error {
		_, err := get(url + "/health/ready")
		return err
	})
	return url, end
}

// A deployment is upgraded from version 0.1, rolled back, and upgraded again, in the order of docs/operate.md, while two instances of
// query, one of each version, read. Nothing is lost or doubled, and retries across the upgrade count once.
func TestUpgradeAndRollbackLoseAndDoubleNothing(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("builds version 0.1")
	}
	folder := buildReleased(t)
	s := newSystem(t)
	s.subscribe(t)
	query := s.start(t, "query")
	old, _ := s.startReleased(t, folder, "query")
	ingest, endIngest := s.startReleased(t, folder, "ingest")
	want := make(map[string]int64)
	post := func(key string, counts bool) {
		t.Helper()
		p := posting{path: "/increments/batch", key: key, body: `{"increments":[{"name":"foo","value":4},{"name":"` + strings.Repeat(key, 3) + `","value":1},{"name":"zoo","value":2,"contributor":"ada"}]}`}
		if status, err := p.try(t.Context(), ingest); err != nil || status != 202 {
			t.Fatalf("post %s: %d, %v", key, status, err)
		}
		if counts {
			add(want, map[string]int64{"foo": 4, strings.Repeat(key, 3): 1, "zoo": 2})
		}
	}
	both := func() {
		t.Helper()
		for _, url := range []string{query.url, old} {
			awaitStats(t, &process{url: url}, want, 30*time.Second)
		}
	}

	_, end := s.startReleased(t, folder, "aggregator")
	post("a", true)
	both()
	end()

	aggregator := s.start(t, "aggregator") // the upgrade
	post("a", false)
	post("b", true)
	both()
	endIngest()
	taking := s.start(t, "ingest")
	ingest = taking.url
	post("a", false)
	post("b", false)
	aggregator.kill()
	aggregator = s.start(t, "aggregator")
	post("a", false)
	post("b", false)
	post("c", true)
	both()
	taking.stop()
	ingest, endIngest = s.startReleased(t, folder, "ingest") // the rollback
	post("c", false)
	both()
	aggregator.stop()
	_, end = s.startReleased(t, folder, "aggregator")
	post("a", false)
	post("d", true)
	both()
	end()

	aggregator = s.start(t, "aggregator") // and forward again
	post("a", false)
	endIngest()
	ingest = s.start(t, "ingest").url
	for _, key := range []string{"a", "b", "c", "d"} {
		post(key, false)
	}
	post("e", true)
	both()
	await(t, "the repeats", time.Minute, func() error { // a message may be leased to a Pull of the one that ended
		if repeated := metric(t, aggregator, "accrue_keys_repeated_total"); repeated < 5*4 { // three increments and a contribution each
			return fmt.Errorf("%v repeated", repeated) //nolint:err113 // for people
		}
		return nil
	})
	both()
	s.audit(t)
}
