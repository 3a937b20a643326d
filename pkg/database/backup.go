package database

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	bolt "go.etcd.io/bbolt"
)

// ErrExists is returned by Restore for a folder that has a database.
var ErrExists = errors.New("it has a database: move it away first")

// Exists reports whether a folder has a database, even a damaged one.
func Exists(folder string) (bool, error) {
	switch _, err := os.Stat(filepath.Join(folder, file)); {
	case err == nil:
		return true, nil
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	default:
		return false, err
	}
}

// Backup writes a consistent copy of the file to w, and returns its size. Updates continue meanwhile on other pages, so the file
// grows by what they change.
func (d *Database) Backup(ctx context.Context, w io.Writer) (size int64, err error) {
	copying := &interrupted{ctx: ctx, w: w}
	err = d.View(ctx, func(tx *bolt.Tx) error {
		size, err = tx.WriteTo(copying)
		return err
	})
	if err != nil {
		return size, fmt.Errorf("back up the database: %w", cmp.Or(copying.err, err)) // bbolt drops the cause
	}
	return size, nil
}

// interrupted is a writer that fails when its context has ended. It keeps the error.
type interrupted struct {
	ctx context.Context
	w   io.Writer
	err error
}

func (i *interrupted) Write(p []byte) (n int, err error) {
	if i.err = i.ctx.Err(); i.err == nil {
		n, i.err = i.w.Write(p)
	}
	return n, i.err
}

// Verify reads all keys of a backup. The errors are ErrVersion, ErrCorrupt and those of the file system.
func Verify(path string) error {
	err := guard(func() error {
		if info, err := os.Stat(path); err != nil || info.Size() == 0 { // bbolt would initialize an empty file
			return cmp.Or(err, ErrCorrupt)
		}
		db, err := bolt.Open(path, 0, &bolt.Options{ReadOnly: true, Timeout: lockWait})
		if err != nil {
			return faultOfFile(err)
		}
		defer db.Close() //nolint:errcheck // it was only read
		return db.View(func(tx *bolt.Tx) error {
			if err := validate(tx, path); err != nil {
				return err
			}
			if tx.Bucket(state) == nil {
				return fmt.Errorf("%w (it is another program's)", ErrVersion)
			}
			return tx.ForEach(func(_ []byte, b *bolt.Bucket) error {
				return b.ForEach(func(_, _ []byte) error { return nil })
			})
		})
	})
	if err != nil {
		return fmt.Errorf("verify the backup: %w", err)
	}
	return nil
}

// validate checks that a file has its full size and this version. An empty database is valid.
func validate(tx *bolt.Tx, path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if info.Size() < tx.Size() {
		return fmt.Errorf("%w (it has %d bytes of %d)", ErrCorrupt, info.Size(), tx.Size())
	}
	b := tx.Bucket(state)
	if b == nil {
		if first, _ := tx.Cursor().First(); first != nil {
			return fmt.Errorf("%w (it is another program's)", ErrVersion)
		}
		return nil
	}
	if v := b.Get(stateVersion); len(v) != 1 || v[0] != version {
		return fmt.Errorf("%w (layout %d, this program knows %d)", ErrVersion, v, version)
	}
	return nil
}

// Restore creates the database of a folder from a backup, which it verifies first. If the process is killed meanwhile, the folder
// has no database. The errors are ErrExists, those of Verify, and those of the file system.
func Restore(folder string, backup io.Reader) error {
	err := os.MkdirAll(folder, 0o700)
	if err == nil {
		err = Save(filepath.Join(folder, file), func(w io.Writer) error {
			_, err := io.Copy(w, backup)
			return err
		})
	}
	if errors.Is(err, fs.ErrExist) {
		err = ErrExists
	}
	if err != nil {
		return fmt.Errorf("restore the database in %s: %w", folder, err)
	}
	return nil
}

// Save creates a file with the backup that write writes. The file gets its name once it is verified and on disk. The errors are
// fs.ErrExist, those of write and Verify, and those of the file system.
func Save(path string, write func(io.Writer) error) (err error) {
	if _, err := os.Lstat(path); err == nil {
		return &fs.PathError{Op: "create", Path: path, Err: fs.ErrExist}
	}
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".partial-*")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.Remove(f.Name())) }()
	err = write(f)
	if err == nil {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := Verify(f.Name()); err != nil {
		return err
	}
	// Unlike Rename, Link does not replace a file that another process has created meanwhile.
	if err := os.Link(f.Name(), path); err != nil {
		return err
	}
	return syncFolder(filepath.Dir(path))
}
