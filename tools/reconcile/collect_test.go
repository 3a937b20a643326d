package reconcile

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/accrue/accrue/pkg/broker"
	"github.com/accrue/accrue/pkg/database/databasetest"
	"github.com/accrue/accrue/pkg/message"
)

// forgetful refuses acknowledgements while refused is set.
type forgetful struct {
	source
	refused error
}

func (f *forgetful) Acknowledge(ctx context.Context, receipts []string) error {
	if f.refused != nil {
		return f.refused
	}
	return f.source.Acknowledge(ctx, receipts)
}

// publish publishes messages from first to last, which increment foo by one each.
func publish(t *testing.T, topic *databasetest.Topic, publisher message.Publisher, first, last uint64) {
	t.Helper()
	for sequence := first; sequence <= last; sequence++ {
		b := message.Batch{
			Publisher: publisher, Partition: 3, Sequence: sequence, AcceptedAt: time.Now(),
			Increments: []message.Increment{{Tag: "foo", Value: 1}}, Contributions: []message.Contribution{{Contributor: "ada"}},
		}
		data, err := b.Encode()
		if err == nil {
			err = topic.Publish(t.Context(), []broker.Message{{Data: data}})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func readArchive(t *testing.T, name string) *archive {
	t.Helper()
	a := newArchive()
	if err := a.readFile(name, nil); err != nil {
		t.Fatal(err)
	}
	return a
}

func TestCollectLosesNothing(t *testing.T) {
	t.Parallel()
	topic := databasetest.NewTopic(t)
	subscription := topic.Subscribe(time.Second)
	from := &forgetful{source: subscription}
	name := filepath.Join(t.TempDir(), "archive.json")
	publisher := message.NewPublisher()
	publish(t, topic, publisher, 1, 2_500) // more than one pull
	if err := topic.Publish(t.Context(), []broker.Message{{Data: []byte("a dead letter")}}); err != nil {
		t.Fatal(err)
	}

	from.refused = errors.New("the connection was lost")
	if err := collect(t.Context(), from, name, io.Discard); !errors.Is(err, from.refused) {
		t.Fatalf("collect() = %v, want %v", err, from.refused)
	}
	// A crash leaves a part of a line.
	file, err := os.OpenFile(name, os.O_APPEND|os.O_WRONLY, 0)
	if err == nil {
		_, err = file.WriteString(`{"publisher":"AA`)
	}
	if err := errors.Join(err, file.Close()); err != nil {
		t.Fatal(err)
	}

	from.refused = nil
	for deadline := time.Now().Add(time.Minute); databasetest.Held(t, subscription) > 0; { // until the leases of the first have ended
		if time.Now().After(deadline) {
			t.Fatalf("%d messages are not acknowledged", databasetest.Held(t, subscription))
		}
		if err := collect(t.Context(), from, name, io.Discard); err != nil {
			t.Fatal(err)
		}
	}
	publish(t, topic, publisher, 2_501, 2_600)
	if err := collect(t.Context(), from, name, io.Discard); err != nil {
		t.Fatal(err)
	}

	a := readArchive(t, name)
	if distinct := a.Messages - a.Repeated; distinct != 2_600 || a.Repeated == 0 || a.totals()["foo"] != 2_600 {
		t.Errorf("the archive has %d messages, %d of them again, and a total of %d; want 2600 and some again", a.Messages, a.Repeated, a.totals()["foo"])
	}
}

// strict fails the test if messages are acknowledged that are not in the file.
type strict struct {
	source
	t            *testing.T
	name         string
	acknowledged int
}

func (s *strict) Acknowledge(ctx context.Context, receipts []string) error {
	s.acknowledged += len(receipts)
	if kept := readArchive(s.t, s.name).Messages; kept < s.acknowledged {
		s.t.Errorf("%d messages are acknowledged, and %d in the file", s.acknowledged, kept)
	}
	return s.source.Acknowledge(ctx, receipts)
}

func TestNothingIsAcknowledgedThatIsNotInTheFile(t *testing.T) {
	t.Parallel()
	topic := databasetest.NewTopic(t)
	from := &strict{source: topic.Subscribe(time.Minute), t: t, name: filepath.Join(t.TempDir(), "archive.json")}
	publish(t, topic, message.NewPublisher(), 1, 10)
	if err := collect(t.Context(), from, from.name, io.Discard); err != nil || from.acknowledged != 10 {
		t.Errorf("collect() = %v, and %d messages are acknowledged, want 10", err, from.acknowledged)
	}
}
