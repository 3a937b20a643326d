// Package broker is the vocabulary of publishing and pulling that the services share: messages out, deliveries in. The
// adapters are broker/pubsub (Google Cloud Pub/Sub) and broker/memory (one process, for `make run`); both pass the
// contract suite in broker/brokertest. Each service declares the interface that it needs of them.
package broker

import (
	"errors"
	"time"
)

// Limits of Pub/Sub that every broker keeps: a message over MaxMessageBytes is refused at once, and one Pull returns at
// most MaxPull messages (https://cloud.google.com/pubsub/quotas).
const (
	MaxMessageBytes = 10_000_000
	MaxPull         = 1000
)

// ErrMessageSize is the case of a message that no publish can carry.
var ErrMessageSize = errors.New("message is larger than the broker takes")

// Message is what is published.
type Message struct {
	Data       []byte
	Attributes map[string]string
}

// Delivery is a message as it was pulled. The same message may be delivered again, with another Receipt, until it is
// acknowledged, and now and then even after that.
type Delivery struct {
	Message
	// ID is the broker's, for logs alone: a publish that was retried underneath is two messages with two ids.
	ID string
	// Receipt names this delivery when it is acknowledged, extended or released.
	Receipt string
	// PublishedAt is the broker's time of publishing.
	PublishedAt time.Time
}
