package database

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/rs/zerolog"
	bolt "go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"
)

const (
	// file is the name of the database in its folder, and compacted that of an unfinished compacted copy.
	file, compacted = "accrue.db", "accrue.db.compacted"
	// lockWait bounds the time that Open waits for another process to close the database.
	lockWait = 2 * time.Second
	// worthCompacting is the minimum size of free pages in bytes for compaction.
	worthCompacting = 32 << 20
)

var (
	// ErrInUse is returned by Open when another process has the folder open.
	ErrInUse = errors.New("another process uses it")
	// ErrVersion is returned by Open for a file with an unknown layout.
	ErrVersion = errors.New("it was written by another version of Accrue")
)

// Options are the options of Open.
type Options struct {
	// Folder is the folder of the database. It is created if it does not exist. If it is empty, the database is in a temporary
	// folder, without fsync, and Close removes it.
	Folder string
	Log    zerolog.Logger
}

// Open opens the database, or creates an empty one. It compacts a file with many free pages. The errors name the folder. They are
// ErrInUse, ErrVersion, ErrCorrupt and those of the file system.
func Open(o Options) (*Database, error) {
	d := &Database{
		folder: o.Folder, temporary: o.Folder == "", log: o.Log, commit: (*bolt.Tx).Commit,
		queue: make(chan *update), closing: make(chan struct{}),
	}
	if err := d.open(); err != nil {
		err = fmt.Errorf("open the database in %s: %w", d.folder, err)
		if errors.Is(err, ErrCorrupt) {
			err = fmt.Errorf("%w: restore a backup, or move it away", err)
		}
		return nil, err
	}
	d.working.Go(d.write)
	return d, nil
}

func (d *Database) open() (err error) {
	if d.temporary {
		d.folder, err = os.MkdirTemp("", "accrue-")
	} else {
		err = os.MkdirAll(d.folder, 0o700)
	}
	if err != nil {
		return err
	}
	defer func() {
		if err != nil && d.temporary {
			err = errors.Join(err, os.RemoveAll(d.folder))
		}
	}()
	if d.bolt, err = d.openFile(file); err != nil {
		return err
	}
	if err = d.prepare(); err == nil {
		err = d.compact()
	}
	if err != nil && d.bolt != nil {
		err = errors.Join(err, d.bolt.Close())
	}
	return err
}

// openFile opens or creates a file in the folder. It waits up to lockWait for other processes to close it.
func (d *Database) openFile(name string) (*bolt.DB, error) {
	path := filepath.Join(d.folder, name)
	for {
		var opened *os.File
		var db *bolt.DB
		err := guard(func() (err error) {
			db, err = bolt.Open(path, 0o600, &bolt.Options{
				Timeout: lockWait, FreelistType: bolt.FreelistMapType, NoSync: d.temporary, NoGrowSync: d.temporary,
				OpenFile: func(name string, flag int, mode os.FileMode) (*os.File, error) {
					f, err := os.OpenFile(name, flag, mode) //nolint:gosec // the folder is the caller's choice
					opened = f
					return f, err
				},
			})
			return err
		})
		if err != nil {
			if opened != nil {
				_ = opened.Close() // bbolt does, unless it panics
			}
			return nil, faultOfFile(err)
		}
		// Another process may have replaced the file by a compacted one.
		if current, err := os.Stat(path); err == nil {
			if ours, err := opened.Stat(); err == nil && os.SameFile(ours, current) {
				return db, nil
			}
		}
		if err := db.Close(); err != nil {
			return nil, err
		}
	}
}

// faultOfFile converts an error of opening a file to one of this package.
func faultOfFile(err error) error {
	var path *fs.PathError
	switch {
	case errors.Is(err, berrors.ErrTimeout):
		return ErrInUse
	case errors.As(err, &path), errors.Is(err, ErrCorrupt):
		return err
	default: // errors of bbolt: both meta pages are invalid or missing
		return fmt.Errorf("%w (%w)", ErrCorrupt, err)
	}
}

// prepare checks the size and version of the file, and initializes an empty database.
func (d *Database) prepare() error {
	return guard(func() error {
		tx, err := d.bolt.Begin(true)
		if err != nil {
			return err
		}
		defer tx.Rollback() //nolint:errcheck // after Commit it does nothing
		if err := validate(tx, d.bolt.Path()); err != nil {
			return err
		}
		if b := tx.Bucket(state); b != nil {
			if updated := b.Get(stateUpdated); len(updated) == 8 {
				d.updated = time.UnixMicro(int64(binary.BigEndian.Uint64(updated))).UTC() //nolint:gosec // converted from an int64
			}
			return nil
		}
		b, err := tx.CreateBucket(state)
		if err == nil {
			err = b.Put(stateVersion, []byte{version})
		}
		if err == nil {
			err = tx.Commit()
		}
		if err == nil && !d.temporary {
			err = syncFolder(d.folder)
		}
		return err
	})
}

// compact replaces a file with many free pages by a copy without them. If the process is killed meanwhile, or there is no space
// for the copy, the file stays as it is.
func (d *Database) compact() error {
	copyPath := filepath.Join(d.folder, compacted)
	if err := os.Remove(copyPath); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	info, err := os.Stat(d.bolt.Path())
	if err != nil {
		return err
	}
	free := int64(d.bolt.Stats().FreePageN) * int64(d.bolt.Info().PageSize)
	if free < worthCompacting || free < info.Size()/2 || runtime.GOOS == "windows" { // which cannot rename open files
		return nil
	}
	began := time.Now()
	smaller, err := d.openFile(compacted)
	if err != nil {
		return err
	}
	smaller.NoSync = true // Sync is called once, below
	err = guard(func() error { return bolt.Compact(smaller, d.bolt, 16<<20) })
	if err == nil {
		err = smaller.Sync()
	}
	if err == nil {
		err = os.Rename(copyPath, filepath.Join(d.folder, file))
	}
	if err != nil {
		d.log.Warn().Err(err).Str("folder", d.folder).Msg("cannot compact the database; it stays as it is")
		return errors.Join(smaller.Close(), os.Remove(copyPath))
	}
	// Both files are locked until here, so that no other process writes to them.
	if err := errors.Join(syncFolder(d.folder), smaller.Close(), d.bolt.Close()); err != nil {
		return err
	}
	if d.bolt, err = d.openFile(file); err != nil {
		return err
	}
	left, err := os.Stat(d.bolt.Path())
	if err != nil {
		return err
	}
	d.log.Info().Str("folder", d.folder).Int64("bytes_before", info.Size()).Int64("bytes_after", left.Size()).
		Dur("took", time.Since(began)).Msg("compacted the database")
	return nil
}

// syncFolder makes the names of the files in a folder durable.
func syncFolder(folder string) error {
	if runtime.GOOS == "windows" { // which has no such call
		return nil
	}
	f, err := os.Open(folder) //nolint:gosec // the folder is the caller's choice
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
