// Package message encodes and decodes the messages that ingest publishes and the aggregator counts. The format is protobuf, as
// defined in batch.proto. docs/design/protocol.md explains the identity of messages.
package message

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"strconv"
	"time"
)

// MaxEntries is the maximum number of entries that ingest puts in one message. Each entry changes one document, so one
// message stays within the default of COMMIT_DOCUMENTS. Decode accepts more: this is a matter of speed, not of correctness.
const MaxEntries = 1000

// ReasonAttribute is the attribute of a dead letter with the reason why the aggregator could not count it.
const ReasonAttribute = "reason"

// ErrInvalid is returned for a message that can never be counted.
var ErrInvalid = errors.New("invalid message")

// Publisher identifies one run of one ingest process.
type Publisher [16]byte

// NewPublisher returns a random id of 128 bits.
func NewPublisher() Publisher {
	var p Publisher
	_, _ = rand.Read(p[:]) // never fails, by its documentation since Go 1.24
	return p
}

// String returns the id in hexadecimal.
func (p Publisher) String() string { return hex.EncodeToString(p[:]) }

// Batch is a decoded message: the entries of one partition from one publish.
type Batch struct {
	Publisher Publisher
	Partition uint32
	// Partitions is the number of partitions that the publisher divides entries among: each entry's name is in Partition by
	// increment.Partition. It is 0 if that is not known.
	Partitions uint32
	// Sequence numbers the messages of (Publisher, Partition) from 1.
	Sequence uint64
	// AcceptedAt is when the first entry was accepted, to the microsecond.
	AcceptedAt    time.Time
	Increments    []Increment
	Contributions []Contribution
}

// Increment adds Value to a tag.
type Increment struct {
	Tag   string
	Value uint8
	// Key is zero without an idempotency key. In the message it takes two or three bytes if only its item is larger than that of the
	// increment before.
	Key Key
}

// Contribution adds one to a contributor.
type Contribution struct {
	Contributor string
	// Key is zero without an idempotency key. If an increment was posted with its contributor, both have the same key. They
	// do not count as repetitions of each other.
	Key Key
}

// Entries returns the number of increments and contributions.
func (b *Batch) Entries() int { return len(b.Increments) + len(b.Contributions) }

// Encode returns the message in its wire form. It does not validate.
func (b *Batch) Encode() ([]byte, error) {
	d := Builder{Partitions: b.Partitions}
	for i := range b.Increments {
		d.AddIncrement(b.Increments[i].Tag, b.Increments[i].Value, b.Increments[i].Key)
	}
	for i := range b.Contributions {
		d.AddContribution(b.Contributions[i].Contributor, b.Contributions[i].Key)
	}
	return d.Encode(b.Publisher, b.Partition, b.Sequence, b.AcceptedAt), nil
}

// Shards is the number of values of ShardAttribute.
const Shards = 64

// ShardAttribute is the attribute of a message that holds its partition modulo Shards. Several subscriptions of one topic
// can divide the messages among them by filters on it.
const ShardAttribute = "shard"

// ShardAttributes returns the attributes of a message of a partition.
func ShardAttributes(partition uint32) map[string]string {
	return map[string]string{ShardAttribute: strconv.FormatUint(uint64(partition%Shards), 10)}
}
