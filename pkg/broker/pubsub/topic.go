package pubsub

import (
	"context"
	"fmt"
	"time"

	vkit "cloud.google.com/go/pubsub/v2/apiv1"
	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	"github.com/googleapis/gax-go/v2"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/accrue/accrue/pkg/broker"
)

// Limits of one Publish request (https://cloud.google.com/pubsub/quotas#resource_limits).
const (
	maxRequestMessages = 1000
	// maxRequestBytes bounds the sum of broker.Message.Size and messageFraming. The rest of the 10 MB is for the topic's name.
	maxRequestBytes = broker.MaxMessageBytes + messageFraming
	// messageFraming bounds the bytes of a message in a request beside its Size: the tags and lengths of the message and its data.
	messageFraming = 16
)

// Topic publishes to one topic.
type Topic struct {
	client *vkit.TopicAdminClient
	name   string
}

// Publish returns nil when Pub/Sub has stored all messages. A request carries up to 1,000 messages and 10 MB; further messages are
// sent in further requests, one after the other. If a message is larger than broker.MaxMessageBytes, Publish sends none and returns
// broker.ErrMessageSize.
//
// If the topic does not exist or permission is missing, and Pub/Sub has stored none of the messages, the error is
// broker.ErrRefused. It is not if the client has retried meanwhile: the reply to an attempt that stored them may be lost.
//
// After any other error it is unknown which messages are stored. Publish retries until ctx ends where that may help, so a message
// may be in the topic twice, with different ids. Give ctx a deadline; without one a request is retried for a minute.
func (t *Topic) Publish(ctx context.Context, messages []broker.Message) error {
	sizes := make([]int, len(messages))
	for i := range messages {
		if sizes[i] = messages[i].Size(); sizes[i] > broker.MaxMessageBytes {
			return fmt.Errorf("publish: %w: %d bytes", broker.ErrMessageSize, sizes[i])
		}
	}
	first := true
	for len(messages) > 0 {
		n, bytes := 0, 0
		for n < min(len(messages), maxRequestMessages) && bytes+sizes[n]+messageFraming <= maxRequestBytes {
			bytes += sizes[n] + messageFraming
			n++
		}
		if retried, err := t.publish(ctx, messages[:n]); err != nil {
			if code := status.Code(err); first && !retried && (code == codes.NotFound || code == codes.PermissionDenied) {
				return fmt.Errorf("%w: %w", broker.ErrRefused, err)
			}
			return err
		}
		messages, sizes, first = messages[n:], sizes[n:], false
	}
	return nil
}

// publish sends one request, and reports whether the client has sent it more than once: then an earlier attempt may have stored the
// messages, whatever the error of the last one.
func (t *Topic) publish(ctx context.Context, messages []broker.Message) (retried bool, err error) {
	request := &pubsubpb.PublishRequest{Topic: t.name, Messages: make([]*pubsubpb.PubsubMessage, len(messages))}
	for i, m := range messages {
		request.Messages[i] = &pubsubpb.PubsubMessage{Data: m.Data, Attributes: m.Attributes}
	}
	var settings gax.CallSettings
	for _, option := range t.client.CallOptions.Publish {
		option.Resolve(&settings)
	}
	retries := &countedRetries{Retryer: settings.Retry()}
	if _, err := t.client.Publish(ctx, request, gax.WithRetry(func() gax.Retryer { return retries })); err != nil {
		return retries.any, failure(ctx, "publish", err)
	}
	return retries.any, nil
}

// countedRetries is a gax.Retryer that records whether it has allowed a retry.
type countedRetries struct {
	gax.Retryer
	any bool
}

// Retry implements gax.Retryer.
func (r *countedRetries) Retry(err error) (pause time.Duration, shouldRetry bool) {
	pause, shouldRetry = r.Retryer.Retry(err)
	r.any = r.any || shouldRetry
	return pause, shouldRetry
}

// Check returns an error if the topic does not exist or Pub/Sub does not answer. It needs the permission pubsub.topics.get on the
// topic, which roles/pubsub.publisher does not include.
func (t *Topic) Check(ctx context.Context) error {
	if _, err := t.client.GetTopic(ctx, &pubsubpb.GetTopicRequest{Topic: t.name}); err != nil {
		return failure(ctx, "look up topic", err)
	}
	return nil
}
