// Package database is the database of embedded mode: one bbolt file in a folder, which broker/embedded and store/embedded share.
// It adds to bbolt transactions that concurrent callers share, a clock that never goes back, and errors for faults of the disk and
// damaged files.
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
	// ErrFull is returned by Update when the disk is full. Nothing was changed; the same update succeeds once there is space.
	ErrFull = errors.New("the disk is full")
	// ErrFailed is returned by Update when the disk has failed, and then by all updates until the database is opened again,
	// because the kernel's cache may differ from the disk. The outcome of the first update is unknown; later ones change nothing.
	// Reads continue to work.
	ErrFailed = errors.New("the disk has failed: check it and restart")
	// ErrCorrupt is returned when the file is damaged.
	ErrCorrupt = errors.New("the file is damaged")
)

// version is the layout of the file. A file of another version is refused.
const version = 1

// state is the bucket with the properties of the file.
var (
	state        = []byte("state")
	stateVersion = []byte("version")
	stateUpdated = []byte("updated") // the latest time that Tick has returned, in microseconds
	stateMoved   = []byte("moved")   // where the totals have gone
)

// Database is an open file. It is safe for concurrent use.
type Database struct {
	folder    string
	temporary bool
	log       zerolog.Logger
	bolt      *bolt.DB
	commit    func(*bolt.Tx) error // (*bolt.Tx).Commit, except in tests of failing disks

	queue   chan *update
	closing chan struct{}
	working sync.WaitGroup

	mu      sync.Mutex
	failure error     // the first fault after which nothing can be written
	updated time.Time // the latest time that Tick has returned
}

// View calls read with a read-only transaction, which sees everything that was committed before. Data of the transaction is valid
// only during the call. View returns the error of ctx if it has ended, ErrClosed, ErrCorrupt, or the error of read.
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

// Check returns an error if the database cannot be written to: ErrFailed, ErrCorrupt or ErrClosed.
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

// fail makes all later updates return err, or the error of an earlier call.
func (d *Database) fail(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.failure == nil {
		d.failure = err
		d.log.Error().Err(err).Str("folder", d.folder).Msg("cannot write to the database any more")
	}
}

// Now returns the time by the database's clock in UTC. It is the machine's time, but never before a result of Tick, even in an
// earlier process.
func (d *Database) Now() time.Time {
	d.mu.Lock()
	defer d.mu.Unlock()
	if now := time.Now().UTC(); now.After(d.updated) {
		return now
	}
	return d.updated
}

// Tick returns a time by the database's clock in whole microseconds that is later than all earlier results. It must be called
// within Update, which saves the time for later processes.
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

// keepClock saves the result of the last Tick.
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

// Close waits for updates in progress, refuses others, and closes the file. It removes a temporary folder.
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

// guard calls f and returns ErrCorrupt if it panics, as bbolt does on damaged pages, or reads beyond the end of the memory-mapped
// file.
func guard(f func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if fault := recover(); fault != nil {
			err = fmt.Errorf("%w (%v)", ErrCorrupt, fault)
		}
	}()
	return f()
}

// Moved returns where the totals of the database have gone, or are going, and "" for nowhere.
func (d *Database) Moved(ctx context.Context) (to string, err error) {
	err = d.View(ctx, func(tx *bolt.Tx) error {
		to = string(tx.Bucket(state).Get(stateMoved))
		return nil
	})
	return to, err
}

// Move notes where the totals of the database go: nothing may be counted in it from then on.
func (d *Database) Move(ctx context.Context, to string) error {
	return d.Update(ctx, len(to), func(tx *bolt.Tx) error { return tx.Bucket(state).Put(stateMoved, []byte(to)) }, nil)
}
