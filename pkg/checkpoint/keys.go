package checkpoint

import (
	"encoding/binary"
	"fmt"
	"time"

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

// MaxSeenKeys is the most keys that one Commit may bring: their document stays within MaxSize.
const MaxSeenKeys = MaxSize / seenKeySize

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

// KeyMark says that the Commits of this number and later are of this time, to the second, and later: where to begin
// to read the idempotency keys of some time ago.
type KeyMark struct {
	At     time.Time
	Commit uint64
}

const (
	// keyMarksPerKeep is how many marks the time for which keys are kept has.
	keyMarksPerKeep = 64
	// keyMarkSize is the most that a mark takes: the distances of a time and of a Commit's number, as varints.
	keyMarkSize = 5 + 8
)

// MarkKeys notes that the Commit of c has keys, which are kept for a time from now on. It is for a checkpoint that Next
// made and that nobody else has seen yet.
func (c *Checkpoint) MarkKeys(keep time.Duration) {
	now := c.UpdatedAt.Truncate(time.Second)
	marks := make([]KeyMark, 0, len(c.Keys)+1)
	for i, m := range c.Keys {
		if i+1 == len(c.Keys) || c.Keys[i+1].At.After(now.Add(-keep)) {
			marks = append(marks, m)
		}
	}
	if len(marks) == 0 || now.Sub(marks[len(marks)-1].At) > keep/keyMarksPerKeep {
		marks = append(marks, KeyMark{now, c.Commit})
	}
	c.Keys = marks
}

// KeysSince returns the number of a Commit such that it and later ones have all keys that were committed at a time or
// after it, and false if no Commit has any.
func (c *Checkpoint) KeysSince(t time.Time) (commit uint64, ok bool) {
	for _, m := range c.Keys {
		if ok && m.At.After(t) {
			break
		}
		commit, ok = m.Commit, true
	}
	return commit, ok
}

// PackKeys returns the marks, packed: their number, and each as its distance from the one before, in seconds and in
// Commits, as varints.
func (c *Checkpoint) PackKeys() []byte {
	b := binary.AppendUvarint(nil, uint64(len(c.Keys)))
	last := KeyMark{At: time.Unix(0, 0)}
	for _, m := range c.Keys {
		b = binary.AppendVarint(b, m.At.Unix()-last.At.Unix())
		b = binary.AppendUvarint(b, m.Commit-last.Commit)
		last = m
	}
	return b
}

// UnpackKeys reads what PackKeys wrote. The error is ErrCorrupt.
func UnpackKeys(packed []byte) ([]KeyMark, error) {
	r := reader{rest: packed}
	n := r.count(2)
	if n == 0 {
		return nil, r.end("keys")
	}
	marks := make([]KeyMark, n)
	at, commit := int64(0), uint64(0)
	for i := range marks {
		at += r.varint()
		distance := r.uvarint()
		if commit += distance; commit < distance || i > 0 && distance == 0 {
			r.failed = true
			break
		}
		marks[i] = KeyMark{time.Unix(at, 0).UTC(), commit}
	}
	return marks, r.end("keys")
}
