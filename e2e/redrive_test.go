package e2e_test

import (
	"bufio"
	"fmt"
	"maps"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// accrue returns a command of accrue on the system.
func (s *system) accrue(t *testing.T, arguments ...string) *exec.Cmd {
	t.Helper()
	command := exec.CommandContext(t.Context(), filepath.Join(binaries, "accrue"), arguments...)
	variables := map[string]string{
		"GOOGLE_CLOUD_PROJECT": s.project, "PUBSUB_EMULATOR_HOST": s.pubSub, "FIRESTORE_EMULATOR_HOST": s.firestore,
	}
	maps.Copy(variables, s.variables)
	for name, value := range variables {
		command.Env = append(command.Env, name+"="+value)
	}
	return command
}

// auditMetrics fails the test unless accrue reconcile finds that everything which ingest has published is counted, rejected or a
// repeat, by the counters of the services.
func (s *system) auditMetrics(t *testing.T, addresses ...string) {
	t.Helper()
	arguments := []string{"reconcile"}
	for _, address := range addresses {
		arguments = append(arguments, "--metrics", address)
	}
	output, err := s.accrue(t, arguments...).CombinedOutput()
	if err != nil {
		t.Errorf("%v: %v\n%s", arguments, err, output)
	}
	t.Logf("accrue reconcile --metrics: %s", output)
}

// wordOf returns the i-th of many names, of the longest that there are.
func wordOf(i int) string {
	name := []byte("long_words_aaaa")
	for at := len(name) - 1; i > 0; at, i = at-1, i/26 {
		name[at] = byte('a' + i%26)
	}
	return string(name)
}

// More tags are posted than one checkpoint takes. After PARTITIONS was raised a redrive counts the rest, though one is killed, while
// the aggregators go on counting.
func TestRejectedTagsAreCountedAfterPartitionsWereRaised(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("posts 21,500 tags")
	}
	const tags, batch = 21_500, 500
	for _, aggregators := range []int{1, 2} {
		t.Run(fmt.Sprintf("%d aggregators", aggregators), func(t *testing.T) {
			t.Parallel()
			s := newSystem(t)
			s.subscribe(t)
			s.variables["PARTITIONS"] = "1"
			query, ingest := s.start(t, "query"), s.start(t, "ingest")
			for range aggregators {
				s.start(t, "aggregator")
			}
			want := make(map[string]int64)
			post := func(ingest *process, from int) {
				t.Helper()
				items := make([]string, 0, batch)
				for i := from; i < from+batch; i++ {
					items = append(items, fmt.Sprintf(`{"name":%q,"value":1}`, wordOf(i)))
					want[wordOf(i)]++
				}
				p := posting{path: "/increments/batch", body: `{"increments":[` + strings.Join(items, ",") + `]}`, key: fmt.Sprint("from-", len(want), "-", from)}
				if _, err := p.send(t.Context(), func() string { return ingest.url }); err != nil {
					t.Fatal(err)
				}
			}
			for from := 0; from < tags; from += batch {
				post(ingest, from)
			}
			dryRun := func() string {
				output, err := s.accrue(t, "redrive", "--dry-run").CombinedOutput()
				if err != nil {
					t.Fatalf("accrue redrive --dry-run: %v\n%s", err, output)
				}
				return string(output)
			}
			await(t, "counted or rejected", 90*time.Second, func() error {
				totals, err := stats(query)
				if err != nil {
					return err
				}
				if waiting := fmt.Sprintf("%d rejected entries:", tags-len(totals)); len(totals) == tags || !strings.Contains(dryRun(), waiting) {
					return fmt.Errorf("%d are counted, and not %s", len(totals), waiting) //nolint:err113 // for people
				}
				return nil
			})

			s.variables["PARTITIONS"] = "64"
			post(s.start(t, "ingest"), 0) // known tags are counted meanwhile
			first := s.accrue(t, "redrive")
			progress, err := first.StderrPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := first.Start(); err != nil {
				t.Fatal(err)
			}
			bufio.NewScanner(progress).Scan() // a document is done: the next is in progress
			_ = first.Process.Kill()
			_ = first.Wait()
			if output, err := s.accrue(t, "redrive").CombinedOutput(); err != nil {
				t.Errorf("accrue redrive: %v\n%s", err, output)
			}
			if output := dryRun(); !strings.Contains(output, "\n0 rejected entries: 0 to be counted") && !strings.HasPrefix(output, "0 rejected entries: 0 to be counted") {
				t.Errorf("accrue redrive --dry-run prints\n%s", output)
			}
			awaitStats(t, query, want, 30*time.Second)
			s.audit(t)
			retire(t, s, query, ingest)
		})
	}
}

// retire retires a tag, which comes again.
func retire(t *testing.T, s *system, query, ingest *process) {
	t.Helper()
	output, err := s.accrue(t, "tags", "retire", wordOf(0)).CombinedOutput()
	if err != nil || !strings.Contains(string(output), wordOf(0)+": 2 in 2 increments, retired") {
		t.Errorf("accrue tags retire: %v\n%s", err, output)
	}
	await(t, "without the tag", 10*time.Second, func() error {
		totals, err := stats(query)
		if total, there := totals[wordOf(0)]; err == nil && there {
			err = fmt.Errorf("%s is %d", wordOf(0), total) //nolint:err113 // for people
		}
		return err
	})
	p := posting{path: "/increments", body: fmt.Sprintf(`{"name":%q,"value":3}`, wordOf(0))}
	if status, err := p.try(t.Context(), ingest.url); err != nil || status != http.StatusAccepted {
		t.Fatalf("post: %d, %v", status, err)
	}
	await(t, "the tag again", 10*time.Second, func() error {
		totals, err := stats(query)
		if err == nil && totals[wordOf(0)] != 3 {
			err = fmt.Errorf("%s is %d, want 3", wordOf(0), totals[wordOf(0)]) //nolint:err113 // for people
		}
		return err
	})
}
