// Package broker defines the messages that the services publish and the deliveries that they pull. The adapters are broker/pubsub
// (Google Cloud Pub/Sub) and broker/embedded (one process with its own disk); both pass the contract suite in broker/brokertest.
// Each service declares the interface that it needs.
package broker

import (
	"errors"
	"time"
)

// Limits of Pub/Sub, which all brokers have (https://cloud.google.com/pubsub/quotas).
const (
	// MaxMessageBytes is the maximum Size of a message: the 10 MB of a Pub/Sub request without the topic's name and the framing.
	MaxMessageBytes = 10_000_000 - 10_000
	// MaxPull is the maximum number of messages that one Pull returns.
	MaxPull = 1000
	// MaxExtension is the maximum time by which one call can extend a lease. Longer times are reduced to it.
	MaxExtension = 600 * time.Second
)

var (
	// ErrMessageSize is returned when a message to be published is larger than MaxMessageBytes. Do not retry.
	ErrMessageSize = errors.New("message is too large")
	// ErrRefused is returned when the broker refused all messages of a publish: the topic does not exist, the publisher has no
	// permission, or the disk is full.
	ErrRefused = errors.New("publish refused")
)

// Message is a message to publish.
type Message struct {
	Data       []byte
	Attributes map[string]string
}

// attributeFraming bounds the bytes of an attribute in a request beside its key and value: the tags and lengths of the map entry,
// the key and the value.
const attributeFraming = 16

// Size returns the maximum size of the message in a publish request in bytes.
func (m *Message) Size() int {
	size := len(m.Data)
	for key, value := range m.Attributes {
		size += len(key) + len(value) + attributeFraming
	}
	return size
}

// Delivery is a pulled message. A message may be delivered again with another Receipt until it is acknowledged, and occasionally
// after that. Its data and attributes may be shared with other deliveries and must not be modified.
type Delivery struct {
	Message
	// ID is the broker's id of the message. Use it in logs only: a publish that the client retries may create two messages with
	// different ids.
	ID string
	// Receipt identifies this delivery when it is acknowledged, extended or released.
	Receipt string
	// PublishedAt is the time of publishing by the broker's clock.
	PublishedAt time.Time
}

// SubscriptionInfo has the configuration of a subscription.
type SubscriptionInfo struct {
	// AckDeadline is the duration of a lease that is not extended.
	AckDeadline time.Duration
	// Retention is how long after its publication a message may be delivered. Checkpoints must keep settled sequences at least
	// that long.
	Retention time.Duration
}
