// Package pubsub is the broker on Google Cloud Pub/Sub, or on its emulator. It uses the generated clients' Publish and
// Pull, one request at a time, and not the streaming subscriber: a windowed consumer wants as many messages as there are
// when it is ready for them, and keeps its own leases.
package pubsub

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"time"

	vkit "cloud.google.com/go/pubsub/v2/apiv1"
	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/accrue/accrue/pkg/connection"
)

// connections is the most gRPC connections that each of the two clients opens: one carries 100 calls at once, and
// some hundred MB/s.
const connections = 4

// Client is a connection to the topics and subscriptions of one project. Its methods, and those of the topics and
// subscriptions that it gives out, are safe for concurrent use.
type Client struct {
	project string
	topics  *vkit.TopicAdminClient
	subs    *vkit.SubscriptionAdminClient
	// needs is nil at Google.
	needs *needs
}

// Connect makes a client for project at Google, with the credentials of the environment, or, when emulatorHost
// ("host:port") is not empty, at an emulator, without any. It does not wait for a connection: a server that is not there
// shows in the first call, which waits for it as long as its context allows.
func Connect(ctx context.Context, project, emulatorHost string) (*Client, error) {
	if project == "" {
		return nil, errors.New("connect to pub/sub: no project is named")
	}
	options := []option.ClientOption{
		option.WithGRPCConnectionPool(min(runtime.GOMAXPROCS(0), connections)),
		// The services trace publishing and committing themselves; a span for each Pull would drown them.
		option.WithTelemetryDisabled(),
	}
	for _, o := range connection.Options() {
		options = append(options, option.WithGRPCDialOption(o))
	}
	client := &Client{project: project}
	if emulatorHost != "" {
		client.needs = &needs{}
		options = append(options,
			option.WithEndpoint(emulatorHost),
			option.WithoutAuthentication(),
			option.WithGRPCDialOption(grpc.WithTransportCredentials(insecure.NewCredentials())),
			option.WithGRPCDialOption(grpc.WithChainUnaryInterceptor(client.createMissing)))
	}
	var err error
	if client.topics, err = vkit.NewTopicAdminClient(ctx, options...); err != nil {
		return nil, fmt.Errorf("connect to pub/sub: %w", err)
	}
	if client.subs, err = vkit.NewSubscriptionAdminClient(ctx, options...); err != nil {
		return nil, errors.Join(fmt.Errorf("connect to pub/sub: %w", err), client.topics.Close())
	}
	return client, nil
}

// Close ends the connections, and with them the calls that are under way.
func (c *Client) Close() error {
	if err := errors.Join(c.topics.Close(), c.subs.Close()); err != nil {
		return fmt.Errorf("disconnect from pub/sub: %w", err)
	}
	return nil
}

// Topic is the topic with the given id. It need not exist yet.
func (c *Client) Topic(id string) *Topic { return &Topic{client: c.topics, name: c.topicName(id)} }

// Subscription is the subscription with the given id. It need not exist yet.
func (c *Client) Subscription(id string) *Subscription {
	return &Subscription{client: c.subs, name: c.subscriptionName(id)}
}

func (c *Client) topicName(id string) string { return "projects/" + c.project + "/topics/" + id }

func (c *Client) subscriptionName(id string) string {
	return "projects/" + c.project + "/subscriptions/" + id
}

// failure wraps the error of a call. gRPC reports the end of a context as a status of its own, which errors.Is does not
// know, so the context's error is added.
func failure(ctx context.Context, phrase string, err error) error {
	cause := ctx.Err()
	if cause == nil && status.Code(err) == codes.DeadlineExceeded {
		cause = context.DeadlineExceeded // of the call, or seen by the server a moment before ctx itself
	}
	if cause != nil {
		return fmt.Errorf("%s: %w: %w", phrase, cause, err)
	}
	return fmt.Errorf("%s: %w", phrase, err)
}

// seconds are whole ones, rounded up: a lease of less than a second is not one of zero, which would release it.
func seconds(d time.Duration) int32 {
	return int32(max(0, (d+time.Second-1)/time.Second)) //nolint:gosec // callers bound d
}
