package e2e_test

import (
	"fmt"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/accrue/accrue/tools/emulator"
	"github.com/accrue/accrue/tools/emulator/emulatortest"
)

// Against an emulator, the order in which the services start does not matter.
func TestIngestMayStartFirst(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	ingest := s.start(t, "ingest")
	mustPost(t, ingest.url+"/increments", `{"name":"first","value":4}`)
	s.start(t, "aggregator")
	query := s.start(t, "query")
	awaitStats(t, query, map[string]int64{"first": 4}, 30*time.Second)
}

// An emulator that starts late is named in the log after two seconds, while the process is live. The service becomes ready by
// itself.
func TestEmulatorMayStartLate(t *testing.T) {
	t.Parallel()
	emulatortest.PubSub(t) // skips the test, or fails it in CI, if there is no emulator
	_, text, err := net.SplitHostPort(freeAddress(t))
	if err != nil {
		t.Fatal(err)
	}
	port, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	s := newSystem(t)
	s.pubSub = "127.0.0.1:" + text

	late := freeAddress(t)
	_, latePort, _ := strings.Cut(late, ":")
	waiting := &process{t: t, name: "ingest", done: make(chan struct{}), url: "http://" + late}
	waiting.cmd = exec.Command(filepath.Join(binaries, "ingest"))
	waiting.cmd.Env = []string{"GOOGLE_CLOUD_PROJECT=" + s.project, "PUBSUB_EMULATOR_HOST=" + s.pubSub, "PORT=" + latePort}
	output, err := waiting.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := waiting.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go waiting.read(output, make(chan int, 1))
	t.Cleanup(waiting.end)
	await(t, "live", 10*time.Second, func() error { _, err := get(waiting.url + "/health/live"); return err })
	await(t, "a line that names the emulator", 10*time.Second, func() error {
		if log := waiting.logged(); !strings.Contains(log, `"variable":"PUBSUB_EMULATOR_HOST"`) || !strings.Contains(log, s.pubSub) {
			return fmt.Errorf("the log is %s", log)
		}
		return nil
	})
	if _, err := get(waiting.url + "/health/ready"); err == nil {
		t.Error("ready without its emulator")
	}

	e, err := emulator.StartPubSub(t.Context(), emulator.Options{Port: port})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Stop(); err != nil {
			t.Error(err)
		}
	})
	await(t, "ready", 60*time.Second, func() error { _, err := get(waiting.url + "/health/ready"); return err })
	s.start(t, "aggregator")
	query := s.start(t, "query")
	mustPost(t, waiting.url+"/increments", `{"name":"late","value":4}`)
	awaitStats(t, query, map[string]int64{"late": 4}, 60*time.Second)
}

// A Pub/Sub emulator that restarts has lost its topics, subscriptions and messages. What is answered 202 afterwards is counted,
// whichever service notices the restart first.
func TestPubSubEmulatorMayRestart(t *testing.T) {
	t.Parallel()
	emulatortest.PubSub(t) // skips the test, or fails it in CI, if there is no emulator
	_, text, err := net.SplitHostPort(freeAddress(t))
	if err != nil {
		t.Fatal(err)
	}
	port, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	start := func() *emulator.Emulator {
		e, err := emulator.StartPubSub(t.Context(), emulator.Options{Port: port})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := e.Stop(); err != nil {
				t.Error(err)
			}
		})
		return e
	}
	s := newSystem(t)
	s.pubSub = "127.0.0.1:" + text
	running := start()
	ingest, query := s.start(t, "ingest"), s.start(t, "query")
	s.start(t, "aggregator")
	s.start(t, "aggregator")

	want := make(map[string]int64)
	for restart := range 3 {
		if restart > 0 {
			if err := running.Stop(); err != nil {
				t.Fatal(err)
			}
			running = start()
		}
		for i := range 5 {
			await(t, "a post is answered 202", 60*time.Second, func() error {
				r, err := http.NewRequest(http.MethodPost, ingest.url+"/increments", strings.NewReader(`{"name":"restarts","value":4}`))
				if err != nil {
					return err
				}
				r.Header.Set("Content-Type", "application/json")
				r.Header.Set("Idempotency-Key", fmt.Sprintf("%d-%d", restart, i))
				answer, err := do(r)
				if err == nil && answer.status != http.StatusAccepted {
					err = fmt.Errorf("%d %s", answer.status, answer.body)
				}
				return err
			})
			want["restarts"] += 4
		}
		awaitStats(t, query, want, 60*time.Second) // a restart loses what the emulator holds
	}
}
