package e2e_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/accrue/accrue/tools/emulator"
	"github.com/accrue/accrue/tools/emulator/emulatortest"
)

// maxLines is how many lines a second a service may log, also while something that it needs is frozen.
const maxLines = 20

// frozenFor is how long Firestore stands still, and lookEvery how often the metrics are looked at meanwhile.
const (
	frozenFor = 20 * time.Second
	lookEvery = 5 * time.Second
)

// Firestore stands still for twenty seconds under load, neither answering nor refusing, and goes on. What was posted is
// counted, to the unit; the metrics say what stands still and what does not; and the logs tell of it without drowning it.
// docs/playbooks/not-draining.md shows the table that this test prints.
func TestFirestoreFrozenUnderLoad(t *testing.T) {
	t.Parallel()
	emulatortest.Firestore(t) // skips, or fails, as every test does that needs the emulators
	documents := ownEmulator(t, emulator.StartFirestore)
	s := newSystemOn(t, documents.Host)
	s.subscribe(t)
	ingest, query, aggregator := s.start(t, "ingest"), s.start(t, "query"), s.start(t, "aggregator")
	services := []*process{ingest, query, aggregator}
	load := startLoad(t, ingest, 4, 20*time.Millisecond)
	time.Sleep(lookEvery) //nolint:forbidigo // the load runs

	looks := freeze(t, documents, services, frozenFor, query, aggregator)
	thawed := time.Now()
	before, frozen := looks[0], looks[len(looks)-1]
	time.Sleep(lookEvery) //nolint:forbidigo // the load goes on
	want := load.finish(t)
	awaitStats(t, query, want, 90*time.Second)
	t.Logf("exact %.1f s after it went on", time.Since(thawed).Seconds())
	after := recovered(t, services)
	t.Log("what the metrics said:\n" + tabulate(append(looks, after)))

	// What must stand still, what must not, and what must say so.
	const most = float64(frozenFor / time.Second)
	const answered503 = `accrue_http_request_duration_seconds_count{status="503"}`
	gained := func(name string) float64 { return frozen[name] - before[name] }
	within(t, map[string]bounds{
		"the age of what is held":          {frozen["accrue_held_age_seconds"], most - 2, most + 5},
		"the age of the view":              {frozen["accrue_view_age_seconds"], most - 2, most + 5},
		"bytes that are held":              {gained("accrue_held_bytes"), 100_000, 1e9},
		"Commits that went through":        {gained(`accrue_commits_total{result="ok"}`), 0, 64}, // those that had begun
		"Commits of unknown outcome":       {gained(`accrue_commits_total{result="unknown"}`), 1, 1000},
		"reads that failed":                {gained(`accrue_view_refresh_duration_seconds_count{result="failed"}`), 2, 100},
		"publishes that went through":      {gained(`accrue_publish_duration_seconds_count{result="ok"}`), 100, 1e9},
		"publishes that failed":            {after[`accrue_publish_duration_seconds_count{result="failed"}`], 0, 0},
		"requests that were answered 503":  {after[answered503] - before[answered503], 1, 1}, // query, asked whether it is ready
		"messages that were dead-lettered": {after["accrue_messages_dead_lettered_total"], 0, 0},
		"lateness of totals, summed":       {after["accrue_freshness_seconds_sum"] - frozen["accrue_freshness_seconds_sum"], most, 1e9},
	})
	s.audit(t)
	for _, p := range services {
		checkPace(t, p)
	}
}

// Pub/Sub stands still under load: posts are answered 503 once their publish has had its five seconds, and are posted again
// with their keys until they are answered 202. Each counts once, and the page docs/playbooks/publish-failures.md shows what
// is seen meanwhile.
func TestPubSubFrozenUnderLoad(t *testing.T) {
	t.Parallel()
	emulatortest.PubSub(t) // skips, or fails, as every test does that needs the emulators
	messages := ownEmulator(t, emulator.StartPubSub)
	s := newSystem(t)
	s.pubSub = messages.Host
	s.subscribe(t)
	ingest, query, aggregator := s.start(t, "ingest"), s.start(t, "query"), s.start(t, "aggregator")
	services := []*process{ingest, query, aggregator}

	var posters sync.WaitGroup
	var mu sync.Mutex
	want, stop := make(map[string]int64), make(chan struct{})
	for poster := range 8 {
		posters.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				case <-time.After(20 * time.Millisecond):
				}
				p := posting{path: "/increments", body: `{"name":"foo","value":2}`, key: fmt.Sprintf("%d-%d", poster, n)}
				if _, err := p.send(t.Context(), func() string { return ingest.url }); err != nil {
					t.Errorf("post: %v", err)
					return
				}
				mu.Lock()
				want["foo"] += 2
				mu.Unlock()
			}
		})
	}
	end := sync.OnceFunc(func() { close(stop); posters.Wait() })
	t.Cleanup(end)
	time.Sleep(lookEvery) //nolint:forbidigo // the load runs

	looks := freeze(t, messages, services, frozenFor, ingest, aggregator)
	thawed := time.Now()
	before, frozen := looks[0], looks[len(looks)-1]
	time.Sleep(lookEvery) //nolint:forbidigo // the load goes on
	end()
	awaitStats(t, query, want, 90*time.Second)
	t.Logf("exact %.1f s after it went on: %v", time.Since(thawed).Seconds(), want)
	after := recovered(t, services)
	t.Log("what the metrics said:\n" + tabulate(append(looks, after)))
	gained := func(name string) float64 { return frozen[name] - before[name] }
	within(t, map[string]bounds{
		"publishes that failed":            {gained(`accrue_publish_duration_seconds_count{result="failed"}`), 3, 20},
		"publishes that went through":      {gained(`accrue_publish_duration_seconds_count{result="ok"}`), 0, 50}, // until it froze, a moment after the look
		"posts that were answered 503":     {gained(`accrue_http_request_duration_seconds_count{status="503"}`), 16, 100},
		"bytes that are pending":           {frozen["accrue_pending_bytes"], 1, 10_000},
		"the age of what is held":          {frozen["accrue_held_age_seconds"], 0, 2}, // all was committed before
		"the age of the view":              {frozen["accrue_view_age_seconds"], 0, 2},
		"reads of checkpoints that failed": {gained(`accrue_view_refresh_duration_seconds_count{result="failed"}`), 0, 0},
		"repeats that were not counted":    {after["accrue_keys_repeated_total"], 0, 1000},
	})
	s.audit(t)
	for _, p := range services {
		checkPace(t, p)
	}
}

// ownEmulator starts an emulator that a test has for itself.
func ownEmulator(t *testing.T, start func(context.Context, emulator.Options) (*emulator.Emulator, error)) *emulator.Emulator {
	t.Helper()
	e, err := start(t.Context(), emulator.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = syscall.Kill(e.PID(), syscall.SIGCONT) // or it could not end
		if err := e.Stop(); err != nil {
			t.Error(err)
		}
	})
	return e
}

// freeze stops an emulator for a time and returns what the metrics said: before, and every lookEvery. At the end of it
// readiness tells of it in those services that need it, and liveness in none: a restart heals nothing.
func freeze(t *testing.T, e *emulator.Emulator, services []*process, d time.Duration, needing ...*process) []sample {
	t.Helper()
	looks := []sample{look(t, services)}
	if err := syscall.Kill(e.PID(), syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	for range d / lookEvery {
		time.Sleep(lookEvery) //nolint:forbidigo // it is frozen
		looks = append(looks, look(t, services))
	}
	for _, p := range services {
		if _, err := get(p.url + "/health/live"); err != nil {
			t.Errorf("liveness: %v", err)
		}
		if _, err := get(p.url + "/health/ready"); (err == nil) == slices.Contains(needing, p) || err != nil && !strings.Contains(err.Error(), "503") {
			t.Errorf("readiness of %s: %v", p.name, err)
		}
	}
	if err := syscall.Kill(e.PID(), syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	return looks
}

// recovered waits until the metrics say that nothing waits any more.
func recovered(t *testing.T, services []*process) (now sample) {
	t.Helper()
	await(t, "the recovery in the metrics", 10*time.Second, func() error {
		now = look(t, services)
		if now["accrue_held_bytes"] != 0 || now["accrue_view_age_seconds"] > 2 || now["accrue_pending_bytes"] != 0 {
			return fmt.Errorf("they are %v", now) //nolint:err113 // for people
		}
		return nil
	})
	return now
}

// bounds are what a number must lie within.
type bounds struct{ got, low, high float64 }

func within(t *testing.T, all map[string]bounds) {
	t.Helper()
	for name, b := range all {
		if b.got < b.low || b.got > b.high {
			t.Errorf("%s: %v, want %v to %v", name, b.got, b.low, b.high)
		}
	}
}

// checkPace checks how many lines a process logged in any second, and shows the warnings.
func checkPace(t *testing.T, p *process) {
	t.Helper()
	bySecond := make(map[string]int)
	for line := range strings.Lines(p.logged()) {
		var l struct{ Message, Time, Severity, Error string }
		if err := json.Unmarshal([]byte(line), &l); err != nil {
			t.Fatal(err)
		}
		bySecond[l.Time[:min(len(l.Time), len("2006-01-02T15:04:05"))]]++
		if l.Severity != "INFO" || strings.HasPrefix(l.Message, "works again") {
			t.Logf("%s %s: %s (%s)", p.name, l.Severity, l.Message, l.Error)
		}
	}
	worst := 0
	for second, lines := range bySecond {
		if worst = max(worst, lines); lines > maxLines {
			t.Errorf("%s logged %d lines in the second %s", p.name, lines, second)
		}
	}
	t.Logf("%s logged %d lines in its busiest second", p.name, worst)
}

// sample is what the metrics of all services say at one time: by name, added up over all labels, and by name and each label
// by itself, as in accrue_commits_total{result="ok"}.
type sample map[string]float64

// look reads the metrics.
func look(t *testing.T, services []*process) sample {
	t.Helper()
	now := make(sample)
	for _, p := range services {
		body, err := get(p.url + "/metrics")
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(body) {
			series, text, found := strings.Cut(strings.TrimSpace(line), " ")
			value, err := strconv.ParseFloat(text, 64)
			if !found || err != nil || !strings.HasPrefix(series, "accrue_") {
				continue
			}
			name, labels, _ := strings.Cut(strings.TrimSuffix(series, "}"), "{")
			now[name] += value
			for _, label := range strings.FieldsFunc(labels, func(r rune) bool { return r == ',' }) {
				now[name+"{"+label+"}"] += value
			}
		}
	}
	return now
}

// tabulate writes samples as the table in the playbook: before, every lookEvery, and after.
func tabulate(looks []sample) string {
	var table strings.Builder
	for _, name := range []string{
		"accrue_held_age_seconds", "accrue_held_bytes", `accrue_commits_total{result="ok"}`, `accrue_commits_total{result="unknown"}`,
		"accrue_view_age_seconds", `accrue_view_refresh_duration_seconds_count{result="ok"}`, `accrue_view_refresh_duration_seconds_count{result="failed"}`,
		"accrue_freshness_seconds_count", `accrue_http_request_duration_seconds_count{status="202"}`,
		`accrue_publish_duration_seconds_count{result="failed"}`, "accrue_pending_bytes", `accrue_commits_total{result="conflict"}`,
		"accrue_messages_duplicate_total", "accrue_messages_dead_lettered_total", "accrue_recognitions_pending_age_seconds",
	} {
		fmt.Fprintf(&table, "| `%s` |", name)
		for _, l := range looks {
			fmt.Fprintf(&table, " %s |", strconv.FormatFloat(math.Round(l[name]*10)/10, 'f', -1, 64))
		}
		table.WriteString("\n")
	}
	return table.String()
}
