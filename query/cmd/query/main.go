// Command query serves the totals that the checkpoints in Firestore hold, and recognizes contributors. Its settings are
// environment variables: see query.Config.
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/rs/zerolog"

	"github.com/accrue/accrue/pkg/broker/pubsub"
	"github.com/accrue/accrue/pkg/service"
	"github.com/accrue/accrue/pkg/store/firestore"
	"github.com/accrue/accrue/pkg/telemetry"
	"github.com/accrue/accrue/query"
)

func main() { os.Exit(service.Main("query", run)) }

func run(ctx context.Context, config query.Config, log zerolog.Logger, measured *telemetry.Telemetry) error {
	documents, err := firestore.Connect(ctx, config.Project, config.Database, config.FirestoreEmulatorHost, firestore.WithPrefix(config.CollectionPrefix))
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	defer documents.Close() //nolint:errcheck // the process ends
	messages, err := pubsub.Connect(ctx, config.Project, config.PubSubEmulatorHost)
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	defer messages.Close() //nolint:errcheck // the process ends

	messages.NeedTopic(config.RecognitionsTopic)
	webhooks := make(map[string]query.EventSource)
	for _, receiver := range config.Receivers() {
		subscription := config.WebhookSubscription(receiver)
		messages.NeedSubscription(subscription, config.RecognitionsTopic, query.WebhookDeadline)
		webhooks[receiver] = messages.Subscription(subscription)
	}
	querying, err := query.New(config, query.Parts{
		Documents: documents, Events: messages.Topic(config.RecognitionsTopic), Webhooks: webhooks,
		Checks: []service.Check{{Name: "firestore", Check: documents.Check}}, Log: log, Telemetry: measured,
	})
	if err != nil {
		return fmt.Errorf("start: %w", err)
	}
	return service.Run(ctx,
		service.Part{Name: "query", Run: querying.Run},
		service.Emulator(log, "FIRESTORE_EMULATOR_HOST", config.FirestoreEmulatorHost, documents.Check),
		service.Emulator(log, "PUBSUB_EMULATOR_HOST", config.PubSubEmulatorHost, messages.CreateNeeds))
}
