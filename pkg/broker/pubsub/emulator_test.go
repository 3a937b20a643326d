package pubsub_test

import (
	"errors"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	"cloud.google.com/go/pubsub/v2/pstest"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/accrue/accrue/pkg/broker"
	"github.com/accrue/accrue/pkg/broker/pubsub"
)

// An emulator loses everything when it restarts. Whichever call notices first, messages published later are not lost.
func TestMissingTopicsAndSubscriptionsAreCreatedAgain(t *testing.T) {
	t.Parallel()
	ping := []broker.Message{{Data: []byte("ping")}}
	for name, tc := range map[string]struct {
		call func(*testing.T, *pubsub.Topic, *pubsub.Subscription) error
		want int // messages
	}{
		"publish": {func(t *testing.T, topic *pubsub.Topic, _ *pubsub.Subscription) error {
			return topic.Publish(t.Context(), ping)
		}, 2},
		"check of the topic": {
			func(t *testing.T, topic *pubsub.Topic, _ *pubsub.Subscription) error { return topic.Check(t.Context()) }, 1,
		},
		"pull": {func(t *testing.T, _ *pubsub.Topic, sub *pubsub.Subscription) error {
			_, err := sub.Pull(t.Context(), 1)
			return err
		}, 1},
		"acknowledge": {func(t *testing.T, _ *pubsub.Topic, sub *pubsub.Subscription) error {
			return sub.Acknowledge(t.Context(), []string{"lost"})
		}, 1},
		"describe": {func(t *testing.T, _ *pubsub.Topic, sub *pubsub.Subscription) error {
			_, err := sub.Describe(t.Context())
			return err
		}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			fake, host := inProcessServer(t)
			client := connect(t, "test", host)
			err := errors.Join(
				client.EnsureTopic(t.Context(), "increments"),
				client.EnsureSubscription(t.Context(), "increments-aggregator", "increments", time.Minute))
			if err != nil {
				t.Fatal(err)
			}
			_, err = fake.GServer.DeleteSubscription(t.Context(), &pubsubpb.DeleteSubscriptionRequest{
				Subscription: "projects/test/subscriptions/increments-aggregator",
			})
			if err != nil {
				t.Fatal(err)
			}
			for _, id := range []string{"increments", "increments-aggregator.creator"} {
				_, err := fake.GServer.DeleteTopic(t.Context(), &pubsubpb.DeleteTopicRequest{Topic: "projects/test/topics/" + id})
				if err != nil {
					t.Fatal(err)
				}
			}
			topic, sub := client.Topic("increments"), client.Subscription("increments-aggregator")
			if err := tc.call(t, topic, sub); err != nil {
				t.Errorf("the call that noticed the loss = %v", err)
			}
			if err := topic.Publish(t.Context(), ping); err != nil {
				t.Fatal(err)
			}
			var got []broker.Delivery
			for begun := time.Now(); len(got) < tc.want && time.Since(begun) < 20*time.Second; {
				deliveries, err := sub.Pull(t.Context(), 10)
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, deliveries...)
			}
			if len(got) != tc.want {
				t.Errorf("%d messages, want %d", len(got), tc.want)
			}
		})
	}
}

// A process that won the right to create a subscription may be killed before it does.
func TestSubscriptionOfAKilledCreatorIsCreated(t *testing.T) {
	t.Parallel()
	fake, host := inProcessServer(t)
	for _, id := range []string{"increments", "increments-aggregator.creator"} {
		if _, err := fake.GServer.CreateTopic(t.Context(), &pubsubpb.Topic{Name: "projects/test/topics/" + id}); err != nil {
			t.Fatal(err)
		}
	}
	client := connect(t, "test", host)
	if err := client.EnsureSubscription(t.Context(), "increments-aggregator", "increments", time.Minute); err != nil {
		t.Fatal(err)
	}
	if _, err := client.Subscription("increments-aggregator").Describe(t.Context()); err != nil {
		t.Error(err)
	}
}

// If a service starts before its emulator, EnsureTopic fails, and the topic is created later.
func TestTopicsThatCouldNotBeCreatedAreCreatedLater(t *testing.T) {
	t.Parallel()
	down := &recordingReactor{answer: func(n int) error {
		if n == 0 {
			return status.Error(codes.Internal, "starting")
		}
		return nil
	}}
	client := connect(t, "test", inProcess(t, down.of("CreateTopic")))
	if err := client.EnsureTopic(t.Context(), "increments"); err == nil {
		t.Error("EnsureTopic() of a server that is starting = nil")
	}
	if err := client.Topic("increments").Publish(t.Context(), []broker.Message{{Data: []byte("ping")}}); err != nil {
		t.Errorf("Publish() = %v", err)
	}
}

// Another process may have created the topic, and not yet its subscription: what is published then must not be lost. An emulator
// that restarts has lost both.
func TestPublishWaitsForTheSubscription(t *testing.T) {
	t.Parallel()
	const topic, subscription = "projects/test/topics/increments", "projects/test/subscriptions/increments-aggregator"
	for name, byAnother := range map[string]bool{"created by this process": false, "created by another process": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := pstest.NewServer()
			host := server.Addr
			client := connect(t, "test", host)
			client.NeedTopic("increments")
			client.NeedSubscription("increments-aggregator", "increments", time.Minute)
			publish := func() {
				t.Helper()
				if _, err := server.GServer.CreateTopic(t.Context(), &pubsubpb.Topic{Name: topic}); err != nil {
					t.Fatal(err)
				}
				if byAnother {
					_, err := server.GServer.CreateSubscription(t.Context(), &pubsubpb.Subscription{Name: subscription, Topic: topic, AckDeadlineSeconds: 60})
					if err != nil {
						t.Fatal(err)
					}
				}
				if err := client.Topic("increments").Publish(t.Context(), []broker.Message{{Data: []byte("ping")}}); err != nil {
					t.Fatal(err)
				}
				deliveries, err := client.Subscription("increments-aggregator").Pull(t.Context(), 10)
				if err != nil || len(deliveries) == 0 { // it may have been repeated
					t.Errorf("%d messages, %v", len(deliveries), err)
				}
			}
			publish()
			if err := server.Close(); err != nil {
				t.Fatal(err)
			}
			_, text, _ := strings.Cut(host, ":")
			port, err := strconv.Atoi(text)
			if err != nil {
				t.Fatal(err)
			}
			var reactors []pstest.ServerReactorOption
			if byAnother {
				drops := new(unchecked)
				for _, function := range []string{"Publish", "GetSubscription"} {
					reactors = append(reactors, pstest.ServerReactorOption{FuncName: function, Reactor: drops})
				}
			}
			server = pstest.NewServerWithPort(port, reactors...)
			t.Cleanup(func() {
				if err := server.Close(); err != nil {
					t.Error(err)
				}
			})
			publish()
		})
	}
}

// unchecked drops what is published before its client has asked for the subscription, as a topic does whose subscription is
// not created yet.
type unchecked struct{ asked atomic.Bool }

func (u *unchecked) React(request any) (handled bool, answer any, err error) {
	if _, publish := request.(*pubsubpb.PublishRequest); !publish {
		u.asked.Store(true)
		return false, nil, nil
	}
	return !u.asked.Load(), &pubsubpb.PublishResponse{MessageIds: []string{"dropped"}}, nil
}
