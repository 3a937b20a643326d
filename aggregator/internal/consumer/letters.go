package consumer

import (
	"context"
	"maps"
	"strings"
	"time"

	"github.com/rs/zerolog"

	"github.com/accrue/accrue/pkg/broker"
	"github.com/accrue/accrue/pkg/message"
)

const (
	// lettersPerBuffer is the part of the buffer that dead letters may take.
	lettersPerBuffer = 16
	// letterCost is what a dead letter costs in memory beside its size.
	letterCost = 1024
	// perPublish and publishBytes bound one publish of dead letters. A larger one is published alone.
	perPublish   = 100
	publishBytes = 1 << 20
	// maxReason bounds the reason, in bytes: Pub/Sub takes 1,024 in an attribute, and maxAttributes of them.
	maxReason     = 1000
	maxAttributes = 100
)

// letter is a message that can never be applied, on its way to the dead-letter topic.
type letter struct {
	message broker.Message
	receipt string
	reason  error
	expires time.Time // the lease ends, and the message is delivered again
}

func (l letter) cost() int64 { return int64(l.message.Size()) + letterCost }

// bury queues a message that can never be applied, and returns its cost. If there is no room, it is forgotten and delivered
// again: good messages never wait for bad ones.
func (c *Consumer) bury(d *broker.Delivery, reason error, leased time.Time) (cost int64) {
	l := letter{message: d.Message, receipt: d.Receipt, reason: reason, expires: leased.Add(c.settings.Lease)}
	c.letters.put([]letter{l})
	return l.cost()
}

// publishLetters is one worker.
func (c *Consumer) publishLetters(ctx context.Context) {
	fits := func(taken []letter, next letter) bool {
		size := next.cost()
		for _, l := range taken {
			size += l.cost()
		}
		return len(taken) < perPublish && size <= publishBytes
	}
	for some := c.letters.take(ctx, fits); len(some) > 0; some = c.letters.take(ctx, fits) {
		c.publish(ctx, some)
		c.letters.done(some)
	}
}

// publish publishes dead letters with their reasons, and acknowledges them. If that fails they are delivered again.
func (c *Consumer) publish(ctx context.Context, some []letter) {
	var messages []broker.Message
	var receipts []string
	for _, l := range some {
		if time.Now().Before(l.expires) {
			messages, receipts = append(messages, withReason(l.message, l.reason)), append(receipts, l.receipt)
		}
	}
	if len(messages) == 0 {
		return
	}
	call, cancel := context.WithTimeout(ctx, requestTimeout)
	err := c.deadLetters.Publish(call, messages)
	cancel()
	if c.outages.deadLetter.report(ctx, err); err != nil {
		return
	}
	c.metrics.deadLettered.Add(context.Background(), int64(len(messages)))
	c.outages.apply.Failed(some[0].reason, func(e *zerolog.Event) { e.Int("messages", len(messages)) })
	c.acknowledgements.put(receipts)
}

// withReason returns m with the reason as an attribute, and its data cut if it would be too large with it.
func withReason(m broker.Message, reason error) broker.Message {
	attributes := maps.Clone(m.Attributes)
	if attributes == nil || len(attributes) >= maxAttributes {
		attributes = make(map[string]string, 1)
	}
	text := reason.Error()
	attributes[message.ReasonAttribute] = strings.ToValidUTF8(text[:min(len(text), maxReason)], "\uFFFD")
	dead := broker.Message{Data: m.Data, Attributes: attributes}
	if over := dead.Size() - broker.MaxMessageBytes; over > 0 {
		dead.Data = dead.Data[:max(0, len(dead.Data)-over)]
	}
	return dead
}
