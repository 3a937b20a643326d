package batching_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/accrue/accrue/ingest/internal/batching"
	"github.com/accrue/accrue/pkg/broker"
)

// narrowPublisher takes so many bytes a second, one publish after the other, or nothing while it is down.
type narrowPublisher struct {
	perSecond int
	turn      chan struct{}
	mu        sync.Mutex
	downUntil time.Time
}

func (p *narrowPublisher) Publish(ctx context.Context, messages []broker.Message) error {
	p.mu.Lock()
	down := time.Until(p.downUntil)
	p.mu.Unlock()
	if down > 0 {
		<-ctx.Done()
		return ctx.Err()
	}
	select {
	case p.turn <- struct{}{}:
		defer func() { <-p.turn }()
	case <-ctx.Done():
		return ctx.Err()
	}
	bytes := 0
	for i := range messages {
		bytes += len(messages[i].Data)
	}
	time.Sleep(time.Duration(bytes) * time.Second / time.Duration(p.perSecond))
	return nil
}

// answers is how long adds took, by their outcome.
type answers struct {
	mu                        sync.Mutex
	accepted, refused, failed []time.Duration
}

// offer adds a batch every interval for the duration d, however long they take, and waits for the last answer.
func offer(t *testing.T, b *batching.Batcher, entries []batching.Entry, interval, d time.Duration) *answers {
	t.Helper()
	a := &answers{}
	var adding sync.WaitGroup
	for began := time.Now(); time.Since(began) < d; time.Sleep(interval) {
		adding.Go(func() {
			began := time.Now()
			err := b.Add(t.Context(), entries)
			took := time.Since(began)
			a.mu.Lock()
			defer a.mu.Unlock()
			switch {
			case err == nil:
				a.accepted = append(a.accepted, took)
			case errors.Is(err, batching.ErrFull):
				a.refused = append(a.refused, took)
			default:
				a.failed = append(a.failed, took)
			}
		})
	}
	adding.Wait()
	return a
}

func latest(all []time.Duration) time.Duration {
	if len(all) == 0 {
		return 0
	}
	return slices.Max(all)
}

// large returns a batch that takes some 20 KB.
func large() []batching.Entry {
	entries := make([]batching.Entry, 40)
	for i := range entries {
		entries[i] = batching.Entry{Contributor: longName(i)}
	}
	return entries
}

func longName(i int) string {
	name := make([]byte, 480)
	for j := range name {
		name[j] = byte('a' + (i+j)%26)
	}
	return string(name)
}

// The broker takes a fraction of what is added. What it takes is accepted in time, and the rest is refused at once.
func TestWhatABrokerDoesNotTakeIsRefusedAtOnce(t *testing.T) {
	t.Parallel()
	for name, perSecond := range map[string]int{"1 MB/s": 1e6, "4 MB/s": 4e6, "20 MB/s": 20e6} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				entries := large()
				taken := perSecond / 20_000 // batches a second
				b, _ := running(t, &narrowPublisher{perSecond: perSecond, turn: make(chan struct{}, 1)}, partitions, 64<<20)
				offer(t, b, entries, time.Second/time.Duration(3*taken), 15*time.Second) // until the window has found its size
				during := offer(t, b, entries, time.Second/time.Duration(3*taken), 30*time.Second)
				after := offer(t, b, entries, 2*time.Second/time.Duration(taken), 5*time.Second)
				t.Logf("%d accepted, within %v; %d refused, within %v; %d failed; afterwards %d accepted, within %v, %d refused", len(during.accepted),
					latest(during.accepted), len(during.refused), latest(during.refused), len(during.failed), len(after.accepted), latest(after.accepted), len(after.refused))
				if n := len(during.accepted); n < 30*taken*8/10 {
					t.Errorf("%d batches were accepted, want at least %d", n, 30*taken*8/10)
				}
				if longest := latest(during.accepted); longest > 2*time.Second {
					t.Errorf("a batch was accepted after %v, want within 2 s", longest)
				}
				if longest := latest(during.refused); len(during.refused) == 0 || longest > 0 || len(during.failed) > 0 {
					t.Errorf("%d were refused, within %v, want at once; %d failed", len(during.refused), longest, len(during.failed))
				}
				if len(after.refused)+len(after.failed) > 0 || latest(after.accepted) > 200*time.Millisecond {
					t.Errorf("afterwards %d were refused, %d failed, and the others took up to %v", len(after.refused), len(after.failed), latest(after.accepted))
				}
			})
		})
	}
}

// While nothing is published for a minute, all but a few adds are refused at once. Afterwards everything is admitted again within
// two seconds.
func TestAnOutageIsAnsweredAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := &narrowPublisher{perSecond: 20e6, turn: make(chan struct{}, 1)}
		b, _ := running(t, p, partitions, 64<<20)
		entries := large()
		const interval = 2 * time.Millisecond // 10 MB/s
		offer(t, b, entries, interval, 5*time.Second)
		p.mu.Lock()
		p.downUntil = time.Now().Add(time.Minute)
		p.mu.Unlock()
		offer(t, b, entries, interval, 10*time.Second) // the first ones wait in vain
		during := offer(t, b, entries, interval, 40*time.Second)
		if n := len(during.accepted) + len(during.failed); n > len(during.refused)/50 || latest(during.refused) > 0 {
			t.Errorf("%d were not refused; %d were, within %v, want at once", n, len(during.refused), latest(during.refused))
		}
		p.mu.Lock()
		left := time.Until(p.downUntil)
		p.mu.Unlock()
		time.Sleep(left)
		offer(t, b, entries, interval, 2*time.Second)
		after := offer(t, b, entries, interval, 5*time.Second)
		if len(after.refused)+len(after.failed) > 0 || latest(after.accepted) > time.Second {
			t.Errorf("two seconds after the outage %d are refused, %d failed, the others took up to %v", len(after.refused), len(after.failed), latest(after.accepted))
		}
	})
}

// A publish that is slow by itself, among others that are quick, is no reason to admit less.
func TestSingleSlowPublishesLeaveTheWindow(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		delays := make([]time.Duration, 200)
		for i := range delays {
			delays[i] = 40 * time.Millisecond
		}
		delays[50], delays[150] = 3*time.Second, 2*time.Second
		b, _ := running(t, &slowPublisher{delays: delays}, partitions, 64<<20)
		if a := offer(t, b, large(), time.Millisecond, 20*time.Second); len(a.refused)+len(a.failed) > 0 {
			t.Errorf("%d were refused and %d failed of %d", len(a.refused), len(a.failed), len(a.accepted))
		}
	})
}

// A broker that is far away and wide has much under way. The window grows to it within two seconds.
func TestTheWindowGrowsToWhatADistantBrokerTakes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b, _ := running(t, &slowPublisher{delays: []time.Duration{400 * time.Millisecond}}, partitions, 64<<20)
		const interval = time.Second / 2000 // 40 MB/s, 16 MB under way
		offer(t, b, large(), interval, 2*time.Second)
		if a := offer(t, b, large(), interval, 3*time.Second); len(a.refused)+len(a.failed) > 0 {
			t.Errorf("%d were refused and %d failed of %d", len(a.refused), len(a.failed), len(a.accepted))
		}
	})
}
