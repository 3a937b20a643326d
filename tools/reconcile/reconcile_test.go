package reconcile

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"github.com/accrue/accrue/pkg/checkpoint"
	"github.com/accrue/accrue/pkg/database"
	"github.com/accrue/accrue/pkg/database/databasetest"
	"github.com/accrue/accrue/pkg/message"
	"github.com/accrue/accrue/pkg/store"
	"github.com/accrue/accrue/pkg/store/embedded"
	"github.com/accrue/accrue/tools/cli"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// folderWith is the folder of a store that has committed, in partition 3, foo 7 and bar 2, of which the document of bar has
// more by wrong, and has rejected one entry of baz.
func folderWith(t *testing.T, wrong int64) string {
	t.Helper()
	folder := t.TempDir()
	d, err := database.Open(database.Options{Folder: folder, Log: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	deltas := []checkpoint.Delta{{Name: "bar", Value: 2, Increments: 1}, {Name: "foo", Value: 7, Increments: 2}}
	commit := store.Commit{
		Partition: 3, Tags: deltas, Next: (&checkpoint.Checkpoint{}).Next(time.Now(), time.Hour, []checkpoint.Message{{Sequence: 1}}, deltas),
		Rejected: []checkpoint.Rejected{{Tag: "baz", Value: 5, Reason: "full"}},
	}
	if wrong != 0 {
		commit.Tags = []checkpoint.Delta{{Name: "bar", Value: 2 + wrong, Increments: 1}, deltas[1]}
	}
	if _, err := embedded.New(d).Commit(t.Context(), commit); err != nil {
		t.Fatal(err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	return folder
}

// row is a line as BigQuery exports it: integers are strings.
func row(sequence, acceptedAt int, increments ...string) string {
	publisher := message.Publisher{1}
	return fmt.Sprintf(`{"publisher":%q,"partition":"3","sequence":"%d","accepted_at":"%d","increments":[%s],"contributions":[]}`,
		base64.StdEncoding.EncodeToString(publisher[:]), sequence, acceptedAt, strings.Join(increments, ","))
}

func increment(tag string, value int, key string) string {
	if key == "" {
		return fmt.Sprintf(`{"tag":%q,"value":"%d"}`, tag, value)
	}
	k := message.KeyOf(key)
	return fmt.Sprintf(`{"tag":%q,"value":"%d","key":%q}`, tag, value, base64.StdEncoding.EncodeToString(k[:]))
}

// follows is an increment whose key is that of the increment before and a number.
func follows(tag string, value, next int) string {
	return fmt.Sprintf(`{"tag":%q,"value":"%d","next":"%d"}`, tag, value, next)
}

func TestReconcile(t *testing.T) {
	t.Parallel()
	whole := []string{
		row(1, 10, increment("foo", 4, ""), increment("bar", 2, "once")),
		row(1, 10, increment("foo", 4, ""), increment("bar", 2, "once")), // delivered twice
		row(3, 30, increment("bar", 9, "once")),                          // a producer's retry, which changed the value
		row(2, 20, increment("foo", 3, ""), increment("baz", 5, "")),
	}
	for name, test := range map[string]struct {
		wrong   int64
		archive []string
		code    int
		prints  []string
	}{
		"documents as the checkpoints": {prints: []string{"2 tags, which add up to 9: 0 differences."}},
		"a document that has too much": {wrong: 1, code: 1, prints: []string{"bar", "1 differences"}},
		"a whole archive": {archive: whole, prints: []string{
			"The archive has 4 messages, 1 of them again, and 1 entries that repeat a key.", "0 differences",
		}},
		"a message that is not counted": {archive: append(whole, row(4, 40, increment("foo", 1, ""))), code: 1, prints: []string{"foo", "7", "8", "1 differences"}},
		"a message that was lost":       {archive: whole[:2], code: 1, prints: []string{"foo", "baz", "2 differences"}},
		"a batch, again in other messages": {archive: []string{
			row(1, 10, increment("foo", 4, "a"), follows("foo", 3, 1), follows("baz", 5, 3)),
			row(2, 20, increment("foo", 4, "a"), follows("baz", 5, 4), increment("bar", 2, "")),
			row(3, 30, increment("foo", 4, "a"), follows("foo", 3, 1)),
		}, prints: []string{"and 4 entries that repeat a key.", "0 differences"}},
		"a key that follows none":  {archive: []string{row(1, 10, increment("foo", 4, ""), follows("foo", 3, 1))}, code: 1, prints: []string{"line 1: key 1 after"}},
		"a key that is far beyond": {archive: []string{row(1, 10, increment("foo", 4, "a"), follows("foo", 3, 1<<16))}, code: 1, prints: []string{"line 1: a key is 65536 after"}},
		"a line that is none":      {archive: []string{whole[0], "{}"}, code: 1, prints: []string{"line 2: no publisher, or no sequence"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			arguments := []string{"--data", folderWith(t, test.wrong)}
			if test.archive != nil {
				file := filepath.Join(t.TempDir(), "archive.json")
				if err := os.WriteFile(file, []byte(strings.Join(test.archive, "\n")+"\n"), 0o600); err != nil {
					t.Fatal(err)
				}
				arguments = append(arguments, "--archive", file)
			}
			var stdout, stderr bytes.Buffer
			code := cli.Execute(t.Context(), Command(nil), arguments, &stdout, &stderr)
			if code != test.code {
				t.Errorf("the exit code is %d, want %d", code, test.code)
			}
			for _, text := range test.prints {
				if !strings.Contains(stdout.String()+stderr.String(), text) {
					t.Errorf("%q is not in\n%s%s", text, &stdout, &stderr)
				}
			}
		})
	}
}

// With TAG_DOCUMENTS a document lacks what its checkpoint owes it.
func TestWhatIsOwedIsNoDifference(t *testing.T) {
	t.Parallel()
	for owed, want := range map[int64]int{7: 0, 6: 1} {
		d := databasetest.Store(t)
		deltas := []checkpoint.Delta{{Name: "foo", Value: 7, Increments: 2}}
		commit := store.Commit{Partition: 3, Next: (&checkpoint.Checkpoint{}).Next(time.Now(), time.Hour, []checkpoint.Message{{Sequence: 1}}, deltas)}
		commit.Next.Owe([]checkpoint.Delta{{Name: "foo", Value: owed, Increments: 2}})
		if _, err := d.Commit(t.Context(), commit); err != nil {
			t.Fatal(err)
		}
		if found, err := compare(t.Context(), d, nil); err != nil || len(found.Differences) != want {
			t.Errorf("compare() with %d owed = %+v, %v", owed, found, err)
		}
	}
}

func TestReconcilePrintsJSON(t *testing.T) {
	t.Parallel()
	command := Command(nil)
	command.SetIn(strings.NewReader(row(1, 10, increment("foo", 8, "")) + "\n"))
	var stdout, stderr bytes.Buffer
	if code := cli.Execute(t.Context(), command, []string{"--data", folderWith(t, 0), "--json", "--archive", "-"}, &stdout, &stderr); code != 1 {
		t.Errorf("the exit code is %d: %s", code, &stderr)
	}
	var got struct {
		Archive     struct{ Messages int }
		Differences []struct {
			Tag                  string
			Checkpoints, Archive int64
		}
	}
	if err := json.Unmarshal(stdout.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	if got.Archive.Messages != 1 || len(got.Differences) != 3 || got.Differences[2].Tag != "foo" || got.Differences[2].Archive != 8 {
		t.Errorf("printed %s", &stdout)
	}
}

func TestReconcileNeedsAStore(t *testing.T) {
	t.Parallel()
	var stdout, stderr bytes.Buffer
	if code := cli.Execute(t.Context(), Command(nil), nil, &stdout, &stderr); code != 2 {
		t.Errorf("the exit code is %d", code)
	}
}
