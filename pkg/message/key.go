package message

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
)

// Key is an idempotency key as messages and the store hold it: the first 16 bytes of its SHA-256, so that it is infeasible to
// make two keys collide. The zero value means no key.
type Key [16]byte

// KeyOf returns the key of an entry that was posted alone, or in a batch with an id of its own. Text is valid by
// increment.ValidateKey.
func KeyOf(text string) Key { return hash(text) }

// KeyOfBatch returns the key of the first entry of a batch that was posted with one key. The keys of the other entries
// follow by Next. It differs from KeyOf every valid text, since those have no space.
func KeyOfBatch(text string) Key { return hash(text + " ") }

// Next returns the key of the next entry of a batch, the number after k. One hash is enough for a thousand entries, and to
// make the keys of two batches collide is, but for that factor, as hard as to make two hashes collide.
func (k Key) Next() Key {
	n := k.number()
	n.low++
	binary.BigEndian.PutUint64(k[8:], n.low)
	if n.low == 0 { // it carries
		binary.BigEndian.PutUint64(k[:], n.high+1)
	}
	return k
}

// KeyPrefix is all of a key but the item's number. The keys of a batch share it, but for a batch whose numbers carry.
type KeyPrefix [14]byte

// Split returns the prefix of a key and the rest as a number: Next adds 1 to it.
func (k Key) Split() (prefix KeyPrefix, item uint16) {
	return KeyPrefix(k[:len(prefix)]), binary.BigEndian.Uint16(k[len(prefix):])
}

// number is a key as two numbers, which are faster to compare and to add to.
type number struct{ high, low uint64 }

func (k Key) number() number {
	return number{binary.BigEndian.Uint64(k[:8]), binary.BigEndian.Uint64(k[8:])}
}

func (n number) zero() bool { return n.high|n.low == 0 }

// after returns how much larger n is than before, if no more than their items differ, and 0 otherwise.
func (n number) after(before number) uint64 {
	if n.high != before.high || n.low>>16 != before.low>>16 || n.low <= before.low || before.zero() {
		return 0
	}
	return n.low - before.low
}

// Follow makes k the key that is next larger than before, of which only the item may differ, as a message has it in place of the key. It
// returns an error if there is no such key, or k is not zero.
func (k *Key) Follow(before Key, next uint32) error {
	n := before.number()
	low := n.low + uint64(next)
	if *k != (Key{}) || n.zero() || low>>16 != n.low>>16 {
		return fmt.Errorf("key %d after %s", next, before)
	}
	*k = before
	binary.BigEndian.PutUint64(k[8:], low)
	return nil
}

func hash(text string) Key {
	sum := sha256.Sum256([]byte(text))
	return Key(sum[:len(Key{})])
}

// String returns the key in hexadecimal.
func (k Key) String() string { return hex.EncodeToString(k[:]) }

// keyFrom decodes a key. No bytes mean no key.
func keyFrom(wire []byte) (Key, error) {
	if len(wire) == 0 {
		return Key{}, nil
	}
	if len(wire) != len(Key{}) {
		return Key{}, fmt.Errorf("key has %d bytes, not %d", len(wire), len(Key{}))
	}
	return Key(wire), nil
}
