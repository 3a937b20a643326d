package pubsub

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
)

// EmulatorAckDeadline is the ack deadline of the subscriptions that the services create at an emulator. Deployments set the
// same: a crash costs as much until the messages come again.
const EmulatorAckDeadline = 15 * time.Second

// needs are the topics and subscriptions that must exist at an emulator.
type needs struct {
	mu  sync.Mutex
	all []need
}

// need is a topic, or a subscription to one.
type need struct {
	topic, subscription string
	ackDeadline         time.Duration
}

// EnsureTopic creates a topic at an emulator unless it exists, and again, whether or not it returned an error, when a call
// finds that something does not exist: an emulator that restarts has lost everything. At Google it does nothing: topics
// are part of a deployment there.
func (c *Client) EnsureTopic(ctx context.Context, id string) error {
	return c.ensure(ctx, need{topic: id})
}

// EnsureSubscription creates a subscription to a topic of this project, as EnsureTopic does, with an ack deadline of 10 to
// 600 s in whole seconds. The topic must exist.
func (c *Client) EnsureSubscription(ctx context.Context, id, topic string, ackDeadline time.Duration) error {
	return c.ensure(ctx, need{topic, id, ackDeadline})
}

func (c *Client) ensure(ctx context.Context, n need) error {
	if c.needs == nil {
		return nil
	}
	c.needs.mu.Lock()
	if !slices.Contains(c.needs.all, n) {
		c.needs.all = append(c.needs.all, n)
	}
	c.needs.mu.Unlock()
	return c.create(ctx, n)
}

// create creates a topic or a subscription unless it exists.
func (c *Client) create(ctx context.Context, n need) error {
	var err error
	if n.subscription == "" {
		_, err = c.topics.CreateTopic(ctx, &pubsubpb.Topic{Name: c.topicName(n.topic)})
	} else {
		_, err = c.subs.CreateSubscription(ctx, &pubsubpb.Subscription{
			Name:                     c.subscriptionName(n.subscription),
			Topic:                    c.topicName(n.topic),
			AckDeadlineSeconds:       seconds(n.ackDeadline),
			MessageRetentionDuration: durationpb.New(defaultRetention),
			ExpirationPolicy:         &pubsubpb.ExpirationPolicy{}, // without a ttl: never
		})
	}
	if err != nil && status.Code(err) != codes.AlreadyExists {
		return failure(ctx, strings.TrimSpace("create "+n.topic+" "+n.subscription), err)
	}
	return nil
}

// createMissing is a grpc.UnaryClientInterceptor. When a call finds that something does not exist, it creates all that is
// needed and makes the call once more.
func (c *Client) createMissing(
	ctx context.Context, method string, request, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption,
) error {
	err := invoke(ctx, method, request, reply, cc, opts...)
	if status.Code(err) != codes.NotFound || strings.Contains(method, "/Create") {
		return err
	}
	c.needs.mu.Lock()
	all := slices.Clone(c.needs.all)
	c.needs.mu.Unlock()
	for _, n := range all {
		if c.create(ctx, n) != nil {
			return err
		}
	}
	if len(all) == 0 {
		return err
	}
	return invoke(ctx, method, request, reply, cc, opts...)
}
