package aggregator

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"github.com/accrue/accrue/pkg/broker"
)

// lateRole is a subscription whose settings may be read from a moment on, as in the minutes after its role was granted.
type lateRole struct {
	source
	from  time.Time
	asked int
}

func (l *lateRole) Describe(context.Context) (broker.SubscriptionInfo, error) {
	l.asked++
	if time.Now().Before(l.from) {
		return broker.SubscriptionInfo{}, errors.New("permission denied")
	}
	return broker.SubscriptionInfo{AckDeadline: AckDeadline, Retention: 7 * 24 * time.Hour}, nil
}

// On a first deployment the aggregator runs before its role reaches it. It takes the widest settings, and asks until it gets the
// real ones: without that it would remember publishers for a month until it restarts.
func TestSettingsOfTheSubscriptionAreAskedForUntilTheyAreKnown(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		role := &lateRole{from: time.Now().Add(3 * time.Minute)}
		s := newSubscription(role, zerolog.Nop())
		if s.describe(t.Context()) {
			t.Error("it is described before its role")
		}
		if got, want := s.retention(), longestRetention+retentionMargin; got != want || s.ackDeadline() != 0 {
			t.Errorf("before it is known, the retention is %v and the lease %v, want %v and 0", got, s.ackDeadline(), want)
		}
		began := time.Now()
		s.keepAsking(t.Context())
		if got, want := s.retention(), 7*24*time.Hour+retentionMargin; got != want || s.ackDeadline() != AckDeadline {
			t.Errorf("the retention is %v and the lease %v, want %v and %v", got, s.ackDeadline(), want, AckDeadline)
		}
		if took := time.Since(began); took > 3*time.Minute+describeEvery || role.asked > 20 {
			t.Errorf("it took %v and %d requests", took, role.asked)
		}

		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		never := newSubscription(&lateRole{from: time.Now().Add(time.Hour)}, zerolog.Nop())
		never.keepAsking(ctx) // returns with ctx
	})
}
