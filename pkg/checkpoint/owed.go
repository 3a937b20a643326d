package checkpoint

import (
	"encoding/binary"
	"time"
)

// A checkpoint owes changes to the documents of tags while TAG_DOCUMENTS makes their writes rarer than Commits. What is owed is a part of
// the checkpoint, and a Commit that writes it to the documents takes it out of the checkpoint, so that the sum of both is exact
// at all times.

// owedSize is the maximum size of an owed change without its name: one byte each for the two lengths of the name, 7 for the value
// and for the number of increments.
const owedSize = 1 + 1 + 7 + 7

// FormatVersion returns the version of the checkpoint's packed format: VersionOwing if it owes something, so that a program that does not
// know of that does not drop it, and else Version.
func (c *Checkpoint) FormatVersion() int64 {
	if len(c.Owed) > 0 {
		return VersionOwing
	}
	return Version
}

// Readable reports whether a checkpoint of a version can be read.
func Readable(version int64) bool { return version == Version || version == VersionOwing }

// Owe adds deltas to what a checkpoint owes that Next has returned. They must be sorted by name without repetition.
func (c *Checkpoint) Owe(deltas []Delta) {
	if len(deltas) == 0 {
		return
	}
	if len(c.Owed) == 0 {
		c.OwedSince = c.UpdatedAt
	}
	sum := make([]Delta, 0, len(c.Owed)+len(deltas))
	owed := c.Owed
	for _, d := range deltas {
		for len(owed) > 0 && owed[0].Name < d.Name {
			sum, owed = append(sum, owed[0]), owed[1:]
		}
		if len(owed) > 0 && owed[0].Name == d.Name {
			d.Value += owed[0].Value
			d.Increments += owed[0].Increments
			owed = owed[1:]
		}
		sum = append(sum, d)
	}
	sum = append(sum, owed...)
	c.Owed = sum
}

// Pay takes what some tags are owed out of a checkpoint that Next has returned, whose Commit must write it to their documents. Paid must
// be a subsequence of Owed.
func (c *Checkpoint) Pay(paid []Delta) {
	left := make([]Delta, 0, len(c.Owed)-len(paid))
	for _, d := range c.Owed {
		if len(paid) > 0 && paid[0].Name == d.Name {
			paid = paid[1:]
			continue
		}
		left = append(left, d)
	}
	if c.Owed = left; len(left) == 0 {
		c.Owed, c.OwedSince = nil, time.Time{}
	}
}

// OwedSize returns the maximum size of the packed owed changes for the present tags, whatever their values, or 0 if there are none.
func (c *Checkpoint) OwedSize() int {
	size := 0
	for i := range c.Owed {
		size += len(c.Owed[i].Name) + owedSize
	}
	return size
}

// PackOwed packs what is owed: the number of changes, then for each, in the order of names, the name as in PackTotals, the value and
// the number of increments. It returns nil if nothing is owed.
func (c *Checkpoint) PackOwed() []byte {
	if len(c.Owed) == 0 {
		return nil
	}
	b := binary.AppendUvarint(make([]byte, 0, 16+len(c.Owed)*12), uint64(len(c.Owed)))
	var previous string
	for i := range c.Owed {
		d := &c.Owed[i]
		b = appendName(b, previous, d.Name)
		b = binary.AppendVarint(b, d.Value)
		b = binary.AppendVarint(b, d.Increments)
		previous = d.Name
	}
	return b
}

// UnpackOwed is the inverse of PackOwed. It returns ErrCorrupt for other bytes.
func UnpackOwed(packed []byte) ([]Delta, error) {
	if len(packed) == 0 {
		return nil, nil
	}
	r := reader{rest: packed}
	owed := make([]Delta, r.count(4))
	var name []byte
	for i := range owed {
		name = r.name(name)
		owed[i] = Delta{Name: string(name), Value: r.varint(), Increments: r.varint()}
		if r.failed || i > 0 && owed[i].Name <= owed[i-1].Name {
			r.failed = true
			break
		}
	}
	return owed, r.end("owed changes")
}
