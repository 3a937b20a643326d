package e2e_test

import (
	"context"
	"net"
	"strings"
	"testing"
	"time"

	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/accrue/accrue/pkg/broker"
	brokerembedded "github.com/accrue/accrue/pkg/broker/embedded"
	"github.com/accrue/accrue/pkg/broker/pubsub"
	"github.com/accrue/accrue/pkg/database/databasetest"
)

// pubSubServer serves Pub/Sub's API for the topic increments and one subscription, from an embedded database. Unlike the emulator,
// its Pulls cost the same however many messages wait, and it forgets what is acknowledged. It drops what is published to other topics.
type pubSubServer struct {
	pubsubpb.UnimplementedSubscriberServer
	pubsubpb.UnimplementedPublisherServer
	topic        *databasetest.Topic
	subscription *brokerembedded.Subscription
}

// startPubSubServer starts a pubSubServer and returns its address.
func startPubSubServer(t *testing.T) (address string, s *pubSubServer) {
	t.Helper()
	topic := databasetest.NewTopic(t)
	s = &pubSubServer{topic: topic, subscription: topic.Subscribe(pubsub.EmulatorAckDeadline)}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	pubsubpb.RegisterPublisherServer(server, s)
	pubsubpb.RegisterSubscriberServer(server, s)
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	t.Cleanup(func() {
		server.Stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return listener.Addr().String(), s
}

func (s *pubSubServer) CreateTopic(_ context.Context, topic *pubsubpb.Topic) (*pubsubpb.Topic, error) {
	return topic, nil
}

func (s *pubSubServer) CreateSubscription(_ context.Context, subscription *pubsubpb.Subscription) (*pubsubpb.Subscription, error) {
	return subscription, nil
}

func (s *pubSubServer) GetTopic(_ context.Context, r *pubsubpb.GetTopicRequest) (*pubsubpb.Topic, error) {
	return &pubsubpb.Topic{Name: r.GetTopic()}, nil
}

func (s *pubSubServer) GetSubscription(_ context.Context, r *pubsubpb.GetSubscriptionRequest) (*pubsubpb.Subscription, error) {
	return &pubsubpb.Subscription{
		Name: r.GetSubscription(), AckDeadlineSeconds: int32(pubsub.EmulatorAckDeadline / time.Second),
		MessageRetentionDuration: durationpb.New(7 * 24 * time.Hour),
	}, nil
}

func (s *pubSubServer) Pull(ctx context.Context, r *pubsubpb.PullRequest) (*pubsubpb.PullResponse, error) {
	deliveries, err := s.subscription.Pull(ctx, int(r.GetMaxMessages()))
	response := &pubsubpb.PullResponse{}
	for i := range deliveries {
		d := &deliveries[i]
		response.ReceivedMessages = append(response.GetReceivedMessages(), &pubsubpb.ReceivedMessage{AckId: d.Receipt, Message: &pubsubpb.PubsubMessage{
			Data: d.Data, Attributes: d.Attributes, MessageId: d.ID, PublishTime: timestamppb.New(d.PublishedAt),
		}})
	}
	return response, err
}

func (s *pubSubServer) Acknowledge(ctx context.Context, r *pubsubpb.AcknowledgeRequest) (*emptypb.Empty, error) {
	return &emptypb.Empty{}, s.subscription.Acknowledge(ctx, r.GetAckIds())
}

func (s *pubSubServer) ModifyAckDeadline(ctx context.Context, r *pubsubpb.ModifyAckDeadlineRequest) (*emptypb.Empty, error) {
	return &emptypb.Empty{}, s.subscription.Extend(ctx, r.GetAckIds(), time.Duration(r.GetAckDeadlineSeconds())*time.Second)
}

func (s *pubSubServer) Publish(ctx context.Context, r *pubsubpb.PublishRequest) (*pubsubpb.PublishResponse, error) {
	ids := make([]string, len(r.GetMessages()))
	if !strings.HasSuffix(r.GetTopic(), "/increments") {
		return &pubsubpb.PublishResponse{MessageIds: ids}, nil
	}
	messages := make([]broker.Message, len(r.GetMessages()))
	for i, m := range r.GetMessages() {
		messages[i] = broker.Message{Data: m.GetData(), Attributes: m.GetAttributes()}
	}
	return &pubsubpb.PublishResponse{MessageIds: ids}, s.topic.Publish(ctx, messages)
}
