// Package lifecycle is the one shape of every main: a context that ends with SIGINT or SIGTERM, the settings, the
// logger, the service, and the exit code. It also runs a service's parts together.
package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"

	"github.com/accrue/accrue/pkg/environment"
	"github.com/accrue/accrue/pkg/logging"
)

// Main runs a service until it ends or a signal comes, and returns the process's exit code: 0 after a clean stop, 1
// after an error, 2 for settings that are wrong. A second signal ends the process at once.
func Main(service string, config environment.Config, run func(context.Context, zerolog.Logger) error) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)

	variables := environment.Of(os.Environ())
	log := logging.New(os.Stderr, service, variables["LOG_LEVEL"])
	if err := environment.Load(variables, config); err != nil {
		log.Error().Err(err).Msg("settings are wrong")
		return 2
	}
	if err := run(ctx, log); err != nil {
		log.Error().Err(err).Msg("stopped with an error")
		return 1
	}
	return 0
}

// Part is a piece of a service that works until its context ends.
type Part struct {
	Name string
	// Run works until ctx ends, finishes what it has begun, and then returns nil. An error ends the service.
	Run func(ctx context.Context) error
}

// Run starts the parts in order and stops them in reverse order, each one before the next, so that whoever produces
// ends before whoever consumes: list the innermost part first. It returns when all parts have returned, with the error of
// the part that failed, if one did.
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
		// Not derived from ctx: a part is told to stop when its turn has come.
		partCtx, stop := context.WithCancel(context.WithoutCancel(ctx))
		started[i] = running{stop, make(chan struct{})}
		group.Go(func() error {
			defer close(started[i].done)
			err := part.Run(partCtx)
			switch {
			case err != nil:
				err = fmt.Errorf("%s: %w", part.Name, err)
			case partCtx.Err() == nil:
				err = fmt.Errorf("%s: %w", part.Name, errEarly)
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

// errEarly is the case of a part that returns although nobody asked it to.
var errEarly = errors.New("ended by itself")
