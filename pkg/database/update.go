package database

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"syscall"

	bolt "go.etcd.io/bbolt"
)

const (
	// maxGroup is the maximum number of updates in a transaction.
	maxGroup = 1024
	// maxGroupBytes is the total size of updates at which a transaction gets no more.
	maxGroupBytes = 16 << 20
)

// update is one call of Update.
type update struct {
	size   int
	apply  func(*bolt.Tx) error
	ended  func(error)
	err    error
	result chan error
}

// end reports the outcome.
func (u *update) end(err error) {
	if u.ended != nil {
		u.ended(err)
	}
	u.result <- err
}

// Update calls apply with a read-write transaction, and returns nil when its changes are on disk. Concurrent updates share a
// transaction and its fsync. Size is roughly the number of bytes that apply writes; it bounds the size of a shared transaction.
//
// If apply returns an error, its changes are undone and Update returns that error. Update may call apply again, when another
// update of the transaction fails, so apply must reset its results. If ctx ends, Update returns its error, but apply may still run
// and be committed, so it must not use memory that its caller modifies.
//
// Ended, if not nil, is called exactly once with the outcome, in the order of the commits, and before Update returns unless ctx
// ends. It must not block.
//
// Other errors are ErrFull, ErrFailed, ErrCorrupt and ErrClosed.
func (d *Database) Update(ctx context.Context, size int, apply func(*bolt.Tx) error, ended func(error)) error {
	u := &update{size: size, apply: apply, ended: ended, result: make(chan error, 1)}
	if err := ctx.Err(); err != nil {
		u.end(err)
		return err
	}
	select {
	case d.queue <- u:
	case <-d.closing:
		u.end(ErrClosed)
	case <-ctx.Done():
		u.end(ctx.Err())
	}
	select {
	case err := <-u.result:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// write applies updates until Close. Updates that arrive during a transaction share the next one, so the slower the disk, the more
// updates share an fsync.
func (d *Database) write() {
	for {
		select {
		case first := <-d.queue:
			d.settle(d.collect(first))
		case <-d.closing:
			return
		}
	}
}

// collect returns first and the waiting updates, up to the limits of a transaction.
func (d *Database) collect(first *update) []*update {
	group, size := []*update{first}, first.size
	for len(group) < maxGroup && size < maxGroupBytes {
		select {
		case u := <-d.queue:
			group = append(group, u)
			size += u.size
		default:
			return group
		}
	}
	return group
}

// settle commits the updates of a group that do not fail, and reports all outcomes.
func (d *Database) settle(group []*update) {
	waiting := group
	err := d.failed()
	for err == nil && len(waiting) > 0 {
		failed := -1
		if err = guard(func() error { failed, err = d.transact(waiting); return err }); failed < 0 {
			break
		}
		// One update failed. Apply the others without it.
		waiting[failed].err = err
		waiting = append(waiting[:failed:failed], waiting[failed+1:]...)
		err = nil
	}
	if errors.Is(err, ErrCorrupt) {
		d.fail(err)
	}
	for _, u := range waiting {
		u.err = err
	}
	for _, u := range group {
		u.end(u.err)
	}
}

// transact applies all updates in one transaction and commits it, or changes nothing. If an update fails it returns its index and
// error. If the transaction itself fails, the index is -1.
func (d *Database) transact(group []*update) (failed int, err error) {
	tx, err := d.bolt.Begin(true)
	if err != nil {
		return -1, fmt.Errorf("begin: %w", err)
	}
	defer tx.Rollback() //nolint:errcheck // after Commit it does nothing
	for i, u := range group {
		if err := u.apply(tx); err != nil {
			return i, err
		}
	}
	if err := d.keepClock(tx); err != nil {
		return -1, fmt.Errorf("keep the clock: %w", err)
	}
	if err := d.commit(tx); err != nil {
		return -1, d.classify(err)
	}
	return -1, nil
}

// classify converts an error of a commit to one of this package. Writes go to free pages before the page that makes the
// transaction valid, so after an error of a write nothing has changed. After any other error, in particular of an fsync, the
// content of the disk is unknown, and no further updates are accepted.
func (d *Database) classify(err error) error {
	// bbolt drops the cause of a failed truncate.
	resize := strings.HasPrefix(err.Error(), "file resize error")
	var path *fs.PathError
	if !resize && (!errors.As(err, &path) || path.Op != "write") {
		err = fmt.Errorf("%w: %w", ErrFailed, err)
		d.fail(err)
		return err
	}
	if resize || errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) || errors.Is(err, syscall.EFBIG) {
		return fmt.Errorf("%w: %w", ErrFull, err)
	}
	return fmt.Errorf("write: %w", err)
}
