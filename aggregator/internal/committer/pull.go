package committer

import (
	"context"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/accrue/accrue/pkg/broker"
	"github.com/accrue/accrue/pkg/message"
)

// entryBytes is what one decoded entry takes in memory, beside the message's own bytes.
const entryBytes = 48

// pull pulls, decodes and hands to partitions, until ctx ends; a call then under way is cut when pulling ends. Several
// run at once.
func (c *Committer) pull(ctx, pulling context.Context, start func(*partition)) {
	pause := newBackOff()
	for c.buffer.wait(ctx) == nil {
		deliveries, err := c.source.Pull(pulling, broker.MaxPull)
		if err != nil && ctx.Err() != nil {
			return
		}
		if err != nil {
			c.outages.pull.Failed(err, nil)
			sleep(ctx, pause.NextBackOff())
			continue
		}
		c.outages.pull.Succeeded()
		pause.Reset()
		c.accept(ctx, deliveries, time.Now(), start)
		if len(deliveries) < broker.MaxPull/2 {
			sleep(ctx, c.settings.Window/pullsPerWindow)
		}
	}
}

// accept decodes what was pulled at a time and hands it to the partitions.
func (c *Committer) accept(ctx context.Context, deliveries []broker.Delivery, pulledAt time.Time, start func(*partition)) {
	c.counts.pulled.Add(int64(len(deliveries)))
	byPartition := make(map[uint32][]*held)
	var rejected []rejection
	for _, d := range deliveries {
		batch, err := message.Decode(d.Data)
		if err != nil {
			rejected = append(rejected, rejection{message: d.Message, receipts: []string{d.Receipt}, reason: err})
			continue
		}
		h := &held{
			batch: batch, message: d.Message, receipts: []string{d.Receipt}, leasedAt: pulledAt,
			bytes: int64(len(d.Data) + batch.Entries()*entryBytes),
		}
		c.counts.decoded.Add(1)
		c.buffer.add(h.bytes)
		byPartition[batch.Partition] = append(byPartition[batch.Partition], h)
	}
	for number, messages := range byPartition {
		c.partition(number, start).add(messages)
	}
	if len(rejected) > 0 {
		c.reject(context.WithoutCancel(ctx), rejected)
	}
}

// newBackOff makes the pauses between attempts: growing to a few seconds, and jittered, so that two aggregators that
// conflict do not stay in step.
func newBackOff() *backoff.ExponentialBackOff {
	b := backoff.NewExponentialBackOff()
	b.InitialInterval = 20 * time.Millisecond
	b.MaxInterval = 3 * time.Second
	b.Multiplier = 2
	b.RandomizationFactor = 0.5
	b.Reset()
	return b
}

// sleep waits for d or until ctx ends.
func sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
