package store

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/accrue/accrue/pkg/checkpoint"
)

// Limits of Firestore (https://firebase.google.com/docs/firestore/quotas).
const (
	// MaxDocumentBytes is the maximum size of a document (https://firebase.google.com/docs/firestore/storage-size).
	MaxDocumentBytes = 1 << 20
	// MaxValueBytes is the maximum size of a field's value.
	MaxValueBytes = MaxDocumentBytes - 89
	// MaxCommitBytes is the maximum size of a Commit request.
	MaxCommitBytes = 10 << 20
	// MaxTransforms is the maximum number of transforms of one document in a Commit.
	MaxTransforms = 500
	// MaxIDBytes is the maximum length of a document id.
	MaxIDBytes = 1500
)

const (
	// smallFields bounds the size in bytes of a document without its packed fields: its name, times and numbers, and the names
	// of its fields.
	smallFields = 512
	// writeFraming bounds the size in bytes of a write in a request without the id and the packed fields of its document.
	writeFraming = 512
)

// document has the properties of a written document that limits apply to.
type document struct {
	collection, id string
	packed         []int // the sizes of its packed fields in bytes
	transforms     int
}

// documents returns the documents that the Commit writes. Unless exact is set, bounds of the sizes of the checkpoint's fields take the place
// of the sizes.
func (c *Commit) documents(exact bool) []document {
	sizes := []int{c.Next.PublishersSize(), c.Next.TotalsSize(), c.Next.OwedSize() + 16}
	if exact {
		sizes = []int{len(c.Next.PackPublishers()), len(c.Next.PackTotals()), len(c.Next.PackOwed())}
	}
	all := []document{{Partitions, PartitionID(c.Partition), sizes, 0}}
	for _, d := range c.Tags {
		all = append(all, document{Tags, TagID(d.Name), nil, 2})
	}
	for _, d := range c.Contributors {
		all = append(all, document{Contributors, ContributorID(d.Contributor), nil, 2})
	}
	if len(c.Keys) > 0 {
		all = append(all, document{Keys, KeysID(KeysPosition{c.Next.UpdatedAt, c.Next.Commit}), []int{len(checkpoint.PackKeyRanges(c.Keys))}, 0})
	}
	if f := c.Fold; f != nil {
		all = append(all, document{Folds, KeysID(f.KeysPosition), []int{len(checkpoint.PackKeyRanges(f.Keys))}, 0})
	}
	if c.Audit != nil {
		all = append(all, document{Audit, c.Audit.ID, []int{len(c.Audit.Record)}, 0})
	}
	if len(c.Rejected) > 0 {
		id := RejectedID(c.Partition, c.Next.Commit)
		all = append(all, document{Rejected, id, []int{len(checkpoint.PackRejected(c.Rejected))}, 0})
	}
	for _, p := range c.Closed {
		all = append(all, document{PeriodsOf(p.Resolution), PeriodID(p.Begin), []int{len(checkpoint.PackChanges(p.Changes))}, 0})
	}
	return all
}

// CheckLimits returns ErrRefused with the reason if Firestore would refuse the Commit because of its size or its ids. The small
// fields of a document count as 512 bytes together, so a document that close to the limit is refused although Firestore might
// accept it.
func (c *Commit) CheckLimits() error {
	if c.checkLimits(false) == nil { // most Commits are far from the limits: packing them to see that would cost as much as sending them
		return nil
	}
	return c.checkLimits(true)
}

func (c *Commit) checkLimits(exact bool) error {
	request := 0
	transforms := make(map[string]int)
	for _, d := range c.documents(exact) {
		size := smallFields
		for _, n := range d.packed {
			if n > MaxValueBytes {
				return fmt.Errorf("%w: a field of a document in %s has %d bytes, over %d", ErrRefused, d.collection, n, MaxValueBytes)
			}
			size += n
		}
		if size > MaxDocumentBytes {
			return fmt.Errorf("%w: a document in %s has %d bytes, over %d", ErrRefused, d.collection, size, MaxDocumentBytes)
		}
		if !validID(d.id) {
			return fmt.Errorf("%w: the id of a document in %s is reserved or too long", ErrRefused, d.collection)
		}
		name := d.collection + "/" + d.id
		if transforms[name] += d.transforms; transforms[name] > MaxTransforms {
			return fmt.Errorf("%w: a document in %s has more than %d transforms", ErrRefused, d.collection, MaxTransforms)
		}
		request += size - smallFields + len(d.id) + writeFraming
	}
	if request > MaxCommitBytes {
		return fmt.Errorf("%w: the request has %d bytes, over %d", ErrRefused, request, MaxCommitBytes)
	}
	return nil
}

// validID reports whether Firestore accepts a document id.
func validID(id string) bool {
	reserved := len(id) >= 4 && strings.HasPrefix(id, "__") && strings.HasSuffix(id, "__")
	return id != "" && id != "." && id != ".." && !reserved &&
		len(id) <= MaxIDBytes && !strings.Contains(id, "/") && utf8.ValidString(id)
}
