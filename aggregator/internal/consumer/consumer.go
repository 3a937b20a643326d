// Package consumer is the aggregator's side of the subscription: it pulls messages, decodes them, keeps their leases, and
// acknowledges or releases them when the partitions say so. Nothing it does waits for a partition: acknowledgements,
// releases, lease extensions and dead letters each have goroutines and bounded queues of their own.
package consumer

import (
	"context"
	"sync"
	"time"

	"github.com/rs/zerolog"
	"go.opentelemetry.io/otel/metric"

	"github.com/accrue/accrue/aggregator/internal/delivery"
	"github.com/accrue/accrue/pkg/broker"
	"github.com/accrue/accrue/pkg/service"
)

// Source is the subscription that messages are pulled from.
type Source interface {
	// Pull leases up to limit messages; none, after a while, if there are none.
	Pull(ctx context.Context, limit int) ([]broker.Delivery, error)
	// Acknowledge ends deliveries for good.
	Acknowledge(ctx context.Context, receipts []string) error
	// Extend lets leases end after d from now; zero gives the messages back at once.
	Extend(ctx context.Context, receipts []string, d time.Duration) error
}

// DeadLetters is the topic of messages that can never be applied.
type DeadLetters interface {
	Publish(ctx context.Context, messages []broker.Message) error
}

// Partitions are where messages go.
type Partitions interface {
	// Add hands deliveries of one partition over, and returns how many were taken. The others are released.
	Add(partition uint32, deliveries []*delivery.Delivery) (taken int)
	// Flush ends all windows.
	Flush()
}

// Settings are the consumer's bounds. All are positive.
type Settings struct {
	// BufferBytes bounds what is held in memory. While more is held nothing is pulled: that is the back-pressure.
	BufferBytes int64
	// Lease is how long a delivery is leased at a time. It is extended while the delivery is held, so a crash costs this.
	Lease time.Duration
	// AckDeadline returns the subscription's own lease, which a Pull gives; zero while it is unknown. One that is longer
	// than Lease is cut to it as messages are pulled.
	AckDeadline func() time.Duration
}

const (
	// pullers is how many Pull calls are under way at once: enough that one decodes while others wait.
	pullers = 4
	// pullPause follows a Pull that had to wait, for pullWait or longer: what arrives in the meantime waits for the end
	// of a window anyhow, and each call has its price.
	pullPause = 50 * time.Millisecond
	pullWait  = 100 * time.Millisecond
	// lastPull is how long after the stop a Pull that is under way may still bring messages: longer than one waits for a
	// first message, so that it ends by itself. One that is cut off loses what it would have brought until leases end.
	lastPull = 2200 * time.Millisecond
	// pullTimeout bounds one Pull, which ends by itself long before, unless its source hangs.
	pullTimeout = 10 * time.Second
)

// Consumer consumes one subscription. Any number of them may work on the same subscription.
type Consumer struct {
	settings    Settings
	source      Source
	deadLetters DeadLetters
	log         zerolog.Logger
	metrics     *metrics
	outages     outages
	buffer      *buffer

	mu     sync.Mutex
	leases delivery.Leases

	acknowledgements *queue[string]
	releases         *queue[release]
	letters          *queue[letter]
}

// New returns a Consumer. Run and Pull start it.
func New(settings Settings, source Source, deadLetters DeadLetters, meter metric.Meter, log zerolog.Logger) (*Consumer, error) {
	b := newBuffer(settings.BufferBytes)
	c := &Consumer{
		settings: settings, source: source, deadLetters: deadLetters, log: log, outages: newOutages(log), buffer: b,
		acknowledgements: newQueue(b, settings.BufferBytes/acknowledgementsPerBuffer, receiptCost),
		releases:         newQueue(b, settings.BufferBytes/releasesPerBuffer, release.cost),
		letters:          newQueue(b, settings.BufferBytes/lettersPerBuffer, letter.cost),
	}
	var err error
	c.metrics, err = newMetrics(meter, c)
	return c, err
}

// Pull pulls messages into partitions until ctx ends. It is called once, while Run runs. A panic ends it and is its error.
func (c *Consumer) Pull(ctx context.Context, partitions Partitions) error {
	ctx, guard := service.NewGuard(ctx)
	calls, cut := context.WithCancel(context.WithoutCancel(ctx))
	defer cut()
	var running sync.WaitGroup
	for range pullers {
		running.Go(guard.Of(func() { c.pull(ctx, calls, partitions) }))
	}
	<-ctx.Done()
	moment := time.AfterFunc(lastPull, cut)
	defer moment.Stop()
	running.Wait()
	return guard.End()
}

// pull is one puller. Its calls may outlive ctx.
func (c *Consumer) pull(ctx, calls context.Context, partitions Partitions) {
	failed := newBackOff()
	for {
		limit, reserved, err := c.buffer.reserve(ctx, partitions.Flush)
		if err != nil {
			return
		}
		began := time.Now()
		call, cancel := context.WithTimeout(calls, pullTimeout)
		deliveries, err := c.source.Pull(call, limit)
		cancel()
		waited := time.Since(began) >= pullWait
		taken := c.accept(deliveries, began, partitions)
		c.buffer.unreserve(reserved)
		switch {
		case err != nil && ctx.Err() != nil:
			return
		case err != nil:
			c.outages.pull.Failed(err, nil)
			sleep(ctx, failed.NextBackOff())
			continue
		case waited, taken == 0: // none came, or their partitions lag
			sleep(ctx, pullPause)
		}
		c.outages.pull.Succeeded()
		failed.Reset()
	}
}

// accept decodes what a Pull brought that began at a time, and hands it to the partitions, or to the dead letters. It
// returns how many messages were taken.
func (c *Consumer) accept(deliveries []broker.Delivery, began time.Time, partitions Partitions) (taken int) {
	if len(deliveries) == 0 {
		return 0
	}
	byPartition := make(map[uint32][]*delivery.Delivery)
	var cost, dead int64
	decoded := 0
	for i := range deliveries {
		d, err := delivery.Decode(&deliveries[i])
		if err != nil {
			taken++
			dead += c.bury(&deliveries[i], err, began)
			continue
		}
		decoded++
		cost += d.Cost
		byPartition[d.Batch.Partition] = append(byPartition[d.Batch.Partition], d)
	}
	c.metrics.pulled.Add(context.Background(), int64(len(deliveries)))
	c.metrics.decoded.Add(context.Background(), int64(decoded))
	c.buffer.came(cost+dead, len(deliveries))
	c.buffer.hold(cost)
	c.hold(byPartition, began)
	for number, some := range byPartition {
		taken += partitions.Add(number, some)
	}
	return taken
}

// Settled acknowledges messages whose entries are counted or rejected. It returns at once. A message whose
// acknowledgement fails is delivered again, and dropped then.
func (c *Consumer) Settled(deliveries []*delivery.Delivery) {
	receipts := c.end(deliveries)
	if dropped := c.acknowledgements.put(receipts); dropped > 0 {
		c.outages.acknowledge.Failed(errQueueFull, nil)
	}
}

// Release gives messages back, to be delivered again after a pause. It returns at once.
func (c *Consumer) Release(deliveries []*delivery.Delivery, pause time.Duration) {
	receipts := c.end(deliveries)
	all := make([]release, len(receipts))
	for i, receipt := range receipts {
		all[i] = release{receipt, pause.Truncate(time.Second)}
	}
	c.releases.put(all) // of what has no room the leases end by themselves
}

// end takes deliveries off what is held, and returns their receipts.
func (c *Consumer) end(deliveries []*delivery.Delivery) []string {
	receipts := make([]string, 0, len(deliveries))
	var cost int64
	c.mu.Lock()
	for _, d := range deliveries {
		if c.leases.End(d) {
			receipts = append(receipts, d.Receipt)
			cost += d.Cost
		}
	}
	c.mu.Unlock()
	c.buffer.free(cost)
	return receipts
}
