package memory_test

import (
	"context"
	"errors"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/accrue/accrue/pkg/broker"
	"github.com/accrue/accrue/pkg/broker/brokertest"
	"github.com/accrue/accrue/pkg/broker/memory"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestBroker(t *testing.T) {
	t.Parallel()
	brokertest.Run(t, brokertest.Broker{
		New: func(_ *testing.T, subscriptions int, ackDeadline time.Duration) (brokertest.Topic, []brokertest.Subscription) {
			topic := memory.NewTopic()
			subs := make([]brokertest.Subscription, subscriptions)
			for i := range subs {
				subs[i] = topic.Subscribe(ackDeadline)
			}
			return topic, subs
		},
		AckDeadline: 10 * time.Second,
		OwnClock:    true,
	})
}

// Whatever is done in whatever order, every message is delivered until it is acknowledged, none is held by two leases at
// once, and nothing is held of those that are acknowledged.
func TestHoldsWhatIsNotAcknowledgedAndNothingElse(t *testing.T) {
	t.Parallel()
	const ackDeadline = 10 * time.Second
	synctest.Test(t, func(t *testing.T) {
		// Not t itself: rapid would ask it for its deadline, which has no meaning in a bubble.
		rapid.Check(struct{ rapid.TB }{t}, func(t *rapid.T) {
			ctx := context.Background()
			topic := memory.NewTopic()
			sub := topic.Subscribe(ackDeadline)
			open := make(map[string]bool)      // messages that were not acknowledged, by content
			leases := make(map[string]lease)   // by receipt
			leased := func(data string) bool { // by the model's clock
				for _, l := range leases {
					if l.data == data && time.Now().Before(l.ends) {
						return true
					}
				}
				return false
			}
			published := 0
			t.Repeat(map[string]func(*rapid.T){
				"publish": func(t *rapid.T) {
					messages := make([]broker.Message, rapid.IntRange(0, 5).Draw(t, "messages"))
					for i := range messages {
						published++
						data := strconv.Itoa(published)
						messages[i].Data = []byte(data)
						open[data] = true
					}
					if err := topic.Publish(ctx, messages); err != nil {
						t.Fatal(err)
					}
				},
				"pull": func(t *rapid.T) {
					limit, available := rapid.IntRange(1, 4).Draw(t, "limit"), 0
					for data := range open {
						if !leased(data) {
							available++
						}
					}
					pulled, err := sub.Pull(ctx, limit)
					if err != nil || len(pulled) > limit || len(pulled) < min(limit, available) {
						t.Fatalf("Pull(%d) returned %d of %d: %v", limit, len(pulled), available, err)
					}
					for _, d := range pulled {
						if data := string(d.Data); !open[data] || leased(data) {
							t.Fatalf("message %s: open: %v, leased: %v", data, open[data], leased(data))
						}
						if _, twice := leases[d.Receipt]; twice {
							t.Fatalf("receipt %s is used twice", d.Receipt)
						}
						leases[d.Receipt] = lease{string(d.Data), time.Now().Add(ackDeadline)}
					}
				},
				"acknowledge": func(t *rapid.T) {
					if receipt := draw(t, leases); receipt != "" {
						if time.Now().Before(leases[receipt].ends) {
							delete(open, leases[receipt].data)
						} else {
							t.Skip("whether a late acknowledgement counts is open")
						}
						if err := sub.Acknowledge(ctx, []string{receipt, receipt, "unknown"}); err != nil {
							t.Fatal(err)
						}
						delete(leases, receipt)
					}
				},
				"extend": func(t *rapid.T) {
					receipt := draw(t, leases)
					if receipt == "" || !time.Now().Before(leases[receipt].ends) {
						t.Skip("nothing is leased")
					}
					d := time.Duration(rapid.IntRange(0, 20).Draw(t, "seconds")) * time.Second
					if err := sub.Extend(ctx, []string{receipt}, d); err != nil {
						t.Fatal(err)
					}
					leases[receipt] = lease{leases[receipt].data, time.Now().Add(d)}
				},
				"wait": func(t *rapid.T) {
					time.Sleep(time.Duration(rapid.IntRange(0, 15).Draw(t, "seconds")) * time.Second)
				},
				"": func(t *rapid.T) {
					if got := sub.Held(); got != len(open) {
						t.Fatalf("Held() = %d, want %d", got, len(open))
					}
				},
			})

			time.Sleep(time.Minute) // all leases end
			for len(open) > 0 {
				pulled, err := sub.Pull(ctx, broker.MaxPull)
				if err != nil || len(pulled) == 0 {
					t.Fatalf("Pull() returned %d while %d messages are open: %v", len(pulled), len(open), err)
				}
				for _, d := range pulled {
					delete(open, string(d.Data))
					if err := sub.Acknowledge(ctx, []string{d.Receipt}); err != nil {
						t.Fatal(err)
					}
				}
			}
			if held, bytes := sub.Held(), sub.HeldBytes(); held != 0 || bytes != 0 {
				t.Errorf("Held() = %d, HeldBytes() = %d after all was acknowledged", held, bytes)
			}
		})
	})
}

type lease struct {
	data string
	ends time.Time
}

// draw picks a receipt, "" when there is none.
func draw(t *rapid.T, leases map[string]lease) string {
	if len(leases) == 0 {
		return ""
	}
	receipts := make([]string, 0, len(leases))
	for i := 1; len(receipts) < len(leases); i++ { // in the order of their making, so that a failure can be repeated
		if receipt := strconv.Itoa(i); leases[receipt] != (lease{}) {
			receipts = append(receipts, receipt)
		}
	}
	return rapid.SampledFrom(receipts).Draw(t, "receipt")
}

func TestPublishIsRefusedWhenFullAndTakenAgainLater(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		topic := memory.NewTopic()
		sub, other := topic.Subscribe(time.Minute), topic.Subscribe(time.Minute)
		message := []broker.Message{{Data: make([]byte, 8<<20)}}
		n := 0
		for ; ; n++ {
			err := topic.Publish(t.Context(), message)
			if errors.Is(err, broker.ErrFull) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			if n*len(message[0].Data) > memory.MaxHeldBytes {
				t.Fatalf("%d messages of 8 MiB were taken", n)
			}
			// One subscription that is kept empty does not make room in the other.
			acknowledgeOne(t, other)
		}
		if got, want := n, memory.MaxHeldBytes/len(message[0].Data)-1; got != want {
			t.Errorf("took %d messages of 8 MiB, want %d", got, want)
		}
		if got := other.Held(); got != 0 {
			t.Errorf("Held() = %d: a refused publish has reached a subscription", got)
		}
		acknowledgeOne(t, sub)
		if err := topic.Publish(t.Context(), message); err != nil {
			t.Errorf("Publish() after an acknowledgement = %v", err)
		}
	})
}

func acknowledgeOne(t *testing.T, sub *memory.Subscription) {
	t.Helper()
	pulled, err := sub.Pull(t.Context(), 1)
	if err != nil || len(pulled) != 1 {
		t.Fatalf("Pull() returned %d: %v", len(pulled), err)
	}
	if err := sub.Acknowledge(t.Context(), []string{pulled[0].Receipt}); err != nil {
		t.Fatal(err)
	}
}

func TestPullWaitsForAMessageThatIsOnItsWay(t *testing.T) {
	t.Parallel()
	for name, arrive := range map[string]func(*memory.Topic, *memory.Subscription) error{
		"published": func(topic *memory.Topic, _ *memory.Subscription) error {
			return topic.Publish(context.Background(), []broker.Message{{Data: []byte("new")}})
		},
		"released": func(_ *memory.Topic, sub *memory.Subscription) error {
			return sub.Extend(context.Background(), []string{"1"}, 0)
		},
		"whose lease is cut short": func(_ *memory.Topic, sub *memory.Subscription) error {
			return sub.Extend(context.Background(), []string{"1"}, 50*time.Millisecond)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				topic := memory.NewTopic()
				sub := topic.Subscribe(time.Minute)
				if err := topic.Publish(t.Context(), []broker.Message{{Data: []byte("leased")}}); err != nil {
					t.Fatal(err)
				}
				if _, err := sub.Pull(t.Context(), 1); err != nil {
					t.Fatal(err)
				}
				go func() {
					time.Sleep(100 * time.Millisecond)
					if err := arrive(topic, sub); err != nil {
						t.Error(err)
					}
				}()
				start := time.Now()
				pulled, err := sub.Pull(t.Context(), 1)
				if err != nil || len(pulled) != 1 || time.Since(start) > 200*time.Millisecond {
					t.Errorf("Pull() returned %d after %v: %v", len(pulled), time.Since(start), err)
				}
			})
		})
	}
}

func TestExtendIsBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		topic := memory.NewTopic()
		sub := topic.Subscribe(time.Minute)
		if err := topic.Publish(t.Context(), []broker.Message{{Data: []byte("extended")}}); err != nil {
			t.Fatal(err)
		}
		pulled, err := sub.Pull(t.Context(), 1)
		if err != nil {
			t.Fatal(err)
		}
		if err := sub.Extend(t.Context(), []string{pulled[0].Receipt}, 24*time.Hour); err != nil {
			t.Fatal(err)
		}
		time.Sleep(broker.MaxExtension)
		if pulled, err = sub.Pull(t.Context(), 1); err != nil || len(pulled) != 1 {
			t.Errorf("Pull() after %v returned %d: %v", broker.MaxExtension, len(pulled), err)
		}
	})
}

func TestNobodySubscribed(t *testing.T) {
	t.Parallel()
	if err := memory.NewTopic().Publish(t.Context(), []broker.Message{{Data: []byte("dropped")}}); err != nil {
		t.Error(err)
	}
}

// BenchmarkPassThrough is the way of one message, in publishes of 16, as a group commit over 16 partitions makes them.
func BenchmarkPassThrough(b *testing.B) {
	topic := memory.NewTopic()
	sub := topic.Subscribe(time.Minute)
	messages := make([]broker.Message, 16)
	for i := range messages {
		messages[i].Data = make([]byte, 512)
	}
	b.ReportAllocs()
	for i := 0; i < b.N; i += len(messages) {
		if err := topic.Publish(b.Context(), messages); err != nil {
			b.Fatal(err)
		}
		pulled, err := sub.Pull(b.Context(), broker.MaxPull)
		if err != nil {
			b.Fatal(err)
		}
		receipts := make([]string, len(pulled))
		for i, d := range pulled {
			receipts[i] = d.Receipt
		}
		if err := sub.Acknowledge(b.Context(), receipts); err != nil {
			b.Fatal(err)
		}
	}
}
