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
	// maxReceipts and maxReceiptBytes bound one request that names deliveries: Pub/Sub takes 512 KiB, of which some is
	// left for the subscription's name.
	maxReceipts     = 1000
	maxReceiptBytes = 500 << 10
	// receiptFraming is the most that a receipt takes beside its own bytes.
	receiptFraming = 8

	// pullWait bounds how long a Pull waits for a first message; Pub/Sub answers a little before that. It is short enough
	// for a caller that stops to let its Pulls end by themselves: one that is cancelled can take messages with it, which
	// then come again only when their lease ends. The emulator gives messages even to a caller that is long gone.
	pullWait = 2 * time.Second

	// What holds for a subscription that does not say: Pub/Sub's defaults.
	defaultAckDeadline = 10 * time.Second
	defaultRetention   = 7 * 24 * time.Hour
)

// Subscription pulls from one subscription.
type Subscription struct {
	client *vkit.SubscriptionAdminClient
	name   string
}

// Pull leases up to limit messages, at most broker.MaxPull, often fewer than there are. It waits for a first one, 2 s at
// most, and returns none when none comes. When ctx ends while it is under way, messages that were on their way are lost
// to this caller and come again when their lease ends.
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

// Acknowledge ends the deliveries for good, in several requests when there are many. An error leaves open which it ended:
// the others come again. Receipts whose lease has ended are passed over; their messages may come again.
func (s *Subscription) Acknowledge(ctx context.Context, receipts []string) error {
	return each(receipts, func(some []string) error {
		err := s.client.Acknowledge(ctx, &pubsubpb.AcknowledgeRequest{Subscription: s.name, AckIds: some})
		if err != nil {
			return failure(ctx, "acknowledge", err)
		}
		return nil
	})
}

// Extend lets the leases end after d from now, in whole seconds rounded up and at most broker.MaxExtension; zero ends
// them at once, so that their messages come again. An error leaves open which it extended. Receipts whose lease has ended
// are passed over.
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

// each calls send with as many receipts as one request takes, until all were sent. One that fails does not keep back the
// others, which stand for themselves; the errors are joined.
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

// Check returns nil when the subscription exists and Pub/Sub answers. It needs the permission pubsub.subscriptions.get
// on the subscription, which is not part of roles/pubsub.subscriber.
func (s *Subscription) Check(ctx context.Context) error {
	_, err := s.get(ctx)
	return err
}

// Describe looks up how the subscription was set up: the ack deadline, and the longer of its own retention and its
// topic's, since a replay can bring back what the topic still has. It needs the same permission as Check.
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
