package pubsub

import (
	"context"
	"fmt"

	vkit "cloud.google.com/go/pubsub/v2/apiv1"
	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/accrue/accrue/pkg/broker"
)

// Limits of one Publish request (https://cloud.google.com/pubsub/quotas#resource_limits).
const (
	maxRequestMessages = 1000
	// maxRequestBytes is the sum of broker.Message.Size and messageFraming: what is left of the 10 MB has room for the
	// topic's name.
	maxRequestBytes = broker.MaxMessageBytes + messageFraming
	// messageFraming is the most that a message takes beside its Size: the tags and lengths of itself and its data.
	messageFraming = 16
)

// Topic publishes to one topic.
type Topic struct {
	client *vkit.TopicAdminClient
	name   string
}

// Publish returns nil when Pub/Sub has all messages. Up to 1,000 messages of together 10 MB are one request; more are
// sent in several, one after the other. A message over broker.MaxMessageBytes is broker.ErrMessageSize, and then none was
// sent.
//
// If the topic does not exist or permission is missing, the error of the first request is broker.ErrRefused: Pub/Sub has
// none of the messages.
//
// Any other error leaves open which messages Pub/Sub has. Publish tries again by itself, until ctx ends, where that may
// help, and so a message may be in the topic twice, with two ids. Give ctx a deadline: without one, a request is tried for
// a minute.
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
		if err := t.publish(ctx, messages[:n]); err != nil {
			if code := status.Code(err); first && (code == codes.NotFound || code == codes.PermissionDenied) {
				return fmt.Errorf("%w: %w", broker.ErrRefused, err)
			}
			return err
		}
		messages, sizes, first = messages[n:], sizes[n:], false
	}
	return nil
}

// publish sends one request.
func (t *Topic) publish(ctx context.Context, messages []broker.Message) error {
	request := &pubsubpb.PublishRequest{Topic: t.name, Messages: make([]*pubsubpb.PubsubMessage, len(messages))}
	for i, m := range messages {
		request.Messages[i] = &pubsubpb.PubsubMessage{Data: m.Data, Attributes: m.Attributes}
	}
	if _, err := t.client.Publish(ctx, request); err != nil {
		return failure(ctx, "publish", err)
	}
	return nil
}

// Check returns nil when the topic exists and Pub/Sub answers. It needs the permission pubsub.topics.get on the topic,
// which is not part of roles/pubsub.publisher.
func (t *Topic) Check(ctx context.Context) error {
	if _, err := t.client.GetTopic(ctx, &pubsubpb.GetTopicRequest{Topic: t.name}); err != nil {
		return failure(ctx, "look up topic", err)
	}
	return nil
}
