package checkpoint

import (
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/accrue/accrue/pkg/message"
)

// RejectedVersion is the first byte of packed entries.
const RejectedVersion = 1

// MaxRejected bounds the packed size of the entries that one Commit rejects, so that their document stays within Firestore's
// limit.
const MaxRejected = 900 << 10

// Rejected is an entry that could not be counted when its message was settled: an increment if Tag is set, otherwise a
// contribution. It stays in the document that its Commit wrote until it is redriven.
type Rejected struct {
	Tag         string
	Value       uint8
	Contributor string
	// Key is the idempotency key, or zero. Keys of rejected entries are known keys.
	Key    message.Key
	Reason string
}

// Size returns the maximum size of the packed entry without its reason. It is less than the size of the entry in its message.
func (r *Rejected) Size() int {
	size := 1 + 2 + uvarintSize(uint64(len(r.Tag)+len(r.Contributor))) + len(r.Tag) + len(r.Contributor) + 1
	if r.Key != (message.Key{}) {
		size += len(r.Key)
	}
	return size
}

// The flags of a packed entry.
const (
	rejectedContribution = 1 << iota
	rejectedKeyed
)

// PackRejected packs entries: the version, the reasons, and for each entry a byte of flags, the index of its reason, its tag or
// contributor, the value of an increment, and its key, if it has one. Numbers and lengths are varints.
func PackRejected(entries []Rejected) []byte {
	var reasons []string
	for i := range entries {
		if !slices.Contains(reasons, entries[i].Reason) {
			reasons = append(reasons, entries[i].Reason)
		}
	}
	b := append(make([]byte, 0, 64+24*len(entries)), RejectedVersion)
	b = binary.AppendUvarint(b, uint64(len(reasons)))
	for _, reason := range reasons {
		b = appendText(b, reason)
	}
	b = binary.AppendUvarint(b, uint64(len(entries)))
	for i := range entries {
		e := &entries[i]
		var flags byte
		if e.Tag == "" {
			flags |= rejectedContribution
		}
		if e.Key != (message.Key{}) {
			flags |= rejectedKeyed
		}
		b = append(b, flags)
		b = binary.AppendUvarint(b, uint64(slices.Index(reasons, e.Reason))) //nolint:gosec // not negative: reasons has all
		if e.Tag == "" {
			b = appendText(b, e.Contributor)
		} else {
			b = append(appendText(b, e.Tag), e.Value)
		}
		if e.Key != (message.Key{}) {
			b = append(b, e.Key[:]...)
		}
	}
	return b
}

func appendText(b []byte, text string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(text))), text...)
}

// UnpackRejected is the inverse of PackRejected. It returns ErrCorrupt for other bytes.
func UnpackRejected(packed []byte) ([]Rejected, error) {
	if len(packed) == 0 || packed[0] != RejectedVersion {
		return nil, fmt.Errorf("%w: rejected entries of an unknown version", ErrCorrupt)
	}
	r := reader{rest: packed[1:]}
	reasons := make([]string, r.count(1))
	for i := range reasons {
		reasons[i] = r.text()
	}
	entries := make([]Rejected, r.count(3))
	for i := range entries {
		e, flags, reason := &entries[i], r.byte(), r.uvarint()
		if reason >= uint64(len(reasons)) || flags > rejectedContribution|rejectedKeyed {
			r.failed = true
			break
		}
		e.Reason = reasons[reason]
		if flags&rejectedContribution != 0 {
			e.Contributor = r.text()
		} else {
			e.Tag, e.Value = r.text(), r.byte()
		}
		if flags&rejectedKeyed != 0 {
			copy(e.Key[:], r.bytes(uint64(len(e.Key))))
		}
		r.failed = r.failed || e.Tag == "" && e.Contributor == "" || flags&rejectedKeyed != 0 && e.Key == (message.Key{})
	}
	return entries, r.end("rejected entries")
}
