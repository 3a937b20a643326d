// Package database is the file of embedded mode: one bbolt database in a folder, which broker/embedded and
// store/embedded share. It adds to bbolt what they need of it: changes of concurrent callers that share one fsync, a
// clock that never goes back, and faults of the disk and of the file as errors.
package database

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"sync"
	"time"

	"github.com/rs/zerolog"
	bolt "go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"
)

var (
	// ErrClosed is returned by Update and View after Close. Nothing was changed.
	ErrClosed = errors.New("the database is closed")
	// ErrFull is returned by Update when the disk is full. Nothing was changed; the same update succeeds once there is
	// room.
	ErrFull = errors.New("the disk is full")
	// ErrFailed is returned by Update when the disk has failed, and from then on until the database is opened again: what
	// the kernel holds may differ from what is on the disk. Whether the first such update was kept is unknown; later
	// ones change nothing. Reads go on.
	ErrFailed = errors.New("the disk has failed: check it and restart")
	// ErrCorrupt is returned when the file holds what no version of bbolt wrote.
	ErrCorrupt = errors.New("the file is damaged")
)

// version is the layout of the file. A file of another version is refused.
const version = 1

// state is the bucket of what concerns the file as a whole.
var (
	state        = []byte("state")
	stateVersion = []byte("version")
	stateUpdated = []byte("updated") // the latest time that Tick has returned, in microseconds
)

// Database is an open file. It is safe for concurrent use.
type Database struct {
	folder    string
	temporary bool
	log       zerolog.Logger
	bolt      *bolt.DB
	commit    func(*bolt.Tx) error // (*bolt.Tx).Commit, but for tests of failing disks

	queue   chan *update
	closing chan struct{}
	working sync.WaitGroup

	mu      sync.Mutex
	failure error     // the first fault after which nothing can be written
	updated time.Time // the latest time that Tick has returned
}

// View calls read with a transaction that sees one state of the database and everything that was committed before. What
// the transaction returns is valid only during the call. The errors are that of ctx if it has ended, ErrClosed, ErrCorrupt
// and those of read.
func (d *Database) View(ctx context.Context, read func(*bolt.Tx) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	err := guard(func() error { return d.bolt.View(read) })
	if errors.Is(err, berrors.ErrDatabaseNotOpen) {
		return ErrClosed
	}
	return err
}

// Check returns nil when the database can be written to, ErrFailed after a fault of the disk, and ErrClosed.
func (d *Database) Check(ctx context.Context) error {
	if err := d.View(ctx, func(*bolt.Tx) error { return nil }); err != nil {
		return err
	}
	return d.failed()
}

func (d *Database) failed() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.failure
}

// fail makes err, if it is the first one, what all later updates return.
func (d *Database) fail(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.failure == nil {
		d.failure = err
		d.log.Error().Err(err).Str("folder", d.folder).Msg("cannot write to the database any more")
	}
}

// Now is the time by the database's clock, in UTC: that of the machine, and never before one that Tick has returned, also
// in an earlier process.
func (d *Database) Now() time.Time {
	d.mu.Lock()
	defer d.mu.Unlock()
	if now := time.Now().UTC(); now.After(d.updated) {
		return now
	}
	return d.updated
}

// Tick returns a time of the database's clock that is later than all that Tick has returned before, in whole
// microseconds. It is for functions that Update applies: what they commit keeps later processes to it.
func (d *Database) Tick() time.Time {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := time.Now().UTC().Truncate(time.Microsecond)
	if !now.After(d.updated) {
		now = d.updated.Add(time.Microsecond)
	}
	d.updated = now
	return now
}

// keepClock writes the time of the last Tick.
func (d *Database) keepClock(tx *bolt.Tx) error {
	d.mu.Lock()
	updated := d.updated
	d.mu.Unlock()
	if updated.IsZero() {
		return nil
	}
	b := binary.BigEndian.AppendUint64(nil, uint64(updated.UnixMicro()))
	return tx.Bucket(state).Put(stateUpdated, b)
}

// Close waits for the updates that have begun, refuses the others, and closes the file. It removes a temporary folder.
func (d *Database) Close() error {
	close(d.closing)
	d.working.Wait()
	err := d.bolt.Close()
	if d.temporary {
		err = errors.Join(err, os.RemoveAll(d.folder))
	}
	if err != nil {
		return fmt.Errorf("close the database: %w", err)
	}
	return nil
}

// guard calls f and returns ErrCorrupt if it panics, as bbolt does on pages that make no sense, or reads past the end of
// the file, which is mapped into memory.
func guard(f func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if fault := recover(); fault != nil {
			err = fmt.Errorf("%w (%v)", ErrCorrupt, fault)
		}
	}()
	return f()
}
