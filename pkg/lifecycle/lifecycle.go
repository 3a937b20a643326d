// Package lifecycle is the one shape of every main: a context that ends with SIGINT or SIGTERM, the settings, the
// logger, the service, and the exit code. It also runs a service's parts together.
package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"io"
	stdlog "log"
	"os"
	"os/signal"
	"syscall"

	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc/grpclog"

	"github.com/accrue/accrue/pkg/environment"
	"github.com/accrue/accrue/pkg/logging"
	"github.com/accrue/accrue/pkg/telemetry"
)

// Main runs a service, with its logger and its telemetry, until it ends or a signal comes, and returns the process's exit code: 0 after a clean stop, 1
// after an error, 2 for settings that are wrong. A second signal ends the process at once.
func Main(
	service string, config environment.Config, run func(context.Context, zerolog.Logger, *telemetry.Telemetry) error,
) (code int) {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)

	variables := environment.Of(os.Environ())
	log := logging.New(os.Stderr, service, variables)
	defer func() {
		if cause := recover(); cause != nil {
			logging.Panic(ctx, log, cause)
			code = 1
		}
	}()
	adopt(log)

	settings, err := telemetry.SettingsOf(variables)
	if err = errors.Join(environment.Load(variables, config), err); err != nil {
		logging.Fatal(log, err, "settings are wrong")
		return 2
	}
	measured, err := telemetry.New(ctx, service, settings, log)
	if err != nil {
		logging.Fatal(log, err, "cannot start")
		return 1
	}
	defer func() {
		if err := measured.Shutdown(context.WithoutCancel(ctx)); err != nil {
			log.Warn().Err(err).Msg("the last spans are lost")
		}
	}()
	if err := run(ctx, log, measured); err != nil {
		logging.Fatal(log, err, "stopped with an error")
		return 1
	}
	return 0
}

// adopt makes what libraries have to say lines like any others. Each keeps its logger in a variable of its own: this is
// for main, once.
func adopt(log zerolog.Logger) {
	text := logging.Writer(log)
	stdlog.SetFlags(0)
	stdlog.SetOutput(text)
	grpclog.SetLoggerV2(grpclog.NewLoggerV2(io.Discard, io.Discard, text)) // its errors alone, as it does by itself
	telemetry.LogErrors(log)
}

// Part is a piece of a service that works until its context ends.
type Part struct {
	Name string
	// Run works until ctx ends, finishes what it has begun, and then returns nil. An error ends the service, and so does a
	// panic, as an error with its stack: the other parts stop in order, and the log has it in one line.
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
			err := run(partCtx, part)
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

// run runs a part and makes an error of its panic.
func run(ctx context.Context, part Part) (err error) {
	defer func() {
		if cause := recover(); cause != nil {
			err = recovered(cause)
		}
	}()
	return part.Run(ctx)
}

// errEarly is the case of a part that returns although nobody asked it to.
var errEarly = errors.New("ended by itself")
