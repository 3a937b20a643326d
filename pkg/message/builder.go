package message

import (
	"time"

	"google.golang.org/protobuf/encoding/protowire"
)

// The field numbers of batch.proto.
const (
	publisherField, partitionField, sequenceField, acceptedAtField = 1, 2, 3, 4
	incrementsField, contributionsField, partitionsField           = 5, 6, 7
	tagField, valueField, keyField, nextField                      = 1, 2, 3, 4
	contributorField, contributionKeyField, contributionNextField  = 1, 2, 3
)

// Builder collects the entries of one message in their wire form: entries that wait to be published hold no pointers, do not
// refer to the request, and have an exact size. The zero value is empty.
type Builder struct {
	// Partitions is that of the Batch. Reset keeps it.
	Partitions    uint32
	increments    []byte
	contributions []byte
	entries       int
	// The keys of the last increment and the last contribution.
	increment, contribution number
}

// AddIncrement copies an increment into the message. It does not validate. The zero key means none.
func (b *Builder) AddIncrement(tag string, value uint8, key Key) {
	b.entries++
	n := key.number()
	next := n.after(b.increment)
	b.increment = n
	d := protowire.AppendTag(b.increments, incrementsField, protowire.BytesType)
	d = protowire.AppendVarint(d, uint64(textSize(tag)+numberSize(uint64(value))+keySize(n, next))) //nolint:gosec // a length
	d = appendText(d, tagField, tag)
	d = appendNumber(d, valueField, uint64(value))
	if next > 0 {
		b.increments = appendNumber(d, nextField, next)
	} else {
		b.increments = appendKey(d, keyField, key)
	}
}

// AddContribution copies a contribution into the message. It does not validate. The zero key means none.
func (b *Builder) AddContribution(contributor string, key Key) {
	b.entries++
	n := key.number()
	next := n.after(b.contribution)
	b.contribution = n
	d := protowire.AppendTag(b.contributions, contributionsField, protowire.BytesType)
	d = protowire.AppendVarint(d, uint64(textSize(contributor)+keySize(n, next))) //nolint:gosec // a length
	d = appendText(d, contributorField, contributor)
	if next > 0 {
		b.contributions = appendNumber(d, contributionNextField, next)
	} else {
		b.contributions = appendKey(d, contributionKeyField, key)
	}
}

// Entries returns the number of entries.
func (b *Builder) Entries() int { return b.entries }

// Size returns the size of the entries in the message, in bytes.
func (b *Builder) Size() int { return len(b.increments) + len(b.contributions) }

// Capacity returns the memory, in bytes, that the builder holds, even after Reset.
func (b *Builder) Capacity() int { return cap(b.increments) + cap(b.contributions) }

// Reset empties the builder and keeps its memory for the next message.
func (b *Builder) Reset() {
	*b = Builder{Partitions: b.Partitions, increments: b.increments[:0], contributions: b.contributions[:0]}
}

// Encode returns the message in its wire form. The result shares no memory with the builder.
func (b *Builder) Encode(publisher Publisher, partition uint32, sequence uint64, acceptedAt time.Time) []byte {
	const header = 2 + len(Publisher{}) + 3*(1+10) + 1 + 2
	d := make([]byte, 0, header+len(b.increments)+len(b.contributions))
	d = protowire.AppendTag(d, publisherField, protowire.BytesType)
	d = protowire.AppendBytes(d, publisher[:])
	d = appendNumber(d, partitionField, uint64(partition))
	d = appendNumber(d, sequenceField, sequence)
	d = appendNumber(d, acceptedAtField, uint64(acceptedAt.UnixMicro()))
	d = append(d, b.increments...)
	d = append(d, b.contributions...)
	return appendNumber(d, partitionsField, uint64(b.Partitions))
}

// IncrementSize returns the number of bytes that an increment takes in a message, with any valid value. With a key that follows that of
// the increment before it takes less.
func IncrementSize(tag string, key Key) int {
	return fieldSize(textSize(tag) + numberSize(1) + keySize(key.number(), 0))
}

// ContributionSize is IncrementSize for a contribution.
func ContributionSize(contributor string, key Key) int {
	return fieldSize(textSize(contributor) + keySize(key.number(), 0))
}

// numberSize returns the size of a number field, which is left out if it is zero.
func numberSize(n uint64) int {
	if n == 0 {
		return 0
	}
	return 1 + protowire.SizeVarint(n)
}

// keySize returns the size of the field of a key, or of its distance from the one before, unless that is zero.
func keySize(key number, next uint64) int {
	switch {
	case next > 0:
		return numberSize(next)
	case key.zero():
		return 0
	}
	return fieldSize(len(Key{}))
}

// appendKey appends the field of a key, unless it is zero.
func appendKey(d []byte, field protowire.Number, key Key) []byte {
	if key == (Key{}) {
		return d
	}
	return protowire.AppendBytes(protowire.AppendTag(d, field, protowire.BytesType), key[:])
}

// fieldSize returns the size of a field of n bytes with a number below 16.
func fieldSize(n int) int { return 1 + protowire.SizeBytes(n) }

func textSize(text string) int {
	if text == "" {
		return 0
	}
	return fieldSize(len(text))
}

// appendText appends a string field, unless it is empty, as proto3 does.
func appendText(d []byte, field protowire.Number, text string) []byte {
	if text == "" {
		return d
	}
	return protowire.AppendString(protowire.AppendTag(d, field, protowire.BytesType), text)
}

// appendNumber appends a number field, unless it is zero, as proto3 does.
func appendNumber(d []byte, field protowire.Number, n uint64) []byte {
	if n == 0 {
		return d
	}
	return protowire.AppendVarint(protowire.AppendTag(d, field, protowire.VarintType), n)
}
