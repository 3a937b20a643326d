package firestore

import (
	"context"
	"fmt"
	"math"
	"strconv"
	"time"

	"cloud.google.com/go/firestore/apiv1/firestorepb"

	"github.com/accrue/accrue/pkg/checkpoint"
	"github.com/accrue/accrue/pkg/store"
)

// expiryMargin is added to the retention of a period, so that it does not expire while it is read.
const expiryMargin = time.Hour

// keysWrite returns the write of a Commit's idempotency keys, if it has any.
func (c *Client) keysWrite(commit *store.Commit) []*firestorepb.Write {
	if len(commit.Keys) == 0 {
		return nil
	}
	at := commit.Next.UpdatedAt
	return []*firestorepb.Write{c.put(commit.Partition, store.Keys, store.KeysID(store.KeysPosition{At: at, Commit: commit.Next.Commit}), map[string]*firestorepb.Value{
		fieldVersion:   integer(checkpoint.Version),
		fieldKeys:      packed(checkpoint.PackKeyRanges(commit.Keys)),
		fieldUpdatedAt: timestamp(at),
		fieldExpireAt:  timestamp(at.Add(commit.KeepKeys)),
	})}
}

// releasedOf returns the marks of keys in a checkpoint, or nil if there are none.
func releasedOf(packed []byte) checkpoint.ReleasedMarks {
	if len(packed) <= 1 {
		return nil
	}
	return packed
}

// ReleasedKeys returns the keys of up to limit Commits of a partition that version 0.1 made, from a number on, in order. It reads a
// document for each.
func (c *Client) ReleasedKeys(ctx context.Context, partition uint32, first uint64, limit int) ([]store.CommitKeys, error) {
	var all []store.CommitKeys
	err := c.between(ctx, partition, store.Keys, store.ReleasedKeysID(first), store.ReleasedKeysID(math.MaxInt64), limit, func(doc *firestorepb.Document) error {
		commit, err := strconv.ParseUint(id(doc), 10, 64)
		if err != nil {
			return fmt.Errorf("document id %q is not of version 0.1: %w", id(doc), err)
		}
		keys, err := checkpoint.UnpackReleasedKeys(doc.GetFields()[fieldKeys].GetBytesValue())
		if err != nil {
			return fmt.Errorf("commit %d: %w", commit, err)
		}
		at := doc.GetFields()[fieldUpdatedAt].GetTimestampValue().AsTime()
		all = append(all, store.CommitKeys{KeysPosition: store.KeysPosition{At: at, Commit: commit}, Keys: keys})
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read keys of partition %d: %w", partition, err)
	}
	return all, nil
}

// foldWrite returns the write of the document of a Commit's fold, if it has one.
func (c *Client) foldWrite(commit *store.Commit) []*firestorepb.Write {
	f := commit.Fold
	if f == nil {
		return nil
	}
	return []*firestorepb.Write{c.put(commit.Partition, store.Folds, store.KeysID(f.KeysPosition), map[string]*firestorepb.Value{
		fieldVersion:     integer(checkpoint.Version),
		fieldKeys:        packed(checkpoint.PackKeyRanges(f.Keys)),
		fieldUpdatedAt:   timestamp(f.At),
		fieldAfter:       timestamp(f.After.At),
		fieldAfterCommit: integer(int64(f.After.Commit)), //nolint:gosec // the number of Commits
		fieldExpireAt:    timestamp(f.At.Add(commit.KeepKeys)),
	})}
}

// Folds returns up to limit folds of a partition whose positions are after one, in order. It reads a document for each.
func (c *Client) Folds(ctx context.Context, partition uint32, after store.KeysPosition, limit int) ([]store.Fold, error) {
	var all []store.Fold
	first, end := store.KeysPosition{At: after.At, Commit: after.Commit + 1}, store.KeysPosition{At: lastKeys}
	err := c.between(ctx, partition, store.Folds, store.KeysID(first), store.KeysID(end), limit, func(doc *firestorepb.Document) error {
		var f store.Fold
		var err error
		if f.Commit, err = store.KeysOf(id(doc)); err != nil {
			return err
		}
		fields := doc.GetFields()
		if f.Keys, err = checkpoint.UnpackKeyRanges(fields[fieldKeys].GetBytesValue()); err != nil {
			return fmt.Errorf("fold %d: %w", f.Commit, err)
		}
		f.At = fields[fieldUpdatedAt].GetTimestampValue().AsTime()
		f.After = store.KeysPosition{
			At:     fields[fieldAfter].GetTimestampValue().AsTime(),
			Commit: uint64(fields[fieldAfterCommit].GetIntegerValue()), //nolint:gosec // converted from a uint64
		}
		all = append(all, f)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read folds of partition %d: %w", partition, err)
	}
	return all, nil
}

// historyWrites returns the writes of the periods that end with a Commit.
func (c *Client) historyWrites(commit *store.Commit) []*firestorepb.Write {
	writes := make([]*firestorepb.Write, 0, len(commit.Closed))
	for _, p := range commit.Closed {
		expireAt := p.Begin.Add(time.Duration(p.Resolution) + store.Retention(p.Resolution) + expiryMargin)
		writes = append(writes, c.put(commit.Partition, store.PeriodsOf(p.Resolution), store.PeriodID(p.Begin), map[string]*firestorepb.Value{
			fieldVersion:  integer(checkpoint.Version),
			fieldChanges:  packed(checkpoint.PackChanges(p.Changes)),
			fieldExpireAt: timestamp(expireAt),
		}))
	}
	return writes
}

// put returns the write of a whole document in a subcollection of a partition.
func (c *Client) put(partition uint32, collection, id string, fields map[string]*firestorepb.Value) *firestorepb.Write {
	return &firestorepb.Write{Operation: &firestorepb.Write_Update{Update: &firestorepb.Document{
		Name: c.below(partition) + "/" + c.prefix + collection + "/" + id, Fields: fields,
	}}}
}

// below returns the parent of a partition's subcollections.
func (c *Client) below(partition uint32) string {
	return c.name(store.Partitions, store.PartitionID(partition))
}

// Keys returns the idempotency keys of up to limit Commits of a partition after a position, in order. It reads one document for
// each Commit. Expired keys may be missing.
func (c *Client) Keys(ctx context.Context, partition uint32, after store.KeysPosition, limit int) ([]store.CommitKeys, error) {
	var all []store.CommitKeys
	first, end := store.KeysPosition{At: after.At, Commit: after.Commit + 1}, store.KeysPosition{At: lastKeys}
	err := c.between(ctx, partition, store.Keys, store.KeysID(first), store.KeysID(end), limit, func(doc *firestorepb.Document) error {
		commit, err := store.KeysOf(id(doc))
		if err != nil {
			return err
		}
		keys, err := checkpoint.UnpackKeyRanges(doc.GetFields()[fieldKeys].GetBytesValue())
		if err != nil {
			return fmt.Errorf("commit %d: %w", commit, err)
		}
		at := doc.GetFields()[fieldUpdatedAt].GetTimestampValue().AsTime()
		all = append(all, store.CommitKeys{KeysPosition: store.KeysPosition{At: at, Commit: commit}, Keys: keys})
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read keys of partition %d: %w", partition, err)
	}
	return all, nil
}

// lastKeys is after all positions. It is the last second with ten digits.
var lastKeys = time.Unix(9_999_999_999, 0)

// History returns the closed periods of a partition that begin at or after from and before to, in order. Periods without changes
// have no document. It reads one document for each period.
func (c *Client) History(ctx context.Context, partition uint32, r checkpoint.Resolution, from, to time.Time) ([]store.Period, error) {
	var all []store.Period
	err := c.between(ctx, partition, store.PeriodsOf(r), store.PeriodID(from), store.PeriodID(to), 0, func(doc *firestorepb.Document) error {
		begin, err := store.PeriodOf(id(doc))
		if err != nil {
			return err
		}
		all = append(all, store.Period{Begin: begin, Changes: doc.GetFields()[fieldChanges].GetBytesValue()})
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read history of partition %d: %w", partition, err)
	}
	return all, nil
}

// between calls each for the documents in a subcollection of a partition whose ids are at or after first and before end, and
// stops after limit documents unless limit is 0.
func (c *Client) between(
	ctx context.Context, partition uint32, collection, first, end string, limit int, each func(*firestorepb.Document) error,
) error {
	name := func(id string) *firestorepb.Value {
		return &firestorepb.Value{ValueType: &firestorepb.Value_ReferenceValue{
			ReferenceValue: c.below(partition) + "/" + c.prefix + collection + "/" + id,
		}}
	}
	query := &firestorepb.StructuredQuery{
		From:    c.from(collection),
		Where:   both(where(fieldName, atLeast, name(first)), where(fieldName, below, name(end))),
		OrderBy: []*firestorepb.StructuredQuery_Order{by(fieldName, false)},
	}
	if limit > 0 {
		query.Limit = limitOf(limit)
	}
	_, err := c.queryBelow(ctx, c.below(partition), query, func(doc *firestorepb.Document) error {
		if err := checkVersion(doc.GetFields()); err != nil {
			return err
		}
		return each(doc)
	})
	return err
}
