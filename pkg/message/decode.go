package message

import (
	"errors"
	"fmt"
	"math"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/accrue/accrue/pkg/increment"
)

// Decode decodes a message. The error is ErrInvalid, with the reason, unless every entry follows the rules of package
// increment. Unknown fields are skipped, as protobuf does: a newer ingest may write them.
//
// It is the hot path of the aggregator, so it does not use generated code, which allocates three objects for each entry.
// Decode allocates two slices and a string for each message. A test compares the two.
func Decode(data []byte) (*Batch, error) {
	b := &Batch{AcceptedAt: time.UnixMicro(0).UTC()}
	text := string(data) // the one copy, which all names refer to
	increments, contributions, err := count(data)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	b.Increments, b.Contributions = make([]Increment, 0, increments), make([]Contribution, 0, contributions)
	publisher := 0
	f := fields{message: data, end: len(data)}
	for err == nil && f.next() {
		switch {
		case f.is(publisherField, protowire.BytesType):
			publisher = len(f.bytes())
			b.Publisher = Publisher{}
			copy(b.Publisher[:], f.bytes())
		case f.is(partitionField, protowire.VarintType):
			b.Partition = uint32(f.value) //nolint:gosec // as protobuf reads a uint32
		case f.is(sequenceField, protowire.VarintType):
			b.Sequence = f.value
		case f.is(acceptedAtField, protowire.VarintType):
			b.AcceptedAt = time.UnixMicro(int64(f.value)).UTC() //nolint:gosec // as protobuf reads an int64
		case f.is(partitionsField, protowire.VarintType):
			b.Partitions = uint32(f.value) //nolint:gosec // as protobuf reads a uint32
		case f.is(incrementsField, protowire.BytesType):
			n := len(b.Increments)
			b.Increments = append(b.Increments, Increment{})
			part := f.within()
			var next uint32
			if next, err = b.Increments[n].decode(&part, text); next > 0 && err == nil {
				var before Key
				if n > 0 {
					before = b.Increments[n-1].Key
				}
				err = b.Increments[n].Key.Follow(before, next)
			}
			if err != nil {
				err = fmt.Errorf("increment %d: %w", n, err)
			}
		case f.is(contributionsField, protowire.BytesType):
			n := len(b.Contributions)
			b.Contributions = append(b.Contributions, Contribution{})
			part := f.within()
			var next uint32
			if next, err = b.Contributions[n].decode(&part, text); next > 0 && err == nil {
				var before Key
				if n > 0 {
					before = b.Contributions[n-1].Key
				}
				err = b.Contributions[n].Key.Follow(before, next)
			}
			if err != nil {
				err = fmt.Errorf("contribution %d: %w", n, err)
			}
		}
	}
	switch {
	case err != nil:
	case f.err != nil:
		err = f.err
	case publisher != len(b.Publisher):
		err = fmt.Errorf("publisher has %d bytes, not %d", publisher, len(b.Publisher))
	case b.Partition >= increment.MaxPartitions:
		err = fmt.Errorf("partition %d", b.Partition)
	case b.Partitions > increment.MaxPartitions || b.Partitions > 0 && b.Partition >= b.Partitions:
		err = fmt.Errorf("partition %d of %d", b.Partition, b.Partitions)
	case b.Sequence == 0 || b.Sequence > math.MaxInt64:
		err = fmt.Errorf("sequence %d", b.Sequence)
	case b.Entries() == 0:
		err = errNoEntries
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return b, nil
}

var (
	errNoEntries = errors.New("no entries")
	errUTF8      = errors.New("text is not UTF-8")
)

// count returns how many entries a message lists.
func count(data []byte) (increments, contributions int, err error) {
	f := fields{message: data, end: len(data)}
	for f.next() {
		switch {
		case f.is(incrementsField, protowire.BytesType):
			increments++
		case f.is(contributionsField, protowire.BytesType):
			contributions++
		}
	}
	return increments, contributions, f.err
}

// decode returns the distance of the key from the one before, if it has that in place of the key.
func (i *Increment) decode(f *fields, text string) (next uint32, err error) {
	var value uint64
	for err == nil && f.next() {
		switch {
		case f.is(tagField, protowire.BytesType):
			i.Tag, err = f.text(text)
		case f.is(valueField, protowire.VarintType):
			value = uint64(uint32(f.value)) //nolint:gosec // as protobuf reads a uint32
		case f.is(keyField, protowire.BytesType):
			i.Key, err = keyFrom(f.bytes())
		case f.is(nextField, protowire.VarintType):
			next = uint32(f.value) //nolint:gosec // as protobuf reads a uint32
		}
	}
	switch {
	case err != nil:
		return 0, err
	case f.err != nil:
		return 0, f.err
	}
	i.Value = uint8(value)
	if err = increment.ValidateName(i.Tag); err != nil {
		return 0, err
	}
	return next, increment.ValidateValue(int64(value))
}

func (c *Contribution) decode(f *fields, text string) (next uint32, err error) {
	for err == nil && f.next() {
		switch {
		case f.is(contributorField, protowire.BytesType):
			c.Contributor, err = f.text(text)
		case f.is(contributionKeyField, protowire.BytesType):
			c.Key, err = keyFrom(f.bytes())
		case f.is(contributionNextField, protowire.VarintType):
			next = uint32(f.value) //nolint:gosec // as protobuf reads a uint32
		}
	}
	switch {
	case err != nil:
		return 0, err
	case f.err != nil:
		return 0, f.err
	}
	return next, increment.ValidateContributor(c.Contributor)
}

// fields iterates over the fields of a part of a message. It has offsets and not slices, since to store a pointer for each
// field takes longer than the rest.
type fields struct {
	message []byte
	at, end int
	err     error // why next returned false, if there is a fault

	// Of the field that next went to: its number and type, and the number of a varint or the place of its bytes.

	number   protowire.Number
	kind     protowire.Type
	value    uint64
	from, to int
}

// next goes to the next field, and reports whether there is one.
func (f *fields) next() bool {
	at := f.at
	if at >= f.end {
		return false
	}
	data := f.message[at:f.end]
	n := 1
	if tag := data[0]; tag < 0x80 && tag>>3 > 0 { // nearly all
		f.number, f.kind = protowire.Number(tag>>3), protowire.Type(tag&7)
	} else if f.number, f.kind, n = protowire.ConsumeTag(data); n < 0 {
		return f.fail(n)
	}
	data, at = data[n:], at+n
	switch f.kind {
	case protowire.VarintType:
		f.value, n = protowire.ConsumeVarint(data)
	case protowire.BytesType:
		var bytes []byte
		bytes, n = protowire.ConsumeBytes(data)
		f.from, f.to = at+n-len(bytes), at+n
	default:
		n = protowire.ConsumeFieldValue(f.number, f.kind, data)
	}
	if n < 0 {
		return f.fail(n)
	}
	f.at = at + n
	return true
}

// fail ends the iteration with an error of protowire.
func (f *fields) fail(n int) bool {
	f.err, f.at = protowire.ParseError(n), f.end
	return false
}

// is reports whether the field has a number and a type. A known number with another type is an unknown field.
func (f *fields) is(number protowire.Number, kind protowire.Type) bool {
	return f.number == number && f.kind == kind
}

// bytes returns the bytes of the field.
func (f *fields) bytes() []byte { return f.message[f.from:f.to] }

// within returns the fields of which the field consists.
func (f *fields) within() fields { return fields{message: f.message, at: f.from, end: f.to} }

// text returns the field as a substring of the text of the message.
func (f *fields) text(message string) (string, error) {
	if !utf8.Valid(f.bytes()) {
		return "", errUTF8
	}
	return message[f.from:f.to], nil
}
