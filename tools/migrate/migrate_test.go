package migrate

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/accrue/accrue/pkg/broker"
	brokerembedded "github.com/accrue/accrue/pkg/broker/embedded"
	"github.com/accrue/accrue/pkg/checkpoint"
	"github.com/accrue/accrue/pkg/database"
	"github.com/accrue/accrue/pkg/database/databasetest"
	"github.com/accrue/accrue/pkg/increment"
	"github.com/accrue/accrue/pkg/message"
	"github.com/accrue/accrue/pkg/store"
	storeembedded "github.com/accrue/accrue/pkg/store/embedded"
	"github.com/accrue/accrue/tools/cli"
	"github.com/accrue/accrue/tools/emulator/emulatortest"
)

func TestMain(m *testing.M) { emulatortest.Main(m) }

const partitions, tags, contributors = 3, 1500, 1000

func name(prefix string, i int) string {
	return prefix + "_" + string([]byte{byte('a' + i/676%26), byte('a' + i/26%26), byte('a' + i%26)})
}

// fill counts in a store for three hours, as the aggregator and query do.
func fill(t *testing.T, s *storeembedded.Store) {
	t.Helper()
	states := make([]store.State, partitions)
	begin := time.Now().UTC().Add(-3 * time.Hour).Truncate(time.Millisecond)
	for minute := 0; minute < 180; minute += 20 {
		at := begin.Add(time.Duration(minute) * time.Minute)
		for p := range states {
			state := &states[p]
			c := store.Commit{Partition: uint32(p), Revision: state.Revision, KeepKeys: 25 * time.Hour}
			for i := range tags {
				if tag := name("tag", i); increment.Partition(tag, partitions) == c.Partition && i%9 == minute/20 {
					c.Tags = append(c.Tags, checkpoint.Delta{Name: tag, Value: int64(i + 1), Increments: int64(i%3 + 1)})
				}
			}
			for i := p; i < contributors; i += partitions {
				c.Contributors = append(c.Contributors, store.Contributions{Contributor: fmt.Sprintf("contributor %d/%%", i), Contributions: int64(i%4 + 1)})
			}
			m := checkpoint.Message{Publisher: message.Publisher{byte(p)}, Sequence: uint64(minute + 1)}
			c.Next = state.Checkpoint.Next(at, 24*time.Hour, []checkpoint.Message{m}, c.Tags)
			c.Closed = state.Checkpoint.Closed(&c.Next)
			if minute >= 100 && p%2 == 0 { // as TAG_DOCUMENTS leaves it
				c.Next.Owe(c.Tags)
				c.Tags = nil
			}
			if minute%40 == 0 {
				c.Keys = make([]checkpoint.KeyRange, 3+minute)
				c.Rejected = []checkpoint.Rejected{{Tag: name("full", minute), Value: 3, Reason: "full"}, {Contributor: "eve", Reason: "refused"}}
			}
			if c.Next.Layouts = 1; p == 0 && minute == 0 {
				c.Layouts = &store.LayoutsChange{Next: checkpoint.Layouts{Version: 1, Used: map[uint32]time.Time{partitions: begin}}}
			}
			revision, err := s.Commit(t.Context(), c)
			if err != nil {
				t.Fatal(err)
			}
			*state = store.State{Checkpoint: c.Next, Revision: revision}
		}
	}
	var sent []store.Recognition
	for i := 0; i < contributors; i += 10 {
		r := store.Recognition{Contributor: fmt.Sprintf("contributor %d/%%", i), Tier: 3, Contributions: 4, RecognizedAt: begin.Add(time.Duration(i) * time.Second)}
		if err := s.Recognize(t.Context(), r); err != nil {
			t.Fatal(err)
		}
		if i%20 == 0 {
			sent = append(sent, r)
		}
	}
	if err := s.MarkSent(t.Context(), sent); err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		if err := s.PutAudit(t.Context(), store.AuditRecord{ID: fmt.Sprintf("retired-%d", i), At: begin, Record: []byte(`{"tag":"foo"}`)}); err != nil {
			t.Fatal(err)
		}
	}
}

func filled(t *testing.T) *folder {
	t.Helper()
	s := databasetest.Store(t)
	fill(t, s)
	f, err := readFolder(t.Context(), s, 25*time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// killedStore is a store that ends its process at one of the calls that write: before it or after it.
type killedStore struct {
	*storeembedded.Store
	at    int
	after bool
	kill  context.CancelFunc
}

func (k *killedStore) write(call func() error) error {
	k.at--
	if k.at == 0 && !k.after {
		k.kill()
		return context.Canceled
	}
	err := call()
	if k.at == 0 {
		k.kill()
		return context.Canceled
	}
	return err
}

func (k *killedStore) Commit(ctx context.Context, c store.Commit) (r store.Revision, err error) {
	err = k.write(func() error { r, err = k.Store.Commit(ctx, c); return err })
	return r, err
}

func (k *killedStore) PutAudit(ctx context.Context, r store.AuditRecord) error {
	return k.write(func() error { return k.Store.PutAudit(ctx, r) })
}

func (k *killedStore) MarkSent(ctx context.Context, sent []store.Recognition) error {
	return k.write(func() error { return k.Store.MarkSent(ctx, sent) })
}

func TestKilledAnywhereAndRunAgainItIsExact(t *testing.T) {
	t.Parallel()
	from := filled(t)
	calls := 0
	for kill := 1; ; kill++ {
		to := databasetest.Store(t)
		for _, after := range []bool{false, true} {
			ctx, cancel := context.WithCancel(t.Context())
			killed := &killedStore{Store: to, at: kill, after: after, kill: cancel}
			err := (&migration{from: from, to: killed, progress: io.Discard}).run(ctx)
			cancel()
			if err == nil {
				calls = kill
				break
			}
			if !errors.Is(err, context.Canceled) {
				t.Fatalf("killed at %d: %v", kill, err)
			}
		}
		m := &migration{from: from, to: to, progress: io.Discard}
		if err := m.run(t.Context()); err != nil {
			t.Fatalf("killed at %d, run again: %v", kill, err)
		}
		r, err := m.verify(t.Context())
		if err != nil || r.Tags != tags || r.Contributors != contributors || r.Recognitions != contributors/10 || r.Periods < 30 || r.Keys == 0 || r.Rejected == 0 || r.Audits != 3 {
			t.Fatalf("killed at %d: %+v, %v", kill, r, err)
		}
		if calls > 0 {
			break
		}
	}
	if calls < 24 {
		t.Errorf("only %d calls write", calls)
	}
}

// lossyStore loses the reply to every second Commit.
type lossyStore struct {
	*storeembedded.Store
	n int
}

func (l *lossyStore) Commit(ctx context.Context, c store.Commit) (store.Revision, error) {
	revision, err := l.Store.Commit(ctx, c)
	if l.n++; l.n%2 == 0 && err == nil {
		return store.Revision{}, errors.New("the reply is lost")
	}
	return revision, err
}

func TestLostRepliesCountOnce(t *testing.T) {
	t.Parallel()
	m := &migration{from: filled(t), to: &lossyStore{Store: databasetest.Store(t)}, progress: io.Discard}
	if err := m.run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := m.verify(t.Context()); err != nil {
		t.Error(err)
	}
}

// count makes a Commit that is not of a migration.
func count(t *testing.T, s *storeembedded.Store, partition uint32, tag string) {
	t.Helper()
	state, err := s.Load(t.Context(), partition)
	if err != nil {
		t.Fatal(err)
	}
	deltas := []checkpoint.Delta{{Name: tag, Value: 1, Increments: 1}}
	c := store.Commit{Partition: partition, Revision: state.Revision, Tags: deltas, Next: state.Checkpoint.Next(time.Now(), time.Hour, nil, deltas)}
	if _, err := s.Commit(t.Context(), c); err != nil {
		t.Fatal(err)
	}
}

func TestATargetThatCountsSomethingElseIsRefused(t *testing.T) {
	t.Parallel()
	from := filled(t)
	for name, prepare := range map[string]func(to *storeembedded.Store){
		"it has counted in the same partition": func(to *storeembedded.Store) { count(t, to, 1, "other") },
		"it has counted in another partition":  func(to *storeembedded.Store) { count(t, to, 7, "other") },
		"it counts after a migration": func(to *storeembedded.Store) {
			if err := (&migration{from: from, to: to, progress: io.Discard}).run(t.Context()); err != nil {
				t.Fatal(err)
			}
			count(t, to, 2, "tag_aaa")
		},
		"it counts during a migration": func(to *storeembedded.Store) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			killed := &killedStore{Store: to, at: 12, kill: cancel}
			if err := (&migration{from: from, to: killed, progress: io.Discard}).run(ctx); !errors.Is(err, context.Canceled) {
				t.Fatal(err)
			}
			for p := range uint32(partitions) {
				count(t, to, p, "other")
			}
		},
	} {
		to := databasetest.Store(t)
		prepare(to)
		if err := (&migration{from: from, to: to, progress: io.Discard}).run(t.Context()); !errors.Is(err, errForeign) {
			t.Errorf("%s: run() = %v, want %v", name, err, errForeign)
		}
	}
}

func TestVerifyFindsDifferences(t *testing.T) {
	t.Parallel()
	from := filled(t)
	for name, change := range map[string]func(to *storeembedded.Store){
		"a total": func(to *storeembedded.Store) { count(t, to, 1, "tag_abc") },
		"a recognition": func(to *storeembedded.Store) {
			if err := to.Recognize(t.Context(), store.Recognition{Contributor: "contributor 10/%", Tier: 10, Contributions: 10, RecognizedAt: time.Now()}); err != nil {
				t.Fatal(err)
			}
		},
		"an audit record": func(to *storeembedded.Store) {
			if err := to.PutAudit(t.Context(), store.AuditRecord{ID: "retired-7", At: time.Now(), Record: []byte(`{}`)}); err != nil {
				t.Fatal(err)
			}
		},
		"contributions": func(to *storeembedded.Store) {
			c := store.Commit{Partition: 9, Next: checkpoint.Checkpoint{Commit: 1}, Contributors: []store.Contributions{{Contributor: "contributor 3/%", Contributions: 1}}}
			if _, err := to.Commit(t.Context(), c); err != nil {
				t.Fatal(err)
			}
		},
		"rejected entries and keys": func(to *storeembedded.Store) {
			c := store.Commit{Partition: 9, Next: checkpoint.Checkpoint{Commit: 1}, Rejected: []checkpoint.Rejected{{Tag: "foo", Value: 1}}}
			if _, err := to.Commit(t.Context(), c); err != nil {
				t.Fatal(err)
			}
		},
	} {
		to := databasetest.Store(t)
		m := &migration{from: from, to: to, progress: io.Discard}
		if err := m.run(t.Context()); err != nil {
			t.Fatal(err)
		}
		change(to)
		if _, err := m.verify(t.Context()); !errors.Is(err, errDifferent) {
			t.Errorf("%s: verify() = %v, want %v", name, err, errDifferent)
		}
	}
}

func TestPrepareRefusesWhatWouldBeLost(t *testing.T) {
	t.Parallel()
	o := &options{data: "folder", project: "p", databaseID: "d"}
	for name, test := range map[string]struct {
		topic, subscription string
		refused             bool
	}{
		"messages":     {"increments", "increments-aggregator", true},
		"dead letters": {"increments-dead-letter", "increments-dead-letter-redrive", true},
	} {
		d := databasetest.Open(t)
		b := brokerembedded.New(d)
		if _, err := b.Subscribe(t.Context(), test.topic, test.subscription, time.Minute); err != nil {
			t.Fatal(err)
		}
		if _, err := prepare(t.Context(), d, o); err != nil {
			t.Errorf("%s: prepare() of an empty folder = %v", name, err)
		}
		if err := b.Topic(test.topic).Publish(t.Context(), []broker.Message{{Data: []byte("x")}}); err != nil {
			t.Fatal(err)
		}
		if _, err := prepare(t.Context(), d, o); err == nil {
			t.Errorf("%s: prepare() = nil", name)
		}
	}
	moved := func(d *database.Database, to string) {
		t.Helper()
		if err := d.Move(t.Context(), to); err != nil {
			t.Fatal(err)
		}
	}
	d := databasetest.Open(t)
	moved(d, o.destination())
	if _, err := prepare(t.Context(), d, o); err != nil {
		t.Errorf("prepare() for the second run = %v", err)
	}
	moved(d, "projects/p/databases/other")
	if _, err := prepare(t.Context(), d, o); err == nil {
		t.Error("prepare() of a folder that was migrated elsewhere = nil")
	}
}

// The real thing: a folder, the command as a process that is killed, and Firestore's emulator.
func TestACommandThatIsKilledAndRunAgainMigratesToFirestoreOnce(t *testing.T) {
	t.Parallel()
	host, project := emulatortest.Firestore(t), emulatortest.Project(t)
	data := t.TempDir()
	d := open(t, data)
	fill(t, storeembedded.New(d))
	closed(t, d)
	arguments := []string{"--data", data, "--project", project, "--firestore-emulator", host}
	for kills := range 4 { // by an end of the context, which ends calls in progress as a kill does
		ctx, cancel := context.WithCancel(t.Context())
		var stderr bytes.Buffer
		time.AfterFunc(time.Duration(kills+1)*200*time.Millisecond, cancel)
		code := cli.Execute(ctx, Command(nil), arguments, io.Discard, &stderr)
		cancel()
		t.Logf("kill %d: exit code %d %s", kills, code, stderr.String())
	}
	var stdout, stderr bytes.Buffer
	if code := cli.Execute(t.Context(), Command(nil), append(arguments, "--json"), &stdout, &stderr); code != 0 {
		t.Fatalf("exit code %d: %s", code, stderr.String())
	}
	var r report
	if err := json.Unmarshal(stdout.Bytes(), &r); err != nil || r.Tags != tags || r.Contributors != contributors || r.Recognitions != contributors/10 {
		t.Errorf("%s: %v", stdout.String(), err)
	}
}

func open(t *testing.T, folder string) *database.Database {
	t.Helper()
	d, err := database.Open(database.Options{Folder: folder, Log: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func closed(t *testing.T, d *database.Database) {
	t.Helper()
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestCommandLine(t *testing.T) {
	t.Parallel()
	empty := t.TempDir()
	for arguments, want := range map[string]struct {
		code int
		text string
	}{
		"":                            {2, "GOOGLE_CLOUD_PROJECT"},
		"--project p --data=":         {2, "--data"},
		"--project p --data " + empty: {1, "there is no database"},
		"--project p --keep-keys 0s":  {2, "--keep-keys"},
		"x":                           {2, `unknown argument "x"`},
	} {
		var stderr bytes.Buffer
		if code := cli.Execute(t.Context(), Command(nil), strings.Fields(arguments), io.Discard, &stderr); code != want.code || !strings.Contains(stderr.String(), want.text) {
			t.Errorf("migrate %s: exit code %d: %s", arguments, code, stderr.String())
		}
	}
	data := t.TempDir()
	closed(t, open(t, data))
	var stderr bytes.Buffer
	unreachable := []string{"--project", "p", "--data", data, "--firestore-emulator", "127.0.0.1:1"}
	if code := cli.Execute(t.Context(), Command(nil), unreachable, io.Discard, &stderr); code != 1 || !strings.Contains(stderr.String(), "127.0.0.1:1: connect: connection refused") {
		t.Errorf("exit code %d: %s", code, stderr.String())
	}
}
