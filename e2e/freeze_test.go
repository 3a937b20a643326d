package e2e_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"os"
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

// maxLines bounds the lines per second that a service may log, even while a dependency is frozen.
const maxLines = 20

// frozenFor returns how long an emulator is frozen: 20 s, or what the environment variable says.
func frozenFor(variable string) time.Duration {
	if d, err := time.ParseDuration(os.Getenv(variable)); err == nil {
		return d
	}
	return 20 * time.Second
}

// samplesOfAFreeze is how many samples of the metrics a freeze has, and calm how long the load runs before and after it.
const (
	samplesOfAFreeze = 4
	calm             = 5 * time.Second
)

// Firestore freezes for 20 seconds under load: it neither answers nor refuses. Afterwards the totals are exact, the metrics have
// shown what was stuck, and the logs were short. docs/playbooks/not-draining.md has the table that this test prints.
func TestFirestoreFrozenUnderLoad(t *testing.T) {
	t.Parallel()
	emulatortest.Firestore(t) // skips the test, or fails it in CI, if there is no emulator
	documents := ownEmulator(t, emulator.StartFirestore)
	s := newSystemOn(t, documents.Host)
	s.subscribe(t)
	ingest, query, aggregator := s.start(t, "ingest"), s.start(t, "query"), s.start(t, "aggregator")
	services := []*process{ingest, query, aggregator}
	load := startLoad(t, ingest, 4, 20*time.Millisecond)
	time.Sleep(calm) // the load runs

	frozenTime := frozenFor("FIRESTORE_FROZEN")
	samples := freeze(t, documents, frozenTime, services, query, aggregator)
	thawed := time.Now()
	before, frozen := samples[0], samples[len(samples)-1]
	time.Sleep(calm) // the load goes on
	want := load.finish(t)
	awaitStats(t, query, want, 90*time.Second)
	t.Logf("totals exact %.1f s after the thaw", time.Since(thawed).Seconds())
	after := recovered(t, services)
	t.Log("metrics:\n" + tabulate(append(samples, after)))

	most := frozenTime.Seconds()
	const answered503 = `accrue_http_request_duration_seconds_count{status="503"}`
	gained := func(name string) float64 { return frozen[name] - before[name] }
	checkBounds(t, map[string]bounds{
		"age of held messages":       {frozen["accrue_held_age_seconds"], most - 2, most + 5},
		"age of the view":            {frozen["accrue_view_age_seconds"], most - 2, most + 5},
		"held bytes":                 {gained("accrue_held_bytes"), 100_000, 1e9},
		"successful Commits":         {gained(`accrue_commits_total{result="ok"}`), 0, 64}, // those in flight
		"Commits of unknown outcome": {gained(`accrue_commits_total{result="unknown"}`), 1, 1000},
		"failed refreshes":           {gained(`accrue_view_refresh_duration_seconds_count{result="failed"}`), 2, 100},
		"successful publishes":       {gained(`accrue_publish_duration_seconds_count{result="ok"}`), 100, 1e9},
		"failed publishes":           {after[`accrue_publish_duration_seconds_count{result="failed"}`], 0, 0},
		"answers of 503":             {after[answered503] - before[answered503], 1, 1}, // the readiness of query
		"dead letters":               {after["accrue_messages_dead_lettered_total"], 0, 0},
		"sum of freshness":           {after["accrue_freshness_seconds_sum"] - frozen["accrue_freshness_seconds_sum"], most, 1e9},
	})
	s.audit(t)
	for _, p := range services {
		checkPace(t, p)
	}
}

// Pub/Sub freezes under load. Posts are answered 503 after the publish deadline of 5 s, and their producers retry them with the
// same keys until the answer is 202. Each counts once. docs/playbooks/publish-failures.md has the table that this test prints.
func TestPubSubFrozenUnderLoad(t *testing.T) {
	t.Parallel()
	emulatortest.PubSub(t) // skips the test, or fails it in CI, if there is no emulator
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
	time.Sleep(calm) // the load runs

	frozenTime := frozenFor("PUBSUB_FROZEN")
	samples := freeze(t, messages, frozenTime, services, ingest, aggregator)
	thawed := time.Now()
	before, frozen := samples[0], samples[len(samples)-1]
	time.Sleep(calm) // the load goes on
	end()
	awaitStats(t, query, want, 90*time.Second)
	t.Logf("totals exact %.1f s after the thaw: %v", time.Since(thawed).Seconds(), want)
	after := recovered(t, services)
	t.Log("metrics:\n" + tabulate(append(samples, after)))
	gained := func(name string) float64 { return frozen[name] - before[name] }
	checkBounds(t, map[string]bounds{
		// At most one for each of 8 posters every 5 s, and some more.
		"failed publishes":     {gained(`accrue_publish_duration_seconds_count{result="failed"}`), 3, 8 + 2*frozenTime.Seconds()},
		"successful publishes": {gained(`accrue_publish_duration_seconds_count{result="ok"}`), 0, 50}, // between the first sample and the freeze
		"posts answered 503":   {gained(`accrue_http_request_duration_seconds_count{status="503"}`), 16, 20 + 4*frozenTime.Seconds()},
		"pending bytes":        {maxOf(samples[1:], "accrue_pending_bytes"), 1, 10_000}, // 0 between an answer of 503 and the next post
		"age of held messages": {frozen["accrue_held_age_seconds"], 0, 2},               // everything was committed before
		"age of the view":      {frozen["accrue_view_age_seconds"], 0, 2},
		"failed refreshes":     {gained(`accrue_view_refresh_duration_seconds_count{result="failed"}`), 0, 0},
		"repeated keys":        {after["accrue_keys_repeated_total"], 0, 1000},
	})
	s.audit(t)
	for _, p := range services {
		checkPace(t, p)
	}
}

// maxOf returns the maximum of a metric in samples.
func maxOf(samples []sample, name string) (value float64) {
	for _, s := range samples {
		value = max(value, s[name])
	}
	return value
}

// ownEmulator starts an emulator that no other test uses.
func ownEmulator(t *testing.T, start func(context.Context, emulator.Options) (*emulator.Emulator, error)) *emulator.Emulator {
	t.Helper()
	e, err := start(t.Context(), emulator.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = syscall.Kill(e.PID(), syscall.SIGCONT) // a frozen process cannot exit
		if err := e.Stop(); err != nil {
			t.Error(err)
		}
	})
	return e
}

// freeze freezes an emulator and returns samples of the metrics: one before and samplesOfAFreeze meanwhile. It checks that at the end
// exactly the dependent services are not ready, and that all are live, since a restart would not help.
func freeze(t *testing.T, e *emulator.Emulator, frozenTime time.Duration, services []*process, dependent ...*process) []sample {
	t.Helper()
	samples := []sample{takeSample(t, services)}
	if err := syscall.Kill(e.PID(), syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	for range samplesOfAFreeze {
		time.Sleep(frozenTime / samplesOfAFreeze)
		samples = append(samples, takeSample(t, services))
	}
	for _, p := range services {
		if _, err := get(p.url + "/health/live"); err != nil {
			t.Errorf("liveness: %v", err)
		}
		if _, err := get(p.url + "/health/ready"); (err == nil) == slices.Contains(dependent, p) || err != nil && !strings.Contains(err.Error(), "503") {
			t.Errorf("readiness of %s: %v", p.name, err)
		}
	}
	if err := syscall.Kill(e.PID(), syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	return samples
}

// recovered waits until the metrics show that nothing is pending or held.
func recovered(t *testing.T, services []*process) (now sample) {
	t.Helper()
	await(t, "recovered metrics", 10*time.Second, func() error {
		now = takeSample(t, services)
		if now["accrue_held_bytes"] != 0 || now["accrue_view_age_seconds"] > 2 || now["accrue_pending_bytes"] != 0 {
			return fmt.Errorf("%v", now)
		}
		return nil
	})
	return now
}

// bounds is a value and the range that it must lie in.
type bounds struct{ got, low, high float64 }

func checkBounds(t *testing.T, all map[string]bounds) {
	t.Helper()
	for name, b := range all {
		if b.got < b.low || b.got > b.high {
			t.Errorf("%s: %v, want %v to %v", name, b.got, b.low, b.high)
		}
	}
}

// checkPace checks how many lines a process logged in its busiest second, and logs the warnings.
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

// sample has the values of the metrics of all services at one time. Values are summed by name, and by name and each single
// label, as in accrue_commits_total{result="ok"}.
type sample map[string]float64

// takeSample reads the metrics of all services.
func takeSample(t *testing.T, services []*process) sample {
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

// tabulate formats samples as the rows of the table in the playbooks.
func tabulate(samples []sample) string {
	var table strings.Builder
	for _, name := range []string{
		"accrue_held_age_seconds", "accrue_held_bytes", `accrue_commits_total{result="ok"}`, `accrue_commits_total{result="unknown"}`,
		"accrue_view_age_seconds", `accrue_view_refresh_duration_seconds_count{result="ok"}`, `accrue_view_refresh_duration_seconds_count{result="failed"}`,
		"accrue_freshness_seconds_count", `accrue_http_request_duration_seconds_count{status="202"}`,
		`accrue_publish_duration_seconds_count{result="failed"}`, "accrue_pending_bytes", `accrue_commits_total{result="conflict"}`,
		"accrue_messages_duplicate_total", "accrue_messages_dead_lettered_total", "accrue_recognitions_pending_age_seconds",
	} {
		fmt.Fprintf(&table, "| `%s` |", name)
		for _, s := range samples {
			fmt.Fprintf(&table, " %s |", strconv.FormatFloat(math.Round(s[name]*10)/10, 'f', -1, 64))
		}
		table.WriteString("\n")
	}
	return table.String()
}
