package firestore

import (
	"context"
	"fmt"
	"time"

	"cloud.google.com/go/firestore/apiv1/firestorepb"

	"github.com/accrue/accrue/pkg/checkpoint"
	"github.com/accrue/accrue/pkg/store"
)

// expiryMargin is how much longer than it can be asked for a period is kept, so that none goes while it is read.
const expiryMargin = time.Hour

// keysWrite is the one document of a Commit's idempotency keys, or nothing without any.
func (c *Client) keysWrite(commit *store.Commit) []*firestorepb.Write {
	if len(commit.Keys) == 0 {
		return nil
	}
	at := commit.Next.UpdatedAt
	return []*firestorepb.Write{c.put(commit.Partition, store.Keys, store.KeysID(store.KeysPosition{At: at, Commit: commit.Next.Commit}), map[string]*firestorepb.Value{
		fieldVersion:   integer(checkpoint.Version),
		fieldKeys:      {ValueType: &firestorepb.Value_BytesValue{BytesValue: checkpoint.PackSeenKeys(commit.Keys)}},
		fieldUpdatedAt: timestamp(at),
		fieldExpireAt:  timestamp(at.Add(commit.KeepKeys)),
	})}
}

// historyWrites are the documents of the periods that are over with a Commit.
func (c *Client) historyWrites(commit *store.Commit) []*firestorepb.Write {
	writes := make([]*firestorepb.Write, 0, len(commit.Closed))
	for _, p := range commit.Closed {
		expireAt := p.Begin.Add(time.Duration(p.Resolution) + store.Retention(p.Resolution) + expiryMargin)
		writes = append(writes, c.put(commit.Partition, store.PeriodsOf(p.Resolution), store.PeriodID(p.Begin), map[string]*firestorepb.Value{
			fieldVersion:  integer(checkpoint.Version),
			fieldChanges:  {ValueType: &firestorepb.Value_BytesValue{BytesValue: checkpoint.PackChanges(p.Changes)}},
			fieldExpireAt: timestamp(expireAt),
		}))
	}
	return writes
}

// put is the write of a whole document below a partition.
func (c *Client) put(partition uint32, collection, id string, fields map[string]*firestorepb.Value) *firestorepb.Write {
	return &firestorepb.Write{Operation: &firestorepb.Write_Update{Update: &firestorepb.Document{
		Name: c.below(partition) + "/" + collection + "/" + id, Fields: fields,
	}}}
}

// below is the parent of the documents below a partition.
func (c *Client) below(partition uint32) string {
	return c.name(store.Partitions, store.PartitionID(partition))
}

// Keys returns the idempotency keys of the partition's Commits after a position, limit Commits at most, in order, as far as
// they are kept. It reads a document for each such Commit.
func (c *Client) Keys(ctx context.Context, partition uint32, after store.KeysPosition, limit int) ([]store.CommitKeys, error) {
	var all []store.CommitKeys
	first, end := store.KeysPosition{At: after.At, Commit: after.Commit + 1}, store.KeysPosition{At: lastKeys}
	err := c.between(ctx, partition, store.Keys, store.KeysID(first), store.KeysID(end), limit, func(doc *firestorepb.Document) error {
		commit, err := store.KeysOf(id(doc))
		if err != nil {
			return err
		}
		keys, err := checkpoint.UnpackSeenKeys(doc.GetFields()[fieldKeys].GetBytesValue())
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

// lastKeys is after all keys: the latest time whose seconds have ten digits.
var lastKeys = time.Unix(9_999_999_999, 0)

// History returns the periods of the partition that are over, begin at or after from and before to, and had changes, in
// order. It reads a document for each.
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

// between calls each with the documents of a collection below a partition whose ids are at or after first and before end,
// limit of them at most unless it is 0.
func (c *Client) between(
	ctx context.Context, partition uint32, collection, first, end string, limit int, each func(*firestorepb.Document) error,
) error {
	name := func(id string) *firestorepb.Value {
		return &firestorepb.Value{ValueType: &firestorepb.Value_ReferenceValue{
			ReferenceValue: c.below(partition) + "/" + collection + "/" + id,
		}}
	}
	query := &firestorepb.StructuredQuery{
		From:    from(collection),
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
