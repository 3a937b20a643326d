// Package view is what query serves: the totals of all partitions, merged, and kept in memory (design sections 1 and
// 5b). The merge is arithmetic on immutable values and knows no clock, no network and no store; the Refresher keeps the
// latest value up to date.
package view

import (
	"slices"
	"strings"
	"time"

	"github.com/accrue/accrue/pkg/checkpoint"
	"github.com/accrue/accrue/pkg/store"
)

// View is every tag's total as of one read of the partitions. It never changes: Next makes the view of the next read and
// shares with this one whatever that read found unchanged, so readers hold a View as long as they like, without a
// lock. The zero value is the view before the first read.
type View struct {
	asOf       time.Time
	version    uint64
	whole      uint64 // the version of the last removal
	tags       []Tag  // sorted by name
	partitions map[uint32]store.PartitionTotals
}

// Tag is the total of one tag, the sum of all partitions that it has lived in.
type Tag struct {
	Name       string
	Total      int64
	Increments int64
	// UpdatedAt is the time of the last Commit that changed the tag, to the millisecond.
	UpdatedAt time.Time
	// Version is the version of the view in which the tag last changed.
	Version uint64
}

// AsOf is the time of the read that the view is of, by the store's clock. It is zero before the first.
func (v *View) AsOf() time.Time { return v.asOf }

// Version numbers the contents that this process has seen: 0 before the first read, 1 after it, and from then on one
// more with each read that found a tag changed. It means nothing to another process.
func (v *View) Version() uint64 { return v.version }

// Tags are all tags, sorted by name. The slice is shared with every other reader: it must not be changed.
func (v *View) Tags() []Tag { return v.tags }

// ChangesSince returns the tags that have changed since a version, as they are now, sorted by name: put into the view of
// that version, they make this one. It returns false when no list of tags does that, and the reader must start over with
// all Tags: the version is not of this view's past, or a tag has left since, which happens only when somebody deletes
// a partition's document.
func (v *View) ChangesSince(version uint64) ([]Tag, bool) {
	if version < v.whole || version > v.version {
		return nil, false
	}
	var changed []Tag
	if version < v.version {
		for _, t := range v.tags {
			if t.Version > version {
				changed = append(changed, t)
			}
		}
	}
	return changed, true
}

// Next returns the view of a read at the time asOf that found these partitions, each listed once, in any order. A
// partition whose revision has not moved is not looked into; of the others only the tags that changed are merged. Next
// keeps the slices of totals: they must not be changed afterwards.
func (v *View) Next(read []store.PartitionTotals, asOf time.Time) *View {
	next := *v
	next.asOf = asOf
	var deltas []delta
	if v.moved(read) {
		next.partitions = make(map[uint32]store.PartitionTotals, len(read))
		for _, p := range read {
			before, known := v.partitions[p.Partition]
			if known && sameRevision(before, p) {
				next.partitions[p.Partition] = before
				continue
			}
			next.partitions[p.Partition] = p
			deltas = diff(deltas, before.Totals, p.Totals)
		}
		for partition, before := range v.partitions {
			if _, ok := next.partitions[partition]; !ok {
				deltas = diff(deltas, before.Totals, nil)
			}
		}
	}
	next.apply(deltas)
	if next.version == 0 {
		next.version = 1 // a first read that found nothing is a view all the same
	}
	return &next
}

// moved says whether any partition is new, gone, or of another revision.
func (v *View) moved(read []store.PartitionTotals) bool {
	return len(read) != len(v.partitions) || slices.ContainsFunc(read, func(p store.PartitionTotals) bool {
		before, known := v.partitions[p.Partition]
		return !known || !sameRevision(before, p)
	})
}

func sameRevision(a, b store.PartitionTotals) bool {
	return a.Revision.UpdateTime.Equal(b.Revision.UpdateTime)
}

// delta is what one partition's change adds to one tag.
type delta struct {
	name       string
	total      int64
	increments int64
	updatedAt  time.Time
	// recount is set when the tag left the partition or its time went back (another aggregator's clock): whether the
	// tag is still there, and since when, is then for all partitions to say.
	recount bool
}

// diff appends what has changed between two states of a partition. Both are sorted by name.
func diff(deltas []delta, before, after []checkpoint.Total) []delta {
	for len(before) > 0 || len(after) > 0 {
		var order int
		switch {
		case len(before) == 0:
			order = 1
		case len(after) == 0:
			order = -1
		default:
			order = strings.Compare(before[0].Name, after[0].Name)
		}
		switch {
		case order < 0:
			b := before[0]
			deltas = append(deltas, delta{b.Name, -b.Total, -b.Increments, time.Time{}, true})
			before = before[1:]
		case order > 0:
			a := after[0]
			deltas = append(deltas, delta{a.Name, a.Total, a.Increments, a.UpdatedAt, false})
			after = after[1:]
		default:
			b, a := before[0], after[0]
			if a.Total != b.Total || a.Increments != b.Increments || !a.UpdatedAt.Equal(b.UpdatedAt) {
				back := a.UpdatedAt.Before(b.UpdatedAt)
				deltas = append(deltas, delta{a.Name, a.Total - b.Total, a.Increments - b.Increments, a.UpdatedAt, back})
			}
			before, after = before[1:], after[1:]
		}
	}
	return deltas
}

// apply merges deltas into the tags, as a new slice, and moves the version if that changed any of them.
func (v *View) apply(deltas []delta) {
	if len(deltas) == 0 {
		return
	}
	slices.SortFunc(deltas, func(a, b delta) int { return strings.Compare(a.name, b.name) })
	var (
		rest    = v.tags
		tags    = make([]Tag, 0, len(v.tags)+len(deltas))
		version = v.version + 1
		changed = false
	)
	for len(deltas) > 0 {
		name := deltas[0].name
		n := 1
		for n < len(deltas) && deltas[n].name == name {
			n++
		}
		i, found := slices.BinarySearchFunc(rest, name, func(t Tag, name string) int {
			return strings.Compare(t.Name, name)
		})
		tags = append(tags, rest[:i]...)
		before := Tag{Name: name}
		if rest = rest[i:]; found {
			before, rest = rest[0], rest[1:]
		}
		after, stays := v.sum(before, deltas[:n])
		deltas = deltas[n:]
		switch {
		case found && stays && same(before, after): // it moved between partitions, say
			tags = append(tags, before)
		case stays:
			after.Version = version
			tags = append(tags, after)
			changed = true
		case found:
			v.whole = version
			changed = true
		}
	}
	if changed {
		tags = append(tags, rest...)
		v.tags, v.version = tags, version
	}
}

// sum returns the tag after deltas of its own, and whether any partition still has it.
func (v *View) sum(tag Tag, deltas []delta) (Tag, bool) {
	for _, d := range deltas {
		if d.recount {
			return v.recount(tag)
		}
		tag.Total += d.total
		tag.Increments += d.increments
		tag.UpdatedAt = later(tag.UpdatedAt, d.updatedAt)
	}
	return tag, true
}

// recount sums the tag over all partitions anew, and says whether any has it.
func (v *View) recount(tag Tag) (Tag, bool) {
	tag.Total, tag.Increments, tag.UpdatedAt = 0, 0, time.Time{}
	anywhere := false
	for _, p := range v.partitions {
		i, found := slices.BinarySearchFunc(p.Totals, tag.Name, func(t checkpoint.Total, name string) int {
			return strings.Compare(t.Name, name)
		})
		if found {
			tag.Total += p.Totals[i].Total
			tag.Increments += p.Totals[i].Increments
			tag.UpdatedAt = later(tag.UpdatedAt, p.Totals[i].UpdatedAt)
			anywhere = true
		}
	}
	return tag, anywhere
}

// Part is what one partition has of a tag.
type Part struct {
	Partition uint32
	Total     checkpoint.Total
	// UpdatedAt is the time of the partition's checkpoint, which says what Total's open minute and hour are.
	UpdatedAt time.Time
}

// Parts returns what each partition that the tag has lived in has of it, in no order: of most tags there is one.
func (v *View) Parts(tag string) []Part {
	var parts []Part
	for number, p := range v.partitions {
		if i, found := slices.BinarySearchFunc(p.Totals, tag, func(t checkpoint.Total, name string) int {
			return strings.Compare(t.Name, name)
		}); found {
			parts = append(parts, Part{number, p.Totals[i], p.UpdatedAt})
		}
	}
	return parts
}

func same(a, b Tag) bool {
	return a.Total == b.Total && a.Increments == b.Increments && a.UpdatedAt.Equal(b.UpdatedAt)
}

func later(a, b time.Time) time.Time {
	if a.Before(b) {
		return b
	}
	return a
}
