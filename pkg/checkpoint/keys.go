package checkpoint

import (
	"encoding/binary"
	"fmt"

	"github.com/accrue/accrue/pkg/message"
)

// SeenKey is an idempotency key that was counted.
type SeenKey struct {
	Key message.Key
	// Print tells what it was counted with: two that differ were of different entries. Equal ones say little.
	Print uint16
}

// seenKeySize is what a SeenKey takes, packed.
const seenKeySize = len(message.Key{}) + 2

// MaxSeenKeys is the most keys that one Commit may bring, so that their document stays within what Firestore takes.
const MaxSeenKeys = 900 << 10 / seenKeySize

// PackSeenKeys returns the keys of one Commit, packed: each as it is.
func PackSeenKeys(keys []SeenKey) []byte {
	b := make([]byte, 0, seenKeySize*len(keys))
	for i := range keys {
		b = append(b, keys[i].Key[:]...)
		b = binary.BigEndian.AppendUint16(b, keys[i].Print)
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
		keys[i].Print = binary.BigEndian.Uint16(at[len(keys[i].Key):])
	}
	return keys, nil
}
