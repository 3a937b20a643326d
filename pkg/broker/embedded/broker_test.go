package embedded_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/accrue/accrue/pkg/broker"
	"github.com/accrue/accrue/pkg/broker/brokertest"
	"github.com/accrue/accrue/pkg/broker/embedded"
	"github.com/accrue/accrue/pkg/database"
	"github.com/accrue/accrue/pkg/database/databasetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestContract(t *testing.T) {
	t.Parallel()
	brokertest.Run(t, brokertest.Broker{
		New: func(t *testing.T, subscriptions int, ackDeadline time.Duration) (brokertest.Topic, []brokertest.Subscription) {
			b := embedded.New(databasetest.Open(t))
			subs := make([]brokertest.Subscription, subscriptions)
			for i := range subs {
				subs[i] = subscribe(t, b, string(rune('a'+i)), ackDeadline)
			}
			return b.Topic("topic"), subs
		},
		AckDeadline: 10 * time.Second,
		OwnClock:    true,
	})
}

func subscribe(t *testing.T, b *embedded.Broker, id string, ackDeadline time.Duration) *embedded.Subscription {
	t.Helper()
	s, err := b.Subscribe(t.Context(), "topic", id, ackDeadline)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// waiting pulls all messages of a subscription, without acknowledging them, and returns their data.
func waiting(t *testing.T, s *embedded.Subscription) (data []string) {
	t.Helper()
	for {
		pulled, err := s.Pull(t.Context(), 2)
		if err != nil {
			t.Fatal(err)
		}
		if len(pulled) == 0 {
			return data
		}
		for _, d := range pulled {
			data = append(data, string(d.Data))
		}
	}
}

func publish(t *testing.T, topic *embedded.Topic, data ...string) {
	t.Helper()
	messages := make([]broker.Message, len(data))
	for i := range data {
		messages[i].Data = []byte(data[i])
	}
	if err := topic.Publish(t.Context(), messages); err != nil {
		t.Fatal(err)
	}
}

func TestUnacknowledgedMessagesAreRedeliveredAfterARestart(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		folder := t.TempDir()
		d, err := database.Open(database.Options{Folder: folder})
		if err != nil {
			t.Fatal(err)
		}
		b := embedded.New(d)
		s := subscribe(t, b, "a", time.Minute)
		subscribe(t, b, "never opened again", time.Minute)
		publish(t, b.Topic("topic"), "leased", "acknowledged", "released", "not pulled")
		pulled, err := s.Pull(t.Context(), 3)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Acknowledge(t.Context(), []string{pulled[1].Receipt}); err != nil {
			t.Fatal(err)
		}
		if err := s.Extend(t.Context(), []string{pulled[2].Receipt}, 0); err != nil {
			t.Fatal(err)
		}
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}

		b = embedded.New(databasetest.OpenFolder(t, folder))
		publish(t, b.Topic("topic"), "while it is not open")
		if got, err := b.Waiting(t.Context()); err != nil || fmt.Sprint(got) != "map[topic/a:4 topic/never opened again:5]" {
			t.Errorf("Waiting() = %v, %v", got, err)
		}
		if got := waiting(t, subscribe(t, b, "a", time.Minute)); fmt.Sprint(got) != "[leased released not pulled while it is not open]" {
			t.Errorf("delivered %v", got)
		}
	})
}

func TestReleasedMessagesComeAfterWaitingOnes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := embedded.New(databasetest.Open(t))
		s := subscribe(t, b, "a", time.Minute)
		publish(t, b.Topic("topic"), "1", "2", "3")
		var got []string
		for i := range 7 {
			time.Sleep(time.Second)
			pulled, err := s.Pull(t.Context(), 1)
			if err != nil || len(pulled) != 1 {
				t.Fatalf("Pull() = %v, %v", pulled, err)
			}
			got = append(got, string(pulled[0].Data))
			time.Sleep(time.Second)
			if err := s.Extend(t.Context(), []string{pulled[0].Receipt}, 0); err != nil {
				t.Fatal(err)
			}
			if i == 3 {
				time.Sleep(time.Second)
				publish(t, b.Topic("topic"), "4")
			}
		}
		if fmt.Sprint(got) != "[1 2 3 1 2 3 1]" {
			t.Errorf("delivered %v", got)
		}
	})
}

func TestSubscribersShareTheLeasesOfASubscription(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := embedded.New(databasetest.Open(t))
		first, second := subscribe(t, b, "a", time.Minute), subscribe(t, b, "a", time.Minute)
		publish(t, b.Topic("topic"), "once")
		if n := len(waiting(t, first)) + len(waiting(t, second)); n != 1 {
			t.Errorf("delivered %d times", n)
		}
	})
}

func TestTopicsWithACommonPrefixAreDistinct(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := embedded.New(databasetest.Open(t))
		s := subscribe(t, b, "a", time.Minute)
		publish(t, b.Topic("topic-dead-letter"), "dead")
		publish(t, b.Topic("to"), "short")
		if got := waiting(t, s); len(got) != 0 {
			t.Errorf("delivered %q", got)
		}
	})
}

func TestFailedAcknowledgementKeepsTheLease(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d, err := database.Open(database.Options{})
		if err != nil {
			t.Fatal(err)
		}
		b := embedded.New(d)
		s := subscribe(t, b, "a", time.Minute)
		publish(t, b.Topic("topic"), "m")
		pulled, err := s.Pull(t.Context(), 1)
		if err != nil {
			t.Fatal(err)
		}
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
		for range 2 { // the second needs the lease
			if err := s.Acknowledge(t.Context(), []string{pulled[0].Receipt}); !errors.Is(err, database.ErrClosed) {
				t.Errorf("Acknowledge() = %v, want %v", err, database.ErrClosed)
			}
		}
	})
}

func TestRetentionCoversTheOldestMessage(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const week = 7 * 24 * time.Hour
		b := embedded.New(databasetest.Open(t))
		s := subscribe(t, b, "a", time.Minute)
		for _, want := range []time.Duration{week, 11 * week} {
			if info, err := s.Describe(t.Context()); err != nil || info.Retention < want || info.Retention > want+time.Hour {
				t.Errorf("Describe() = %+v, %v, want %v", info, err, want)
			}
			publish(t, b.Topic("topic"), "m")
			time.Sleep(10 * week)
		}
	})
}

func TestPullIsBoundedInBytes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := embedded.New(databasetest.Open(t))
		s := subscribe(t, b, "a", time.Minute)
		large := make([]broker.Message, 10)
		for i := range large {
			large[i].Data = make([]byte, 4_000_000)
		}
		if err := b.Topic("topic").Publish(t.Context(), large); err != nil {
			t.Fatal(err)
		}
		for n := 0; n < len(large); {
			pulled, err := s.Pull(t.Context(), len(large))
			if n += len(pulled); err != nil || len(pulled) == 0 || len(pulled) > 5 {
				t.Fatalf("Pull() returned %d messages of 4 MB, %d in all: %v", len(pulled), n, err)
			}
		}
	})
}

// After any sequence of calls, each message is delivered until it is acknowledged, none has two leases at once, and acknowledged
// messages are gone.
func TestDeliversMessagesUntilTheyAreAcknowledged(t *testing.T) {
	t.Parallel()
	const ackDeadline = 10 * time.Second
	synctest.Test(t, func(t *testing.T) {
		b, topics := embedded.New(databasetest.Open(t)), 0
		// Not t itself, since rapid would use its deadline, which is meaningless in a synctest bubble.
		rapid.Check(struct{ rapid.TB }{t}, func(t *rapid.T) {
			ctx := context.Background()
			topics++
			topic := b.Topic(strconv.Itoa(topics))
			sub, err := b.Subscribe(ctx, strconv.Itoa(topics), "subscription", ackDeadline)
			if err != nil {
				t.Fatal(err)
			}
			open := make(map[string]bool)      // unacknowledged messages by content
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
					if got, err := sub.Held(ctx); err != nil || got != len(open) {
						t.Fatalf("Held() = %d, %v, want %d", got, err, len(open))
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
			if held, err := sub.Held(ctx); err != nil || held != 0 {
				t.Errorf("Held() = %d, %v after all was acknowledged", held, err)
			}
		})
	})
}

type lease struct {
	data string
	ends time.Time
}

// draw picks a receipt, or "" if there is none.
func draw(t *rapid.T, leases map[string]lease) string {
	if len(leases) == 0 {
		return ""
	}
	receipts := make([]string, 0, len(leases))
	for i := 1; len(receipts) < len(leases); i++ { // in the order of their creation, so that failures are reproducible
		if receipt := strconv.Itoa(i); leases[receipt] != (lease{}) {
			receipts = append(receipts, receipt)
		}
	}
	return rapid.SampledFrom(receipts).Draw(t, "receipt")
}

func TestPullWaitsForTheFirstMessage(t *testing.T) {
	t.Parallel()
	for name, arrive := range map[string]func(*embedded.Topic, *embedded.Subscription) error{
		"published": func(topic *embedded.Topic, _ *embedded.Subscription) error {
			return topic.Publish(context.Background(), []broker.Message{{Data: []byte("new")}})
		},
		"released": func(_ *embedded.Topic, sub *embedded.Subscription) error {
			return sub.Extend(context.Background(), []string{"1"}, 0)
		},
		"whose lease is cut short": func(_ *embedded.Topic, sub *embedded.Subscription) error {
			return sub.Extend(context.Background(), []string{"1"}, 50*time.Millisecond)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b := embedded.New(databasetest.Open(t))
				topic, sub := b.Topic("topic"), subscribe(t, b, "subscription", time.Minute)
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
		b := embedded.New(databasetest.Open(t))
		topic, sub := b.Topic("topic"), subscribe(t, b, "subscription", time.Minute)
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

// BenchmarkPassThrough publishes, pulls and acknowledges a message, in publishes of 16, as ingest makes them for 16 partitions.
func BenchmarkPassThrough(b *testing.B) {
	messaging := embedded.New(databasetest.Open(b))
	topic := messaging.Topic("topic")
	sub, err := messaging.Subscribe(b.Context(), "topic", "subscription", time.Minute)
	if err != nil {
		b.Fatal(err)
	}
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

func TestUnsubscribeRemovesWhatWaits(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	d := databasetest.OpenFolder(t, folder)
	b := embedded.New(d)
	subscribe(t, b, "a", time.Minute)
	subscribe(t, b, "ab", time.Minute)
	if err := b.Topic("topic").Publish(t.Context(), []broker.Message{{Data: []byte("1")}}); err != nil {
		t.Fatal(err)
	}
	again := embedded.New(d) // in which neither is open
	for range 2 {
		if err := again.Unsubscribe(t.Context(), "topic", "a"); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := again.Waiting(t.Context()); err != nil || len(got) != 1 || got["topic/ab"] != 1 {
		t.Errorf("waiting: %v, %v", got, err)
	}
	if got := waiting(t, subscribe(t, again, "a", time.Minute)); len(got) != 0 {
		t.Errorf("a subscription of the same id has %q", got)
	}
}
