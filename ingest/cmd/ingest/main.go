// Command ingest takes increments and contributions over HTTP and publishes them to Pub/Sub. Its settings are environment
// variables: see ingest.Config.
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/rs/zerolog"

	"github.com/accrue/accrue/ingest"
	"github.com/accrue/accrue/pkg/broker/pubsub"
	"github.com/accrue/accrue/pkg/service"
	"github.com/accrue/accrue/pkg/telemetry"
)

func main() { os.Exit(service.Main("ingest", run)) }

func run(ctx context.Context, config ingest.Config, log zerolog.Logger, measured *telemetry.Telemetry) error {
	messages, err := pubsub.Connect(ctx, config.Project, config.PubSubEmulatorHost)
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	defer messages.Close() //nolint:errcheck // the process ends

	messages.NeedTopic(config.Topic)
	// Without the aggregator's subscription the topic would drop what is published before the aggregator runs.
	messages.NeedSubscription(config.Subscription, config.Topic, pubsub.EmulatorAckDeadline)
	topic := messages.Topic(config.Topic)
	ingesting, err := ingest.New(config, ingest.Parts{
		Publisher: topic, Checks: []service.Check{{Name: "pubsub", Check: topic.Check}}, Log: log, Telemetry: measured,
	})
	if err != nil {
		return fmt.Errorf("start: %w", err)
	}
	return service.Run(ctx,
		service.Part{Name: "ingest", Run: ingesting.Run},
		service.Emulator(log, "PUBSUB_EMULATOR_HOST", config.PubSubEmulatorHost, messages.CreateNeeds))
}
