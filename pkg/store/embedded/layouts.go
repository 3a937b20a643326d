package embedded

import (
	"context"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/accrue/accrue/pkg/checkpoint"
	"github.com/accrue/accrue/pkg/database"
	"github.com/accrue/accrue/pkg/store"
)

// relate checks the related partitions of a Commit, sets their version of the layouts, and changes the layouts.
func relate(tx *bolt.Tx, related []store.Related, layouts *store.LayoutsChange, revision store.Revision, updatedAt time.Time) error {
	for _, r := range related {
		bucket := partitionBucket(r.Partition)
		var present partition
		if packed := get(tx, bucket, string(checkpointKey)); packed != nil {
			var err error
			if present, err = unpackPartition(packed); err != nil {
				return err
			}
		} else {
			empty := checkpoint.Checkpoint{UpdatedAt: updatedAt}
			present.publishers, present.totals = empty.PackPublishers(), empty.PackTotals()
		}
		switch {
		case present.updateTime != r.Revision.UpdateTime:
			return store.ErrConflict
		case r.Revision != (store.Revision{}) && present.layouts == int64(r.Layouts): //nolint:gosec // as in Commit
			continue
		}
		present.layouts, present.updateTime = int64(r.Layouts), revision.UpdateTime //nolint:gosec // as in Commit
		if err := put(tx, bucket, string(checkpointKey), present.pack()); err != nil {
			return err
		}
	}
	if layouts == nil {
		return nil
	}
	_, present, err := readLayouts(tx)
	if err != nil {
		return err
	}
	if present != layouts.Revision {
		return store.ErrConflict
	}
	b := database.AppendTime(nil, revision.UpdateTime)
	return put(tx, store.Layouts, store.LayoutsID, append(b, checkpoint.PackLayouts(&layouts.Next)...))
}

func readLayouts(tx *bolt.Tx) (layouts checkpoint.Layouts, revision store.Revision, err error) {
	packed := get(tx, store.Layouts, store.LayoutsID)
	if packed == nil {
		return layouts, revision, nil
	}
	record := database.Read(packed)
	revision.UpdateTime = record.Time()
	if err := record.Err(); err != nil {
		return layouts, revision, err
	}
	layouts, err = checkpoint.UnpackLayouts(record.Rest())
	return layouts, revision, err
}

// Layouts returns the numbers of partitions in use and their revision.
func (s *Store) Layouts(ctx context.Context) (layouts checkpoint.Layouts, revision store.Revision, err error) {
	err = s.view(ctx, "read layouts", func(tx *bolt.Tx) (err error) {
		layouts, revision, err = readLayouts(tx)
		return err
	})
	return layouts, revision, err
}

// Peek returns the properties of partitions that show whether they have new keys, in no particular order.
func (s *Store) Peek(ctx context.Context, partitions []uint32) ([]store.Peeked, error) {
	all := make([]store.Peeked, 0, len(partitions))
	err := s.view(ctx, "peek at partitions", func(tx *bolt.Tx) error {
		for _, id := range partitions {
			peeked := store.Peeked{Partition: id}
			if packed := get(tx, partitionBucket(id), string(checkpointKey)); packed != nil {
				p, err := unpackPartition(packed)
				if err != nil {
					return err
				}
				peeked.Revision.UpdateTime = p.updateTime
				peeked.Commit, peeked.Layouts = uint64(p.commit), uint64(p.layouts) //nolint:gosec // converted from uint64
			}
			all = append(all, peeked)
		}
		return nil
	})
	return all, err
}
