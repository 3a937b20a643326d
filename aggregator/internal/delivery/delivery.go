// Package delivery is a batch message as the aggregator holds it between the Pull that brought it and the request that ends
// it: decoded, with its cost in memory and its lease. It knows no clock and no network.
package delivery

import (
	"fmt"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/accrue/accrue/pkg/broker"
	"github.com/accrue/accrue/pkg/checkpoint"
	"github.com/accrue/accrue/pkg/message"
	"github.com/accrue/accrue/pkg/tracing"
)

// The bounds of a message that one Commit can settle, with every entry of it rejected if need be. Ingest stays below both.
const (
	MaxEntries = 10 * message.MaxEntries
	MaxBytes   = checkpoint.MaxRejected - 10_000
)

// Delivery is one delivery of a message. It is held until its message is settled or it is released.
type Delivery struct {
	Batch *message.Batch
	// Traces are the sampled traces that the message carries.
	Traces []trace.SpanContext
	// Receipt names the delivery to the broker.
	Receipt string
	// Cost is the memory that the delivery takes, in bytes.
	Cost int64

	// Leases guards the rest.

	extendAt   time.Time
	prev, next *Delivery
	leased     bool
}

// Decode returns the delivery of a batch message. The error says why the message can never be applied; it is
// message.ErrInvalid.
func Decode(d *broker.Delivery) (*Delivery, error) {
	batch, err := message.Decode(d.Data)
	switch {
	case err != nil:
		return nil, err
	case batch.Entries() > MaxEntries:
		return nil, fmt.Errorf("%w: %d entries, more than %d", message.ErrInvalid, batch.Entries(), MaxEntries)
	case len(d.Data) > MaxBytes:
		return nil, fmt.Errorf("%w: %d bytes, more than %d", message.ErrInvalid, len(d.Data), MaxBytes)
	}
	traces := tracing.FromAttributes(d.Attributes)
	return &Delivery{Batch: batch, Traces: traces, Receipt: d.Receipt, Cost: cost(d, batch) + traceCost*int64(len(traces))}, nil
}

// What a delivery takes in memory: itself, its batch and its places in the lists that hold it; the text of the message;
// its entries and traces; and its receipt. TestBufferBoundsMemory compares the sum with the heap.
const (
	fixedCost = 448
	entryCost = 40
	traceCost = 64
	// allocation is what the allocator may add to a size.
	allocation = 1.125
)

func cost(d *broker.Delivery, batch *message.Batch) int64 {
	varying := len(d.Data) + len(d.Receipt) + entryCost*batch.Entries()
	return fixedCost + int64(allocation*float64(varying))
}

// Identity is the message's place among its publisher's.
func (d *Delivery) Identity() checkpoint.Message {
	return checkpoint.Message{Publisher: d.Batch.Publisher, Sequence: d.Batch.Sequence}
}
