package migrate

import (
	"context"
	"iter"
	"time"

	"github.com/accrue/accrue/pkg/checkpoint"
	"github.com/accrue/accrue/pkg/store"
	storeembedded "github.com/accrue/accrue/pkg/store/embedded"
)

const (
	// maxDocuments bounds the documents of tags and contributors in one Commit.
	maxDocuments = 400
	// maxPeriods and maxPeriodBytes bound the periods in one Commit.
	maxPeriods, maxPeriodBytes = 100, 4 << 20
	// page is how many Commits' keys, or documents of rejected entries, are read at once.
	page = 100
)

// never is after all periods.
var never = time.Date(9000, 1, 1, 0, 0, 0, 0, time.UTC)

// folder is what is migrated. Nothing in it changes meanwhile.
type folder struct {
	*storeembedded.Store
	partitions []uint32
	// asOf is the time of the last Commit: periods that had expired by then are left.
	asOf time.Time
	// keepKeys is how long keys are kept.
	keepKeys time.Duration
}

// readFolder returns the folder of a store.
func readFolder(ctx context.Context, s *storeembedded.Store, keepKeys time.Duration) (*folder, error) {
	f := &folder{Store: s, keepKeys: keepKeys}
	totals, _, err := s.Totals(ctx)
	if err != nil {
		return nil, err
	}
	for _, p := range totals {
		if p.Err != nil {
			return nil, p.Err
		}
		f.partitions = append(f.partitions, p.Partition)
		if p.UpdatedAt.After(f.asOf) {
			f.asOf = p.UpdatedAt
		}
	}
	return f, nil
}

// plan returns the Commits that make a partition in another store what it is in the folder, without their revisions. They are
// the same ones in each run, so that the number of the last Commit says how far an earlier run has come.
//
// Tags and contributors are increased by what they have; the checkpoint grows with the tags, and only the last one holds the
// publishers. What belongs to no partition, contributors and layouts, comes with the first.
func (f *folder) plan(ctx context.Context, partition uint32) iter.Seq2[store.Commit, error] {
	return func(yield func(store.Commit, error) bool) {
		state, err := f.Load(ctx, partition)
		if err != nil {
			yield(store.Commit{}, err)
			return
		}
		final := state.Checkpoint
		layouts, _, err := f.Layouts(ctx)
		if err != nil {
			yield(store.Commit{}, err)
			return
		}
		n := uint64(0)
		commit := func(c store.Commit) bool {
			if n++; n == 1 && partition == f.partitions[0] && layouts.Version > 0 {
				c.Layouts = &store.LayoutsChange{Next: layouts}
			}
			c.Partition, c.Next.Commit = partition, n
			if c.Next.UpdatedAt.IsZero() {
				c.Next.UpdatedAt = final.UpdatedAt
			}
			return yield(c, nil)
		}
		for _, part := range []func(context.Context, uint32, func(store.Commit) bool) (bool, error){f.keys, f.rejected, f.periods, f.contributors} {
			more, err := part(ctx, partition, commit)
			if err != nil {
				yield(store.Commit{}, err)
			}
			if err != nil || !more {
				return
			}
		}
		for done := 0; ; {
			tags := final.Totals[done:min(done+maxDocuments, len(final.Totals))]
			done += len(tags)
			c := store.Commit{Next: checkpoint.Checkpoint{Totals: final.Totals[:done:done]}}
			for _, t := range tags {
				c.Tags = append(c.Tags, checkpoint.Delta{Name: t.Name, Value: t.Total, Increments: t.Increments})
			}
			if done == len(final.Totals) {
				c.Next = final
				c.Next.Owed, c.Next.OwedSince = nil, time.Time{} // the documents of the target have it
				commit(c)
				return
			}
			if !commit(c) {
				return
			}
		}
	}
}

// keys plans a Commit for each that had keys, at its time.
func (f *folder) keys(ctx context.Context, partition uint32, commit func(store.Commit) bool) (more bool, err error) {
	for after := (store.KeysPosition{}); ; {
		read, err := f.Keys(ctx, partition, after, page)
		if err != nil || len(read) == 0 {
			return true, err
		}
		for _, k := range read {
			if !commit(store.Commit{Keys: k.Keys, KeepKeys: f.keepKeys, Next: checkpoint.Checkpoint{UpdatedAt: k.At}}) {
				return false, nil
			}
		}
		after = read[len(read)-1].KeysPosition
	}
}

// rejected plans a Commit for each document of rejected entries of the partition.
func (f *folder) rejected(ctx context.Context, partition uint32, commit func(store.Commit) bool) (more bool, err error) {
	for after := ""; ; {
		read, err := f.Rejected(ctx, after, page)
		if err != nil || len(read) == 0 {
			return true, err
		}
		for _, r := range read {
			if r.Partition == partition && !commit(store.Commit{Rejected: r.Entries, Next: checkpoint.Checkpoint{UpdatedAt: r.RejectedAt}}) {
				return false, nil
			}
		}
		after = read[len(read)-1].ID()
	}
}

// periods plans Commits of the history.
func (f *folder) periods(ctx context.Context, partition uint32, commit func(store.Commit) bool) (more bool, err error) {
	var c store.Commit
	size := 0
	for _, r := range checkpoint.Resolutions() {
		read, err := f.History(ctx, partition, r, oldest(r, f.asOf), never)
		if err != nil {
			return true, err
		}
		for _, p := range read {
			changes, err := checkpoint.UnpackChanges(p.Changes)
			if err != nil {
				return true, err
			}
			if len(c.Closed) == maxPeriods || size+len(p.Changes) > maxPeriodBytes {
				if !commit(c) {
					return false, nil
				}
				c, size = store.Commit{}, 0
			}
			c.Closed = append(c.Closed, checkpoint.Period{Resolution: r, Begin: p.Begin, Changes: changes})
			size += len(p.Changes)
		}
	}
	return len(c.Closed) == 0 || commit(c), nil
}

// oldest returns the beginning of the oldest period that can be read at a time.
func oldest(r checkpoint.Resolution, at time.Time) time.Time {
	return r.Begin(at.Add(-store.Retention(r)))
}

// contributors plans Commits of all contributors, if the partition is the first.
func (f *folder) contributors(ctx context.Context, partition uint32, commit func(store.Commit) bool) (more bool, err error) {
	if partition != f.partitions[0] {
		return true, nil
	}
	for read, err := range contributorPages(ctx, f) {
		if err != nil {
			return true, err
		}
		var c store.Commit
		for _, contributor := range read {
			c.Contributors = append(c.Contributors, store.Contributions{Contributor: contributor.ID, Contributions: contributor.Contributions})
		}
		if !commit(c) {
			return false, nil
		}
	}
	return true, nil
}

// contributorPages returns all contributors of a store by id, in pages that one Commit takes.
func contributorPages(ctx context.Context, from interface {
	Contributors(ctx context.Context, order store.Order, after store.Contributor, limit int) ([]store.Contributor, time.Time, error)
},
) iter.Seq2[[]store.Contributor, error] {
	return func(yield func([]store.Contributor, error) bool) {
		for after := (store.Contributor{}); ; {
			read, _, err := from.Contributors(ctx, store.ByID, after, maxDocuments)
			if err != nil {
				yield(nil, err)
				return
			}
			if len(read) == 0 || !yield(read, nil) {
				return
			}
			after = read[len(read)-1]
		}
	}
}
