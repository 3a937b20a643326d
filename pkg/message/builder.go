package message

import (
	"time"

	"google.golang.org/protobuf/encoding/protowire"
)

// The numbers of the fields in batch.proto.
const (
	publisherField, partitionField, sequenceField, acceptedAtField = 1, 2, 3, 4
	incrementsField, contributionsField                            = 5, 6
	tagField, valueField, contributorField                         = 1, 2, 1
)

// Builder collects the entries of one message in their wire form, so that what waits to be published holds no
// pointers, is copied from the request, and is exactly as large as it says. The zero value is empty. What it encodes is,
// byte for byte, what Batch encodes.
type Builder struct {
	increments    []byte
	contributions []byte
	entries       int
}

// AddIncrement copies an increment into the message. Like Batch.Encode it does not validate.
func (b *Builder) AddIncrement(tag string, value uint8) {
	b.entries++
	d := protowire.AppendTag(b.increments, incrementsField, protowire.BytesType)
	d = protowire.AppendVarint(d, uint64(incrementSize(tag, value))) //nolint:gosec // a length
	d = appendText(d, tagField, tag)
	b.increments = appendNumber(d, valueField, uint64(value))
}

// AddContribution copies a contribution into the message. Like Batch.Encode it does not validate.
func (b *Builder) AddContribution(contributor string) {
	b.entries++
	d := protowire.AppendTag(b.contributions, contributionsField, protowire.BytesType)
	d = protowire.AppendVarint(d, uint64(textSize(contributor))) //nolint:gosec // a length
	b.contributions = appendText(d, contributorField, contributor)
}

// Entries counts what was added.
func (b *Builder) Entries() int { return b.entries }

// Capacity is the memory, in bytes, that the builder holds, also after Reset.
func (b *Builder) Capacity() int { return cap(b.increments) + cap(b.contributions) }

// Reset empties the builder and keeps its memory for the next message.
func (b *Builder) Reset() {
	b.increments, b.contributions, b.entries = b.increments[:0], b.contributions[:0], 0
}

// Encode returns the message on the wire: what was added, under the identity that it is published with. The result
// shares no memory with the builder.
func (b *Builder) Encode(publisher Publisher, partition uint32, sequence uint64, acceptedAt time.Time) []byte {
	const header = 2 + len(Publisher{}) + 3*(1+10)
	d := make([]byte, 0, header+len(b.increments)+len(b.contributions))
	d = protowire.AppendTag(d, publisherField, protowire.BytesType)
	d = protowire.AppendBytes(d, publisher[:])
	d = appendNumber(d, partitionField, uint64(partition))
	d = appendNumber(d, sequenceField, sequence)
	d = appendNumber(d, acceptedAtField, uint64(acceptedAt.UnixMicro()))
	d = append(d, b.increments...)
	return append(d, b.contributions...)
}

// IncrementSize is the number of bytes that an increment of tag takes in a message, for every value that may be counted.
func IncrementSize(tag string) int { return fieldSize(incrementSize(tag, 1)) }

// ContributionSize is the number of bytes that a contribution takes in a message.
func ContributionSize(contributor string) int { return fieldSize(textSize(contributor)) }

// incrementSize is the size of a Batch.Increment, without its own tag and length.
func incrementSize(tag string, value uint8) int {
	size := textSize(tag)
	if value != 0 {
		size += 1 + protowire.SizeVarint(uint64(value))
	}
	return size
}

// fieldSize is the size of a field below 16 that holds n bytes.
func fieldSize(n int) int { return 1 + protowire.SizeBytes(n) }

func textSize(text string) int {
	if text == "" {
		return 0
	}
	return fieldSize(len(text))
}

// appendText appends a string field, which is left out when it is empty, as proto3 has it.
func appendText(d []byte, field protowire.Number, text string) []byte {
	if text == "" {
		return d
	}
	return protowire.AppendString(protowire.AppendTag(d, field, protowire.BytesType), text)
}

// appendNumber appends a number field, which is left out when it is zero, as proto3 has it.
func appendNumber(d []byte, field protowire.Number, n uint64) []byte {
	if n == 0 {
		return d
	}
	return protowire.AppendVarint(protowire.AppendTag(d, field, protowire.VarintType), n)
}
