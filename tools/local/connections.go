package local

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/rs/zerolog"

	"github.com/accrue/accrue/aggregator"
	"github.com/accrue/accrue/pkg/broker"
	brokerembedded "github.com/accrue/accrue/pkg/broker/embedded"
	"github.com/accrue/accrue/pkg/broker/pubsub"
	"github.com/accrue/accrue/pkg/checkpoint"
	"github.com/accrue/accrue/pkg/database"
	"github.com/accrue/accrue/pkg/service"
	"github.com/accrue/accrue/pkg/store"
	storeembedded "github.com/accrue/accrue/pkg/store/embedded"
	"github.com/accrue/accrue/pkg/store/firestore"
	"github.com/accrue/accrue/query"
	"github.com/accrue/accrue/tools/cli"
	"github.com/accrue/accrue/tools/folder"
	"github.com/accrue/accrue/tools/recognitions/consumer"
)

// topic is where messages are published.
type topic interface {
	Publish(ctx context.Context, messages []broker.Message) error
}

// documents is the store, as the aggregator and query need it.
type documents interface {
	Load(ctx context.Context, partition uint32) (store.State, error)
	Commit(ctx context.Context, commit store.Commit) (store.Revision, error)
	Keys(ctx context.Context, partition uint32, after store.KeysPosition, limit int) ([]store.CommitKeys, error)
	ReleasedKeys(ctx context.Context, partition uint32, first uint64, limit int) ([]store.CommitKeys, error)
	Folds(ctx context.Context, partition uint32, after store.KeysPosition, limit int) ([]store.Fold, error)
	Peek(ctx context.Context, partitions []uint32) ([]store.Peeked, error)
	Owing(ctx context.Context) ([]store.Owing, time.Time, error)
	Layouts(ctx context.Context) (checkpoint.Layouts, store.Revision, error)
	TagsNamed(ctx context.Context, names []string) ([]store.Tag, error)
	query.Documents
}

// connections are the broker and the store, embedded or emulated.
type connections struct {
	description             string
	increments, deadLetters topic
	recognitions            topic
	source                  aggregator.Source
	recognized              consumer.Source // nil if recognitions are not printed
	webhooks                map[string]query.EventSource
	store                   documents
	brokerChecks            []service.Check
	storeChecks             []service.Check
	socket                  *folder.Server // of the embedded database's folder; nil without one
	closers                 []func() error
}

// The subscriptions to recognitions, which are printed, and to dead letters, which wait for a redrive.
const (
	printSubscription      = "recognitions-local"
	printDeadline          = 60 * time.Second
	deadLetterSubscription = "increments-dead-letter-redrive"
	deadLetterDeadline     = 600 * time.Second
)

// connect connects to Pub/Sub and Firestore if a project is given, to the emulators that are set, and to the embedded
// database in the folder data for the rest. If data is empty, the database keeps nothing.
func connect(ctx context.Context, c configs, data string, log zerolog.Logger) (*connections, error) {
	all := connections{webhooks: make(map[string]query.EventSource)}
	var embedded *database.Database
	if !c.cloud && (c.aggregator.PubSubEmulatorHost == "" || c.aggregator.FirestoreEmulatorHost == "") {
		var err error
		if embedded, err = database.Open(database.Options{Folder: data, Log: log}); err != nil {
			return nil, err
		}
		all.closers = append(all.closers, embedded.Close)
		if err := folder.CheckMoved(ctx, embedded, data); err != nil {
			return nil, errors.Join(err, all.close())
		}
	}
	for _, host := range []string{c.aggregator.PubSubEmulatorHost, c.aggregator.FirestoreEmulatorHost} {
		if err := cli.Reach(ctx, host); err != nil {
			return nil, errors.Join(fmt.Errorf("connect to the emulator: %w", err), all.close())
		}
	}
	place := data
	if place == "" {
		place = "memory"
	}
	messages, err := all.connectBroker(ctx, c, embedded, place)
	if err != nil {
		return nil, errors.Join(err, all.close())
	}
	kept, err := all.connectStore(ctx, c, embedded, place)
	if err != nil {
		return nil, errors.Join(err, all.close())
	}
	all.description = "messages in " + messages + ", totals in " + kept
	if embedded != nil && data != "" {
		if err := logFound(ctx, embedded, data, log); err != nil {
			return nil, errors.Join(err, all.close())
		}
		if all.socket, err = folder.Listen(data, embedded, log); err != nil {
			return nil, errors.Join(err, all.close())
		}
	}
	return &all, nil
}

// logFound logs what an earlier process has left in the database.
func logFound(ctx context.Context, d *database.Database, data string, log zerolog.Logger) error {
	waiting, err := brokerembedded.New(d).Waiting(ctx)
	if err != nil {
		return err
	}
	messages := 0
	for _, n := range waiting {
		messages += n
	}
	totals, _, err := storeembedded.New(d).Totals(ctx)
	if err != nil {
		return err
	}
	var asOf time.Time
	for _, partition := range totals {
		if partition.UpdatedAt.After(asOf) {
			asOf = partition.UpdatedAt
		}
	}
	if asOf.IsZero() {
		log.Info().Str("folder", data).Int("messages_waiting", messages).Msgf("found %d messages waiting, no totals yet", messages)
		return nil
	}
	log.Info().Str("folder", data).Int("messages_waiting", messages).Time("totals_as_of", asOf).
		Msgf("found %d messages waiting, totals as of %s", messages, asOf.Local().Format(time.TimeOnly))
	return nil
}

func (all *connections) connectBroker(ctx context.Context, c configs, d *database.Database, place string) (description string, err error) {
	host := c.aggregator.PubSubEmulatorHost
	if d != nil && host == "" {
		b := brokerembedded.New(d)
		if all.source, err = b.Subscribe(ctx, c.aggregator.Topic, c.aggregator.Subscription, aggregator.AckDeadline); err != nil {
			return "", err
		}
		if all.recognized, err = b.Subscribe(ctx, c.query.RecognitionsTopic, printSubscription, printDeadline); err != nil {
			return "", err
		}
		if _, err = b.Subscribe(ctx, c.aggregator.DeadLetterTopic, deadLetterSubscription, deadLetterDeadline); err != nil {
			return "", err
		}
		if err := all.subscribeWebhooks(ctx, c, b); err != nil {
			return "", err
		}
		increments := b.Topic(c.aggregator.Topic)
		all.increments, all.deadLetters = increments, b.Topic(c.aggregator.DeadLetterTopic)
		all.recognitions = b.Topic(c.query.RecognitionsTopic)
		all.brokerChecks = []service.Check{{Name: "broker", Check: increments.Check}}
		return place, nil
	}
	client, err := pubsub.Connect(ctx, c.aggregator.Project, host)
	if err != nil {
		return "", fmt.Errorf("connect: %w", err)
	}
	all.closers = append(all.closers, client.Close)
	for _, topic := range []string{c.aggregator.Topic, c.aggregator.DeadLetterTopic, c.query.RecognitionsTopic} {
		if err := client.EnsureTopic(ctx, topic); err != nil {
			return "", fmt.Errorf("prepare: %w", err)
		}
	}
	if err := client.EnsureSubscription(ctx, c.aggregator.Subscription, c.aggregator.Topic, aggregator.AckDeadline); err != nil {
		return "", fmt.Errorf("prepare: %w", err)
	}
	source := client.Subscription(c.aggregator.Subscription)
	all.increments, all.deadLetters = client.Topic(c.aggregator.Topic), client.Topic(c.aggregator.DeadLetterTopic)
	all.source, all.recognitions = source, client.Topic(c.query.RecognitionsTopic)
	all.brokerChecks = []service.Check{{Name: "pubsub", Check: source.Check}}
	for _, receiver := range c.query.Receivers() {
		subscription := c.query.WebhookSubscription(receiver)
		if err := client.EnsureSubscription(ctx, subscription, c.query.RecognitionsTopic, query.WebhookDeadline); err != nil {
			return "", fmt.Errorf("prepare: %w", err)
		}
		all.webhooks[receiver] = client.Subscription(subscription)
	}
	if host == "" { // the project's topics and subscriptions belong to its deployment, which has none for printing
		return "Pub/Sub " + where(c, host), nil
	}
	if err := client.EnsureSubscription(ctx, printSubscription, c.query.RecognitionsTopic, printDeadline); err != nil {
		return "", fmt.Errorf("prepare: %w", err)
	}
	all.recognized = client.Subscription(printSubscription)
	return "Pub/Sub " + where(c, host), nil
}

// subscribeWebhooks subscribes the receivers of recognitions, and removes the subscriptions of those that were receivers once: what
// waits in them would wait forever.
func (all *connections) subscribeWebhooks(ctx context.Context, c configs, b *brokerembedded.Broker) error {
	waiting, err := b.Waiting(ctx)
	if err != nil {
		return err
	}
	for _, receiver := range c.query.Receivers() {
		id := c.query.WebhookSubscription(receiver)
		if all.webhooks[receiver], err = b.Subscribe(ctx, c.query.RecognitionsTopic, id, query.WebhookDeadline); err != nil {
			return err
		}
		delete(waiting, c.query.RecognitionsTopic+"/"+id)
	}
	for name := range waiting {
		topic, id, _ := strings.Cut(name, "/")
		if topic != c.query.RecognitionsTopic || !strings.HasPrefix(id, c.query.WebhookSubscription("")) {
			continue
		}
		if err := b.Unsubscribe(ctx, topic, id); err != nil {
			return err
		}
	}
	return nil
}

func (all *connections) connectStore(ctx context.Context, c configs, d *database.Database, place string) (description string, err error) {
	host := c.aggregator.FirestoreEmulatorHost
	if d != nil && host == "" {
		documents := storeembedded.New(d)
		all.store = documents
		all.storeChecks = []service.Check{{Name: "store", Check: documents.Check}}
		return place, nil
	}
	client, err := firestore.Connect(ctx, c.aggregator.Project, c.aggregator.Database, host, firestore.WithPrefix(c.aggregator.CollectionPrefix))
	if err != nil {
		return "", fmt.Errorf("connect: %w", err)
	}
	all.closers = append(all.closers, client.Close)
	all.store = client
	all.storeChecks = []service.Check{{Name: "firestore", Check: client.Check}}
	return "Firestore " + where(c, host), nil
}

// where describes the location of a Google Cloud service.
func where(c configs, host string) string {
	if host != "" {
		return "emulator at " + host
	}
	return "of project " + c.aggregator.Project
}

// close closes the connections.
func (all *connections) close() error {
	faults := make([]error, 0, len(all.closers))
	for _, closer := range all.closers {
		faults = append(faults, closer())
	}
	return errors.Join(faults...)
}
