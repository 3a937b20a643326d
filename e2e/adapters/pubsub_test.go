package adapters_test

import (
	"crypto/rand"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/accrue/accrue/pkg/broker"
	"github.com/accrue/accrue/pkg/broker/brokertest"
	"github.com/accrue/accrue/pkg/broker/pubsub"
	"github.com/accrue/accrue/tools/emulator/emulatortest"
)

func connectPubSub(t *testing.T) *pubsub.Client {
	t.Helper()
	client, err := pubsub.Connect(t.Context(), emulatortest.Project(t), emulatortest.PubSub(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := client.Close(); err != nil {
			t.Error(err)
		}
	})
	return client
}

func TestPubSubContract(t *testing.T) {
	t.Parallel()
	client := connectPubSub(t)
	brokertest.Run(t, brokertest.Broker{New: create(client), AckDeadline: 10 * time.Second})
}

// create returns a function that creates a topic and subscriptions with random ids.
func create(client *pubsub.Client) func(*testing.T, int, time.Duration) (brokertest.Topic, []brokertest.Subscription) {
	return func(t *testing.T, subscriptions int, ackDeadline time.Duration) (brokertest.Topic, []brokertest.Subscription) {
		t.Helper()
		topic := id()
		if err := client.EnsureTopic(t.Context(), topic); err != nil {
			t.Fatal(err)
		}
		subs := make([]brokertest.Subscription, subscriptions)
		for i := range subs {
			sub := id()
			if err := client.EnsureSubscription(t.Context(), sub, topic, ackDeadline); err != nil {
				t.Fatal(err)
			}
			subs[i] = client.Subscription(sub)
		}
		return client.Topic(topic), subs
	}
}

func id() string { return "test-" + strings.ToLower(rand.Text()) }

func TestPubSubEnsureCreatesOnceWhenManyStartTogether(t *testing.T) {
	t.Parallel()
	client := connectPubSub(t)
	var starting sync.WaitGroup
	for range 8 {
		starting.Go(func() {
			err := client.EnsureTopic(t.Context(), "increments")
			if err == nil {
				err = client.EnsureSubscription(t.Context(), "increments-aggregator", "increments", time.Minute)
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	starting.Wait()
	info, err := client.Subscription("increments-aggregator").Describe(t.Context())
	if want := (broker.SubscriptionInfo{AckDeadline: time.Minute, Retention: 7 * 24 * time.Hour}); err != nil || info != want {
		t.Errorf("Describe() = %+v, %v, want %+v", info, err, want)
	}
}

// Services that start together, or notice together that the emulator restarted, all create the same subscription. What one of
// them publishes at once must reach it, although the emulator lets each of concurrent creations succeed and replace the others. Without the topic that decides who
// creates the subscription, two of three runs fail.
func TestWhatIsPublishedWhileOthersCreateTheSubscriptionArrives(t *testing.T) {
	t.Parallel()
	host := emulatortest.PubSub(t)
	const services, rounds = 8, 20
	for round := range rounds {
		project := fmt.Sprintf("%s-%d", emulatortest.Project(t), round)
		var published sync.WaitGroup
		clients, begin := make([]*pubsub.Client, services), make(chan struct{})
		for i := range clients {
			client, err := pubsub.Connect(t.Context(), project, host)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := client.Close(); err != nil {
					t.Error(err)
				}
			})
			clients[i] = client
			if err := client.EnsureTopic(t.Context(), "increments"); err != nil {
				t.Fatal(err)
			}
			published.Go(func() {
				<-begin
				err := client.EnsureSubscription(t.Context(), "increments-aggregator", "increments", pubsub.EmulatorAckDeadline)
				if err == nil {
					err = client.Topic("increments").Publish(t.Context(), []broker.Message{{Data: []byte{byte(i)}}})
				}
				if err != nil {
					t.Errorf("round %d: %v", round, err)
				}
			})
		}
		close(begin)
		published.Wait()
		got := make(map[byte]bool)
		for deadline := time.Now().Add(10 * time.Second); len(got) < services && time.Now().Before(deadline); {
			deliveries, err := clients[0].Subscription("increments-aggregator").Pull(t.Context(), services)
			if err != nil {
				t.Fatal(err)
			}
			for _, d := range deliveries {
				got[d.Data[0]] = true
			}
		}
		if len(got) < services {
			t.Fatalf("round %d: %d of %d messages arrived", round, len(got), services)
		}
	}
}
