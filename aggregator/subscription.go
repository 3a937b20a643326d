package aggregator

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"github.com/accrue/accrue/aggregator/internal/consumer"
	"github.com/accrue/accrue/pkg/broker"
	"github.com/accrue/accrue/pkg/logging"
)

// Source is the subscription that the aggregator counts.
type Source interface {
	consumer.Source
	// Describe returns the subscription's settings.
	Describe(ctx context.Context) (broker.SubscriptionInfo, error)
}

const (
	// longestRetention is the longest that a subscription can keep messages
	// (https://cloud.google.com/pubsub/docs/subscription-properties).
	longestRetention = 31 * 24 * time.Hour
	// retentionMargin is how much longer a silent publisher is remembered than its messages live.
	retentionMargin = 24 * time.Hour
	// describeTimeout bounds one request for the settings, and describeEvery is the time between two.
	describeTimeout = 5 * time.Second
	describeEvery   = 10 * time.Second
)

// subscription is what is known of the subscription's settings. While nothing is, the longest retention and an unknown lease
// are taken, which costs requests and space but no exactness.
type subscription struct {
	source Source
	info   atomic.Pointer[broker.SubscriptionInfo]
	outage *logging.Outage
}

func newSubscription(source Source, log zerolog.Logger) *subscription {
	s := &subscription{source: source, outage: logging.NewOutage(log, zerolog.WarnLevel, "look up the subscription's settings; assuming the widest")}
	s.info.Store(&broker.SubscriptionInfo{Retention: longestRetention})
	return s
}

func (s *subscription) ackDeadline() time.Duration { return s.info.Load().AckDeadline }

func (s *subscription) retention() time.Duration { return s.info.Load().Retention + retentionMargin }

// describe looks the settings up, and returns whether they are known now.
func (s *subscription) describe(ctx context.Context) bool {
	call, cancel := context.WithTimeout(ctx, describeTimeout)
	defer cancel()
	info, err := s.source.Describe(call)
	switch {
	case err == nil:
		s.info.Store(&info)
		s.outage.Succeeded()
		return true
	case ctx.Err() == nil:
		s.outage.Failed(err, nil)
	}
	return false
}

// keepAsking calls describe until the settings are known or ctx ends.
func (s *subscription) keepAsking(ctx context.Context) {
	ticker := time.NewTicker(describeEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			if s.describe(ctx) {
				return
			}
		}
	}
}
