package checkpoint

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math/bits"
	"slices"
	"time"

	"github.com/accrue/accrue/pkg/message"
)

// Version is the version of the packed format, which documents have in a field. Readers refuse unknown versions, so that an old
// aggregator does not overwrite the checkpoints of a newer one.
const Version = 2

// VersionOwing is the version of a checkpoint that owes something to the documents of tags. A program that knows only Version leaves such
// a partition alone, as one of any other unknown version.
const VersionOwing = 3

// ErrCorrupt is returned for bytes that are not in the packed format.
var ErrCorrupt = errors.New("corrupt checkpoint")

// tagSize is the maximum size of a tag without its name: one byte each for the two lengths of the name, 7 for the total and for
// the number of increments, which is enough up to 2^48, more than all tags of a full partition can reach together
// (docs/decisions/0002-checkpoint-size.md), 4 for the age, and 5 and 6 for the changes in the open minute and hour. An age over
// an hour takes up to 6 bytes, but then the changes are zero.
const tagSize = 1 + 1 + 7 + 7 + 4 + 5 + 6

// PackPublishers packs the settled sequences: for each publisher, in the order of ids, the id, LastSeen in seconds, and the
// intervals, each as its distance from the previous one and its length. All numbers are varints.
func (c *Checkpoint) PackPublishers() []byte {
	b := binary.AppendUvarint(nil, uint64(len(c.Publishers)))
	ids := slices.SortedFunc(maps.Keys(c.Publishers), func(x, y message.Publisher) int { return bytes.Compare(x[:], y[:]) })
	for _, id := range ids {
		counted := c.Publishers[id]
		b = append(b, id[:]...)
		b = binary.AppendVarint(b, counted.LastSeen.Unix())
		b = binary.AppendUvarint(b, uint64(len(counted.Sequences)))
		var last uint64
		for _, iv := range counted.Sequences {
			b = binary.AppendUvarint(b, iv.First-last)
			b = binary.AppendUvarint(b, iv.Last-iv.First)
			last = iv.Last
		}
	}
	return b
}

// PublishersSize returns the length of the result of PackPublishers.
func (c *Checkpoint) PublishersSize() int {
	size := uvarintSize(uint64(len(c.Publishers)))
	for _, counted := range c.Publishers {
		seen := counted.LastSeen.Unix()
		size += len(message.Publisher{}) + uvarintSize(uint64(seen)<<1^uint64(seen>>63)) + uvarintSize(uint64(len(counted.Sequences))) //nolint:gosec // the encoding of binary.AppendVarint
		var last uint64
		for _, iv := range counted.Sequences {
			size += uvarintSize(iv.First-last) + uvarintSize(iv.Last-iv.First)
			last = iv.Last
		}
	}
	return size
}

// uvarintSize returns the length of n encoded by binary.AppendUvarint.
func uvarintSize(n uint64) int { return (bits.Len64(n|1) + 6) / 7 }

// PackTotals packs the totals: the time of the checkpoint, then for each tag, in the order of names, the number of bytes that
// its name shares with the previous one, the rest of the name, the total, the number of increments, the time from its last
// change to the checkpoint, and the changes in the open minute and hour. All numbers are varints, times in milliseconds.
func (c *Checkpoint) PackTotals() []byte {
	b := make([]byte, 0, 16+len(c.Totals)*18)
	b = binary.AppendUvarint(b, uint64(len(c.Totals)))
	b = binary.AppendVarint(b, c.UpdatedAt.UnixMilli())
	var previous string
	for i := range c.Totals {
		t := &c.Totals[i]
		b = appendName(b, previous, t.Name)
		b = binary.AppendVarint(b, t.Total)
		b = binary.AppendVarint(b, t.Increments)
		b = binary.AppendVarint(b, c.UpdatedAt.UnixMilli()-t.UpdatedAt.UnixMilli())
		b = binary.AppendVarint(b, t.Minute)
		b = binary.AppendVarint(b, t.Hour)
		previous = t.Name
	}
	return b
}

// appendName appends the number of bytes that name shares with the previous name, and the rest of name.
func appendName(b []byte, previous, name string) []byte {
	shared := 0
	for shared < min(len(previous), len(name)) && previous[shared] == name[shared] {
		shared++
	}
	b = binary.AppendUvarint(b, uint64(shared))
	b = binary.AppendUvarint(b, uint64(len(name)-shared)) //nolint:gosec // not negative
	return append(b, name[shared:]...)
}

// UnpackPublishers is the inverse of PackPublishers. It returns ErrCorrupt for other bytes.
func UnpackPublishers(packed []byte) (map[message.Publisher]Counted, error) {
	r := reader{rest: packed}
	n := r.count(len(message.Publisher{}))
	publishers := make(map[message.Publisher]Counted, n)
	for range n {
		var id message.Publisher
		copy(id[:], r.bytes(uint64(len(id))))
		counted := Counted{LastSeen: time.Unix(r.varint(), 0).UTC(), Sequences: make(Intervals, r.count(2))}
		var last uint64
		for i := range counted.Sequences {
			first := last + r.uvarint()
			end := first + r.uvarint()
			if end < first || first < last || (i > 0 && first < last+2) || first == 0 {
				r.failed = true
			}
			counted.Sequences[i] = Interval{first, end}
			last = end
		}
		publishers[id] = counted
	}
	return publishers, r.end("publishers")
}

// UnpackTotals is the inverse of PackTotals. It returns the totals, sorted by name, and the time of the checkpoint, or
// ErrCorrupt for other bytes.
func UnpackTotals(packed []byte) ([]Total, time.Time, error) { return UnpackTotalsAfter(packed, nil) }

// UnpackTotalsAfter is UnpackTotals for a reader who has the totals of an earlier checkpoint of the partition. It shares their names, so
// that only new tags allocate.
func UnpackTotalsAfter(packed []byte, before []Total) ([]Total, time.Time, error) {
	r := reader{rest: packed}
	totals := make([]Total, r.count(7))
	updated := r.varint()
	var name []byte
	for i := range totals {
		name = r.name(name)
		for len(before) > 0 && before[0].Name < string(name) {
			before = before[1:]
		}
		var shared string
		if len(before) > 0 && before[0].Name == string(name) {
			shared = before[0].Name
		} else {
			shared = string(name)
		}
		totals[i] = Total{
			Name: shared, Total: r.varint(), Increments: r.varint(), UpdatedAt: time.UnixMilli(updated - r.varint()).UTC(),
			Minute: r.varint(), Hour: r.varint(),
		}
		if r.failed || i > 0 && totals[i].Name <= totals[i-1].Name {
			r.failed = true
			break
		}
	}
	return totals, time.UnixMilli(updated).UTC(), r.end("totals")
}

// reader reads values from packed bytes. After the first error it returns zeros, and end returns the error.
type reader struct {
	rest   []byte
	failed bool
}

func (r *reader) uvarint() uint64 {
	v, n := binary.Uvarint(r.rest)
	if n <= 0 || r.failed {
		r.failed = true
		return 0
	}
	r.rest = r.rest[n:]
	return v
}

func (r *reader) varint() int64 {
	v, n := binary.Varint(r.rest)
	if n <= 0 || r.failed {
		r.failed = true
		return 0
	}
	r.rest = r.rest[n:]
	return v
}

func (r *reader) bytes(n uint64) []byte {
	if r.failed || n > uint64(len(r.rest)) {
		r.failed = true
		return nil
	}
	b := r.rest[:n]
	r.rest = r.rest[n:]
	return b
}

func (r *reader) text() string { return string(r.bytes(r.uvarint())) }

func (r *reader) byte() byte {
	if b := r.bytes(1); b != nil {
		return b[0]
	}
	return 0
}

// count reads the number of items that take at least size bytes each. A corrupt number cannot cause an allocation larger than
// the remaining bytes justify.
func (r *reader) count(size int) int {
	n := r.uvarint()
	if n > uint64(len(r.rest)/size) { //nolint:gosec // a length
		r.failed = true
		return 0
	}
	return int(n) //nolint:gosec // bounded above
}

// name reads a name that appendName wrote. It overwrites previous.
func (r *reader) name(previous []byte) []byte {
	shared := r.uvarint()
	if shared > uint64(len(previous)) {
		r.failed = true
		return previous[:0]
	}
	return append(previous[:shared], r.bytes(r.uvarint())...)
}

// end returns ErrCorrupt if reading has failed or bytes are left.
func (r *reader) end(part string) error {
	r.failed = r.failed || len(r.rest) > 0
	return r.err(part)
}

// err returns ErrCorrupt if reading has failed.
func (r *reader) err(part string) error {
	if r.failed {
		return fmt.Errorf("%w: %s, %d bytes before the end", ErrCorrupt, part, len(r.rest))
	}
	return nil
}
