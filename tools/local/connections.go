package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/accrue/accrue/aggregator"
	"github.com/accrue/accrue/pkg/broker"
	brokermemory "github.com/accrue/accrue/pkg/broker/memory"
	"github.com/accrue/accrue/pkg/broker/pubsub"
	"github.com/accrue/accrue/pkg/service"
	"github.com/accrue/accrue/pkg/store"
	"github.com/accrue/accrue/pkg/store/firestore"
	storememory "github.com/accrue/accrue/pkg/store/memory"
	"github.com/accrue/accrue/query"
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
	Keys(ctx context.Context, partition uint32, first, last uint64) ([]store.CommitKeys, error)
	query.Documents
}

// connections are the broker and the store, in memory or emulated.
type connections struct {
	description             string
	increments, deadLetters topic
	recognitions            topic
	source                  aggregator.Source
	recognized              consumer.Source
	store                   documents
	brokerChecks            []service.Check
	storeChecks             []service.Check
	closers                 []func() error
}

// The subscription to recognitions that are printed here.
const (
	printSubscription = "recognitions-local"
	printDeadline     = 60 * time.Second
)

// connect takes what the settings name, and memory for what they do not.
func connect(ctx context.Context, c configs) (*connections, error) {
	var all connections
	messages, err := all.connectBroker(ctx, c)
	if err != nil {
		return nil, errors.Join(err, all.close())
	}
	kept, err := all.connectStore(ctx, c)
	if err != nil {
		return nil, errors.Join(err, all.close())
	}
	all.description = "messages in " + messages + ", totals in " + kept
	return &all, nil
}

func (all *connections) connectBroker(ctx context.Context, c configs) (description string, err error) {
	host := c.aggregator.PubSubEmulatorHost
	if host == "" {
		increments := brokermemory.NewTopic()
		all.increments, all.deadLetters = increments, brokermemory.NewTopic()
		all.source = increments.Subscribe(aggregator.AckDeadline)
		recognitions := brokermemory.NewTopic()
		all.recognitions, all.recognized = recognitions, recognitions.Subscribe(printDeadline)
		return "memory", nil
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
	if err := client.EnsureSubscription(ctx, printSubscription, c.query.RecognitionsTopic, printDeadline); err != nil {
		return "", fmt.Errorf("prepare: %w", err)
	}
	source := client.Subscription(c.aggregator.Subscription)
	all.increments, all.deadLetters = client.Topic(c.aggregator.Topic), client.Topic(c.aggregator.DeadLetterTopic)
	all.source = source
	all.recognitions, all.recognized = client.Topic(c.query.RecognitionsTopic), client.Subscription(printSubscription)
	all.brokerChecks = []service.Check{{Name: "pubsub", Check: source.Check}}
	return "the Pub/Sub emulator at " + host, nil
}

func (all *connections) connectStore(ctx context.Context, c configs) (description string, err error) {
	host := c.aggregator.FirestoreEmulatorHost
	if host == "" {
		all.store = storememory.New()
		return "memory", nil
	}
	client, err := firestore.Connect(ctx, c.aggregator.Project, c.aggregator.Database, host)
	if err != nil {
		return "", fmt.Errorf("connect: %w", err)
	}
	all.closers = append(all.closers, client.Close)
	all.store = client
	all.storeChecks = []service.Check{{Name: "firestore", Check: client.Check}}
	return "the Firestore emulator at " + host, nil
}

// close ends the connections.
func (all *connections) close() error {
	faults := make([]error, 0, len(all.closers))
	for _, closer := range all.closers {
		faults = append(faults, closer())
	}
	return errors.Join(faults...)
}
