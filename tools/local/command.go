// Package local runs ingest, aggregator and query in one process, at one address. By default they use an embedded database
// in a folder; with a Google Cloud project or emulators in the environment they use Pub/Sub and Firestore instead.
package local

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"

	"github.com/accrue/accrue/aggregator"
	"github.com/accrue/accrue/ingest"
	"github.com/accrue/accrue/pkg/logging"
	"github.com/accrue/accrue/pkg/service"
	"github.com/accrue/accrue/pkg/telemetry"
	"github.com/accrue/accrue/query"
	"github.com/accrue/accrue/tools/cli"
	"github.com/accrue/accrue/tools/folder"
	"github.com/accrue/accrue/tools/recognitions/consumer"
)

// project is the name of the project if there is none: an emulator accepts any.
const project = "accrue-local"

// drain bounds how long a stop waits for requests in progress: longer than ingest waits for a publish.
const drain = 6 * time.Second

// Command returns the command accrue run. Variables are the environment.
func Command(variables map[string]string) *cobra.Command {
	var port int
	var listen, data, project, pubsub, firestore string
	var hold time.Duration
	command := &cobra.Command{
		Use:   "run",
		Short: "Run all of Accrue in one process, at one address",
		Long: `Runs ingest, aggregator and query in one process and serves the API, the board, the documentation, health and metrics at
one address, on loopback only by default. Everything is kept in the folder --data, or nowhere if it is empty. With a
project it uses Pub/Sub and Firestore instead, with --emulator and --firestore-emulator the emulators. The other settings
are environment variables: see
https://github.com/accrue/accrue/blob/main/docs/settings.md.`,
		Example: `  accrue run --data .accrue
  accrue run --project my-project
  accrue run --listen 0.0.0.0 --port 80
  accrue run --project my-project --listen 0.0.0.0 --hold 1s   # on Cloud Run, billed by requests`,
		Args: cli.NoArguments,
		RunE: func(c *cobra.Command, _ []string) error {
			if port < 0 || port > 65535 {
				return cli.Usagef("--port must be 0 to 65535")
			}
			if c.Flags().Changed("data") && c.Flags().Changed("project") {
				return cli.Usagef("--data and --project exclude each other")
			}
			if hold < 0 || hold > maxHold {
				return cli.Usagef("--hold must be 0 to %v", maxHold)
			}
			settings := maps.Clone(variables)
			for variable, flag := range map[string]string{
				"GOOGLE_CLOUD_PROJECT": project, "PUBSUB_EMULATOR_HOST": pubsub, "FIRESTORE_EMULATOR_HOST": firestore,
			} {
				if settings == nil {
					settings = make(map[string]string)
				}
				settings[variable] = flag
			}
			return run(c.Context(), settings, net.JoinHostPort(listen, strconv.Itoa(port)), hold, data, c.OutOrStdout(), c.ErrOrStderr())
		},
	}
	flags := command.Flags()
	flags.IntVar(&port, "port", 8080, "port, 0 for a free one")
	flags.StringVar(&listen, "listen", "127.0.0.1", "address to listen on, 0.0.0.0 for all")
	flags.DurationVar(&hold, "hold", 0, "answer posts this much later, where the CPU stops between requests: the window and some")
	flags.StringVar(&data, "data", folder.Default(variables), "folder of the embedded database (DATA); empty keeps nothing")
	flags.StringVar(&project, "project", variables["GOOGLE_CLOUD_PROJECT"], "use Pub/Sub and Firestore of a Google Cloud project (GOOGLE_CLOUD_PROJECT)")
	flags.StringVar(&pubsub, "emulator", variables["PUBSUB_EMULATOR_HOST"], "host:port of a Pub/Sub emulator to use (PUBSUB_EMULATOR_HOST)")
	flags.StringVar(&firestore, "firestore-emulator", variables["FIRESTORE_EMULATOR_HOST"], "host:port of a Firestore emulator to use (FIRESTORE_EMULATOR_HOST)")
	return command
}

func run(ctx context.Context, variables map[string]string, address string, hold time.Duration, data string, stdout, stderr io.Writer) error {
	settings := maps.Clone(variables)
	if settings == nil {
		settings = map[string]string{}
	}
	delete(settings, "PORT") // the services have no ports of their own
	cloud := settings["GOOGLE_CLOUD_PROJECT"] != ""
	if !cloud {
		settings["GOOGLE_CLOUD_PROJECT"] = project
	}
	var configs configs
	if err := configs.load(settings); err != nil {
		return cli.Usage(err)
	}
	configs.cloud = cloud
	configs.ingest.Port, configs.query.Port, configs.aggregator.Port = service.NoPort, service.NoPort, service.NoPort

	logger := func(service string) zerolog.Logger { return logging.New(stderr, service, settings) }
	connections, err := connect(ctx, configs, data, logger("database"))
	if err != nil {
		if ctx.Err() != nil { // Ctrl-C during the start
			return nil //nolint:nilerr // a stop is no fault
		}
		return err
	}
	return errors.Join(serve(ctx, configs, connections, address, hold, logger, stdout), connections.close())
}

// maxHold bounds --hold, below what a stop waits for.
const maxHold = 5 * time.Second

// holdPosts returns a handler that answers posts later, or when ctx ends. A platform that bills by requests stops the CPU between
// them: while an answer is held, what was posted is counted.
func holdPosts(ctx context.Context, hold time.Duration, handler http.Handler) http.Handler {
	if hold == 0 {
		return handler
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		handler.ServeHTTP(w, r) // the server sends a short answer when this function returns
		if r.Method != http.MethodPost {
			return
		}
		timer := time.NewTimer(hold)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-r.Context().Done():
		case <-ctx.Done():
		}
	})
}

// rememberedEvents is the number of recognitions whose second copies are dropped.
const rememberedEvents = 10_000

// configs are the settings of the three services, from one environment.
type configs struct {
	ingest     ingest.Config
	aggregator aggregator.Config
	query      query.Config
	// cloud is true if a project is given: Pub/Sub and Firestore take the place of the embedded database.
	cloud bool
}

func (c *configs) load(variables map[string]string) error {
	return errors.Join(
		service.Load(variables, &c.ingest),
		service.Load(variables, &c.aggregator),
		service.Load(variables, &c.query),
	)
}

// serve runs the three services and one server for all of them until ctx ends. The server stops first, then ingest, then
// the aggregator, then query, so that everything that was answered 202 is counted. Recognitions are printed.
func serve(
	ctx context.Context, configs configs, parts *connections, address string, hold time.Duration, logger func(service string) zerolog.Logger, stdout io.Writer,
) error {
	measured, err := telemetry.New(ctx, "accrue", telemetry.Settings{}, logger("telemetry"))
	if err != nil {
		return fmt.Errorf("start: %w", err)
	}
	reading, err := query.New(configs.query, query.Parts{
		Documents: parts.store, Events: parts.recognitions, Webhooks: parts.webhooks,
		Checks: append(parts.brokerChecks, parts.storeChecks...), Log: logger("query"), Telemetry: measured,
	})
	if err != nil {
		return fmt.Errorf("start: %w", err)
	}
	counting, err := aggregator.New(configs.aggregator, aggregator.Parts{
		Source: parts.source, Ledger: parts.store, DeadLetters: parts.deadLetters, Log: logger("aggregator"), Telemetry: measured,
	})
	if err != nil {
		return fmt.Errorf("start: %w", err)
	}
	taking, err := ingest.New(configs.ingest, ingest.Parts{Publisher: parts.increments, Log: logger("ingest"), Telemetry: measured})
	if err != nil {
		return fmt.Errorf("start: %w", err)
	}
	handler, err := merge(taking.Handler(), reading.Handler(), configs.query.CORSOrigins, logger("docs"))
	if err != nil {
		return fmt.Errorf("start: %w", err)
	}
	server, err := service.Listen(address, holdPosts(ctx, hold, handler), drain, logger("server"))
	if err != nil {
		return err
	}
	fmt.Fprintf(stdout, `Accrue is running: %s.

  look    http://localhost:%[2]d/
  post    http://localhost:%[2]d/increments
  read    http://localhost:%[2]d/stats
  docs    http://localhost:%[2]d/docs

Try it:

  curl -i -H 'Content-Type: application/json' -d '{"name":"foo","value":4}' http://localhost:%[2]d/increments
  curl -s http://localhost:%[2]d/stats

And three times, to be recognized:

  curl -H 'Content-Type: application/json' -d '{"contributor":"ada"}' http://localhost:%[2]d/contributions
  curl -s http://localhost:%[2]d/contributors/ada

Press Ctrl-C to stop.

`, parts.description, server.Port())
	started := time.Now()
	log := logger("recognitions")
	printing := consumer.New(parts.recognized, rememberedEvents, consumer.Print(stdout), func(err error) {
		log.Warn().Err(err).Msg("cannot print recognitions")
	})
	var running []service.Part
	if parts.recognized != nil {
		running = append(running, service.Part{Name: "recognitions", Run: printing.Run})
	}
	if parts.socket != nil {
		running = append(running, service.Part{Name: "socket", Run: parts.socket.Run})
	}
	err = service.Run(ctx, append(running,
		service.Part{Name: "query", Run: reading.Run},
		service.Part{Name: "aggregator", Run: counting.Run},
		service.Part{Name: "ingest", Run: taking.Run},
		service.Part{Name: "server", Run: server.Run},
	)...)
	fmt.Fprintf(stdout, "Stopped after %s.\n", time.Since(started).Round(time.Second))
	return err
}
