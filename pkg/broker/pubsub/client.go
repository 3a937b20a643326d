// Package pubsub is the broker on Google Cloud Pub/Sub or its emulator. It uses the methods Publish and Pull of the generated
// clients and not the streaming subscriber, since the aggregator pulls as many messages as it has room for and extends leases
// itself.
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

// connections is the maximum number of gRPC connections of each of the two clients. One carries 100 calls at a time and some
// hundred MB/s.
const connections = 4

// Client is a connection to the topics and subscriptions of one project. Its methods, and those of the topics and
// subscriptions that it gives out, are safe for concurrent use.
type Client struct {
	project string
	topics  *vkit.TopicAdminClient
	subs    *vkit.SubscriptionAdminClient
	// needs is nil unless the client uses an emulator.
	needs *needs
}

// Connect returns a client for a project. If emulatorHost is set, as host:port, the client uses that emulator without credentials;
// otherwise it uses Google Cloud with the application default credentials. Connect does not wait for a connection; the first call
// does, as long as its context allows.
func Connect(ctx context.Context, project, emulatorHost string) (*Client, error) {
	if project == "" {
		return nil, errors.New("connect to pub/sub: no project")
	}
	options := []option.ClientOption{
		option.WithGRPCConnectionPool(min(runtime.GOMAXPROCS(0), connections)),
		// The services trace publishes and Commits themselves. A span for each Pull would be too many.
		option.WithTelemetryDisabled(),
	}
	for _, o := range connection.Options() {
		options = append(options, option.WithGRPCDialOption(o))
	}
	client := &Client{project: project}
	if emulatorHost != "" {
		client.needs = newNeeds()
		options = append(options,
			option.WithEndpoint(emulatorHost),
			option.WithoutAuthentication(),
			option.WithGRPCDialOption(grpc.WithTransportCredentials(insecure.NewCredentials())),
			option.WithGRPCDialOption(grpc.WithStatsHandler(client.needs)),
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

// Close closes the connections, which cancels calls in flight.
func (c *Client) Close() error {
	if err := errors.Join(c.topics.Close(), c.subs.Close()); err != nil {
		return fmt.Errorf("disconnect from pub/sub: %w", err)
	}
	return nil
}

// Topic returns the topic with the given id, which need not exist yet.
func (c *Client) Topic(id string) *Topic { return &Topic{client: c.topics, name: c.topicName(id)} }

// Subscription returns the subscription with the given id, which need not exist yet.
func (c *Client) Subscription(id string) *Subscription {
	return &Subscription{client: c.subs, name: c.subscriptionName(id)}
}

func (c *Client) topicName(id string) string { return "projects/" + c.project + "/topics/" + id }

func (c *Client) subscriptionName(id string) string {
	return "projects/" + c.project + "/subscriptions/" + id
}

// failure wraps the error of a call. gRPC reports the end of a context as a status that errors.Is does not recognize, so failure
// adds the error of the context.
func failure(ctx context.Context, phrase string, err error) error {
	cause := ctx.Err()
	if cause == nil && status.Code(err) == codes.DeadlineExceeded {
		cause = context.DeadlineExceeded // of the call, or noticed by the server a moment before ctx ends
	}
	if cause != nil {
		return fmt.Errorf("%s: %w: %w", phrase, cause, err)
	}
	return fmt.Errorf("%s: %w", phrase, err)
}

// seconds returns d in seconds, rounded up, since a lease of zero seconds would release the message.
func seconds(d time.Duration) int32 {
	return int32(max(0, (d+time.Second-1)/time.Second)) //nolint:gosec // callers bound d
}
