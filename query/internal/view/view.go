// Package view holds what query serves: the totals of all partitions, merged and kept in memory
// (docs/design/architecture.md). The merge is arithmetic on immutable values and knows no clock, network or store; the
// Refresher keeps the latest value up to date.
package view

import (
	"iter"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/accrue/accrue/pkg/checkpoint"
	"github.com/accrue/accrue/pkg/store"
)

// View is every tag's total as of one read of the partitions. It is immutable: Next returns the view of the next read,
// which shares with this one whatever that read found unchanged. Readers may hold a View as long as they like, without
// a lock. The zero value is the view before the first read.
type View struct {
	asOf       time.Time
	version    uint64
	removed    uint64 // the version of the last removal of a tag
	tags       []Tag  // sorted by name
	partitions map[uint32]store.PartitionTotals
	changed    []uint32 // the partitions that the read found new or changed
	unreadable []store.PartitionTotals
}

// Tag is the total of one tag, summed over all partitions that have counted it.
type Tag struct {
	Name       string
	Total      int64
	Increments int64
	// UpdatedAt is the time of the last Commit that changed the tag, to the millisecond.
	UpdatedAt time.Time
	// Version is the version of the view in which the tag last changed.
	Version uint64
}

// AsOf returns the time of the read behind the view, by the store's clock. It is zero before the first read.
func (v *View) AsOf() time.Time { return v.asOf }

// Version numbers the contents that this process has seen: 0 before the first read, 1 after it, and one more with each
// read that found a changed tag. It means nothing to another process.
func (v *View) Version() uint64 { return v.version }

// Tags returns all tags, sorted by name. The slice is shared between readers and must not be modified.
func (v *View) Tags() []Tag { return v.tags }

// Unreadable returns the partitions that the read found and could not read. Their tags are as they were when they could
// last be read by this process, or missing.
func (v *View) Unreadable() []store.PartitionTotals { return v.unreadable }

// ChangesSince returns the tags that have changed since a version, as they are now, sorted by name. It returns false
// when such a list cannot bring a reader of that version up to date, who must then start over with all Tags: the version
// is not one of this view's past, or a tag was removed since, which happens only when a partition's document is deleted.
func (v *View) ChangesSince(version uint64) ([]Tag, bool) {
	if version < v.removed || version > v.version {
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
// partition whose revision is unchanged is skipped; of the others only the tags that changed are merged. Of a partition
// that cannot be read, the view keeps the last totals that could be, if any. Next keeps the slices of totals, which must
// not be modified afterwards.
func (v *View) Next(read []store.PartitionTotals, asOf time.Time) *View {
	next := *v
	next.asOf, next.changed, next.unreadable = asOf, nil, nil
	var deltas []delta
	if v.differs(read) {
		next.partitions = make(map[uint32]store.PartitionTotals, len(read))
		for _, p := range read {
			before, known := v.partitions[p.Partition]
			if p.Err != nil {
				next.unreadable = append(next.unreadable, p)
			}
			if p.Err != nil && !known {
				continue
			}
			if p.Err != nil || known && sameRevision(before, p) {
				next.partitions[p.Partition] = before
				continue
			}
			next.partitions[p.Partition] = p
			next.changed = append(next.changed, p.Partition)
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
		next.version = 1 // also when the first read found nothing
	}
	return &next
}

// differs reports whether any partition is new, gone, or of another revision.
func (v *View) differs(read []store.PartitionTotals) bool {
	return len(read) != len(v.partitions) || slices.ContainsFunc(read, func(p store.PartitionTotals) bool {
		before, known := v.partitions[p.Partition]
		return !known || !sameRevision(before, p) || p.Err != nil
	})
}

func sameRevision(a, b store.PartitionTotals) bool {
	return a.Revision.UpdateTime.Equal(b.Revision.UpdateTime)
}

// delta is what a change of one partition adds to one tag.
type delta struct {
	name       string
	total      int64
	increments int64
	updatedAt  time.Time
	// recount is set when the tag left the partition or its time went back (another aggregator's clock): the tag must
	// then be summed over all partitions again.
	recount bool
}

// diff appends the changes between two states of a partition, both sorted by name.
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

// apply merges deltas into a new slice of tags, and increases the version if any tag changed.
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
		case found && stays && same(before, after): // for example, it moved between partitions
			tags = append(tags, before)
		case stays:
			after.Version = version
			tags = append(tags, after)
			changed = true
		case found:
			v.removed = version
			changed = true
		}
	}
	if changed {
		tags = append(tags, rest...)
		v.tags, v.version = tags, version
	}
}

// sum returns the tag with its deltas applied, and whether any partition still has it.
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

// recount sums the tag over all partitions again, and reports whether any has it.
func (v *View) recount(tag Tag) (Tag, bool) {
	tag.Total, tag.Increments, tag.UpdatedAt = 0, 0, time.Time{}
	parts := v.Parts(tag.Name)
	for _, p := range parts {
		tag.Total += p.Total.Total
		tag.Increments += p.Total.Increments
		tag.UpdatedAt = later(tag.UpdatedAt, p.Total.UpdatedAt)
	}
	return tag, len(parts) > 0
}

// Partitions yields the totals of all partitions, in no order.
func (v *View) Partitions() iter.Seq[store.PartitionTotals] { return maps.Values(v.partitions) }

// Part is one partition's share of a tag.
type Part struct {
	Partition uint32
	Total     checkpoint.Total
	// UpdatedAt is the time of the partition's checkpoint: Total's open minute and hour are the ones it falls into.
	UpdatedAt time.Time
}

// Parts returns the share of each partition that has counted the tag, in no order. Most tags have one.
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
