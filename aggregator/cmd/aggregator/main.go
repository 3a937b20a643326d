// Command aggregator sums what Pub/Sub delivers and commits it to Firestore. Its settings are environment variables: see
// aggregator.Config.
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/rs/zerolog"

	"github.com/accrue/accrue/aggregator"
	"github.com/accrue/accrue/pkg/broker/pubsub"
	"github.com/accrue/accrue/pkg/service"
	"github.com/accrue/accrue/pkg/store/firestore"
	"github.com/accrue/accrue/pkg/telemetry"
)

func main() { os.Exit(service.Main("aggregator", run)) }

func run(ctx context.Context, config aggregator.Config, log zerolog.Logger, measured *telemetry.Telemetry) error {
	messages, err := pubsub.Connect(ctx, config.Project, config.PubSubEmulatorHost)
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	defer messages.Close() //nolint:errcheck // the process ends
	documents, err := firestore.Connect(ctx, config.Project, config.Database, config.FirestoreEmulatorHost, firestore.WithPrefix(config.CollectionPrefix))
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	defer documents.Close() //nolint:errcheck // the process ends

	messages.NeedTopic(config.Topic)
	messages.NeedSubscription(config.Subscription, config.Topic, pubsub.EmulatorAckDeadline)
	messages.NeedTopic(config.DeadLetterTopic)
	// Without a subscription the topic would drop the dead letters.
	messages.NeedSubscription(config.DeadLetterTopic+"-redrive", config.DeadLetterTopic, pubsub.EmulatorAckDeadline)
	source, deadLetters := messages.Subscription(config.Subscription), messages.Topic(config.DeadLetterTopic)
	aggregating, err := aggregator.New(config, aggregator.Parts{
		Source: source, Ledger: documents, DeadLetters: deadLetters, Log: log, Telemetry: measured,
		Checks: []service.Check{{Name: "pubsub", Check: source.Check}, {Name: "firestore", Check: documents.Check}},
	})
	if err != nil {
		return fmt.Errorf("start: %w", err)
	}
	return service.Run(ctx,
		service.Part{Name: "aggregator", Run: aggregating.Run},
		service.Emulator(log, "FIRESTORE_EMULATOR_HOST", config.FirestoreEmulatorHost, documents.Check),
		service.Emulator(log, "PUBSUB_EMULATOR_HOST", config.PubSubEmulatorHost, messages.CreateNeeds))
}
