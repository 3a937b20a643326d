// Package message is the batch message: what ingest publishes and the aggregator counts (design sections 1 and 4). The
// wire format is protobuf, batch.proto in this folder; Decode returns nothing that the aggregator could not apply.
package message

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/accrue/accrue/pkg/message/messagepb"
)

// MaxEntries is the most increments and contributions that ingest lists in one message. Each changes one document, so
// one message alone stays within the default COMMIT_DOCUMENTS. Decode accepts more: it is a matter of speed, not of
// correctness.
const MaxEntries = 1000

// ReasonAttribute is the attribute of a dead letter that says why the aggregator could not apply it.
const ReasonAttribute = "reason"

// ErrInvalid is the case of a message that can never be applied. Delivering it again does not help.
var ErrInvalid = errors.New("invalid batch message")

// Publisher identifies one life of one ingest process.
type Publisher [16]byte

// NewPublisher makes a random identity: 128 bits, so that two lives never share one.
func NewPublisher() Publisher {
	var p Publisher
	_, _ = rand.Read(p[:]) // never fails, by its documentation since Go 1.24
	return p
}

// String is the identity in hexadecimal, for logs.
func (p Publisher) String() string { return hex.EncodeToString(p[:]) }

// Batch is one message: everything of one partition that one publish carries.
type Batch struct {
	Publisher Publisher
	Partition uint32
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
	// Key is zero without an idempotency key.
	Key Key
}

// Contribution is one contribution of a contributor.
type Contribution struct {
	Contributor string
	// Key is zero without an idempotency key. It is the increment's key if both were posted as one, and yet another: an
	// increment and a contribution never repeat each other.
	Key Key
}

// Entries counts the increments and contributions of b.
func (b *Batch) Entries() int { return len(b.Increments) + len(b.Contributions) }

// Encode returns b on the wire. It does not validate: its caller built b from accepted increments.
func (b *Batch) Encode() ([]byte, error) {
	increments := make([]messagepb.Batch_Increment, len(b.Increments))
	contributions := make([]messagepb.Batch_Contribution, len(b.Contributions))
	pb := &messagepb.Batch{
		Publisher:     b.Publisher[:],
		Partition:     b.Partition,
		Sequence:      b.Sequence,
		AcceptedAt:    b.AcceptedAt.UnixMicro(),
		Increments:    make([]*messagepb.Batch_Increment, len(b.Increments)),
		Contributions: make([]*messagepb.Batch_Contribution, len(b.Contributions)),
	}
	for i := range b.Increments {
		inc := &b.Increments[i]
		increments[i].Tag, increments[i].Value, increments[i].Key = inc.Tag, uint32(inc.Value), inc.Key.onWire()
		pb.Increments[i] = &increments[i]
	}
	for i := range b.Contributions {
		c := &b.Contributions[i]
		contributions[i].Contributor, contributions[i].Key = c.Contributor, c.Key.onWire()
		pb.Contributions[i] = &contributions[i]
	}
	data, err := proto.Marshal(pb)
	if err != nil {
		return nil, fmt.Errorf("encode batch message: %w", err)
	}
	return data, nil
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
