package message

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
)

// Key is an idempotency key as messages and the store hold it: the first 16 bytes of its SHA-256, so that nobody can make
// two keys that are taken for one. The zero value is no key.
type Key [16]byte

// KeyOf returns the key of an entry that was posted alone, or in a batch with an id of its own. Text is valid by
// increment.ValidateKey.
func KeyOf(text string) Key { return hash(text) }

// KeyOfBatch returns the key of the first entry of a batch that was posted with one key for all; those of the others
// follow it: Next. It is no KeyOf a valid text, since no valid text has a space in it.
func KeyOfBatch(text string) Key { return hash(text + " ") }

// Next is the key of a batch's next entry: the number after it. One hash does for a thousand entries, and to make two
// batches' keys meet is as hard, but for that factor, as to make two hashes meet.
func (k Key) Next() Key {
	for i := len(k) - 1; i >= 0; i-- {
		if k[i]++; k[i] != 0 {
			break
		}
	}
	return k
}

func hash(text string) Key {
	sum := sha256.Sum256([]byte(text))
	return Key(sum[:len(Key{})])
}

// String is the key in hexadecimal.
func (k Key) String() string { return hex.EncodeToString(k[:]) }

// keyFrom reads a key from the wire, where none is empty.
func keyFrom(wire []byte) (Key, error) {
	if len(wire) == 0 {
		return Key{}, nil
	}
	if len(wire) != len(Key{}) {
		return Key{}, fmt.Errorf("key has %d bytes, not %d", len(wire), len(Key{}))
	}
	return Key(wire), nil
}

// onWire is what keyFrom reads.
func (k *Key) onWire() []byte {
	if *k == (Key{}) {
		return nil
	}
	return k[:]
}
