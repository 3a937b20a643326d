package pubsub_test

import (
	"context"
	"crypto/rand"
	"errors"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	"cloud.google.com/go/pubsub/v2/pstest"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"pgregory.net/rapid"

	"github.com/accrue/accrue/pkg/broker"
	"github.com/accrue/accrue/pkg/broker/brokertest"
	"github.com/accrue/accrue/pkg/broker/pubsub"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestInProcess(t *testing.T) {
	t.Parallel()
	client := connect(t, "test", inProcess(t))
	brokertest.Run(t, brokertest.Broker{New: making(client), AckDeadline: 2 * time.Second})
}

// making returns a function that creates topics and subscriptions with random ids.
func making(client *pubsub.Client) func(*testing.T, int, time.Duration) (brokertest.Topic, []brokertest.Subscription) {
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

func connect(t *testing.T, project, host string) *pubsub.Client {
	t.Helper()
	client, err := pubsub.Connect(t.Context(), project, host)
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

// inProcess starts Google's fake of Pub/Sub on a TCP connection.
func inProcess(t *testing.T, options ...pstest.ServerReactorOption) (host string) {
	t.Helper()
	_, host = inProcessServer(t, options...)
	return host
}

func inProcessServer(t *testing.T, options ...pstest.ServerReactorOption) (fake *pstest.Server, host string) {
	t.Helper()
	fake = pstest.NewServer(options...)
	// The fake's own server accepts only 4 MB.
	server := grpc.NewServer(grpc.MaxRecvMsgSize(10_000_000))
	pubsubpb.RegisterPublisherServer(server, &fake.GServer)
	pubsubpb.RegisterSubscriberServer(server, &fake.GServer)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	t.Cleanup(func() {
		server.Stop()
		if err := errors.Join(<-served, fake.Close()); err != nil {
			t.Error(err)
		}
	})
	return fake, listener.Addr().String()
}

// recordingReactor records the requests of one type, and answers some of them.
type recordingReactor struct {
	mu       sync.Mutex
	requests []any
	// answer, if not nil, is the error of the n-th request, from 0.
	answer func(n int) error
}

func (r *recordingReactor) React(request any) (bool, any, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.requests = append(r.requests, request)
	if r.answer != nil {
		if err := r.answer(len(r.requests) - 1); err != nil {
			return true, nil, err
		}
	}
	return false, nil, nil
}

func (r *recordingReactor) of(function string) pstest.ServerReactorOption {
	return pstest.ServerReactorOption{FuncName: function, Reactor: r}
}

func TestPublishSendsAsFewRequestsAsTheLimitsAllow(t *testing.T) {
	t.Parallel()
	messages := func(n, size int) []broker.Message {
		m := make([]broker.Message, n)
		for i := range m {
			m[i].Data = make([]byte, size)
		}
		return m
	}
	for name, tc := range map[string]struct {
		messages []broker.Message
		want     []int
	}{
		"one":                    {messages(1, 1), []int{1}},
		"a thousand":             {messages(1000, 10), []int{1000}},
		"fifteen hundred":        {messages(1500, 10), []int{1000, 500}},
		"three of 4 MB":          {messages(3, 4_000_000), []int{2, 1}},
		"two of the largest":     {messages(2, broker.MaxMessageBytes), []int{1, 1}},
		"a large one in between": {slices.Concat(messages(2, 10), messages(1, broker.MaxMessageBytes), messages(2, 10)), []int{2, 1, 2}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			publishes := &recordingReactor{}
			client := connect(t, "test", inProcess(t, publishes.of("Publish")))
			if err := client.EnsureTopic(t.Context(), "increments"); err != nil {
				t.Fatal(err)
			}
			if err := client.Topic("increments").Publish(t.Context(), tc.messages); err != nil {
				t.Fatal(err)
			}
			var got []int
			for _, request := range publishes.requests {
				publish := request.(*pubsubpb.PublishRequest)
				got = append(got, len(publish.GetMessages()))
				bytes := len(publish.GetTopic())
				for _, m := range publish.GetMessages() {
					bytes += len(m.GetData())
				}
				if bytes > 10_000_000 {
					t.Errorf("a request has %d bytes", bytes)
				}
			}
			if !slices.Equal(got, tc.want) {
				t.Errorf("requests of %v messages, want %v", got, tc.want)
			}
		})
	}
}

// A refusal says that nothing is stored. It does not if the client had to retry: the reply that was lost may be that of a publish that
// is stored.
func TestARefusalAfterARetryIsNone(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		answers []codes.Code
		refused bool
	}{
		"refused":                      {[]codes.Code{codes.PermissionDenied}, true},
		"not found":                    {[]codes.Code{codes.NotFound}, true},
		"refused after a lost reply":   {[]codes.Code{codes.Unavailable, codes.PermissionDenied}, false},
		"not found after lost replies": {[]codes.Code{codes.Internal, codes.Aborted, codes.NotFound}, false},
		"an invalid request":           {[]codes.Code{codes.InvalidArgument}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			publishes := &recordingReactor{answer: func(n int) error { return status.Error(tc.answers[min(n, len(tc.answers)-1)], "as told") }}
			client := connect(t, "test", inProcess(t, publishes.of("Publish")))
			err := client.Topic("increments").Publish(t.Context(), []broker.Message{{Data: []byte("x")}})
			if last := tc.answers[len(tc.answers)-1]; status.Code(err) != last || errors.Is(err, broker.ErrRefused) != tc.refused {
				t.Errorf("Publish() = %v, want %v, refused %v", err, last, tc.refused)
			}
		})
	}
}

// A request stays within Pub/Sub's limit only if Size is not too small.
func TestSizeBoundsTheEncodedSize(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.String()
		m := broker.Message{Data: rapid.SliceOf(rapid.Byte()).Draw(t, "data"), Attributes: rapid.MapOf(text, text).Draw(t, "attributes")}
		request := &pubsubpb.PublishRequest{Messages: []*pubsubpb.PubsubMessage{{Data: m.Data, Attributes: m.Attributes}}}
		const framing = 16
		if got, wire := m.Size()+framing, proto.Size(request); got < wire {
			t.Errorf("Size() + %d = %d, encoded %d", framing, got, wire)
		}
	})
}

func TestReceiptsAreSentInIndependentRequests(t *testing.T) {
	t.Parallel()
	refused := status.Error(codes.PermissionDenied, "refused")
	for name, tc := range map[string]struct {
		receipts []string
		want     []int
	}{
		"many": {slices.Repeat([]string{"receipt"}, 2500), []int{1000, 1000, 500}},
		"long": {slices.Repeat([]string{strings.Repeat("x", 1000)}, 900), []int{507, 393}},
		"huge": {slices.Repeat([]string{strings.Repeat("x", 600<<10)}, 2), []int{1, 1}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			firstFails := func(n int) error {
				if n == 0 {
					return refused
				}
				return nil
			}
			acknowledged, extended := &recordingReactor{answer: firstFails}, &recordingReactor{answer: firstFails}
			client := connect(t, "test", inProcess(t, acknowledged.of("Acknowledge"), extended.of("ModifyAckDeadline")))
			_, subs := making(client)(t, 1, time.Minute)
			if err := subs[0].Acknowledge(t.Context(), tc.receipts); status.Code(err) != codes.PermissionDenied {
				t.Errorf("Acknowledge() = %v, want %v", err, refused)
			}
			if err := subs[0].Extend(t.Context(), tc.receipts, time.Hour); status.Code(err) != codes.PermissionDenied {
				t.Errorf("Extend() = %v, want %v", err, refused)
			}
			var got []int
			for _, request := range acknowledged.requests {
				got = append(got, len(request.(*pubsubpb.AcknowledgeRequest).GetAckIds()))
			}
			if !slices.Equal(got, tc.want) {
				t.Errorf("acknowledged in requests of %v, want %v", got, tc.want)
			}
			got = nil
			for _, request := range extended.requests {
				got = append(got, len(request.(*pubsubpb.ModifyAckDeadlineRequest).GetAckIds()))
			}
			if !slices.Equal(got, tc.want) {
				t.Errorf("extended in requests of %v, want %v", got, tc.want)
			}
		})
	}
}

func TestExtendRoundsUpToSecondsAndIsBounded(t *testing.T) {
	t.Parallel()
	extended := &recordingReactor{}
	client := connect(t, "test", inProcess(t, extended.of("ModifyAckDeadline")))
	_, subs := making(client)(t, 1, time.Minute)
	for d, want := range map[time.Duration]int32{
		0: 0, -time.Second: 0, time.Millisecond: 1, 1500 * time.Millisecond: 2, time.Minute: 60, time.Hour: 600,
	} {
		if err := subs[0].Extend(t.Context(), []string{"receipt"}, d); err != nil {
			t.Fatal(err)
		}
		last := extended.requests[len(extended.requests)-1].(*pubsubpb.ModifyAckDeadlineRequest)
		if got := last.GetAckDeadlineSeconds(); got != want {
			t.Errorf("Extend(%v) sent %d s, want %d", d, got, want)
		}
	}
}

func TestConcurrentEnsureCreatesOnce(t *testing.T) {
	t.Parallel()
	client := connect(t, "test", inProcess(t))
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

func TestDescribeReturnsTheLongerRetention(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ topic, want time.Duration }{
		"the subscription's": {time.Hour, 7 * 24 * time.Hour},
		"the topic's":        {31 * 24 * time.Hour, 31 * 24 * time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			fake, host := inProcessServer(t)
			_, err := fake.GServer.CreateTopic(t.Context(), &pubsubpb.Topic{
				Name: "projects/test/topics/increments", MessageRetentionDuration: durationpb.New(tc.topic),
			})
			if err != nil {
				t.Fatal(err)
			}
			client := connect(t, "test", host)
			if err := client.EnsureSubscription(t.Context(), "sub", "increments", time.Minute); err != nil {
				t.Fatal(err)
			}
			info, err := client.Subscription("sub").Describe(t.Context())
			if err != nil || info.Retention != tc.want {
				t.Errorf("Describe() = %+v, %v, want a retention of %v", info, err, tc.want)
			}
		})
	}
}

func TestMissingTopicsAndSubscriptionsAreErrors(t *testing.T) {
	t.Parallel()
	client := connect(t, "test", inProcess(t))
	topic, sub := client.Topic("missing"), client.Subscription("missing")
	for name, call := range map[string]func(context.Context) error{
		"Publish":             func(ctx context.Context) error { return topic.Publish(ctx, []broker.Message{{Data: []byte("x")}}) },
		"topic Check":         topic.Check,
		"Pull":                func(ctx context.Context) error { _, err := sub.Pull(ctx, 1); return err },
		"subscription Check":  sub.Check,
		"Describe":            func(ctx context.Context) error { _, err := sub.Describe(ctx); return err },
		"subscribe to no one": func(ctx context.Context) error { return client.EnsureSubscription(ctx, "sub", "missing", time.Minute) },
	} {
		if err := call(t.Context()); status.Code(err) != codes.NotFound {
			t.Errorf("%s = %v, want %v", name, err, codes.NotFound)
		}
	}
}

// Pub/Sub may answer a Pull without messages with DEADLINE_EXCEEDED, which is not an error.
func TestPullThatExceedsItsDeadlineReturnsNoMessages(t *testing.T) {
	t.Parallel()
	over := status.Error(codes.DeadlineExceeded, "over")
	pulls := &recordingReactor{answer: func(int) error { return over }}
	client := connect(t, "test", inProcess(t, pulls.of("Pull")))
	_, subs := making(client)(t, 1, time.Minute)
	if pulled, err := subs[0].Pull(t.Context(), 1); err != nil || len(pulled) != 0 {
		t.Errorf("Pull() returned %d messages: %v", len(pulled), err)
	}
}

func TestConnectNeedsAProject(t *testing.T) {
	t.Parallel()
	if _, err := pubsub.Connect(t.Context(), "", "127.0.0.1:1"); err == nil {
		t.Error("Connect() without a project = nil")
	}
}

// A server that does not answer must not block a caller beyond the end of its context.
func TestPublishToDeadServerEndsWithItsContext(t *testing.T) {
	t.Parallel()
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close() //nolint:errcheck // the test is over
	client := connect(t, "test", silent.Addr().String())
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	err = client.Topic("increments").Publish(ctx, []broker.Message{{Data: []byte("x")}})
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Publish() = %v, want %v", err, context.DeadlineExceeded)
	}
}
