// Command local runs the whole of Accrue in one process that needs Go alone: ingest, aggregator and query on an embedded
// database in the folder DATA. Without DATA it keeps nothing: what is counted is gone with the process. With
// PUBSUB_EMULATOR_HOST or FIRESTORE_EMULATOR_HOST set it uses that emulator in the database's place.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/rs/zerolog"

	"github.com/accrue/accrue/aggregator"
	"github.com/accrue/accrue/ingest"
	"github.com/accrue/accrue/pkg/logging"
	"github.com/accrue/accrue/pkg/service"
	"github.com/accrue/accrue/pkg/telemetry"
	"github.com/accrue/accrue/query"
	"github.com/accrue/accrue/tools/recognitions/consumer"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	err := run(ctx, os.Args[1:], os.Environ(), os.Stdout, os.Stderr)
	stop()
	switch {
	case errors.Is(err, flag.ErrHelp):
	case err != nil:
		fmt.Fprintln(os.Stderr, "local:", err)
		os.Exit(1)
	}
}

// project is the name of the project where nobody gave one: an emulator takes any.
const project = "accrue-local"

func run(ctx context.Context, arguments, environ []string, stdout, stderr io.Writer) error {
	flags := flag.NewFlagSet("local", flag.ContinueOnError)
	flags.SetOutput(stderr)
	ingestPort := flags.Int("ingest", 8080, "port of ingest; 0 takes a free one")
	queryPort := flags.Int("query", 8081, "port of query; 0 takes a free one")
	aggregatorPort := flags.Int("aggregator", 8082, "port of the aggregator's health; 0 takes a free one")
	if err := flags.Parse(arguments); err != nil {
		return fmt.Errorf("flags: %w", err)
	}

	variables := service.Environment(environ)
	delete(variables, "PORT") // one port cannot serve three
	if variables["GOOGLE_CLOUD_PROJECT"] == "" {
		variables["GOOGLE_CLOUD_PROJECT"] = project
	}
	var configs configs
	if err := configs.load(variables); err != nil {
		return err
	}
	configs.ingest.Port, configs.query.Port, configs.aggregator.Port = *ingestPort, *queryPort, *aggregatorPort

	logger := func(service string) zerolog.Logger { return logging.New(stderr, service, variables) }
	connections, err := connect(ctx, configs, variables["DATA"], logger("database"))
	if err != nil {
		return err
	}
	return errors.Join(serve(ctx, configs, connections, logger, stdout), connections.close())
}

// rememberedEvents is how many recognitions are told from second copies.
const rememberedEvents = 10_000

// configs are the settings of the three services, read from the same environment.
type configs struct {
	ingest     ingest.Config
	aggregator aggregator.Config
	query      query.Config
}

func (c *configs) load(variables map[string]string) error {
	return errors.Join(
		service.Load(variables, &c.ingest),
		service.Load(variables, &c.aggregator),
		service.Load(variables, &c.query),
	)
}

// serve makes the three services, says how to use them, and runs them until ctx ends: first ingest stops, then the
// aggregator, then query, so that everything that was answered 202 is counted. Recognitions are printed as they come.
func serve(
	ctx context.Context, configs configs, parts *connections, logger func(service string) zerolog.Logger, stdout io.Writer,
) error {
	measured := make(map[string]*telemetry.Telemetry, 3)
	for _, service := range []string{"ingest", "aggregator", "query"} {
		var err error
		if measured[service], err = telemetry.New(ctx, service, telemetry.Settings{}, logger(service)); err != nil {
			return fmt.Errorf("start: %w", err)
		}
	}
	reading, err := query.New(configs.query, query.Parts{
		Documents: parts.store, Events: parts.recognitions,
		Checks: parts.storeChecks, Log: logger("query"), Telemetry: measured["query"],
	})
	if err != nil {
		return fmt.Errorf("start: %w", err)
	}
	counting, err := aggregator.New(configs.aggregator, aggregator.Parts{
		Source: parts.source, Ledger: parts.store, DeadLetters: parts.deadLetters,
		Checks: append(parts.brokerChecks, parts.storeChecks...), Log: logger("aggregator"), Telemetry: measured["aggregator"],
	})
	if err != nil {
		return fmt.Errorf("start: %w", err)
	}
	taking, err := ingest.New(configs.ingest, ingest.Parts{
		Publisher: parts.increments, Checks: parts.brokerChecks, Log: logger("ingest"), Telemetry: measured["ingest"],
	})
	if err != nil {
		return fmt.Errorf("start: %w", err)
	}
	fmt.Fprintf(stdout, `Accrue is running: %s.

  look    http://localhost:%[3]d/
  post    http://localhost:%[2]d/increments
  read    http://localhost:%[3]d/stats
  health  http://localhost:%[4]d/health/ready

Try it:

  curl -i -H 'Content-Type: application/json' -d '{"name":"foo","value":4}' http://localhost:%[2]d/increments
  curl -s http://localhost:%[3]d/stats

And three times, to be recognized:

  curl -H 'Content-Type: application/json' -d '{"contributor":"ada"}' http://localhost:%[2]d/contributions
  curl -s http://localhost:%[3]d/contributors/ada

Ctrl-C stops it.

`, parts.description, taking.Port(), reading.Port(), counting.Port())
	started := time.Now()
	log := logger("recognitions")
	printing := consumer.New(parts.recognized, rememberedEvents, consumer.Print(stdout), func(err error) {
		log.Warn().Err(err).Msg("cannot print recognitions")
	})
	err = service.Run(ctx,
		service.Part{Name: "recognitions", Run: printing.Run},
		service.Part{Name: "query", Run: reading.Run},
		service.Part{Name: "aggregator", Run: counting.Run},
		service.Part{Name: "ingest", Run: taking.Run},
	)
	fmt.Fprintf(stdout, "Stopped after %s.\n", time.Since(started).Round(time.Second))
	return err
}
