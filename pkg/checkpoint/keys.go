package checkpoint

import (
	"encoding/binary"
	"fmt"

	"github.com/accrue/accrue/pkg/message"
)

// SeenKey is the idempotency key of a counted entry.
type SeenKey struct {
	Key message.Key
	// Fingerprint is a hash of the entry that was counted with the key. Different fingerprints mean different entries; equal
	// ones do not prove that the entries are equal.
	Fingerprint uint16
}

// seenKeySize is the size of a packed SeenKey in bytes.
const seenKeySize = len(message.Key{}) + 2

// MaxSeenKeys bounds the keys of one Commit, so that their document stays within Firestore's limit.
const MaxSeenKeys = 900 << 10 / seenKeySize

// PackSeenKeys packs the keys of one Commit: the key and the fingerprint of each, uncompressed.
func PackSeenKeys(keys []SeenKey) []byte {
	b := make([]byte, 0, seenKeySize*len(keys))
	for i := range keys {
		b = append(b, keys[i].Key[:]...)
		b = binary.BigEndian.AppendUint16(b, keys[i].Fingerprint)
	}
	return b
}

// UnpackSeenKeys reads what PackSeenKeys wrote. The error is ErrCorrupt.
func UnpackSeenKeys(packed []byte) ([]SeenKey, error) {
	if len(packed)%seenKeySize != 0 {
		return nil, fmt.Errorf("%w: seen keys of %d bytes", ErrCorrupt, len(packed))
	}
	keys := make([]SeenKey, len(packed)/seenKeySize)
	for i := range keys {
		at := packed[i*seenKeySize:]
		copy(keys[i].Key[:], at)
		keys[i].Fingerprint = binary.BigEndian.Uint16(at[len(keys[i].Key):])
	}
	return keys, nil
}
