package embedded_test

import (
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/accrue/accrue/pkg/broker/brokertest"
	"github.com/accrue/accrue/pkg/broker/embedded"
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
