// Package broker is the vocabulary of publishing and pulling that the services share: messages out, deliveries in. The
// adapters are broker/pubsub (Google Cloud Pub/Sub) and broker/embedded (one process, on its own disk); both pass the
// contract suite in broker/brokertest. Each service declares the interface that it needs of them.
package broker

import (
	"errors"
	"time"
)

// Limits of Pub/Sub that every broker keeps (https://cloud.google.com/pubsub/quotas).
const (
	// MaxMessageBytes is the largest Size of a message: what Pub/Sub takes in one request, 10 MB, less some room for the
	// topic's name and the request's framing.
	MaxMessageBytes = 10_000_000 - 10_000
	// MaxPull is the most messages that one Pull returns.
	MaxPull = 1000
	// MaxExtension is the longest that one call can extend a lease. A longer one is cut to it.
	MaxExtension = 600 * time.Second
)

var (
	// ErrMessageSize is returned by the publish of a message that is larger than any publish can carry. Do not retry.
	ErrMessageSize = errors.New("message is larger than the broker takes")
	// ErrRefused is returned by a publish whose messages the broker refused, all of them: the topic does not exist, the
	// publisher has no permission, or the disk is full.
	ErrRefused = errors.New("publish refused")
)

// Message is what is published.
type Message struct {
	Data       []byte
	Attributes map[string]string
}

// attributeFraming is the most that one attribute takes in a request beside its own bytes: the tags and lengths of the
// map entry, its key and its value.
const attributeFraming = 16

// Size is what the message takes of a publish request, in bytes, at most.
func (m *Message) Size() int {
	size := len(m.Data)
	for key, value := range m.Attributes {
		size += len(key) + len(value) + attributeFraming
	}
	return size
}

// Delivery is a message as it was pulled. The same message may be delivered again, with another Receipt, until it is
// acknowledged, and occasionally even after that. Its bytes and attributes may be shared with other deliveries and must not
// be changed.
type Delivery struct {
	Message
	// ID is the broker's, for logs alone: a publish that was retried underneath is two messages with two ids.
	ID string
	// Receipt names this delivery when it is acknowledged, extended or released.
	Receipt string
	// PublishedAt is the broker's time of publishing.
	PublishedAt time.Time
}

// SubscriptionInfo is how a subscription was set up.
type SubscriptionInfo struct {
	// AckDeadline is how long a lease lasts unless it is extended.
	AckDeadline time.Duration
	// Retention is how long after its publishing a message can still be delivered: what was counted must be remembered
	// for at least as long.
	Retention time.Duration
}
