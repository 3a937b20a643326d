package database

import (
	"encoding/binary"
	"time"
)

// AppendInt appends n to a record.
func AppendInt(record []byte, n int64) []byte { return binary.AppendVarint(record, n) }

// AppendTime appends t to a record in microseconds.
func AppendTime(record []byte, t time.Time) []byte { return AppendInt(record, t.UnixMicro()) }

// AppendBytes appends the length of b and b to a record.
func AppendBytes[T string | []byte](record []byte, b T) []byte {
	return append(binary.AppendUvarint(record, uint64(len(b))), b...)
}

// Record reads values that the Append functions wrote, in the same order. After the first error it returns zeros, and Err returns
// the error.
type Record struct {
	rest   []byte
	failed bool
}

// Read returns a reader of a record.
func Read(record []byte) *Record { return &Record{rest: record} }

// Int reads an integer.
func (r *Record) Int() int64 {
	n, size := binary.Varint(r.rest)
	if size <= 0 || r.failed {
		r.failed = true
		return 0
	}
	r.rest = r.rest[size:]
	return n
}

// Time reads a time, in UTC.
func (r *Record) Time() time.Time { return time.UnixMicro(r.Int()).UTC() }

// Bytes reads bytes. The result is part of the record, so callers must copy what they keep.
func (r *Record) Bytes() []byte {
	n, size := binary.Uvarint(r.rest)
	if size <= 0 || r.failed || n > uint64(len(r.rest)-size) { //nolint:gosec // not negative
		r.failed = true
		return nil
	}
	b := r.rest[size:][:n]
	r.rest = r.rest[size:][n:]
	return b
}

// Rest returns the rest of the record. It is part of the record, so callers must copy what they keep.
func (r *Record) Rest() []byte { return r.rest }

// Err returns ErrCorrupt if the record did not contain what was read.
func (r *Record) Err() error {
	if r.failed {
		return ErrCorrupt
	}
	return nil
}
