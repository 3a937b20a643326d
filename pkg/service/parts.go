package service

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sync/errgroup"
)

// Part is a piece of a service that runs until its context ends.
type Part struct {
	Name string
	// Run works until ctx ends, finishes what it has begun, and returns nil. An error or a panic ends the service: the
	// other parts stop in order.
	Run func(ctx context.Context) error
}

// errExited is returned by Run for a part that returned nil before its context ended.
var errExited = errors.New("exited unexpectedly")

// Run starts the parts in order and stops them in reverse order, one after the other: list the innermost part first, so
// that producers stop before the parts that they feed. It returns when all parts have returned, with the error of the
// first part that failed, or nil.
func Run(ctx context.Context, parts ...Part) error {
	failed, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	var group errgroup.Group
	type running struct {
		stop context.CancelFunc
		done chan struct{}
	}
	started := make([]running, len(parts))
	for i, part := range parts {
		// Not derived from ctx: each part stops in its turn.
		partCtx, stop := context.WithCancel(context.WithoutCancel(ctx))
		started[i] = running{stop, make(chan struct{})}
		group.Go(func() error {
			defer close(started[i].done)
			err := run(partCtx, part)
			switch {
			case err != nil:
				err = fmt.Errorf("%s: %w", part.Name, err)
			case partCtx.Err() == nil:
				err = fmt.Errorf("%s: %w", part.Name, errExited)
			}
			fail(err)
			return err
		})
	}
	<-failed.Done()
	for i := len(started) - 1; i >= 0; i-- {
		started[i].stop()
		<-started[i].done
	}
	return group.Wait()
}

// run runs a part and returns its panic as an error.
func run(ctx context.Context, part Part) (err error) {
	defer func() {
		if cause := recover(); cause != nil {
			err = recovered(cause)
		}
	}()
	return part.Run(ctx)
}
