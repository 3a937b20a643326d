package pubsub

import (
	"context"
	"errors"
	"time"

	vkit "cloud.google.com/go/pubsub/v2/apiv1"
	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/accrue/accrue/pkg/broker"
)

const (
	// maxReceipts and maxReceiptBytes bound the receipts of one request. Pub/Sub's limit is 512 KiB including the subscription's
	// name.
	maxReceipts     = 1000
	maxReceiptBytes = 500 << 10
	// receiptFraming bounds the bytes of a receipt in a request beside its own.
	receiptFraming = 8

	// pullWait bounds the time that a Pull waits for a first message. Pub/Sub answers a little earlier. It is so short that a
	// stopping caller can wait for its Pulls. A canceled Pull may have leased messages, which are then redelivered only when the
	// lease ends. The emulator leases messages even for a caller that has disconnected.
	pullWait = 2 * time.Second

	// The defaults of Pub/Sub.
	defaultAckDeadline = 10 * time.Second
	defaultRetention   = 7 * 24 * time.Hour
)

// Subscription pulls from one subscription.
type Subscription struct {
	client *vkit.SubscriptionAdminClient
	name   string
}

// Pull leases up to limit messages, at most broker.MaxPull, and often fewer than there are. It waits up to 2 s for a first message.
// If ctx ends meanwhile, messages may have been leased that are redelivered when their lease ends.
func (s *Subscription) Pull(ctx context.Context, limit int) ([]broker.Delivery, error) {
	call, cancel := context.WithTimeout(ctx, pullWait)
	defer cancel()
	response, err := s.client.Pull(call, &pubsubpb.PullRequest{
		Subscription: s.name,
		MaxMessages:  int32(min(limit, broker.MaxPull)), //nolint:gosec // at most MaxPull
	})
	switch {
	case err != nil && status.Code(err) == codes.DeadlineExceeded && ctx.Err() == nil:
		return nil, nil
	case err != nil:
		return nil, failure(ctx, "pull", err)
	}
	deliveries := make([]broker.Delivery, len(response.GetReceivedMessages()))
	for i, received := range response.GetReceivedMessages() {
		m := received.GetMessage()
		deliveries[i] = broker.Delivery{
			Message:     broker.Message{Data: m.GetData(), Attributes: m.GetAttributes()},
			ID:          m.GetMessageId(),
			Receipt:     received.GetAckId(),
			PublishedAt: m.GetPublishTime().AsTime(),
		}
	}
	return deliveries, nil
}

// Acknowledge acknowledges deliveries, in several requests if there are many. After an error it is unknown which were acknowledged;
// the others are redelivered. Receipts whose lease has ended are ignored; their messages may be redelivered.
func (s *Subscription) Acknowledge(ctx context.Context, receipts []string) error {
	return each(receipts, func(some []string) error {
		err := s.client.Acknowledge(ctx, &pubsubpb.AcknowledgeRequest{Subscription: s.name, AckIds: some})
		if err != nil {
			return failure(ctx, "acknowledge", err)
		}
		return nil
	})
}

// Extend sets the ends of leases to d from now, in whole seconds, rounded up, and at most broker.MaxExtension. If d is zero it
// releases the messages. After an error it is unknown which leases were extended. Receipts whose lease has ended are ignored.
func (s *Subscription) Extend(ctx context.Context, receipts []string, d time.Duration) error {
	deadline := seconds(min(d, broker.MaxExtension))
	return each(receipts, func(some []string) error {
		err := s.client.ModifyAckDeadline(ctx, &pubsubpb.ModifyAckDeadlineRequest{
			Subscription: s.name, AckIds: some, AckDeadlineSeconds: deadline,
		})
		if err != nil {
			return failure(ctx, "extend", err)
		}
		return nil
	})
}

// each calls send for all receipts, in groups that fit one request. It continues after errors and joins them.
func each(receipts []string, send func([]string) error) error {
	var failed []error
	for len(receipts) > 0 {
		n, bytes := 0, 0
		for n < min(len(receipts), maxReceipts) {
			if bytes += len(receipts[n]) + receiptFraming; bytes > maxReceiptBytes && n > 0 {
				break
			}
			n++
		}
		if err := send(receipts[:n]); err != nil {
			failed = append(failed, err)
		}
		receipts = receipts[n:]
	}
	return errors.Join(failed...)
}

// Check returns an error if the subscription does not exist or Pub/Sub does not answer. It needs the permission
// pubsub.subscriptions.get on the subscription, which roles/pubsub.subscriber does not include.
func (s *Subscription) Check(ctx context.Context) error {
	_, err := s.get(ctx)
	return err
}

// Describe returns the configuration of the subscription. The retention is the longer of the subscription's and its topic's, since
// a seek can replay the messages that the topic retains. It needs the same permission as Check.
func (s *Subscription) Describe(ctx context.Context) (broker.SubscriptionInfo, error) {
	found, err := s.get(ctx)
	if err != nil {
		return broker.SubscriptionInfo{}, err
	}
	info := broker.SubscriptionInfo{AckDeadline: defaultAckDeadline, Retention: defaultRetention}
	if d := found.GetAckDeadlineSeconds(); d > 0 {
		info.AckDeadline = time.Duration(d) * time.Second
	}
	if d := found.GetMessageRetentionDuration(); d != nil {
		info.Retention = d.AsDuration()
	}
	info.Retention = max(info.Retention, found.GetTopicMessageRetentionDuration().AsDuration())
	return info, nil
}

func (s *Subscription) get(ctx context.Context) (*pubsubpb.Subscription, error) {
	found, err := s.client.GetSubscription(ctx, &pubsubpb.GetSubscriptionRequest{Subscription: s.name})
	if err != nil {
		return nil, failure(ctx, "look up subscription", err)
	}
	return found, nil
}
