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

// EmulatorAckDeadline is the ack deadline of the subscriptions that the services create at an emulator. Deployments use the same.
// After a crash, messages are redelivered when it has passed.
const EmulatorAckDeadline = 12 * time.Second

// needs has the topics and subscriptions that must exist at an emulator.
type needs struct {
	mu  sync.Mutex
	all []need
}

// need is a topic, or a subscription to one.
type need struct {
	topic, subscription string
	ackDeadline         time.Duration
}

// EnsureTopic creates a topic at an emulator unless it exists. Even if it returns an error, the topic is also created whenever a
// later call returns NOT_FOUND, since an emulator loses everything when it restarts. With Google Cloud, where topics are part of
// the deployment, EnsureTopic does nothing.
func (c *Client) EnsureTopic(ctx context.Context, id string) error {
	return c.ensure(ctx, need{topic: id})
}

// EnsureSubscription creates a subscription to an existing topic of the project, as EnsureTopic does. The ack deadline must be 10
// to 600 s in whole seconds.
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
			ExpirationPolicy:         &pubsubpb.ExpirationPolicy{}, // without a ttl it never expires
		})
	}
	if err != nil && status.Code(err) != codes.AlreadyExists {
		return failure(ctx, strings.TrimSpace("create "+n.topic+" "+n.subscription), err)
	}
	return nil
}

// createMissing is a grpc.UnaryClientInterceptor. When a call returns NOT_FOUND, it creates all needs and repeats the call once.
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
