// Package service is what the three services have in common: the main function, settings from the environment, parts that
// start and stop in order, and the HTTP server with its health requests and CORS. Package web below it is the base of the
// two HTTP APIs.
package service

import (
	"context"
	"errors"
	"fmt"
	"io"
	stdlog "log"
	"math"
	"os"
	"os/signal"
	"slices"
	"syscall"

	"github.com/KimMachineGun/automemlimit/memlimit"
	"github.com/rs/zerolog"
	"google.golang.org/grpc/grpclog"

	"github.com/accrue/accrue/pkg/logging"
	"github.com/accrue/accrue/pkg/telemetry"
	"github.com/accrue/accrue/pkg/version"
)

// Main runs a service until it ends or SIGINT or SIGTERM arrives, and returns the exit code of the process: 0 after a clean
// stop, 1 after an error, 2 for invalid settings or arguments. A second signal ends the process at once. Run gets the
// settings, which have been loaded from the environment and are valid, the service's logger, and its telemetry. With the
// argument version or --version, Main prints the version instead.
func Main[C any, P interface {
	*C
	Configuration
}](name string, run func(context.Context, C, zerolog.Logger, *telemetry.Telemetry) error) (code int) {
	if len(os.Args) > 1 {
		return command(name, os.Args[1:], os.Stdout, os.Stderr)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)

	variables := Environment(os.Environ())
	log := logging.New(os.Stderr, name, variables)
	defer func() {
		if cause := recover(); cause != nil {
			logging.Panic(ctx, log, cause)
			code = 1
		}
	}()
	redirectLibraryLogs(log)
	build := version.Current()
	log.Info().Str("version", build.Version).Str("revision", build.Revision).Str("go", build.Go).Msg("starting")

	var config C
	settings, err := telemetry.SettingsOf(variables)
	if err = errors.Join(Load(variables, P(&config)), err); err != nil {
		logging.Fatal(log, err, "invalid settings")
		return 2
	}
	limitMemory(log)
	measured, err := telemetry.New(ctx, name, settings, log)
	if err != nil {
		logging.Fatal(log, err, "cannot start")
		return 1
	}
	defer func() {
		if err := measured.Shutdown(context.WithoutCancel(ctx)); err != nil {
			log.Warn().Err(err).Msg("the last spans are lost")
		}
	}()
	if err := run(ctx, config, log, measured); err != nil {
		logging.Fatal(log, err, "stopped with an error")
		return 1
	}
	return 0
}

// command executes the command line of a service, which has one command: to print the version.
func command(name string, arguments []string, stdout, stderr io.Writer) (code int) {
	if len(arguments) == 1 && slices.Contains([]string{"version", "-version", "--version"}, arguments[0]) {
		fmt.Fprintln(stdout, name, version.Current())
		return 0
	}
	fmt.Fprintf(stderr, "usage: %[1]s            run the service; environment variables are its settings\n       %[1]s --version  print the version\n", name)
	return 2
}

// limitMemory sets the soft memory limit of the runtime to 90 % of the container's limit, unless GOMEMLIMIT is set or there
// is no limit: the garbage collector then works harder before the kernel kills the process.
func limitMemory(log zerolog.Logger) {
	limit, err := memlimit.Set(memlimit.WithRatio(0.9))
	switch {
	case err != nil:
		log.Warn().Err(err).Msg("cannot read the container's memory limit")
	case limit == math.MaxInt64:
		log.Info().Msg("memory is not limited")
	default:
		log.Info().Int64("limit_bytes", limit).Msg("memory is limited")
	}
}

// redirectLibraryLogs routes the standard, gRPC and OpenTelemetry loggers through log. They are global variables, so only
// main calls it, once.
func redirectLibraryLogs(log zerolog.Logger) {
	text := logging.Writer(log)
	stdlog.SetFlags(0)
	stdlog.SetOutput(text)
	grpclog.SetLoggerV2(grpclog.NewLoggerV2(io.Discard, io.Discard, text)) // errors only, which is gRPC's default
	telemetry.LogErrors(log)
}
