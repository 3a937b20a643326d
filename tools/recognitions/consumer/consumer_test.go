package consumer_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/accrue/accrue/pkg/broker"
	brokerembedded "github.com/accrue/accrue/pkg/broker/embedded"
	"github.com/accrue/accrue/pkg/database/databasetest"
	"github.com/accrue/accrue/tools/recognitions/consumer"
)

// event makes the event of a contributor at a tier.
func event(contributor string, tier int) broker.Message {
	return broker.Message{
		Data: fmt.Appendf(nil, `{"contributor":%q,"tier":%d,"contributions":4,"recognized_at":"2026-11-23T06:08:09.087Z","later":"field"}`, contributor, tier),
		Attributes: map[string]string{
			"ce-id": fmt.Sprint(contributor, tier), "ce-source": "/accrue/query", "ce-specversion": "1.0",
			"ce-type": "dev.accrue.contributor.recognized.v1", "content-type": "application/json",
		},
	}
}

// with returns a message with one attribute changed.
func with(m broker.Message, name, value string) broker.Message {
	m.Attributes[name] = value
	return m
}

// bench runs a consumer on a topic of its own, in a bubble whose clock moves by time.Sleep.
type bench struct {
	t      *testing.T
	topic  *databasetest.Topic
	source *brokerembedded.Subscription

	mu      sync.Mutex
	handled []string
	reports []error
	fail    error
}

func bubble(t *testing.T, remember int, test func(b *bench)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		topic := databasetest.NewTopic(t)
		b := &bench{t: t, topic: topic, source: topic.Subscribe(10 * time.Second)}
		c := consumer.New(b.source, remember, b.handle, b.report)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- c.Run(ctx) }()
		test(b)
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run() = %v", err)
		}
	})
}

func (b *bench) handle(r consumer.Recognition) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.fail != nil {
		return b.fail
	}
	b.handled = append(b.handled, fmt.Sprintf("%s:%d", r.Contributor, r.Tier))
	return nil
}

func (b *bench) report(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.reports = append(b.reports, err)
}

func (b *bench) publish(messages ...broker.Message) {
	b.t.Helper()
	if err := b.topic.Publish(b.t.Context(), messages); err != nil {
		b.t.Fatal(err)
	}
}

// after lets time pass and checks what was handled meanwhile.
func (b *bench) after(d time.Duration, want ...string) {
	b.t.Helper()
	time.Sleep(d)
	synctest.Wait()
	b.mu.Lock()
	defer b.mu.Unlock()
	if !slices.Equal(b.handled, want) {
		b.t.Errorf("handled %q, want %q", b.handled, want)
	}
	b.handled = nil
}

func TestDropsSecondCopies(t *testing.T) {
	bubble(t, 100, func(b *bench) {
		b.publish(event("ada", 3), event("bob", 3), event("ada", 3), event("ada", 10))
		b.after(time.Second, "ada:3", "bob:3", "ada:10")
		b.publish(event("bob", 3))
		b.publish(with(event("bob", 3), "ce-source", "/another"))
		b.after(time.Second, "bob:3")
		if databasetest.Held(t, b.source) != 0 || len(b.reports) != 0 {
			b.t.Errorf("%d messages are not acknowledged, %v", databasetest.Held(t, b.source), b.reports)
		}
	})
}

func TestRemembersABoundedNumberOfEvents(t *testing.T) {
	bubble(t, 3, func(b *bench) {
		b.publish(event("a", 3), event("b", 3), event("c", 3), event("b", 3), event("d", 3))
		b.after(time.Second, "a:3", "b:3", "c:3", "d:3")
		b.publish(event("d", 3), event("c", 3), event("b", 3))
		b.after(time.Second)
		b.publish(event("a", 3))
		b.after(time.Second, "a:3")
		b.publish(event("d", 3), event("c", 3), event("a", 3))
		b.after(time.Second)
		b.publish(event("b", 3))
		b.after(time.Second, "b:3")
	})
}

func TestReportsAndDropsOtherMessages(t *testing.T) {
	bubble(t, 100, func(b *bench) {
		b.publish(
			broker.Message{Data: []byte("garbage")},
			with(event("ada", 3), "ce-specversion", "0.3"),
			with(event("ada", 3), "ce-id", ""),
			with(event("ada", 3), "ce-type", "dev.accrue.other"),
			broker.Message{Data: []byte("garbage"), Attributes: event("ada", 3).Attributes},
			event("bob", 3),
		)
		b.after(time.Second, "bob:3")
		if len(b.reports) != 5 || databasetest.Held(t, b.source) != 0 {
			b.t.Errorf("reported %v, %d messages are not acknowledged", b.reports, databasetest.Held(t, b.source))
		}
	})
}

func TestFailedRecognitionIsRedelivered(t *testing.T) {
	bubble(t, 100, func(b *bench) {
		b.fail = errors.New("the printer is out of paper")
		b.publish(event("ada", 3))
		b.after(5 * time.Second)
		b.mu.Lock()
		b.fail = nil
		b.mu.Unlock()
		b.after(20*time.Second, "ada:3")
		if len(b.reports) != 1 || databasetest.Held(t, b.source) != 0 {
			b.t.Errorf("reported %v, %d messages are not acknowledged", b.reports, databasetest.Held(t, b.source))
		}
	})
}

func TestPrintQuotesContributors(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	at := time.Date(2026, 11, 23, 7, 8, 9, 0, time.FixedZone("elsewhere", 3600))
	if err := consumer.Print(&b)(consumer.Recognition{Contributor: "a\u202eda\"", Tier: 3, Contributions: 4, RecognizedAt: at}); err != nil {
		t.Fatal(err)
	}
	const want = `recognized "a\u202eda\"" for reaching tier 3, with 4 contributions, at 2026-11-23T06:08:09Z` + "\n"
	if b.String() != want {
		t.Errorf("printed %q, want %q", b.String(), want)
	}
}
