package api

import (
	"cmp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/accrue/accrue/query/internal/view"
)

const (
	// maxSnapshots and maxSnapshotTags bound what is kept for the pages to come: some 64 MiB of tags. The latest snapshot
	// is kept in any case.
	maxSnapshots, maxSnapshotTags = 32, 1_000_000
	// snapshotAge is how long after its last page a snapshot is kept at most.
	snapshotAge = 5 * time.Minute
)

// sortedBy is what a snapshot is sorted by.
type sortedBy byte

const (
	byTotal sortedBy = iota
	byUpdatedAt
)

// snapshot is a version's tags in an order other than the names'. Totals move while a client pages through them, so a
// tag could pass the client's place unseen, or be seen on both sides of it: pages in such an order are all of one
// snapshot.
type snapshot struct {
	version uint64
	by      sortedBy
	tags    []view.Tag // not changed once it is here
	// asOf is the last time at which the tags are known to have been so.
	asOf time.Time
	used time.Time
	// continued says that somebody has asked for a page after the first. Until then it is probably not for paging: most who
	// ask for the top ten want no more.
	continued bool
}

// snapshots keeps those that may be asked for again. Its methods may be called at the same time; the zero value is ready.
type snapshots struct {
	mu   sync.Mutex
	kept []*snapshot
	tags int // in all that are kept
}

// of returns the snapshot of a view, sorted when it is first asked for, and keeps it for later pages.
func (s *snapshots) of(v *view.View, by sortedBy) (tags []view.Tag, asOf time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	found := s.find(v.Version(), by)
	if found == nil {
		found = &snapshot{version: v.Version(), by: by, tags: sorted(v.Tags(), by), used: time.Now()}
		s.makeRoom(len(found.tags))
		s.kept = append(s.kept, found)
		s.tags += len(found.tags)
	}
	found.used = time.Now()
	if found.asOf.Before(v.AsOf()) {
		found.asOf = v.AsOf()
	}
	return found.tags, found.asOf
}

// again returns the snapshot of a version, for a page after the first, if it is still kept.
func (s *snapshots) again(version uint64, by sortedBy) (tags []view.Tag, asOf time.Time, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	found := s.find(version, by)
	if found == nil || time.Since(found.used) > snapshotAge {
		return nil, time.Time{}, false
	}
	found.used, found.continued = time.Now(), true
	return found.tags, found.asOf, true
}

func (s *snapshots) find(version uint64, by sortedBy) *snapshot {
	for _, k := range s.kept {
		if k.version == version && k.by == by {
			return k
		}
	}
	return nil
}

// makeRoom drops what is too old, and then, until there is room for one more of so many tags, what is least likely to be
// asked for: first those of which nobody has had a second page, and of equals the one that was used longest ago.
func (s *snapshots) makeRoom(tags int) {
	slices.SortFunc(s.kept, func(a, b *snapshot) int {
		if a.continued != b.continued {
			if b.continued {
				return -1
			}
			return 1
		}
		return a.used.Compare(b.used)
	})
	s.kept = slices.DeleteFunc(s.kept, func(k *snapshot) bool {
		old := time.Since(k.used) > snapshotAge
		if old {
			s.tags -= len(k.tags)
		}
		return old
	})
	n := 0
	for n < len(s.kept) && (len(s.kept)-n >= maxSnapshots || s.tags+tags > maxSnapshotTags) {
		s.tags -= len(s.kept[n].tags)
		n++
	}
	s.kept = slices.Delete(s.kept, 0, n)
}

// sorted returns tags in the order of their totals or times, and equals in the order of their names.
func sorted(tags []view.Tag, by sortedBy) []view.Tag {
	tags = slices.Clone(tags)
	slices.SortFunc(tags, func(a, b view.Tag) int {
		var order int
		if by == byTotal {
			order = cmp.Compare(a.Total, b.Total)
		} else {
			order = a.UpdatedAt.Compare(b.UpdatedAt)
		}
		return cmp.Or(order, strings.Compare(a.Name, b.Name))
	})
	return tags
}
