// Package databasetest opens databases, topics and stores for tests. They keep their data in a temporary folder without fsync, are
// closed when the test ends, and work in a synctest bubble.
package databasetest

import (
	"context"
	"time"

	"github.com/rs/zerolog"

	brokerembedded "github.com/accrue/accrue/pkg/broker/embedded"
	"github.com/accrue/accrue/pkg/database"
	storeembedded "github.com/accrue/accrue/pkg/store/embedded"
)

// TB has the methods of testing.T, testing.B, testing.F and rapid.T that this package needs.
type TB interface {
	Helper()
	Error(args ...any)
	Fatal(args ...any)
	Cleanup(f func())
	Context() context.Context
}

// Open opens an empty database.
func Open(tb TB) *database.Database {
	tb.Helper()
	return OpenFolder(tb, "")
}

// OpenFolder opens the database in a folder, and closes it when the test ends.
func OpenFolder(tb TB, folder string) *database.Database {
	tb.Helper()
	d, err := database.Open(database.Options{Folder: folder, Log: zerolog.Nop()})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := d.Close(); err != nil {
			tb.Error(err)
		}
	})
	return d
}

// Store opens an empty store.
func Store(tb TB) *storeembedded.Store {
	tb.Helper()
	return storeembedded.New(Open(tb))
}

// NewTopic opens a topic without subscriptions.
func NewTopic(tb TB) *Topic {
	tb.Helper()
	b := brokerembedded.New(Open(tb))
	return &Topic{Topic: b.Topic("topic"), tb: tb, broker: b}
}

// Topic is a topic in its own database.
type Topic struct {
	*brokerembedded.Topic
	tb     TB
	broker *brokerembedded.Broker
	made   int
}

// Subscribe adds a subscription whose leases last ackDeadline. It is not safe for concurrent use.
func (t *Topic) Subscribe(ackDeadline time.Duration) *brokerembedded.Subscription {
	t.tb.Helper()
	t.made++
	s, err := t.broker.Subscribe(t.tb.Context(), "topic", string(rune('a'+t.made)), ackDeadline)
	if err != nil {
		t.tb.Fatal(err)
	}
	return s
}

// Held returns the number of unacknowledged messages of a subscription.
func Held(tb TB, s *brokerembedded.Subscription) int {
	tb.Helper()
	n, err := s.Held(tb.Context())
	if err != nil {
		tb.Fatal(err)
	}
	return n
}
