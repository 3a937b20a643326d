//go:build unix

package database_test

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"github.com/accrue/accrue/pkg/broker"
	brokerembedded "github.com/accrue/accrue/pkg/broker/embedded"
	"github.com/accrue/accrue/pkg/checkpoint"
	"github.com/accrue/accrue/pkg/database"
	"github.com/accrue/accrue/pkg/database/databasetest"
	"github.com/accrue/accrue/pkg/store"
	storeembedded "github.com/accrue/accrue/pkg/store/embedded"
)

// childVariable selects what the test binary does instead of running tests when a test starts it as a child process.
const childVariable, folderVariable = "DATABASE_TEST_CHILD", "DATABASE_TEST_FOLDER"

func TestMain(m *testing.M) {
	child, ok := map[string]func(folder string) error{
		"count until killed":   countUntilKilled,
		"fill the file's size": fillFileSize,
		"fill a file system":   fillFileSystem,
	}[os.Getenv(childVariable)]
	if !ok {
		goleak.VerifyTestMain(m)
		return
	}
	if err := child(os.Getenv(folderVariable)); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func child(t *testing.T, does, folder string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), childVariable+"="+does, folderVariable+"="+folder)
	cmd.Stderr = os.Stderr
	return cmd
}

// The tests count everything in one partition, for one tag and a few contributors.
const (
	partition, tag, contributors = 3, "foo", 10
	topic, subscription          = "increments", "increments-aggregator"
)

func encode(m checkpoint.Message) broker.Message {
	return broker.Message{Data: binary.BigEndian.AppendUint64(m.Publisher[:], m.Sequence)}
}

func decode(d broker.Delivery) (m checkpoint.Message) {
	copy(m.Publisher[:], d.Data)
	m.Sequence = binary.BigEndian.Uint64(d.Data[len(m.Publisher):])
	return m
}

// count settles up to a hundred messages, as the aggregator does, and returns how many it pulled.
func count(ctx context.Context, source *brokerembedded.Subscription, documents *storeembedded.Store) (int, error) {
	pulled, err := source.Pull(ctx, 100)
	if err != nil || len(pulled) == 0 {
		return 0, err
	}
	state, err := documents.Load(ctx, partition)
	if err != nil {
		return 0, err
	}
	commit := store.Commit{Partition: partition, Revision: state.Revision}
	var messages []checkpoint.Message
	var receipts []string
	added := make(map[string]int64)
	for _, d := range pulled {
		receipts = append(receipts, d.Receipt)
		if m := decode(d); !state.Checkpoint.Contains(m) {
			messages = append(messages, m)
			added[strconv.FormatUint(m.Sequence%contributors, 10)]++
		}
	}
	for contributor, n := range added {
		commit.Contributors = append(commit.Contributors, store.Contributions{Contributor: contributor, Contributions: n})
	}
	n := int64(len(messages))
	commit.Tags = []checkpoint.Delta{{Name: tag, Value: n, Increments: n}}
	commit.Next = state.Checkpoint.Next(time.Now(), 24*time.Hour, messages, commit.Tags)
	if _, err := documents.Commit(ctx, commit); err != nil {
		return 0, err
	}
	return len(pulled), source.Acknowledge(ctx, receipts)
}

// countUntilKilled publishes messages, prints a line for each published one, and counts them, all concurrently.
func countUntilKilled(folder string) error {
	ctx := context.Background()
	d, err := database.Open(database.Options{Folder: folder, Log: zerolog.Nop()})
	if err != nil {
		return err
	}
	b := brokerembedded.New(d)
	source, err := b.Subscribe(ctx, topic, subscription, time.Minute)
	if err != nil {
		return err
	}
	fault := make(chan error)
	for range 4 {
		go func() {
			m := checkpoint.Message{}
			_, _ = rand.Read(m.Publisher[:])
			for {
				m.Sequence++
				err := b.Topic(topic).Publish(ctx, []broker.Message{encode(m)})
				if err == nil {
					_, err = os.Stdout.Write(fmt.Appendf(nil, "%x %d\n", m.Publisher[:], m.Sequence))
				}
				if err != nil {
					fault <- err
				}
			}
		}()
	}
	documents := storeembedded.New(d)
	go func() {
		for {
			if _, err := count(ctx, source, documents); err != nil {
				fault <- err
			}
		}
	}()
	return <-fault
}

func TestPublishedMessagesAreCountedOnceThroughKills(t *testing.T) {
	t.Parallel()
	rounds := 20
	if testing.Short() {
		rounds = 3
	}
	if n, err := strconv.Atoi(os.Getenv("ROUNDS")); err == nil {
		rounds = n
	}
	folder := t.TempDir()
	published := make(map[checkpoint.Message]bool)
	var restarts time.Duration
	for round := range rounds {
		cmd := child(t, "count until killed", folder)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		for n := 0; lines.Scan(); n++ { // including lines written before the kill and read after it
			publisher, sequence, _ := strings.Cut(lines.Text(), " ")
			var m checkpoint.Message
			if _, err := hex.Decode(m.Publisher[:], []byte(publisher)); err != nil {
				t.Fatal(err)
			}
			if m.Sequence, err = strconv.ParseUint(sequence, 10, 64); err != nil {
				t.Fatal(err)
			}
			published[m] = true
			if n == 0 {
				restarts += time.Since(began)
			}
			if n == 5+37*round%150 {
				if err := cmd.Process.Kill(); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := cmd.Wait(); err == nil || cmd.ProcessState.Exited() {
			t.Fatalf("the process exited: %v", err)
		}
	}
	t.Logf("%d messages published; the first %v after the start of a process", len(published), restarts/time.Duration(rounds))

	d := databasetest.OpenFolder(t, folder)
	source, err := brokerembedded.New(d).Subscribe(t.Context(), topic, subscription, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	documents := storeembedded.New(d)
	for {
		n, err := count(t.Context(), source, documents)
		if err != nil {
			t.Fatal(err)
		}
		if n == 0 {
			break
		}
	}
	if held, err := source.Held(t.Context()); err != nil || held != 0 {
		t.Errorf("Held() = %d, %v after everything was counted", held, err)
	}
	verify(t, documents, published)
}

// verify checks that all published messages are counted, and that the documents count each settled message once.
func verify(t *testing.T, documents *storeembedded.Store, published map[checkpoint.Message]bool) {
	t.Helper()
	state, err := documents.Load(t.Context(), partition)
	if err != nil {
		t.Fatal(err)
	}
	for m := range published {
		if !state.Checkpoint.Contains(m) {
			t.Errorf("message %d of %x was published and is not counted", m.Sequence, m.Publisher)
		}
	}
	var counted int64
	for _, publisher := range state.Checkpoint.Publishers {
		for _, i := range publisher.Sequences {
			counted += int64(i.Last - i.First + 1)
		}
	}
	tags, err := documents.Tags(t.Context())
	if err != nil || len(tags) != 1 || tags[0].Total != counted || state.Checkpoint.Totals[0].Total != counted {
		t.Errorf("%d messages settled; tags are %v, totals %v: %v", counted, tags, state.Checkpoint.Totals, err)
	}
	page, _, err := documents.Contributors(t.Context(), store.ByContributionsDescending, store.Contributor{}, 2*contributors)
	var contributions int64
	for i, c := range page {
		contributions += c.Contributions
		if i > 0 && page[i-1].Contributions < c.Contributions {
			t.Errorf("%v comes before %v", page[i-1], c)
		}
	}
	if err != nil || contributions != counted || len(page) != contributors {
		t.Errorf("%d contributions of %d contributors, want %d: %v", contributions, len(page), counted, err)
	}
}

// fill publishes until the disk is full. It checks that nothing is lost and that everything works once there is space.
func fill(folder string, makeRoom func() error) error {
	ctx := context.Background()
	d, err := database.Open(database.Options{Folder: folder, Log: zerolog.Nop()})
	if err != nil {
		return err
	}
	b := brokerembedded.New(d)
	source, err := b.Subscribe(ctx, topic, subscription, time.Minute)
	if err != nil {
		return err
	}
	publish := func() error {
		return b.Topic(topic).Publish(ctx, []broker.Message{{Data: make([]byte, 1000)}, {Data: make([]byte, 9000)}})
	}
	published := 0
	for ; err == nil; published += 2 {
		err = publish()
	}
	published -= 2
	if !errors.Is(err, broker.ErrRefused) {
		return fmt.Errorf("publish with a full disk: %w", err)
	}
	_, err = storeembedded.New(d).Commit(ctx, store.Commit{
		Keys: make([]checkpoint.KeyRange, checkpoint.MaxKeyRanges), Next: checkpoint.Checkpoint{Commit: 1},
	})
	if !errors.Is(err, database.ErrFull) {
		return fmt.Errorf("commit with a full disk: %w", err)
	}
	if held, err := source.Held(ctx); err != nil || held != published {
		return fmt.Errorf("%d messages held, want %d: %w", held, published, err)
	}
	if pulled, err := source.Pull(ctx, 10); err != nil || len(pulled) == 0 {
		return fmt.Errorf("pull with a full disk: %d, %w", len(pulled), err)
	}
	if err := makeRoom(); err != nil {
		return err
	}
	if err := publish(); err != nil {
		return fmt.Errorf("publish with space: %w", err)
	}
	if err := d.Close(); err != nil {
		return err
	}
	if d, err = database.Open(database.Options{Folder: folder, Log: zerolog.Nop()}); err != nil {
		return err
	}
	waiting, err := brokerembedded.New(d).Waiting(ctx)
	if n := waiting[topic+"/"+subscription]; err != nil || n != published+2 {
		return fmt.Errorf("%d messages wait after a restart, want %d: %w", n, published+2, err)
	}
	return d.Close()
}

func TestFullDiskRefusesUpdatesAndLosesNothing(t *testing.T) {
	t.Parallel()
	for _, does := range []string{"fill the file's size", "fill a file system"} {
		t.Run(does, func(t *testing.T) {
			t.Parallel()
			cmd := child(t, does, t.TempDir())
			if does == "fill a file system" {
				ownFileSystems(t, cmd)
			}
			if err := cmd.Run(); err != nil {
				t.Error(err)
			}
		})
	}
}

// fillFileSize limits the size of files and fills one.
func fillFileSize(folder string) error {
	signal.Ignore(syscall.SIGXFSZ) // so that the write fails instead
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
		return err
	}
	most := limit.Cur
	limit.Cur = 1 << 20
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
		return err
	}
	return fill(folder, func() error {
		limit.Cur = most
		return syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit)
	})
}

// fillFileSystem mounts a small file system and fills it.
func fillFileSystem(folder string) error {
	if err := mount(folder); err != nil {
		return err
	}
	other := filepath.Join(folder, "other")
	if err := os.WriteFile(other, make([]byte, 1<<20), 0o600); err != nil {
		return err
	}
	return fill(filepath.Join(folder, "data"), func() error { return os.Remove(other) })
}
