package checkpoint

import (
	"encoding/binary"
	"fmt"
	"time"

	"github.com/accrue/accrue/pkg/increment"
	"github.com/accrue/accrue/pkg/message"
)

// KeyRange has the idempotency keys of items of one batch that a partition has settled, or a single key.
type KeyRange struct {
	Prefix message.KeyPrefix
	// First and Last are the numbers of the first and the last item.
	First, Last uint16
	// Partitions is the number of partitions that the batch was divided among. The range has the items that belong to its partition
	// by that number, or all items if it is 0.
	Partitions uint16
	// Fingerprint is a hash of the entry that was counted with a single key. Different fingerprints mean different entries; equal
	// ones do not prove that the entries are equal. It is 0 if First is not Last.
	Fingerprint uint16
}

// Holds reports whether the range has an item of its batch. The range must be one of the partition that the item belongs to.
func (r *KeyRange) Holds(item uint16, name string, partition uint32) bool {
	return r.First <= item && item <= r.Last &&
		(r.Partitions == 0 || r.First == r.Last || increment.Partition(name, uint32(r.Partitions)) == partition)
}

const (
	// keyRangesVersion is the first byte of what PackKeyRanges returns.
	keyRangesVersion = 3
	keyRangeSize     = len(message.KeyPrefix{}) + 3*2
	// releasedKeySize is the size of a key and its fingerprint in the format of version 2.
	releasedKeySize = len(message.Key{}) + 2
)

// MaxKeyRanges bounds the key ranges of one Commit, so that their document stays within Firestore's limit.
const MaxKeyRanges = 900 << 10 / keyRangeSize

// PackKeyRanges packs the key ranges of one Commit: the version, and each range uncompressed.
func PackKeyRanges(ranges []KeyRange) []byte {
	b := append(make([]byte, 0, 1+keyRangeSize*len(ranges)), keyRangesVersion)
	for i := range ranges {
		r := &ranges[i]
		last := r.Partitions
		if r.First == r.Last {
			last = r.Fingerprint
		}
		b = append(b, r.Prefix[:]...)
		b = binary.BigEndian.AppendUint16(b, r.First)
		b = binary.BigEndian.AppendUint16(b, r.Last)
		b = binary.BigEndian.AppendUint16(b, last)
	}
	return b
}

// UnpackKeyRanges is the inverse of PackKeyRanges. It returns ErrCorrupt for other bytes.
func UnpackKeyRanges(packed []byte) ([]KeyRange, error) {
	if len(packed) == 0 || packed[0] != keyRangesVersion || (len(packed)-1)%keyRangeSize != 0 {
		return nil, fmt.Errorf("%w: keys of %d bytes", ErrCorrupt, len(packed))
	}
	ranges := make([]KeyRange, (len(packed)-1)/keyRangeSize)
	for i := range ranges {
		at, r := packed[1+i*keyRangeSize:], &ranges[i]
		copy(r.Prefix[:], at)
		at = at[len(r.Prefix):]
		r.First, r.Last, r.Partitions = binary.BigEndian.Uint16(at), binary.BigEndian.Uint16(at[2:]), binary.BigEndian.Uint16(at[4:])
		if r.First == r.Last {
			r.Partitions, r.Fingerprint = 0, r.Partitions
		}
		if r.First > r.Last || r.Partitions > increment.MaxPartitions {
			return nil, fmt.Errorf("%w: keys %d to %d of %d partitions", ErrCorrupt, r.First, r.Last, r.Partitions)
		}
	}
	return ranges, nil
}

// UnpackReleasedKeys reads the keys of a Commit in the format of version 2: keys and fingerprints in turn. It returns ErrCorrupt for
// other bytes.
func UnpackReleasedKeys(packed []byte) ([]KeyRange, error) {
	if len(packed)%releasedKeySize != 0 {
		return nil, fmt.Errorf("%w: keys of %d bytes", ErrCorrupt, len(packed))
	}
	ranges := make([]KeyRange, len(packed)/releasedKeySize)
	for i := range ranges {
		at := packed[i*releasedKeySize:]
		key := message.Key(at[:len(message.Key{})])
		prefix, item := key.Split()
		ranges[i] = KeyRange{Prefix: prefix, First: item, Last: item, Fingerprint: binary.BigEndian.Uint16(at[len(key):])}
	}
	return ranges, nil
}

// ReleasedMarks is what a checkpoint of version 0.1 has of its keys, packed: times, and numbers of Commits from which on there
// are keys of these times. Later versions keep it for as long as such keys can be repeated, and add nothing.
type ReleasedMarks []byte

// keepReleased is longer than version 0.1 knew keys.
const keepReleased = 25 * time.Hour

// read returns the number of the first Commit with keys, and the time of the last mark. It is 0 if there are none.
func (m ReleasedMarks) read() (first uint64, last time.Time, err error) {
	if len(m) == 0 {
		return 0, time.Time{}, nil
	}
	r := reader{rest: m}
	var at int64
	for i := range r.count(2) {
		at += r.varint()
		if commit := r.uvarint(); i == 0 {
			first = commit
		}
	}
	return first, time.Unix(at, 0).UTC(), r.end("marks of keys")
}

// First returns the number of the first Commit that has keys, or 0. The error is ErrCorrupt.
func (m ReleasedMarks) First() (uint64, error) {
	first, _, err := m.read()
	return first, err
}

// at returns the marks as they are to be kept at a time.
func (m ReleasedMarks) at(now time.Time) ReleasedMarks {
	if first, last, err := m.read(); err != nil || first == 0 || now.Sub(last) > keepReleased {
		return nil
	}
	return m
}

// Packed returns the marks as they are written.
func (m ReleasedMarks) Packed() []byte {
	if len(m) == 0 {
		return []byte{0} // an empty list
	}
	return m
}
