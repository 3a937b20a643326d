// Package service is what the three services have in common: the main function, settings from the environment, parts that
// start and stop in order, and the HTTP server with its health requests and CORS. Package web below it is the base of the
// two HTTP APIs.
package service

import (
	"context"
	"errors"
	"io"
	stdlog "log"
	"os"
	"os/signal"
	"syscall"

	"github.com/rs/zerolog"
	"google.golang.org/grpc/grpclog"

	"github.com/accrue/accrue/pkg/logging"
	"github.com/accrue/accrue/pkg/telemetry"
)

// Main runs a service until it ends or SIGINT or SIGTERM arrives, and returns the exit code of the process: 0 after a clean
// stop, 1 after an error, 2 for invalid settings. A second signal ends the process at once. Run gets the settings, which
// have been loaded from the environment and are valid, the service's logger, and its telemetry.
func Main[C any, P interface {
	*C
	Configuration
}](name string, run func(context.Context, C, zerolog.Logger, *telemetry.Telemetry) error) (code int) {
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

	var config C
	settings, err := telemetry.SettingsOf(variables)
	if err = errors.Join(Load(variables, P(&config)), err); err != nil {
		logging.Fatal(log, err, "invalid settings")
		return 2
	}
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

// redirectLibraryLogs routes the standard, gRPC and OpenTelemetry loggers through log. They are global variables, so only
// main calls it, once.
func redirectLibraryLogs(log zerolog.Logger) {
	text := logging.Writer(log)
	stdlog.SetFlags(0)
	stdlog.SetOutput(text)
	grpclog.SetLoggerV2(grpclog.NewLoggerV2(io.Discard, io.Discard, text)) // errors only, which is gRPC's default
	telemetry.LogErrors(log)
}
