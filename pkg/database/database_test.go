package database

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"
	bolt "go.etcd.io/bbolt"
)

var numbers = []byte("numbers")

// open opens the database of a folder. The caller must close it.
func open(t *testing.T, folder string) *Database {
	t.Helper()
	d, err := Open(Options{Folder: folder, Log: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func closed(t *testing.T, d *Database) {
	t.Helper()
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
}

func put(key string) func(*bolt.Tx) error {
	return func(tx *bolt.Tx) error {
		b, err := tx.CreateBucketIfNotExists(numbers)
		if err == nil {
			err = b.Put([]byte(key), nil)
		}
		return err
	}
}

func mustUpdate(t *testing.T, d *Database, key string) {
	t.Helper()
	if err := d.Update(t.Context(), 0, put(key), nil); err != nil {
		t.Fatal(err)
	}
}

func keys(t *testing.T, d *Database) []string {
	t.Helper()
	var all []string
	err := d.View(t.Context(), func(tx *bolt.Tx) error {
		if b := tx.Bucket(numbers); b != nil {
			return b.ForEach(func(key, _ []byte) error { all = append(all, string(key)); return nil })
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestUpdatesSurviveARestart(t *testing.T) {
	t.Parallel()
	folder := filepath.Join(t.TempDir(), "made", "as needed")
	d := open(t, folder)
	mustUpdate(t, d, "1")
	closed(t, d)
	if err := d.Update(t.Context(), 0, put("2"), nil); !errors.Is(err, ErrClosed) {
		t.Errorf("Update() after Close = %v, want %v", err, ErrClosed)
	}
	if err := d.View(t.Context(), func(*bolt.Tx) error { return nil }); !errors.Is(err, ErrClosed) {
		t.Errorf("View() after Close = %v, want %v", err, ErrClosed)
	}
	d = open(t, folder)
	defer closed(t, d)
	if d.bolt.NoSync || d.bolt.NoGrowSync {
		t.Error("a database in a folder does not fsync")
	}
	if got := keys(t, d); !slices.Equal(got, []string{"1"}) {
		t.Errorf("keys after reopening = %v", got)
	}
}

func TestCloseRemovesATemporaryFolder(t *testing.T) {
	t.Parallel()
	d := open(t, "")
	mustUpdate(t, d, "1")
	closed(t, d)
	if _, err := os.Stat(d.folder); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Stat(%s) = %v", d.folder, err)
	}
}

// hold makes each commit wait for a token, and counts commits.
func hold(d *Database) (release chan<- struct{}, commits func() int) {
	tokens, n := make(chan struct{}), 0
	var mu sync.Mutex
	d.commit = func(tx *bolt.Tx) error {
		<-tokens
		mu.Lock()
		defer mu.Unlock()
		n++
		return tx.Commit()
	}
	return tokens, func() int { mu.Lock(); defer mu.Unlock(); return n }
}

func TestConcurrentUpdatesShareACommit(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := open(t, "")
		defer closed(t, d)
		release, commits := hold(d)
		var working sync.WaitGroup
		for i := range 100 {
			working.Go(func() { mustUpdate(t, d, strconv.Itoa(i)) })
		}
		synctest.Wait() // one update is being committed, 99 are waiting
		release <- struct{}{}
		synctest.Wait()
		release <- struct{}{}
		working.Wait()
		if n := len(keys(t, d)); n != 100 || commits() != 2 {
			t.Errorf("%d updates in %d commits, want 100 in 2", n, commits())
		}
	})
}

func TestSharedTransactionsAreBoundedInSize(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := open(t, "")
		defer closed(t, d)
		release, commits := hold(d)
		var working sync.WaitGroup
		for i := range 7 {
			working.Go(func() {
				if err := d.Update(t.Context(), maxGroupBytes/2, put(strconv.Itoa(i)), nil); err != nil {
					t.Error(err)
				}
			})
			synctest.Wait()
		}
		for range 4 { // one, and three of two each
			release <- struct{}{}
		}
		working.Wait()
		if commits() != 4 {
			t.Errorf("%d commits, want 4", commits())
		}
	})
}

func TestFailedUpdateChangesNothingAndDoesNotAffectOthers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := open(t, "")
		defer closed(t, d)
		release, _ := hold(d)
		refused := errors.New("refused")
		var working sync.WaitGroup
		working.Go(func() { mustUpdate(t, d, "first") })
		synctest.Wait()
		for i := range 10 {
			working.Go(func() {
				var outcomes []error
				err := d.Update(t.Context(), 0, func(tx *bolt.Tx) error {
					if err := put(strconv.Itoa(i))(tx); err != nil || i%3 != 0 {
						return err
					}
					return refused
				}, func(err error) { outcomes = append(outcomes, err) })
				if want := i%3 == 0; errors.Is(err, refused) != want || err != nil != want {
					t.Errorf("update %d: %v", i, err)
				}
				if len(outcomes) != 1 || !errors.Is(outcomes[0], err) {
					t.Errorf("update %d: ended with %v after %v", i, outcomes, err)
				}
			})
		}
		synctest.Wait()
		release <- struct{}{}
		release <- struct{}{}
		working.Wait()
		if got := keys(t, d); !slices.Equal(got, []string{"1", "2", "4", "5", "7", "8", "first"}) {
			t.Errorf("found %v", got)
		}
	})
}

func TestContextEndsBeforeTheTransaction(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := open(t, "")
		defer closed(t, d)
		release, _ := hold(d)
		var working sync.WaitGroup
		working.Go(func() { mustUpdate(t, d, "first") })
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		var outcome error
		err := d.Update(ctx, 0, put("late"), func(err error) { outcome = err })
		if !errors.Is(err, context.DeadlineExceeded) || !errors.Is(outcome, context.DeadlineExceeded) {
			t.Errorf("Update() = %v, ended with %v", err, outcome)
		}
		release <- struct{}{}
		working.Wait()
		if got := keys(t, d); !slices.Equal(got, []string{"first"}) {
			t.Errorf("found %v", got)
		}
	})
}

func TestContextEndsDuringTheCommit(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := open(t, "")
		defer closed(t, d)
		release, _ := hold(d)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		outcome := make(chan error, 1)
		if err := d.Update(ctx, 0, put("slow"), func(err error) { outcome <- err }); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Update() = %v", err)
		}
		release <- struct{}{}
		if err := <-outcome; err != nil {
			t.Errorf("ended with %v", err)
		}
		if got := keys(t, d); !slices.Equal(got, []string{"slow"}) {
			t.Errorf("found %v", got)
		}
	})
}

func TestFailedFsyncStopsUpdatesUntilARestart(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	d := open(t, folder)
	mustUpdate(t, d, "1")
	var logged bytes.Buffer
	d.log = zerolog.New(&logged)
	d.commit = func(tx *bolt.Tx) error { return errors.Join(tx.Rollback(), syscall.EIO) }
	if err := d.Update(t.Context(), 0, put("2"), nil); !errors.Is(err, ErrFailed) || !errors.Is(err, syscall.EIO) {
		t.Errorf("Update() = %v, want %v", err, ErrFailed)
	}
	d.commit = (*bolt.Tx).Commit
	for range 2 {
		if err := d.Update(t.Context(), 0, put("3"), nil); !errors.Is(err, ErrFailed) {
			t.Errorf("Update() = %v, want %v", err, ErrFailed)
		}
	}
	if err := d.Check(t.Context()); !errors.Is(err, ErrFailed) {
		t.Errorf("Check() = %v, want %v", err, ErrFailed)
	}
	if got := keys(t, d); !slices.Equal(got, []string{"1"}) {
		t.Errorf("found %v", got)
	}
	if n := strings.Count(logged.String(), "\n"); n != 1 {
		t.Errorf("logged %d lines, want 1:\n%s", n, &logged)
	}
	closed(t, d)
	d = open(t, folder)
	defer closed(t, d)
	mustUpdate(t, d, "4")
	if err := d.Check(t.Context()); err != nil {
		t.Errorf("Check() after a restart = %v", err)
	}
}

func TestFailedWriteChangesNothing(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		err  error
		full bool
	}{
		"no space":       {&fs.PathError{Op: "write", Path: "f", Err: syscall.ENOSPC}, true},
		"over the quota": {&fs.PathError{Op: "write", Path: "f", Err: syscall.EDQUOT}, true},
		"file too large": {errors.New("file resize error: truncate f: file too large"), true},
		"I/O error":      {&fs.PathError{Op: "write", Path: "f", Err: syscall.EIO}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := open(t, "")
			defer closed(t, d)
			d.commit = func(tx *bolt.Tx) error { return errors.Join(tx.Rollback(), test.err) }
			err := d.Update(t.Context(), 0, put("1"), nil)
			if err == nil || errors.Is(err, ErrFull) != test.full || errors.Is(err, ErrFailed) {
				t.Errorf("Update() = %v", err)
			}
			d.commit = (*bolt.Tx).Commit
			mustUpdate(t, d, "2")
			if got := keys(t, d); !slices.Equal(got, []string{"2"}) {
				t.Errorf("found %v", got)
			}
		})
	}
}

func TestRefusesAFolderInUse(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		folder := t.TempDir()
		d := open(t, folder)
		_, err := Open(Options{Folder: folder})
		if !errors.Is(err, ErrInUse) || err.Error() != "open the database in "+folder+": another process uses it" {
			t.Errorf("Open() = %v", err)
		}
		time.AfterFunc(lockWait/2, func() { closed(t, d) })
		closed(t, open(t, folder)) // waits for the other one
	})
}

func TestRefusesAnotherVersion(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*bolt.Tx) error{
		"a later version": func(tx *bolt.Tx) error { return tx.Bucket(state).Put(stateVersion, []byte{version + 1}) },
		"another program": func(tx *bolt.Tx) error { return errors.Join(tx.DeleteBucket(state), put("1")(tx)) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			folder := t.TempDir()
			d := open(t, folder)
			if err := d.bolt.Update(change); err != nil {
				t.Fatal(err)
			}
			closed(t, d)
			before, _ := os.ReadFile(filepath.Join(folder, file))
			if _, err := Open(Options{Folder: folder}); !errors.Is(err, ErrVersion) {
				t.Errorf("Open() = %v, want %v", err, ErrVersion)
			}
			if after, err := os.ReadFile(filepath.Join(folder, file)); err != nil || !bytes.Equal(before, after) {
				t.Errorf("the file has changed: %v", err)
			}
		})
	}
}

// undamaged returns the folder of a database, the bytes of its file, and how many of them are in use.
func undamaged(t *testing.T) (folder string, content []byte, used int) {
	t.Helper()
	folder = t.TempDir()
	d := open(t, folder)
	for i := range 20 {
		if err := d.Update(t.Context(), 0, func(tx *bolt.Tx) error {
			b, err := tx.CreateBucketIfNotExists(numbers)
			if err == nil {
				err = b.Put([]byte(strconv.Itoa(i)), make([]byte, 3000))
			}
			return err
		}, nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.bolt.View(func(tx *bolt.Tx) error { used = int(tx.Size()); return nil }); err != nil {
		t.Fatal(err)
	}
	closed(t, d)
	content, err := os.ReadFile(filepath.Join(folder, file))
	if err != nil {
		t.Fatal(err)
	}
	return folder, content, used
}

func TestRefusesADamagedFile(t *testing.T) {
	t.Parallel()
	page := os.Getpagesize()
	for name, damage := range map[string]func(b []byte, used int) []byte{
		"text":                      func([]byte, int) []byte { return bytes.Repeat([]byte("text\n"), 10_000) },
		"cut within the first page": func(b []byte, _ int) []byte { return b[:100] },
		"cut in the middle":         func(b []byte, used int) []byte { return b[:used/2/page*page] },
		"cut after two pages":       func(b []byte, _ int) []byte { return b[:2*page] },
		"without the last page":     func(b []byte, used int) []byte { return b[:used-page] },
		"first pages cleared":       func(b []byte, _ int) []byte { clear(b[:4*page]); return b },
		"all but two pages cleared": func(b []byte, _ int) []byte { clear(b[2*page:]); return b },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			folder, content, used := undamaged(t)
			content = damage(content, used)
			if err := os.WriteFile(filepath.Join(folder, file), content, 0o600); err != nil {
				t.Fatal(err)
			}
			d, err := Open(Options{Folder: folder})
			if !errors.Is(err, ErrCorrupt) || strings.Contains(err.Error(), "\n") {
				t.Errorf("Open() = %v, %v, want one line with %v", d, err, ErrCorrupt)
			}
			if after, err := os.ReadFile(filepath.Join(folder, file)); err != nil || !bytes.Equal(content, after) {
				t.Errorf("the file has changed: %v", err)
			}
		})
	}
}

func TestDamagedPageStopsUpdates(t *testing.T) {
	t.Parallel()
	folder, content, _ := undamaged(t)
	const leaf, headerSize = 2, 16
	for page := range slices.Chunk(content, os.Getpagesize()) {
		flags, values := page[8:10], bytes.Contains(page, make([]byte, 2900)) && !bytes.Contains(page, numbers)
		if values && binary.LittleEndian.Uint16(flags) == leaf { // Open does not read it
			clear(page[headerSize:])
			binary.LittleEndian.PutUint16(flags, 0xffff)
		}
	}
	if err := os.WriteFile(filepath.Join(folder, file), content, 0o600); err != nil {
		t.Fatal(err)
	}
	d := open(t, folder)
	defer closed(t, d)
	read := func(tx *bolt.Tx) error { return tx.Bucket(numbers).ForEach(func(_, _ []byte) error { return nil }) }
	if err := d.View(t.Context(), read); !errors.Is(err, ErrCorrupt) {
		t.Errorf("View() = %v, want %v", err, ErrCorrupt)
	}
	for range 2 {
		if err := d.Update(t.Context(), 0, put("5"), nil); !errors.Is(err, ErrCorrupt) {
			t.Errorf("Update() = %v, want %v", err, ErrCorrupt)
		}
	}
	if err := d.Check(t.Context()); !errors.Is(err, ErrCorrupt) {
		t.Errorf("Check() = %v, want %v", err, ErrCorrupt)
	}
}

func TestOpenNamesAnUnusableFolder(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(Options{Folder: path}); !errors.Is(err, syscall.ENOTDIR) || !strings.Contains(err.Error(), path) {
		t.Errorf("Open() of a file = %v", err)
	}
	if os.Getuid() == 0 {
		t.Skip("root has every permission")
	}
	folder := t.TempDir()
	closed(t, open(t, folder))
	for path, mode := range map[string]fs.FileMode{filepath.Join(folder, file): 0o400, folder: 0o100} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(Options{Folder: folder}); !errors.Is(err, fs.ErrPermission) || !strings.Contains(err.Error(), folder) {
			t.Errorf("Open() of a folder without permission = %v", err)
		}
		if err := os.Chmod(path, 0o700); err != nil {
			t.Fatal(err)
		}
	}
}

func TestClockNeverGoesBack(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	tick := func(d *Database) (at time.Time) {
		t.Helper()
		err := d.Update(t.Context(), 0, func(*bolt.Tx) error { at = d.Tick(); return nil }, nil)
		if err != nil {
			t.Fatal(err)
		}
		return at
	}
	d := open(t, folder)
	last := tick(d)
	for range 1000 {
		next := d.Tick()
		if !next.After(last) || next.Nanosecond()%1000 != 0 {
			t.Fatalf("Tick() = %v after %v", next, last)
		}
		last = next
	}
	ahead := last.Add(time.Hour) // as if the machine's clock had been wrong
	d.updated = ahead
	last = tick(d)
	closed(t, d)
	d = open(t, folder)
	defer closed(t, d)
	if now := d.Now(); now.Before(last) {
		t.Errorf("Now() = %v, before %v", now, last)
	}
	if next := tick(d); !next.After(last) {
		t.Errorf("Tick() = %v, not after %v", next, last)
	}
}

func TestOpenCompactsAFileWithManyFreePages(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	path := filepath.Join(folder, file)
	d := open(t, folder)
	d.bolt.NoSync = true // makes the test faster
	mustUpdate(t, d, "kept")
	at := d.Tick()
	large := func(tx *bolt.Tx) error {
		b, err := tx.CreateBucketIfNotExists([]byte("large"))
		if err == nil {
			err = b.Put([]byte("value"), make([]byte, 2*worthCompacting))
		}
		return err
	}
	if err := d.Update(t.Context(), 0, large, nil); err != nil {
		t.Fatal(err)
	}
	closed(t, d)
	d = open(t, folder)
	if err := d.Update(t.Context(), 0, func(tx *bolt.Tx) error { return tx.DeleteBucket([]byte("large")) }, nil); err != nil {
		t.Fatal(err)
	}
	closed(t, d)
	before, err := os.Stat(path)
	if err != nil || before.Size() < 2*worthCompacting {
		t.Fatalf("%v before compaction: %v", before, err)
	}
	if err := os.WriteFile(filepath.Join(folder, compacted), []byte("left by a killed process"), 0o600); err != nil {
		t.Fatal(err)
	}
	d = open(t, folder)
	defer closed(t, d)
	after, err := os.Stat(path)
	if err != nil || after.Size() > 1<<20 {
		t.Errorf("%d bytes after compaction: %v", after.Size(), err)
	}
	if got := keys(t, d); !slices.Equal(got, []string{"kept"}) || d.Now().Before(at) || d.bolt.NoSync {
		t.Errorf("found %v, %v after %v, no fsync: %v", got, d.Now(), at, d.bolt.NoSync)
	}
	mustUpdate(t, d, "more")
	if _, err := Open(Options{Folder: folder}); !errors.Is(err, ErrInUse) {
		t.Errorf("Open() of a compacted file in use = %v", err)
	}
	if entries, err := os.ReadDir(folder); err != nil || len(entries) != 1 {
		t.Errorf("%v is left in the folder: %v", entries, err)
	}
}
