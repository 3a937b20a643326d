// Package window sums the messages of one partition. It is pure: it knows no clock, no network and no store.
package window

import (
	"slices"
	"strings"

	"github.com/accrue/accrue/pkg/checkpoint"
	"github.com/accrue/accrue/pkg/message"
	"github.com/accrue/accrue/pkg/store"
)

// Sums is what messages add, by the documents that change. NewSums makes one.
type Sums struct {
	// TagsOwed says that the documents of tags are not written with the sums, so that they do not count.
	TagsOwed bool

	tags, contributors documents
}

// Document is what one document gets.
type Document struct {
	Name string
	// Value and Entries are the sum and the number of the entries that were added.
	Value, Entries int64
	// Rejected is the reason if no entry of the document may be counted. The owner of the Sums sets it.
	Rejected string
}

// Add adds an entry.
func (d *Document) Add(value int64) {
	d.Value += value
	d.Entries++
}

// documents are sorted only when they are read. The map holds places, so that an entry of a known document allocates
// nothing.
type documents struct {
	places map[string]int
	all    []Document
	last   int // entries of one name often follow each other
}

func (d *documents) find(name string) (document *Document, fresh bool) {
	if d.last < len(d.all) && d.all[d.last].Name == name {
		return &d.all[d.last], false
	}
	at, known := d.places[name]
	if !known {
		at = len(d.all)
		d.places[name] = at
		d.all = append(d.all, Document{Name: name})
	}
	d.last = at
	return &d.all[at], !known
}

// NewSums returns empty Sums.
func NewSums() *Sums {
	return &Sums{tags: documents{places: make(map[string]int)}, contributors: documents{places: make(map[string]int)}}
}

// Tag returns the document of a tag, and whether it is asked for the first time. It is valid until the next call.
func (s *Sums) Tag(name string) (document *Document, fresh bool) { return s.tags.find(name) }

// Contributor is Tag for contributors.
func (s *Sums) Contributor(id string) (document *Document, fresh bool) {
	return s.contributors.find(id)
}

// Documents is the number of documents that were asked for.
func (s *Sums) Documents() int {
	if s.TagsOwed {
		return len(s.contributors.all)
	}
	return len(s.tags.all) + len(s.contributors.all)
}

// Fits says whether the documents stay within limit when b is added. A first message always fits: a message is never
// divided, since it is settled as a whole.
func (s *Sums) Fits(b *message.Batch, limit int) bool {
	n := s.Documents()
	if n == 0 || n+b.Entries() <= limit { // no need to look at each
		return true
	}
	fresh := make(map[string]struct{})
	for i := range b.Increments {
		if _, known := s.tags.places[b.Increments[i].Tag]; !known && !s.TagsOwed {
			fresh[b.Increments[i].Tag] = struct{}{}
		}
	}
	n += len(fresh)
	clear(fresh)
	for i := range b.Contributions {
		if _, known := s.contributors.places[b.Contributions[i].Contributor]; !known {
			fresh[b.Contributions[i].Contributor] = struct{}{}
		}
	}
	return n+len(fresh) <= limit
}

// Increments returns how many increments the tags get.
func (s *Sums) Increments() (n int64) {
	for i := range s.tags.all {
		n += s.tags.all[i].Entries
	}
	return n
}

// Deltas returns what the tags get, sorted by name: those that no entry was added to are left out.
func (s *Sums) Deltas() []checkpoint.Delta {
	deltas := make([]checkpoint.Delta, 0, len(s.tags.all))
	for i := range s.tags.all {
		if t := &s.tags.all[i]; t.Entries > 0 {
			deltas = append(deltas, checkpoint.Delta{Name: t.Name, Value: t.Value, Increments: t.Entries})
		}
	}
	slices.SortFunc(deltas, func(a, b checkpoint.Delta) int { return strings.Compare(a.Name, b.Name) })
	return deltas
}

// Contributions returns what the contributors get, as Deltas does.
func (s *Sums) Contributions() []store.Contributions {
	all := make([]store.Contributions, 0, len(s.contributors.all))
	for i := range s.contributors.all {
		if c := &s.contributors.all[i]; c.Entries > 0 {
			all = append(all, store.Contributions{Contributor: c.Name, Contributions: c.Entries})
		}
	}
	slices.SortFunc(all, func(a, b store.Contributions) int { return strings.Compare(a.Contributor, b.Contributor) })
	return all
}
