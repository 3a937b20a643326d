package faults

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/accrue/accrue/pkg/broker"
	"github.com/accrue/accrue/pkg/broker/brokertest"
)

// Limits of Pub/Sub (https://cloud.google.com/pubsub/quotas#resource_limits). A message's size has its limit in package
// broker.
const (
	// MaxPull is the maximum number of messages that one Pull returns, as with the emulator. Pub/Sub may return fewer.
	MaxPull = 100
	// maxPerRequest is the maximum number of messages in a Publish request and of receipts in other requests.
	maxPerRequest = 1000
	// maxAttributes, maxAttributeName and maxAttributeValue bound the attributes of a message: their number and their bytes.
	maxAttributes, maxAttributeName, maxAttributeValue = 100, 256, 1024
)

// ErrInvalidMessage is returned for a message that Pub/Sub refuses for a reason other than its size.
var ErrInvalidMessage = errors.New("invalid message")

// Topic is a topic behind faults, with the limits of Pub/Sub.
type Topic struct {
	brokertest.Topic
	faults *Faults
}

// Topic wraps a topic.
func (f *Faults) Topic(t brokertest.Topic) *Topic { return &Topic{t, f} }

// Publish publishes messages in requests of up to 1,000 messages and 10 MB, each with its own fault. It stops at the first error;
// then the messages of earlier requests are published.
func (t *Topic) Publish(ctx context.Context, messages []broker.Message) error {
	for i := range messages {
		if err := checkMessage(&messages[i]); err != nil {
			return fmt.Errorf("publish: %w", err)
		}
	}
	for len(messages) > 0 {
		n, size := 1, messages[0].Size()
		for n < min(len(messages), maxPerRequest) && size+messages[n].Size() <= broker.MaxMessageBytes {
			size += messages[n].Size()
			n++
		}
		if err := call(ctx, t.faults, "Publish", func(ctx context.Context) error {
			return t.Topic.Publish(ctx, messages[:n])
		}); err != nil {
			return err
		}
		messages = messages[n:]
	}
	return nil
}

// checkMessage returns an error for a message that Pub/Sub refuses.
func checkMessage(m *broker.Message) error {
	if size := m.Size(); size > broker.MaxMessageBytes {
		return fmt.Errorf("%w: %d bytes", broker.ErrMessageSize, size)
	}
	if len(m.Data) == 0 && len(m.Attributes) == 0 {
		return fmt.Errorf("%w: no data and no attributes", ErrInvalidMessage)
	}
	if len(m.Attributes) > maxAttributes {
		return fmt.Errorf("%w: %d attributes", ErrInvalidMessage, len(m.Attributes))
	}
	for name, value := range m.Attributes {
		if name == "" || len(name) > maxAttributeName || len(value) > maxAttributeValue || !utf8.ValidString(name+value) {
			return fmt.Errorf("%w: attribute %.40q has %d bytes, or is not UTF-8", ErrInvalidMessage, name, len(value))
		}
	}
	return nil
}

// Check checks whether the topic answers.
func (t *Topic) Check(ctx context.Context) error {
	return call(ctx, t.faults, "CheckTopic", t.Topic.Check)
}

// Subscription is a subscription behind faults, with the limits of Pub/Sub.
type Subscription struct {
	brokertest.Subscription
	faults *Faults
}

// Subscription wraps a subscription.
func (f *Faults) Subscription(s brokertest.Subscription) *Subscription { return &Subscription{s, f} }

// Pull pulls up to limit messages, at most MaxPull. Messages whose reply is lost are redelivered when their leases end.
func (s *Subscription) Pull(ctx context.Context, limit int) ([]broker.Delivery, error) {
	return do(ctx, s.faults, Call{Method: "Pull"}, func(ctx context.Context) ([]broker.Delivery, error) {
		return s.Subscription.Pull(ctx, min(limit, MaxPull))
	})
}

// Acknowledge acknowledges receipts in requests of up to 1,000, each with its own fault. It makes all requests and joins their
// errors.
func (s *Subscription) Acknowledge(ctx context.Context, receipts []string) error {
	return s.each(ctx, "Acknowledge", receipts, s.Subscription.Acknowledge)
}

// Extend extends leases, in requests as Acknowledge does.
func (s *Subscription) Extend(ctx context.Context, receipts []string, d time.Duration) error {
	return s.each(ctx, "Extend", receipts, func(ctx context.Context, some []string) error {
		return s.Subscription.Extend(ctx, some, d)
	})
}

func (s *Subscription) each(
	ctx context.Context, method string, receipts []string, request func(context.Context, []string) error,
) error {
	var failed []error
	for some := range slices.Chunk(receipts, maxPerRequest) {
		failed = append(failed, call(ctx, s.faults, method, func(ctx context.Context) error { return request(ctx, some) }))
	}
	return errors.Join(failed...)
}

// Describe returns the configuration of the subscription.
func (s *Subscription) Describe(ctx context.Context) (broker.SubscriptionInfo, error) {
	return do(ctx, s.faults, Call{Method: "Describe"}, s.Subscription.Describe)
}

// Check checks whether the subscription answers.
func (s *Subscription) Check(ctx context.Context) error {
	return call(ctx, s.faults, "CheckSubscription", s.Subscription.Check)
}

// call makes a request that has no result.
func call(ctx context.Context, f *Faults, method string, request func(context.Context) error) error {
	_, err := do(ctx, f, Call{Method: method}, func(ctx context.Context) (struct{}, error) { return struct{}{}, request(ctx) })
	return err
}
