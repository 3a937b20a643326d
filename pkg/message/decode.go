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
	err = fields(data, 0, func(f field) error {
		switch {
		case f.is(publisherField, protowire.BytesType):
			publisher = len(f.bytes)
			b.Publisher = Publisher{}
			copy(b.Publisher[:], f.bytes)
		case f.is(partitionField, protowire.VarintType):
			b.Partition = uint32(f.number) //nolint:gosec // as protobuf reads a uint32
		case f.is(sequenceField, protowire.VarintType):
			b.Sequence = f.number
		case f.is(acceptedAtField, protowire.VarintType):
			b.AcceptedAt = time.UnixMicro(int64(f.number)).UTC() //nolint:gosec // as protobuf reads an int64
		case f.is(partitionsField, protowire.VarintType):
			b.Partitions = uint32(f.number) //nolint:gosec // as protobuf reads a uint32
		case f.is(incrementsField, protowire.BytesType):
			inc, err := decodeIncrement(f, text)
			if err != nil {
				return fmt.Errorf("increment %d: %w", len(b.Increments), err)
			}
			b.Increments = append(b.Increments, inc)
		case f.is(contributionsField, protowire.BytesType):
			c, err := decodeContribution(f, text)
			if err != nil {
				return fmt.Errorf("contribution %d: %w", len(b.Contributions), err)
			}
			b.Contributions = append(b.Contributions, c)
		}
		return nil
	})
	switch {
	case err != nil:
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
	err = fields(data, 0, func(f field) error {
		switch {
		case f.is(incrementsField, protowire.BytesType):
			increments++
		case f.is(contributionsField, protowire.BytesType):
			contributions++
		}
		return nil
	})
	return increments, contributions, err
}

func decodeIncrement(in field, text string) (inc Increment, err error) {
	var value uint64
	err = fields(in.bytes, in.at, func(f field) (err error) {
		switch {
		case f.is(tagField, protowire.BytesType):
			inc.Tag, err = f.text(text)
		case f.is(valueField, protowire.VarintType):
			value = uint64(uint32(f.number)) //nolint:gosec // as protobuf reads a uint32
		case f.is(keyField, protowire.BytesType):
			inc.Key, err = keyFrom(f.bytes)
		}
		return err
	})
	if err == nil {
		err = errors.Join(increment.ValidateName(inc.Tag), increment.ValidateValue(int64(value)))
	}
	inc.Value = uint8(value)
	return inc, err
}

func decodeContribution(in field, text string) (c Contribution, err error) {
	err = fields(in.bytes, in.at, func(f field) (err error) {
		switch {
		case f.is(contributorField, protowire.BytesType):
			c.Contributor, err = f.text(text)
		case f.is(contributionKeyField, protowire.BytesType):
			c.Key, err = keyFrom(f.bytes)
		}
		return err
	})
	if err == nil {
		err = increment.ValidateContributor(c.Contributor)
	}
	return c, err
}

// field is one field: the number of a varint, or bytes and their offset in the message.
type field struct {
	number uint64
	bytes  []byte
	at     int
	field  protowire.Number
	kind   protowire.Type
}

// is reports whether the field has a number and a type. A known number with another type is an unknown field.
func (f *field) is(number protowire.Number, kind protowire.Type) bool {
	return f.field == number && f.kind == kind
}

// text returns the field as a substring of the text of the message.
func (f *field) text(message string) (string, error) {
	if !utf8.Valid(f.bytes) {
		return "", errUTF8
	}
	return message[f.at : f.at+len(f.bytes)], nil
}

// fields calls each with every field of data, which begins at an offset in the message.
func fields(data []byte, at int, each func(field) error) error {
	for len(data) > 0 {
		var f field
		var n int
		f.field, f.kind, n = protowire.ConsumeTag(data)
		if n < 0 {
			return protowire.ParseError(n)
		}
		data, at = data[n:], at+n
		switch f.kind {
		case protowire.VarintType:
			f.number, n = protowire.ConsumeVarint(data)
		case protowire.BytesType:
			f.bytes, n = protowire.ConsumeBytes(data)
			f.at = at + n - len(f.bytes)
		default:
			n = protowire.ConsumeFieldValue(f.field, f.kind, data)
		}
		if n < 0 {
			return protowire.ParseError(n)
		}
		data, at = data[n:], at+n
		if err := each(f); err != nil {
			return err
		}
	}
	return nil
}
