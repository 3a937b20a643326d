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

// Version is the version of the packed form, kept in a field of its own beside it. A reader refuses a version that it
// does not know, so that an old aggregator stops rather than overwrites what a newer one wrote.
const Version = 2

// ErrCorrupt is the case of packed bytes that no version of this package wrote.
var ErrCorrupt = errors.New("corrupt checkpoint")

// tagSize is the most that a tag takes beside its name. A total or a number of increments takes 7 bytes up to 2^48, which
// all tags of a full partition cannot reach together (docs/decisions/0002-checkpoint-size.md). What is open in a minute
// takes 5 bytes and in an hour 6, and then the tag's age is below an hour, and takes 4; an older one takes 6 up to 139
// years, and then the open changes are zero.
const tagSize = 1 + 1 + 7 + 7 + 4 + 5 + 6

// PackPublishers returns the counted messages, packed: for each publisher, in the order of its id, the id, the second
// it was last seen, and its intervals, each as its distance from the one before and its length. All numbers are
// varints.
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

// PublishersSize is the length of PackPublishers, without packing.
func (c *Checkpoint) PublishersSize() int {
	size := uvarintSize(uint64(len(c.Publishers)))
	for _, counted := range c.Publishers {
		seen := counted.LastSeen.Unix()
		size += len(message.Publisher{}) + uvarintSize(uint64(seen)<<1^uint64(seen>>63)) + uvarintSize(uint64(len(counted.Sequences))) //nolint:gosec // as binary.AppendVarint has it
		var last uint64
		for _, iv := range counted.Sequences {
			size += uvarintSize(iv.First-last) + uvarintSize(iv.Last-iv.First)
			last = iv.Last
		}
	}
	return size
}

// uvarintSize is the length of n as binary.AppendUvarint writes it.
func uvarintSize(n uint64) int { return (bits.Len64(n|1) + 6) / 7 }

// PackTotals returns the totals, packed: the time of the checkpoint, then for each tag, in the order of names, how many
// bytes of its name it shares with the one before, the rest of the name, the total, the number of increments, how long
// before the checkpoint it was changed, and its changes in the open minute and hour. All numbers are varints, times in
// milliseconds.
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

// appendName appends how many bytes a name shares with the one before it, and the rest of it.
func appendName(b []byte, previous, name string) []byte {
	shared := 0
	for shared < min(len(previous), len(name)) && previous[shared] == name[shared] {
		shared++
	}
	b = binary.AppendUvarint(b, uint64(shared))
	b = binary.AppendUvarint(b, uint64(len(name)-shared)) //nolint:gosec // not negative
	return append(b, name[shared:]...)
}

// UnpackPublishers reads what PackPublishers wrote. The error is ErrCorrupt.
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

// UnpackTotals reads what PackTotals wrote: the totals, sorted by name, and the time of the checkpoint. The error is
// ErrCorrupt.
func UnpackTotals(packed []byte) ([]Total, time.Time, error) {
	r := reader{rest: packed}
	totals := make([]Total, r.count(7))
	updated := r.varint()
	var name []byte
	for i := range totals {
		name = r.name(name)
		totals[i] = Total{
			Name: string(name), Total: r.varint(), Increments: r.varint(), UpdatedAt: time.UnixMilli(updated - r.varint()).UTC(),
			Minute: r.varint(), Hour: r.varint(),
		}
		if r.failed || i > 0 && totals[i].Name <= totals[i-1].Name {
			r.failed = true
			break
		}
	}
	return totals, time.UnixMilli(updated).UTC(), r.end("totals")
}

// reader takes values off packed bytes. After the first fault it returns zeros, and end reports the fault.
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

// count reads a number of things that take at least size bytes each: a corrupt count cannot ask for more memory than
// the bytes that are there.
func (r *reader) count(size int) int {
	n := r.uvarint()
	if n > uint64(len(r.rest)/size) { //nolint:gosec // a length
		r.failed = true
		return 0
	}
	return int(n) //nolint:gosec // bounded above
}

// name takes a name off that appendName wrote after the one given, whose memory it uses.
func (r *reader) name(previous []byte) []byte {
	shared := r.uvarint()
	if shared > uint64(len(previous)) {
		r.failed = true
		return previous[:0]
	}
	return append(previous[:shared], r.bytes(r.uvarint())...)
}

// end returns the fault, which bytes that are left are too.
func (r *reader) end(part string) error {
	r.failed = r.failed || len(r.rest) > 0
	return r.fault(part)
}

// fault returns ErrCorrupt after a fault.
func (r *reader) fault(part string) error {
	if r.failed {
		return fmt.Errorf("%w: %s, %d bytes from the end", ErrCorrupt, part, len(r.rest))
	}
	return nil
}
