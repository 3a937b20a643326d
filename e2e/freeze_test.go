package e2e_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/accrue/accrue/pkg/emulator"
	"github.com/accrue/accrue/pkg/emulator/emulatortest"
)

// maxLines is how many lines a second a service may log, also while something that it needs is frozen.
const maxLines = 20

// Firestore stands still for twenty seconds under load, neither answering nor refusing, and goes on. What was posted is
// counted, to the unit, and the logs say what happened without drowning it. docs/playbooks/not-draining.md shows this run.
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
	time.Sleep(5 * time.Second) //nolint:forbidigo // the load runs

	if err := syscall.Kill(documents.PID(), syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	frozen := time.Now()
	for range 4 {
		time.Sleep(5 * time.Second) //nolint:forbidigo // it is frozen
		t.Logf("frozen for %2.0f s: %s", time.Since(frozen).Seconds(), gauges(aggregator, "accrue_held_bytes", "accrue_held_age_seconds"))
	}
	if err := syscall.Kill(documents.PID(), syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	thawed := time.Now()
	time.Sleep(5 * time.Second) //nolint:forbidigo // the load goes on
	want := load.finish(t)
	awaitStats(t, query, want, 90*time.Second)
	t.Logf("exact %.1f s after the thaw: %s", time.Since(thawed).Seconds(), gauges(aggregator, "accrue_held_bytes", "accrue_held_age_seconds"))
	s.audit(t)
	for _, p := range services {
		bySecond := make(map[string]int)
		for line := range strings.Lines(p.logged()) {
			var l struct{ Message, Time, Severity string }
			if err := json.Unmarshal([]byte(line), &l); err != nil {
				t.Fatal(err)
			}
			bySecond[l.Time[:min(len(l.Time), len("2006-01-02T15:04:05"))]]++
			if l.Severity != "INFO" {
				t.Logf("%s: %s", p.name, strings.TrimSpace(line))
			}
		}
		for second, lines := range bySecond {
			if lines > maxLines {
				t.Errorf("%s logged %d lines in the second %s", p.name, lines, second)
			}
		}
	}
}

// gauges are some lines of a process's metrics.
func gauges(p *process, names ...string) string {
	body, err := get(p.url + "/metrics")
	if err != nil {
		return err.Error()
	}
	var found []string
	for line := range strings.Lines(body) {
		for _, name := range names {
			if strings.HasPrefix(line, name+" ") {
				found = append(found, strings.TrimSpace(line))
			}
		}
	}
	if len(found) < len(names) {
		return fmt.Sprintf("only %v of %v", found, names)
	}
	return strings.Join(found, ", ")
}
