package embedded

import (
	"bytes"
	"context"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/accrue/accrue/pkg/checkpoint"
	"github.com/accrue/accrue/pkg/database"
	"github.com/accrue/accrue/pkg/store"
)

func putAudit(tx *bolt.Tx, r *store.AuditRecord) error {
	return put(tx, store.Audit, r.ID, append(database.AppendTime(nil, r.At), r.Record...))
}

// PutAudit writes an audit record.
func (s *Store) PutAudit(ctx context.Context, r store.AuditRecord) error {
	return s.update(ctx, "write an audit record", documentOverhead+len(r.Record), func(tx *bolt.Tx) error { return putAudit(tx, &r) })
}

// Audits returns up to limit audit records whose ids are after the given one, in the order of ids.
func (s *Store) Audits(ctx context.Context, after string, limit int) (all []store.AuditRecord, err error) {
	err = s.view(ctx, "read audit records", func(tx *bolt.Tx) error {
		for id, packed := range from(tx, store.Audit, after) {
			if id == after {
				continue
			}
			if len(all) == limit {
				return nil
			}
			record := database.Read(packed)
			all = append(all, store.AuditRecord{ID: id, At: record.Time(), Record: bytes.Clone(record.Rest())})
			if err := record.Err(); err != nil {
				return err
			}
		}
		return nil
	})
	return all, err
}

// Waiting returns the number of rejected entries.
func (s *Store) Waiting(ctx context.Context) (entries int64, err error) {
	err = s.view(ctx, "count rejected entries", func(tx *bolt.Tx) error {
		for _, packed := range from(tx, store.Rejected, "") {
			record := database.Read(packed)
			_, _ = record.Time(), record.Time()
			rejected, err := checkpoint.UnpackRejected(record.Rest())
			if err != nil {
				return err
			}
			entries += int64(len(rejected))
		}
		return nil
	})
	return entries, err
}

// DropTag deletes the document of a tag if its total is 0.
func (s *Store) DropTag(ctx context.Context, name string) error {
	return s.update(ctx, "drop a tag", documentOverhead, func(tx *bolt.Tx) error {
		id := store.TagID(name)
		packed := get(tx, store.Tags, id)
		if packed == nil {
			return nil
		}
		tag, err := unpackTag(id, packed)
		if err != nil || tag.Total != 0 || tag.Increments != 0 {
			return err
		}
		return remove(tx, store.Tags, id)
	})
}

// Erase deletes a contributor and their recognitions, writes the audit record, and returns what it deleted. It returns
// store.ErrNotFound if the contributor does not exist.
func (s *Store) Erase(ctx context.Context, id string, audit store.AuditRecord) (erased store.Standing, err error) {
	err = s.update(ctx, "erase a contributor", documentOverhead, func(tx *bolt.Tx) error {
		c, err := contributor(tx, store.ContributorID(id))
		if err != nil {
			return err
		}
		erased = store.Standing{Contributor: c, AsOf: time.Now().UTC()}
		if erased.Recognitions, err = recognitionsOf(tx, id); err != nil {
			return err
		}
		for _, r := range erased.Recognitions {
			document := store.RecognitionID(r.Contributor, r.Tier)
			if err := remove(tx, pendingRecognitions, document); err != nil {
				return err
			}
			if err := remove(tx, byTime, ordered(r.RecognizedAt.UnixMicro())+document); err != nil {
				return err
			}
			if err := remove(tx, store.Recognitions, document); err != nil {
				return err
			}
		}
		if err := remove(tx, byContributions, contributionsKey(&c)); err != nil {
			return err
		}
		if err := remove(tx, byTier, tierKey(&c)); err != nil {
			return err
		}
		if err := remove(tx, store.Contributors, store.ContributorID(id)); err != nil {
			return err
		}
		return putAudit(tx, &audit)
	})
	return erased, err
}
