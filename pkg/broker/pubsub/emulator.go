package pubsub

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/stats"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
)

// EmulatorAckDeadline is the ack deadline of the subscriptions that the services create at an emulator. Deployments use the same.
// After a crash, messages are redelivered when it has passed.
const EmulatorAckDeadline = 12 * time.Second

// needs has the topics and subscriptions that must exist at an emulator. As a stats.Handler it counts connections that have ended.
type needs struct {
	mu  sync.Mutex
	all []need

	// ended counts the connections that have ended. An emulator that restarts, and so forgets all topics and subscriptions,
	// ends them all.
	ended atomic.Int64
	// created is the value of ended at which all needs existed, or none.
	created atomic.Int64
	// creating holds a token while the needs are created.
	creating chan struct{}
}

// none is the value of needs.created while needs may be missing.
const none = -1

func newNeeds() *needs {
	n := &needs{creating: make(chan struct{}, 1)}
	n.created.Store(none)
	return n
}

// need is a topic, or a subscription to one.
type need struct {
	topic, subscription string
	ackDeadline         time.Duration
}

// NeedTopic says that a topic must exist before anything is published to an emulator. CreateNeeds creates it unless it exists, and
// so does each Publish, each time the emulator has restarted, since it then has lost everything. With Google Cloud, where topics
// are part of the deployment, NeedTopic does nothing.
func (c *Client) NeedTopic(id string) { c.need(need{topic: id}) }

// NeedSubscription is NeedTopic for a subscription to a topic of the project that is needed, too. The ack deadline must be 10 to
// 600 s in whole seconds. A topic without subscriptions drops what is published to it: a publisher that needs the subscription of
// its consumer may start before it.
func (c *Client) NeedSubscription(id, topic string, ackDeadline time.Duration) {
	c.need(need{topic, id, ackDeadline})
}

func (c *Client) need(n need) {
	if c.needs == nil {
		return
	}
	c.needs.mu.Lock()
	defer c.needs.mu.Unlock()
	if !slices.Contains(c.needs.all, n) {
		c.needs.all = append(c.needs.all, n)
		c.needs.created.Store(none)
	}
}

// CreateNeeds creates what is needed and does not exist.
func (c *Client) CreateNeeds(ctx context.Context) error {
	if c.needs == nil {
		return nil
	}
	return c.createNeeds(ctx)
}

// EnsureTopic is NeedTopic, and creates the topic at once.
func (c *Client) EnsureTopic(ctx context.Context, id string) error {
	return c.ensure(ctx, need{topic: id})
}

// EnsureSubscription is NeedSubscription, and creates the subscription at once. Its topic must exist.
func (c *Client) EnsureSubscription(ctx context.Context, id, topic string, ackDeadline time.Duration) error {
	return c.ensure(ctx, need{topic, id, ackDeadline})
}

func (c *Client) ensure(ctx context.Context, n need) error {
	if c.needs == nil {
		return nil
	}
	c.need(n)
	return c.create(ctx, n)
}

// createNeeds creates all needs, unless that was done since a connection last ended.
func (c *Client) createNeeds(ctx context.Context) error {
	n := c.needs
	if n.created.Load() == n.ended.Load() {
		return nil
	}
	select {
	case n.creating <- struct{}{}:
		defer func() { <-n.creating }()
	case <-ctx.Done():
		return fmt.Errorf("create topics and subscriptions: %w", ctx.Err())
	}
	for {
		n.mu.Lock()
		all := slices.Clone(n.all)
		n.created.Store(none)
		n.mu.Unlock()
		ended := n.ended.Load()
		for _, one := range all {
			if err := c.create(ctx, one); err != nil {
				return err
			}
		}
		n.mu.Lock()
		complete := len(all) == len(n.all) && n.ended.Load() == ended
		if complete {
			n.created.Store(ended)
		}
		n.mu.Unlock()
		if complete {
			return nil
		}
	}
}

// creating is a key of the contexts of calls that create needs, which do not themselves wait for needs.
type creating struct{}

// create creates a topic or a subscription, unless it exists.
func (c *Client) create(ctx context.Context, n need) (err error) {
	ctx = context.WithValue(ctx, creating{}, true)
	if n.subscription == "" {
		_, err = c.createTopic(ctx, n.topic)
	} else {
		err = c.createSubscription(ctx, n)
	}
	if err != nil {
		return failure(ctx, strings.TrimSpace("create "+n.topic+" "+n.subscription), err)
	}
	return nil
}

// createTopic creates a topic, and reports whether it did not exist. Of concurrent calls, one does.
func (c *Client) createTopic(ctx context.Context, id string) (created bool, err error) {
	_, err = c.topics.CreateTopic(ctx, &pubsubpb.Topic{Name: c.topicName(id)})
	if status.Code(err) == codes.AlreadyExists {
		return false, nil
	}
	return err == nil, err //nolint:wrapcheck // the caller does
}

const (
	// creatorPatience is how long a subscription may take to appear after its creator was decided. A creator that was killed
	// meanwhile is replaced then.
	creatorPatience = 5 * time.Second
	creatorPause    = 20 * time.Millisecond
)

// createSubscription creates a subscription, unless it exists. The emulator lets concurrent calls of
// CreateSubscription succeed, each of which replaces the subscription and drops what was published meanwhile. It creates a
// topic only once. So the process that creates the topic "{subscription}.creator" creates the subscription, and the others wait for it.
func (c *Client) createSubscription(ctx context.Context, n need) error {
	creator := n.subscription + ".creator"
	name := &pubsubpb.GetSubscriptionRequest{Subscription: c.subscriptionName(n.subscription)}
	for begun := time.Now(); ; {
		if _, err := c.subs.GetSubscription(ctx, name); status.Code(err) != codes.NotFound {
			return err //nolint:wrapcheck // the caller does
		}
		decided, err := c.createTopic(ctx, creator)
		if err != nil {
			return err
		}
		if decided || time.Since(begun) >= creatorPatience {
			break
		}
		select {
		case <-ctx.Done():
			return ctx.Err() //nolint:wrapcheck // the caller does
		case <-time.After(creatorPause):
		}
	}
	_, err := c.subs.CreateSubscription(ctx, &pubsubpb.Subscription{
		Name:                     name.Subscription,
		Topic:                    c.topicName(n.topic),
		AckDeadlineSeconds:       seconds(n.ackDeadline),
		MessageRetentionDuration: durationpb.New(defaultRetention),
		ExpirationPolicy:         &pubsubpb.ExpirationPolicy{}, // without a ttl it never expires
	})
	if err != nil && status.Code(err) != codes.AlreadyExists {
		// Without its topic, say. The next attempt need not wait for this one.
		_ = c.topics.DeleteTopic(ctx, &pubsubpb.DeleteTopicRequest{Topic: c.topicName(creator)})
		return err //nolint:wrapcheck // the caller does
	}
	return nil
}

// createMissing is a grpc.UnaryClientInterceptor. A Publish waits until all needs exist: a topic whose subscriptions are not
// created yet, perhaps by another process, would drop the messages. When any call returns NOT_FOUND, the interceptor creates all
// needs and repeats the call once.
func (c *Client) createMissing(
	ctx context.Context, method string, request, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption,
) error {
	n := c.needs
	if ctx.Value(creating{}) != nil || !n.some() {
		return invoke(ctx, method, request, reply, cc, opts...)
	}
	publish, ended := strings.HasSuffix(method, "/Publish"), n.ended.Load()
	if publish {
		if err := c.createNeeds(ctx); err != nil {
			return status.Error(codes.NotFound, err.Error()) // nothing is published
		}
	}
	err := invoke(ctx, method, request, reply, cc, opts...)
	switch {
	case status.Code(err) == codes.NotFound:
		n.created.Store(none)
		if c.createNeeds(ctx) != nil {
			return err
		}
		return invoke(ctx, method, request, reply, cc, opts...)
	case err == nil && publish && n.ended.Load() != ended:
		// The emulator may have restarted meanwhile, and another process may have created the topic, and not yet the
		// subscription, when the messages came. The client library publishes them again: a repeated message counts once.
		return status.Error(codes.Unavailable, "the emulator may have restarted") //nolint:wrapcheck // as the server would
	}
	return err
}

// some reports whether there are needs.
func (n *needs) some() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.all) > 0
}

// HandleConn counts a connection that has ended.
func (n *needs) HandleConn(_ context.Context, s stats.ConnStats) {
	if _, ok := s.(*stats.ConnEnd); ok {
		n.ended.Add(1)
	}
}

// TagConn does nothing.
func (*needs) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }

// TagRPC does nothing.
func (*needs) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context { return ctx }

// HandleRPC does nothing.
func (*needs) HandleRPC(context.Context, stats.RPCStats) {}
