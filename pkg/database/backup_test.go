package database

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	bolt "go.etcd.io/bbolt"
)

// changingWriter updates a database between the writes of its backup.
type changingWriter struct {
	bytes.Buffer
	change func(n int)
	n      int
}

func (w *changingWriter) Write(p []byte) (int, error) {
	w.n++
	w.change(w.n)
	return w.Buffer.Write(p)
}

func TestBackupIsConsistent(t *testing.T) {
	t.Parallel()
	d := open(t, t.TempDir())
	defer closed(t, d)
	for i := range 20 {
		fill := func(tx *bolt.Tx) error {
			b, err := tx.CreateBucketIfNotExists([]byte("large"))
			if err == nil {
				err = b.Put([]byte(strconv.Itoa(i)), make([]byte, 50_000))
			}
			return err
		}
		if err := d.Update(t.Context(), 0, fill, nil); err != nil {
			t.Fatal(err)
		}
	}
	mustUpdate(t, d, "before")
	w := &changingWriter{change: func(n int) { mustUpdate(t, d, "during "+strconv.Itoa(n)) }}
	size, err := d.Backup(t.Context(), w)
	if err != nil || size != int64(w.Len()) || w.n < 5 {
		t.Fatalf("Backup() = %d, %v, wrote %d bytes in %d parts", size, err, w.Len(), w.n)
	}
	folder := filepath.Join(t.TempDir(), "new", "folder")
	if err := Restore(folder, &w.Buffer); err != nil {
		t.Fatal(err)
	}
	restored := open(t, folder)
	defer closed(t, restored)
	if got := keys(t, restored); !slices.Equal(got, []string{"before"}) {
		t.Errorf("restored %q", got)
	}
	if got := keys(t, d); len(got) != 1+w.n {
		t.Errorf("the database itself has %q", got)
	}
	if entries, err := os.ReadDir(folder); err != nil || len(entries) != 1 {
		t.Errorf("%v is left in the folder: %v", entries, err)
	}
}

func TestBackupEndsWithItsContext(t *testing.T) {
	t.Parallel()
	d := open(t, t.TempDir())
	defer closed(t, d)
	mustUpdate(t, d, "1")
	ctx, cancel := context.WithCancel(t.Context())
	if _, err := d.Backup(ctx, &changingWriter{change: func(int) { cancel() }}); !errors.Is(err, context.Canceled) {
		t.Errorf("Backup() = %v", err)
	}
}

func TestRestoreDoesNotReplaceADatabase(t *testing.T) {
	t.Parallel()
	folder, content, _ := undamaged(t)
	if err := Restore(folder, bytes.NewReader(content)); !errors.Is(err, ErrExists) || !strings.Contains(err.Error(), folder) {
		t.Errorf("Restore() = %v", err)
	}
}

func TestRestoreRefusesInvalidBackups(t *testing.T) {
	t.Parallel()
	_, content, used := undamaged(t)
	page := os.Getpagesize()
	other := bytes.ReplaceAll(content, []byte("version\x01"), []byte("version\x02"))
	inMiddle := slices.Clone(content)
	for p := 4 * page; p < used; p += page { // not the first leaf, which has the version
		clear(inMiddle[p : p+16])
	}
	for name, test := range map[string]struct {
		content []byte
		want    error
	}{
		"empty":                 {nil, ErrCorrupt},
		"text":                  {bytes.Repeat([]byte("text\n"), 10_000), ErrCorrupt},
		"cut":                   {content[:used-page], ErrCorrupt},
		"damaged in the middle": {inMiddle, ErrCorrupt},
		"of another version":    {other, ErrVersion},
	} {
		folder := t.TempDir()
		err := Restore(folder, bytes.NewReader(test.content))
		if !errors.Is(err, test.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: Restore() = %v, want one line with %v", name, err, test.want)
		}
		if entries, err := os.ReadDir(folder); err != nil || len(entries) != 0 {
			t.Errorf("%s: %v is left in the folder: %v", name, entries, err)
		}
	}
}
