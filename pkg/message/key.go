package message

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strconv"
)

// Key is an idempotency key as messages and the store hold it: the first 16 bytes of its SHA-256, so that nobody can make
// two keys that are taken for one. The zero value is no key.
type Key [16]byte

// KeyOf returns the key of an entry that was posted alone, or in a batch with an id of its own. Text is valid by
// increment.ValidateKey.
func KeyOf(text string) Key { return hash(text) }

// KeyInBatch returns the key of entry i, from 0, of a batch that was posted with one key for all. It is no KeyOf a valid
// text, since no valid text has a space in it.
func KeyInBatch(text string, i int) Key { return hash(text + " " + strconv.Itoa(i)) }

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
