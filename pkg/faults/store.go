package faults

import (
	"context"
	"time"

	"github.com/accrue/accrue/pkg/checkpoint"
	"github.com/accrue/accrue/pkg/store"
	"github.com/accrue/accrue/pkg/store/storetest"
)

// Store is a store behind faults, with the limits of Firestore.
type Store struct {
	storetest.Store
	faults *Faults
}

// Store wraps a store.
func (f *Faults) Store(s storetest.Store) *Store { return &Store{s, f} }

// doPage is do for a request with two results.
func doPage[T, U any](ctx context.Context, f *Faults, method string, request func(context.Context) (T, U, error)) (T, U, error) {
	type both struct {
		first  T
		second U
	}
	results, err := do(ctx, f, Call{Method: method}, func(ctx context.Context) (both, error) {
		first, second, err := request(ctx)
		return both{first, second}, err
	})
	return results.first, results.second, err
}

// Load loads a checkpoint.
func (s *Store) Load(ctx context.Context, partition uint32) (store.State, error) {
	return do(ctx, s.faults, Call{Method: "Load", Partition: partition}, func(ctx context.Context) (store.State, error) {
		return s.Store.Load(ctx, partition)
	})
}

// Commit commits, or returns store.ErrRefused for a Commit over the limits.
func (s *Store) Commit(ctx context.Context, commit store.Commit) (store.Revision, error) {
	call := Call{Method: "Commit", Partition: commit.Partition, Commit: &commit}
	return do(ctx, s.faults, call, func(ctx context.Context) (store.Revision, error) {
		if err := commit.CheckLimits(); err != nil {
			return store.Revision{}, err
		}
		return s.Store.Commit(ctx, commit)
	})
}

// Keys reads the idempotency keys of some Commits.
func (s *Store) Keys(ctx context.Context, partition uint32, after store.KeysPosition, limit int) ([]store.CommitKeys, error) {
	return do(ctx, s.faults, Call{Method: "Keys", Partition: partition}, func(ctx context.Context) ([]store.CommitKeys, error) {
		return s.Store.Keys(ctx, partition, after, limit)
	})
}

// Folds reads folds of idempotency keys.
func (s *Store) Folds(ctx context.Context, partition uint32, after store.KeysPosition, limit int) ([]store.Fold, error) {
	return do(ctx, s.faults, Call{Method: "Folds", Partition: partition}, func(ctx context.Context) ([]store.Fold, error) {
		return s.Store.Folds(ctx, partition, after, limit)
	})
}

// ReleasedKeys reads the keys that version 0.1 wrote.
func (s *Store) ReleasedKeys(ctx context.Context, partition uint32, first uint64, limit int) ([]store.CommitKeys, error) {
	return do(ctx, s.faults, Call{Method: "ReleasedKeys", Partition: partition}, func(ctx context.Context) ([]store.CommitKeys, error) {
		return s.Store.ReleasedKeys(ctx, partition, first, limit)
	})
}

// Peek peeks at partitions.
func (s *Store) Peek(ctx context.Context, partitions []uint32) ([]store.Peeked, error) {
	return do(ctx, s.faults, Call{Method: "Peek"}, func(ctx context.Context) ([]store.Peeked, error) {
		return s.Store.Peek(ctx, partitions)
	})
}

// Owing reads which partitions owe something to the documents of tags.
func (s *Store) Owing(ctx context.Context) ([]store.Owing, time.Time, error) {
	return doPage(ctx, s.faults, "Owing", s.Store.Owing)
}

// Layouts reads the layouts.
func (s *Store) Layouts(ctx context.Context) (checkpoint.Layouts, store.Revision, error) {
	return doPage(ctx, s.faults, "Layouts", s.Store.Layouts)
}

// Rejected reads rejected entries.
func (s *Store) Rejected(ctx context.Context, after string, limit int) ([]store.RejectedEntries, error) {
	return do(ctx, s.faults, Call{Method: "Rejected"}, func(ctx context.Context) ([]store.RejectedEntries, error) {
		return s.Store.Rejected(ctx, after, limit)
	})
}

// History reads closed periods.
func (s *Store) History(ctx context.Context, partition uint32, r checkpoint.Resolution, from, to time.Time) ([]store.Period, error) {
	return do(ctx, s.faults, Call{Method: "History", Partition: partition}, func(ctx context.Context) ([]store.Period, error) {
		return s.Store.History(ctx, partition, r, from, to)
	})
}

// Totals reads all totals.
func (s *Store) Totals(ctx context.Context) ([]store.PartitionTotals, time.Time, error) {
	return doPage(ctx, s.faults, "Totals", s.Store.Totals)
}

// Tags reads all documents of tags.
func (s *Store) Tags(ctx context.Context) ([]store.Tag, error) {
	return do(ctx, s.faults, Call{Method: "Tags"}, s.Store.Tags)
}

// TagsNamed reads the documents of some tags.
func (s *Store) TagsNamed(ctx context.Context, names []string) ([]store.Tag, error) {
	return do(ctx, s.faults, Call{Method: "TagsNamed"}, func(ctx context.Context) ([]store.Tag, error) {
		return s.Store.TagsNamed(ctx, names)
	})
}

// Check checks whether the store answers.
func (s *Store) Check(ctx context.Context) error { return call(ctx, s.faults, "Check", s.Store.Check) }

// Contributor reads a contributor.
func (s *Store) Contributor(ctx context.Context, id string) (store.Contributor, error) {
	return do(ctx, s.faults, Call{Method: "Contributor"}, func(ctx context.Context) (store.Contributor, error) {
		return s.Store.Contributor(ctx, id)
	})
}

// Standing reads a contributor with their recognitions.
func (s *Store) Standing(ctx context.Context, contributor string) (store.Standing, error) {
	return do(ctx, s.faults, Call{Method: "Standing"}, func(ctx context.Context) (store.Standing, error) {
		return s.Store.Standing(ctx, contributor)
	})
}

// Contributors reads a page of contributors.
func (s *Store) Contributors(
	ctx context.Context, order store.Order, after store.Contributor, limit int,
) ([]store.Contributor, time.Time, error) {
	return doPage(ctx, s.faults, "Contributors", func(ctx context.Context) ([]store.Contributor, time.Time, error) {
		return s.Store.Contributors(ctx, order, after, limit)
	})
}

// ContributorsWith reads a page of the contributors whose ids have a prefix.
func (s *Store) ContributorsWith(
	ctx context.Context, prefix string, after store.Contributor, limit int,
) ([]store.Contributor, time.Time, error) {
	return doPage(ctx, s.faults, "ContributorsWith", func(ctx context.Context) ([]store.Contributor, time.Time, error) {
		return s.Store.ContributorsWith(ctx, prefix, after, limit)
	})
}

// Due reads the contributors who have reached a tier.
func (s *Store) Due(ctx context.Context, recognized, tier int64, limit int) ([]store.Contributor, error) {
	return do(ctx, s.faults, Call{Method: "Due"}, func(ctx context.Context) ([]store.Contributor, error) {
		return s.Store.Due(ctx, recognized, tier, limit)
	})
}

// Recognize creates a recognition.
func (s *Store) Recognize(ctx context.Context, r store.Recognition) error {
	return call(ctx, s.faults, "Recognize", func(ctx context.Context) error { return s.Store.Recognize(ctx, r) })
}

// Raise raises a recognized tier.
func (s *Store) Raise(ctx context.Context, contributor string, tier int64) error {
	return call(ctx, s.faults, "Raise", func(ctx context.Context) error { return s.Store.Raise(ctx, contributor, tier) })
}

// Recognitions reads a page of recognitions.
func (s *Store) Recognitions(
	ctx context.Context, filter store.RecognitionFilter, after store.Recognition, limit int,
) ([]store.Recognition, time.Time, error) {
	return doPage(ctx, s.faults, "Recognitions", func(ctx context.Context) ([]store.Recognition, time.Time, error) {
		return s.Store.Recognitions(ctx, filter, after, limit)
	})
}

// Pending reads a page of pending recognitions.
func (s *Store) Pending(
	ctx context.Context, after store.Recognition, limit int,
) ([]store.PendingRecognition, time.Time, error) {
	return doPage(ctx, s.faults, "Pending", func(ctx context.Context) ([]store.PendingRecognition, time.Time, error) {
		return s.Store.Pending(ctx, after, limit)
	})
}

// Claim claims pending recognitions.
func (s *Store) Claim(ctx context.Context, pending []store.PendingRecognition) ([]store.PendingRecognition, error) {
	return do(ctx, s.faults, Call{Method: "Claim"}, func(ctx context.Context) ([]store.PendingRecognition, error) {
		return s.Store.Claim(ctx, pending)
	})
}

// MarkSent marks recognitions as sent.
func (s *Store) MarkSent(ctx context.Context, sent []store.Recognition) error {
	return call(ctx, s.faults, "MarkSent", func(ctx context.Context) error { return s.Store.MarkSent(ctx, sent) })
}

// RecognizedTiers reads the recognized tiers.
func (s *Store) RecognizedTiers(ctx context.Context) ([]int64, error) {
	return do(ctx, s.faults, Call{Method: "RecognizedTiers"}, s.Store.RecognizedTiers)
}

// CountRecognized counts contributors and recognitions of a tier.
func (s *Store) CountRecognized(ctx context.Context, tier int64) (contributors, recognitions int64, err error) {
	return doPage(ctx, s.faults, "CountRecognized", func(ctx context.Context) (int64, int64, error) {
		return s.Store.CountRecognized(ctx, tier)
	})
}

// Unrecognized reads a page of contributors who lack a recognition.
func (s *Store) Unrecognized(
	ctx context.Context, tier int64, after store.Contributor, limit int,
) ([]store.Contributor, store.Contributor, error) {
	return doPage(ctx, s.faults, "Unrecognized", func(ctx context.Context) ([]store.Contributor, store.Contributor, error) {
		return s.Store.Unrecognized(ctx, tier, after, limit)
	})
}

// Waiting counts the rejected entries.
func (s *Store) Waiting(ctx context.Context) (int64, error) {
	return do(ctx, s.faults, Call{Method: "Waiting"}, s.Store.Waiting)
}

// PutAudit writes an audit record.
func (s *Store) PutAudit(ctx context.Context, record store.AuditRecord) error {
	return call(ctx, s.faults, "PutAudit", func(ctx context.Context) error { return s.Store.PutAudit(ctx, record) })
}

// Audits reads a page of audit records.
func (s *Store) Audits(ctx context.Context, after string, limit int) ([]store.AuditRecord, error) {
	return do(ctx, s.faults, Call{Method: "Audits"}, func(ctx context.Context) ([]store.AuditRecord, error) {
		return s.Store.Audits(ctx, after, limit)
	})
}

// DropTag deletes the document of a tag.
func (s *Store) DropTag(ctx context.Context, name string) error {
	return call(ctx, s.faults, "DropTag", func(ctx context.Context) error { return s.Store.DropTag(ctx, name) })
}

// Erase erases a contributor.
func (s *Store) Erase(ctx context.Context, contributor string, audit store.AuditRecord) (store.Standing, error) {
	return do(ctx, s.faults, Call{Method: "Erase"}, func(ctx context.Context) (store.Standing, error) {
		return s.Store.Erase(ctx, contributor, audit)
	})
}
