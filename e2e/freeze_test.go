package e2e_test

import (
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/accrue/accrue/pkg/emulator"
	"github.com/accrue/accrue/pkg/emulator/emulatortest"
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
	documents, err := emulator.StartFirestore(t.Context(), emulator.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = syscall.Kill(documents.PID(), syscall.SIGCONT) // or it could not end
		if err := documents.Stop(); err != nil {
			t.Error(err)
		}
	})
	s := newSystemOn(t, documents.Host)
	s.subscribe(t)
	ingest, query, aggregator := s.start(t, "ingest"), s.start(t, "query"), s.start(t, "aggregator")
	services := []*process{ingest, query, aggregator}
	load := startLoad(t, ingest, 4, 20*time.Millisecond)
	time.Sleep(lookEvery) //nolint:forbidigo // the load runs

	before := look(t, services)
	if err := syscall.Kill(documents.PID(), syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	looks := []sample{before}
	for range frozenFor / lookEvery {
		time.Sleep(lookEvery) //nolint:forbidigo // it is frozen
		looks = append(looks, look(t, services))
	}
	frozen := looks[len(looks)-1]
	for _, p := range services { // readiness tells of it, and liveness does not: a restart heals nothing
		if _, err := get(p.url + "/health/live"); err != nil {
			t.Errorf("liveness: %v", err)
		}
		if _, err := get(p.url + "/health/ready"); (err == nil) != (p == ingest) || err != nil && !strings.Contains(err.Error(), "503") {
			t.Errorf("readiness of %s: %v", p.name, err)
		}
	}
	if err := syscall.Kill(documents.PID(), syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	thawed := time.Now()
	time.Sleep(lookEvery) //nolint:forbidigo // the load goes on
	want := load.finish(t)
	awaitStats(t, query, want, 90*time.Second)
	t.Logf("exact %.1f s after it went on", time.Since(thawed).Seconds())
	await(t, "the recovery in the metrics", 10*time.Second, func() error {
		now := look(t, services)
		if now["accrue_held_bytes"] != 0 || now["accrue_view_age_seconds"] > 2 || now["accrue_pending_bytes"] != 0 {
			return fmt.Errorf("they are %v", now) //nolint:err113 // for people
		}
		looks = append(looks, now)
		return nil
	})
	t.Log("what the metrics said:\n" + tabulate(looks))

	// What must stand still, what must not, and what must say so.
	const most = float64(frozenFor / time.Second)
	after := looks[len(looks)-1]
	const answered503 = `accrue_http_request_duration_seconds_count{status="503"}`
	gained := func(name string) float64 { return frozen[name] - before[name] }
	for name, tc := range map[string]struct{ got, low, high float64 }{
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
	} {
		if tc.got < tc.low || tc.got > tc.high {
			t.Errorf("%s: %v, want %v to %v", name, tc.got, tc.low, tc.high)
		}
	}
	s.audit(t)
	for _, p := range services {
		checkPace(t, p)
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
