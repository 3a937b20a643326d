package consumer

import (
	"context"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/accrue/accrue/aggregator/internal/delivery"
	"github.com/accrue/accrue/pkg/service"
)

const (
	// workers is how many requests of one kind are under way at once, and perRequest the most receipts in one.
	workers    = 4
	perRequest = 1000
	// acknowledgementsPerBuffer and releasesPerBuffer are the parts of the buffer that their queues may take: that of
	// acknowledgements has room for nearly all small messages that the buffer holds.
	acknowledgementsPerBuffer, releasesPerBuffer = 4, 16
	// receiptBytes is what a queued receipt costs in memory beside its bytes.
	receiptBytes = 48
	// requestTimeout bounds one request, and extensionTimeout one that extends leases: a lease outlives several of them.
	requestTimeout   = 5 * time.Second
	extensionTimeout = 2 * time.Second
	// leaseTick is how often leases are looked at, and perTick the most that are extended at a time.
	leaseTick = time.Second
	perTick   = 64 * perRequest
)

// release is a delivery that is to be given back.
type release struct {
	receipt string
	pause   time.Duration
}

func (r release) cost() int64 { return receiptCost(r.receipt) }

func receiptCost(receipt string) int64 { return receiptBytes + int64(len(receipt)) }

// Run acknowledges, releases and dead-letters what it is given, and keeps the leases of what is held, until ctx ends. Then
// it sends what is queued and gives everything back that is still held, until until ends. It is called once. A panic ends
// it and is its error.
func (c *Consumer) Run(ctx, until context.Context) error {
	ctx, guard := service.NewGuard(ctx)
	work, cancel := context.WithCancel(until)
	defer cancel()
	var running, burying sync.WaitGroup
	for range workers {
		running.Go(guard.Of(func() { c.acknowledge(work) }))
		running.Go(guard.Of(func() { c.release(work) }))
		burying.Go(guard.Of(func() { c.publishLetters(work) }))
	}
	running.Go(guard.Of(func() { c.keepLeases(ctx) }))
	<-ctx.Done()
	c.giveBack()
	c.releases.close()
	c.letters.close()
	burying.Wait() // what is published is acknowledged
	c.acknowledgements.close()
	running.Wait()
	return guard.End()
}

// giveBack releases everything that is held, so that another aggregator has it at once and not when the leases end.
func (c *Consumer) giveBack() {
	c.mu.Lock()
	left := c.leases.All()
	c.mu.Unlock()
	if len(left) > 0 {
		c.Release(left, 0)
		c.log.Warn().Int("messages", len(left)).Msg("stopped before everything was committed; the rest is given back")
	}
}

// acknowledge is one worker.
func (c *Consumer) acknowledge(ctx context.Context) {
	fits := func(taken []string, _ string) bool { return len(taken) < perRequest }
	for receipts := c.acknowledgements.take(ctx, fits); len(receipts) > 0; receipts = c.acknowledgements.take(ctx, fits) {
		call, cancel := context.WithTimeout(ctx, requestTimeout)
		err := c.source.Acknowledge(call, receipts)
		cancel()
		c.acknowledgements.done(receipts)
		c.outages.acknowledge.report(ctx, err) // after a failure the messages come again and are dropped
	}
}

// release is one worker.
func (c *Consumer) release(ctx context.Context) {
	fits := func(taken []release, next release) bool {
		return len(taken) < perRequest && next.pause == taken[0].pause
	}
	for some := c.releases.take(ctx, fits); len(some) > 0; some = c.releases.take(ctx, fits) {
		receipts := make([]string, len(some))
		for i := range some {
			receipts[i] = some[i].receipt
		}
		call, cancel := context.WithTimeout(ctx, requestTimeout)
		err := c.source.Extend(call, receipts, some[0].pause)
		cancel()
		c.releases.done(some)
		c.outages.extend.report(ctx, err) // after a failure the leases end by themselves
	}
}

// hold begins to keep the leases of what a Pull brought that began at a time.
func (c *Consumer) hold(byPartition map[uint32][]*delivery.Delivery, began time.Time) {
	var due time.Time // at once: the subscription's lease is longer than ours, or unknown
	if deadline := c.settings.AckDeadline(); deadline > 0 && deadline <= c.settings.Lease {
		due = began.Add(deadline / 2)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, some := range byPartition {
		for _, d := range some {
			c.leases.Hold(d, due)
		}
	}
}

// keepLeases extends leases that are half over, until ctx ends. A lease is extended when the request has succeeded: until
// then it stays due, and is tried again.
func (c *Consumer) keepLeases(ctx context.Context) {
	ticker := time.NewTicker(leaseTick)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		c.mu.Lock()
		due := c.leases.Due(time.Now(), perTick)
		c.mu.Unlock()
		var requests sync.WaitGroup
		slots := make(chan struct{}, workers)
		for len(due) > 0 {
			some := due[:min(len(due), perRequest)]
			due = due[len(some):]
			slots <- struct{}{}
			requests.Go(func() {
				c.extend(ctx, some)
				<-slots
			})
		}
		requests.Wait()
	}
}

// extend sends one request.
func (c *Consumer) extend(ctx context.Context, some []*delivery.Delivery) {
	receipts := make([]string, len(some))
	for i, d := range some {
		receipts[i] = d.Receipt
	}
	began := time.Now()
	call, cancel := context.WithTimeout(ctx, extensionTimeout)
	err := c.source.Extend(call, receipts, c.settings.Lease)
	cancel()
	if c.outages.extend.report(ctx, err); err != nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, d := range some {
		c.leases.Extended(d, began.Add(c.settings.Lease/2))
	}
}

// newBackOff makes the pauses between attempts, growing to a few seconds.
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
