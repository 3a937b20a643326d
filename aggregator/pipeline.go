package aggregator

import (
	"context"
	"sync"
	"time"

	"github.com/accrue/accrue/aggregator/internal/consumer"
	"github.com/accrue/accrue/aggregator/internal/partition"
	"github.com/accrue/accrue/pkg/service"
)

// The bounds of a stop, from the signal on. With the server's and the telemetry's own stops after it, a stop takes less than
// 8 s, of the 10 s that Cloud Run gives, also if nothing answers.
const (
	// lastCommit is when the last Commit ends, and lastRequest the last request to the subscription.
	lastCommit  = 5 * time.Second
	lastRequest = 6 * time.Second
)

// pipeline is the way of the messages: the consumer pulls them, the partitions commit them, and the consumer settles them.
type pipeline struct {
	subscription *subscription
	consumer     *consumer.Consumer
	partitions   *partition.Partitions
}

func newPipeline(config Config, parts Parts) (*pipeline, error) {
	p := &pipeline{subscription: newSubscription(parts.Source, parts.Log)}
	var err error
	p.consumer, err = consumer.New(consumer.Settings{
		BufferBytes: config.BufferBytes,
		Lease:       config.lease(),
		AckDeadline: p.subscription.ackDeadline,
	}, parts.Source, parts.DeadLetters, parts.Telemetry.Meter(), parts.Log)
	if err != nil {
		return nil, err
	}
	p.partitions, err = partition.New(partition.Settings{
		Window:       config.Window,
		TagDocuments: time.Duration(config.TagDocuments),
		Documents:    config.CommitDocuments,
		Commits:      config.Commits,
		BufferBytes:  config.BufferBytes,
		Retention:    p.subscription.retention,
		Horizon:      config.Horizon,
		Keys:         config.Keys,
	}, parts.Ledger, p.consumer, partition.Telemetry{Meter: parts.Telemetry.Meter(), Tracer: parts.Telemetry.Tracer()}, parts.Log)
	if err != nil {
		return nil, err
	}
	return p, nil
}

// Run counts until ctx ends. Then it commits what it holds, gives back the rest, and returns. It is called once.
func (p *pipeline) Run(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	var describing sync.WaitGroup
	defer describing.Wait()
	defer stop()
	if !p.subscription.describe(ctx) {
		describing.Go(func() { p.subscription.keepAsking(ctx) })
	}
	commits, endCommits := endsAfter(ctx, lastCommit)
	defer endCommits()
	requests, endRequests := endsAfter(ctx, lastRequest)
	defer endRequests()
	// They stop in reverse order: each finishes what the one after it has handed over.
	return service.Run(ctx,
		service.Part{Name: "consumer", Run: func(ctx context.Context) error { return p.consumer.Run(ctx, requests) }},
		service.Part{Name: "partitions", Run: func(ctx context.Context) error { return p.partitions.Run(ctx, commits) }},
		service.Part{Name: "pullers", Run: func(ctx context.Context) error { return p.consumer.Pull(ctx, p.partitions) }},
	)
}

// endsAfter returns a context that ends when ctx has ended for d.
func endsAfter(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	later, cancel := context.WithCancel(context.WithoutCancel(ctx))
	forget := context.AfterFunc(ctx, func() {
		timer := time.AfterFunc(d, cancel)
		context.AfterFunc(later, func() { timer.Stop() })
	})
	return later, func() {
		forget()
		cancel()
	}
}
