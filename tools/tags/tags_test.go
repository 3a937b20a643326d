package tags

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/accrue/accrue/pkg/checkpoint"
	"github.com/accrue/accrue/pkg/database"
	"github.com/accrue/accrue/pkg/database/databasetest"
	"github.com/accrue/accrue/pkg/faults"
	"github.com/accrue/accrue/pkg/store"
	"github.com/accrue/accrue/pkg/store/embedded"
	"github.com/accrue/accrue/pkg/store/storetest"
	"github.com/accrue/accrue/tools/cli"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// count counts in a partition.
func count(t *testing.T, s storetest.Store, partition uint32, deltas ...checkpoint.Delta) {
	t.Helper()
	state, err := s.Load(t.Context(), partition)
	if err != nil {
		t.Fatal(err)
	}
	commit := store.Commit{
		Partition: partition, Revision: state.Revision, Tags: deltas, Next: state.Checkpoint.Next(time.Now(), time.Hour, nil, deltas),
		Contributors: []store.Contributions{{Contributor: "ada", Contributions: 1}},
	}
	if _, err := s.Commit(t.Context(), commit); err != nil {
		t.Fatal(err)
	}
}

// totals returns the totals of a tag in the checkpoints and in its document, or -1 where it is not.
func totals(t *testing.T, s storetest.Store, name string) (counted, document int64) {
	t.Helper()
	partitions, _, err := s.Totals(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	tags, err := s.Tags(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	counted, document = -1, -1
	for _, p := range partitions {
		for _, total := range p.Totals {
			if total.Name == name {
				counted = max(counted, 0) + total.Total
			}
		}
	}
	for _, tag := range tags {
		if tag.Name == name {
			document = tag.Total
		}
	}
	return counted, document
}

func TestARetiredTagIsGoneAndStartsAgainAtZero(t *testing.T) {
	t.Parallel()
	s := databasetest.Store(t)
	count(t, s, 1, checkpoint.Delta{Name: "bar", Value: 4, Increments: 1}, checkpoint.Delta{Name: "foo", Value: 7, Increments: 2})
	count(t, s, 2, checkpoint.Delta{Name: "foo", Value: 5, Increments: 1})
	for _, want := range []retired{{"foo", 12, 3}, {"foo", 0, 0}} {
		if got, err := retire(t.Context(), s, "foo"); err != nil || got != want {
			t.Errorf("retire() = %+v, %v, want %+v", got, err, want)
		}
		if counted, document := totals(t, s, "foo"); counted != -1 || document != -1 {
			t.Errorf("foo is %d in the checkpoints and %d in its document", counted, document)
		}
	}
	if counted, document := totals(t, s, "bar"); counted != 4 || document != 4 {
		t.Errorf("bar is %d in the checkpoints and %d in its document, want 4", counted, document)
	}
	count(t, s, 1, checkpoint.Delta{Name: "foo", Value: 3, Increments: 1})
	if counted, document := totals(t, s, "foo"); counted != 3 || document != 3 {
		t.Errorf("foo is %d in the checkpoints and %d in its document, want 3", counted, document)
	}
	records, err := s.Audits(t.Context(), "", 10)
	if err != nil || len(records) != 2 || !strings.Contains(string(records[0].Record), `"total":7`) {
		t.Errorf("Audits() = %v, %v, want one of each partition", records, err)
	}
}

// What the document of a retired tag was never given is not taken off it.
func TestARetiredTagWhoseDocumentLacksSomethingIsGone(t *testing.T) {
	t.Parallel()
	s := databasetest.Store(t)
	count(t, s, 1, checkpoint.Delta{Name: "foo", Value: 7, Increments: 2})
	count(t, s, 2, checkpoint.Delta{Name: "foo", Value: 3, Increments: 1})
	state, err := s.Load(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	deltas := []checkpoint.Delta{{Name: "bar", Value: 4, Increments: 1}, {Name: "foo", Value: 5, Increments: 1}}
	commit := store.Commit{Partition: 1, Revision: state.Revision, Next: state.Checkpoint.Next(time.Now(), time.Hour, nil, deltas)}
	commit.Next.Owe(deltas)
	if _, err := s.Commit(t.Context(), commit); err != nil {
		t.Fatal(err)
	}
	if got, err := retire(t.Context(), s, "foo"); err != nil || got != (retired{"foo", 15, 4}) {
		t.Errorf("retire() = %+v, %v, want 15 in 4", got, err)
	}
	if counted, document := totals(t, s, "foo"); counted != -1 || document != -1 {
		t.Errorf("foo is %d in the checkpoints and %d in its document", counted, document)
	}
	if state, err := s.Load(t.Context(), 1); err != nil || len(state.Checkpoint.Owed) != 1 || state.Checkpoint.Owed[0] != deltas[0] {
		t.Errorf("Load() = %+v, %v, want bar owed", state.Checkpoint.Owed, err)
	}
}

// Failures, lost replies and aggregators that count meanwhile take nothing off that came after.
func TestATagIsRetiredOnceWhateverFails(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]faults.Fault{
		"lost reply": faults.LoseReply(context.DeadlineExceeded), "failure": faults.Fail(context.DeadlineExceeded), "conflict": faults.Fail(store.ErrConflict),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := databasetest.Store(t)
			count(t, s, 1, checkpoint.Delta{Name: "foo", Value: 7, Increments: 2})
			unreliable := faults.New(func(call faults.Call) faults.Fault {
				if call.Method == "Commit" && call.Number == 1 {
					return fault
				}
				return nil
			})
			if got, err := retire(t.Context(), unreliable.Store(s), "foo"); err != nil || got != (retired{"foo", 7, 2}) {
				t.Errorf("retire() = %+v, %v, want 7 in 2", got, err)
			}
			if counted, document := totals(t, s, "foo"); counted != -1 || document != -1 {
				t.Errorf("foo is %d in the checkpoints and %d in its document", counted, document)
			}
		})
	}
}

func TestAContributorIsErased(t *testing.T) {
	t.Parallel()
	s := databasetest.Store(t)
	count(t, s, 1)
	count(t, s, 1)
	if standing, err := erase(t.Context(), s, "ada"); err != nil || standing.Contributions != 2 {
		t.Errorf("erase() = %+v, %v, want 2 contributions", standing, err)
	}
	if _, err := erase(t.Context(), s, "ada"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("a second erase() = %v, want ErrNotFound", err)
	}
	records, err := s.Audits(t.Context(), "", 10)
	if err != nil || len(records) != 1 || strings.Contains(records[0].ID+string(records[0].Record), "ada") {
		t.Errorf("Audits() = %v, %v, want one that does not name her", records, err)
	}
}

func TestCommands(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	d, err := database.Open(database.Options{Folder: folder})
	if err != nil {
		t.Fatal(err)
	}
	count(t, embedded.New(d), 1, checkpoint.Delta{Name: "foo", Value: 7, Increments: 2})
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		arguments string
		code      int
		output    string
	}{
		{"tags retire", 2, "which tags?"},
		{"tags retire Foo --data " + folder, 2, "a name must be"},
		{"tags retire foo", 2, "--data is required"},
		{"tags retire foo bar --data " + folder, 0, "foo: 7 in 2 increments, retired\nbar: 0 in 0 increments, retired\n"},
		{"tags retire foo --json --data " + folder, 0, `"total": 0`},
		{"contributors erase --data " + folder, 2, "which contributors?"},
		{"contributors erase ada --data " + folder, 0, "ada: 1 contributions and 0 recognitions, erased\n"},
		{"contributors erase ada --data " + folder, 1, "ada: not found\n"},
	} {
		arguments := strings.Fields(tc.arguments)
		command := Command(nil)
		if arguments[0] == "contributors" {
			command = ContributorsCommand(nil)
		}
		var output bytes.Buffer
		if code := cli.Execute(t.Context(), command, arguments[1:], &output, &output); code != tc.code || !strings.Contains(output.String(), tc.output) {
			t.Errorf("accrue %s = %d, %s\nwant %d, %s", tc.arguments, code, output.String(), tc.code, tc.output)
		}
	}
}
