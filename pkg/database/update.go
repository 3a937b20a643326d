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
	// maxGroup is the most updates that one transaction applies.
	maxGroup = 1024
	// maxGroupBytes is the size of the updates at which a transaction takes no more.
	maxGroupBytes = 16 << 20
)

// update is a change that waits for its transaction.
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

// Update calls apply with a transaction that can write, and returns nil when what it changed is on the disk. Updates of
// concurrent callers share a transaction, and thereby its fsync; size is about how many bytes apply writes, and bounds how
// many do.
//
// If apply returns an error, what it changed is undone and Update returns that error. Apply runs again when another update
// of its transaction fails: it must set all that it returns to its caller anew. It may still run after Update has
// returned an error of ctx, so it must not use memory that its caller changes; whether it is committed is then unknown.
//
// Ended, if it is not nil, is called once with the outcome, always, in the order of the commits, and before Update
// returns unless ctx ends. It must not wait.
//
// The other errors are ErrFull, ErrFailed, ErrCorrupt and ErrClosed.
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

// write applies updates until Close. While one transaction is written, the next updates queue up, and the next
// transaction takes them all: the slower the disk, the more share an fsync.
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

// collect returns the updates that wait, first among them, as far as one transaction takes them.
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

// settle commits the updates of a group that can be applied, and reports to all.
func (d *Database) settle(group []*update) {
	waiting := group
	err := d.failed()
	for err == nil && len(waiting) > 0 {
		failed := -1
		if err = guard(func() error { failed, err = d.transact(waiting); return err }); failed < 0 {
			break
		}
		// One update failed. It is left out, and the others are applied again.
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

// transact applies all updates in one transaction and commits it, or changes nothing. It returns which update has failed
// with the error, or -1 if the transaction itself has.
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

// classify returns the error of a commit as one of this package's. An error of writing comes before that of the page that
// makes the transaction valid, and on pages that were free: nothing has changed. After any other, an fsync's above all,
// what is on the disk is unknown, and nothing is written any more.
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
