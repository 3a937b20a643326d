package checkpoint

import (
	"encoding/binary"
	"fmt"

	"github.com/accrue/accrue/pkg/increment"
	"github.com/accrue/accrue/pkg/message"
)

// KeyRange is the idempotency keys of some items of one batch that one partition settled, or one key.
type KeyRange struct {
	Prefix message.KeyPrefix
	// First and Last are the numbers of the first and of the last item.
	First, Last uint16
	// Partitions is the number of partitions that the batch was divided among. The range holds the items that belong to its
	// partition by that number, and 0 means that it holds all.
	Partitions uint16
	// Fingerprint identifies what a single key was counted with: two that differ were given to different entries. Equal ones say
	// little. It is 0 if First is not Last.
	Fingerprint uint16
}

// Holds reports whether the range holds an item of its batch, whose name belongs to a partition. The range is of that
// partition.
func (r *KeyRange) Holds(item uint16, name string, partition uint32) bool {
	return r.First <= item && item <= r.Last &&
		(r.Partitions == 0 || r.First == r.Last || increment.Partition(name, uint32(r.Partitions)) == partition)
}

const (
	// keyRangesVersion is the first byte of what PackKeyRanges returns.
	keyRangesVersion = 3
	keyRangeSize     = len(message.KeyPrefix{}) + 3*2
	// releasedKeySize is what a key takes in the form of version 2: the key and its print.
	releasedKeySize = len(message.Key{}) + 2
)

// MaxKeyRanges is the maximum number of key ranges in one Commit, so that their document stays within what Firestore takes.
const MaxKeyRanges = 900 << 10 / keyRangeSize

// PackKeyRanges returns the key ranges of one Commit, packed: a version, and each as it is.
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

// UnpackKeyRanges reads what PackKeyRanges wrote. The error is ErrCorrupt.
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

// UnpackReleasedKeys reads the keys of a Commit of version 2: a key and its print, one after the other. The error is
// ErrCorrupt.
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
