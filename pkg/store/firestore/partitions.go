package firestore

import (
	"context"
	"errors"
	"fmt"
	"time"

	"cloud.google.com/go/firestore/apiv1/firestorepb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/accrue/accrue/pkg/checkpoint"
	"github.com/accrue/accrue/pkg/store"
)

// The fields of the documents (docs/design/protocol.md#documents).
const (
	fieldVersion       = "version"
	fieldCommit        = "commit"
	fieldPublishers    = "publishers"
	fieldTotals        = "totals"
	fieldOwed          = "owed"
	fieldOwedSince     = "owed_since"
	fieldUpdatedAt     = "updated_at"
	fieldAcceptedAt    = "accepted_at"
	fieldKeys          = "keys"
	fieldAfter         = "after"
	fieldAfterCommit   = "after_commit"
	fieldRecord        = "record"
	fieldChanges       = "changes"
	fieldEntries       = "entries"
	fieldCount         = "count"
	fieldLayouts       = "layouts"
	fieldExpireAt      = "expire_at"
	fieldTotal         = "total"
	fieldIncrements    = "increments"
	fieldContributions = "contributions"
	fieldTier          = "recognized_tier"
)

// Load returns the checkpoint of a partition and its revision, which are zero before the first Commit. It returns an error for a
// checkpoint of another version, which must not be overwritten.
func (c *Client) Load(ctx context.Context, partition uint32) (store.State, error) {
	doc, readAt, err := c.get(ctx, store.Partitions, store.PartitionID(partition))
	if errors.Is(err, store.ErrNotFound) {
		return store.State{ReadAt: readAt}, nil
	}
	if err != nil {
		return store.State{}, fmt.Errorf("load checkpoint %d: %w", partition, err)
	}
	state := store.State{Revision: store.Revision{UpdateTime: doc.GetUpdateTime().AsTime()}, ReadAt: readAt}
	fields := doc.GetFields()
	if err := checkCheckpoint(fields); err != nil {
		return store.State{}, fmt.Errorf("load checkpoint %d: %w", partition, err)
	}
	state.Checkpoint.Commit = uint64(fields[fieldCommit].GetIntegerValue())   //nolint:gosec // was one
	state.Checkpoint.Layouts = uint64(fields[fieldLayouts].GetIntegerValue()) //nolint:gosec // was one
	state.Checkpoint.Released = releasedOf(fields[fieldKeys].GetBytesValue())
	state.Checkpoint.Publishers, err = checkpoint.UnpackPublishers(fields[fieldPublishers].GetBytesValue())
	if err != nil {
		return store.State{}, fmt.Errorf("load checkpoint %d: %w", partition, err)
	}
	state.Checkpoint.Totals, state.Checkpoint.UpdatedAt, err = checkpoint.UnpackTotals(fields[fieldTotals].GetBytesValue())
	if err != nil {
		return store.State{}, fmt.Errorf("load checkpoint %d: %w", partition, err)
	}
	if state.Checkpoint.Owed, err = checkpoint.UnpackOwed(fields[fieldOwed].GetBytesValue()); err != nil {
		return store.State{}, fmt.Errorf("load checkpoint %d: %w", partition, err)
	}
	if at := fields[fieldOwedSince].GetTimestampValue(); at != nil {
		state.Checkpoint.OwedSince = at.AsTime()
	}
	return state, nil
}

// Owing returns the partitions that owe something to the documents of tags, and the time of the read. It reads a document of each
// partition.
func (c *Client) Owing(ctx context.Context) ([]store.Owing, time.Time, error) {
	var all []store.Owing
	last, err := c.query(ctx, &firestorepb.StructuredQuery{
		From: c.from(store.Partitions), Select: selectFields(fieldOwedSince),
	}, func(doc *firestorepb.Document) error {
		at := doc.GetFields()[fieldOwedSince].GetTimestampValue()
		if at == nil {
			return nil
		}
		partition, err := store.PartitionOf(id(doc))
		if err != nil {
			return err
		}
		all = append(all, store.Owing{Partition: partition, Since: at.AsTime()})
		return nil
	})
	if err != nil {
		return nil, time.Time{}, fmt.Errorf("read which partitions owe: %w", err)
	}
	return all, last.GetReadTime().AsTime(), nil
}

// checkCheckpoint is checkVersion for checkpoints.
func checkCheckpoint(fields map[string]*firestorepb.Value) error {
	if checkpoint.Readable(fields[fieldVersion].GetIntegerValue()) {
		return nil
	}
	return checkVersion(fields)
}

func checkVersion(fields map[string]*firestorepb.Value) error {
	if got := fields[fieldVersion].GetIntegerValue(); got != checkpoint.Version {
		return fmt.Errorf("%w: version %d, want %d", checkpoint.ErrCorrupt, got, checkpoint.Version)
	}
	return nil
}

// Commit applies commit as one atomic Firestore Commit. It writes the checkpoint with its precondition, an increment transform for
// each tag and contributor, a document with the idempotency keys, a document with the rejected entries, and a document for each
// closed period. It returns store.ErrConflict or store.ErrRefused; after any other error the outcome is unknown. The client retries
// some errors itself, so store.ErrConflict may also mean that this Commit has succeeded.
func (c *Client) Commit(ctx context.Context, commit store.Commit) (store.Revision, error) {
	writes := make([]*firestorepb.Write, 0, 1+commit.Documents()+2+len(commit.Closed))
	writes = append(writes, c.checkpointWrite(&commit))
	updated := timestamp(commit.Next.UpdatedAt)
	for _, d := range commit.Tags {
		writes = append(writes, c.increase(store.Tags, store.TagID(d.Name), updated,
			transform{fieldTotal, d.Value}, transform{fieldIncrements, d.Increments}))
	}
	for _, d := range commit.Contributors {
		writes = append(writes, c.increase(store.Contributors, store.ContributorID(d.Contributor), updated,
			// Adding 0 creates the field if it is missing. The queries for recognition need it.
			transform{fieldContributions, d.Contributions}, transform{fieldTier, 0}))
	}
	writes = append(writes, c.keysWrite(&commit)...)
	writes = append(writes, c.foldWrite(&commit)...)
	writes = append(writes, c.relatedWrites(&commit)...)
	writes = append(writes, c.historyWrites(&commit)...)
	writes = append(writes, c.rejectedWrite(&commit)...)
	writes = append(writes, c.redrivenWrite(&commit)...)
	if commit.Audit != nil {
		writes = append(writes, c.auditWrite(commit.Audit))
	}
	response, err := c.api.Commit(ctx, &firestorepb.CommitRequest{Database: c.database, Writes: writes})
	if err != nil {
		// A document is gone although we hold its update time: as much a conflict as one that has changed.
		if status.Code(err) == codes.NotFound &&
			(commit.Revision != (store.Revision{}) || commit.Redriven != nil || commit.Related != nil || commit.Layouts != nil) {
			return store.Revision{}, fmt.Errorf("commit partition %d: %w: %w", commit.Partition, store.ErrConflict, redact(err))
		}
		return store.Revision{}, fmt.Errorf("partition %d: %w", commit.Partition, classifyCommit(err))
	}
	if results := response.GetWriteResults(); len(results) > 0 && results[0].GetUpdateTime() != nil {
		return store.Revision{UpdateTime: results[0].GetUpdateTime().AsTime()}, nil
	}
	return store.Revision{}, fmt.Errorf("commit partition %d: no update time in the response", commit.Partition)
}

func (c *Client) checkpointWrite(commit *store.Commit) *firestorepb.Write {
	fields := checkpointFields(&commit.Next)
	if !commit.AcceptedAt.IsZero() {
		fields[fieldAcceptedAt] = timestamp(commit.AcceptedAt)
	}
	return &firestorepb.Write{
		CurrentDocument: preconditionOf(commit.Revision),
		Operation: &firestorepb.Write_Update{Update: &firestorepb.Document{
			Name: c.name(store.Partitions, store.PartitionID(commit.Partition)), Fields: fields,
		}},
	}
}

// checkpointFields are the fields of a checkpoint's document.
func checkpointFields(next *checkpoint.Checkpoint) map[string]*firestorepb.Value {
	fields := map[string]*firestorepb.Value{
		fieldVersion:    integer(next.FormatVersion()),
		fieldCommit:     integer(int64(next.Commit)), //nolint:gosec // one a commit: never so many
		fieldPublishers: packed(next.PackPublishers()),
		fieldTotals:     packed(next.PackTotals()),
		fieldKeys:       packed(next.Released.Packed()),
		fieldUpdatedAt:  timestamp(next.UpdatedAt),
		fieldLayouts:    integer(int64(next.Layouts)), //nolint:gosec // one a change of PARTITIONS: never so many
	}
	if len(next.Owed) > 0 {
		fields[fieldOwed], fields[fieldOwedSince] = packed(next.PackOwed()), timestamp(next.OwedSince)
	}
	return fields
}

// preconditionOf is that a document is of a revision.
func preconditionOf(revision store.Revision) *firestorepb.Precondition {
	if revision == (store.Revision{}) {
		return &firestorepb.Precondition{ConditionType: &firestorepb.Precondition_Exists{Exists: false}}
	}
	return &firestorepb.Precondition{
		ConditionType: &firestorepb.Precondition_UpdateTime{UpdateTime: timestamppb.New(revision.UpdateTime)},
	}
}

func packed(b []byte) *firestorepb.Value {
	return &firestorepb.Value{ValueType: &firestorepb.Value_BytesValue{BytesValue: b}}
}

type transform struct {
	field string
	add   int64
}

// increase returns the write that adds to fields of a document, creates the document if it does not exist, and sets its time.
func (c *Client) increase(collection, id string, updated *firestorepb.Value, transforms ...transform) *firestorepb.Write {
	write := &firestorepb.Write{
		Operation: &firestorepb.Write_Update{Update: &firestorepb.Document{
			Name: c.name(collection, id), Fields: map[string]*firestorepb.Value{fieldUpdatedAt: updated},
		}},
		UpdateMask: &firestorepb.DocumentMask{FieldPaths: []string{fieldUpdatedAt}},
	}
	for _, t := range transforms {
		write.UpdateTransforms = append(write.UpdateTransforms, &firestorepb.DocumentTransform_FieldTransform{
			FieldPath:     t.field,
			TransformType: &firestorepb.DocumentTransform_FieldTransform_Increment{Increment: integer(t.add)},
		})
	}
	return write
}

// Totals returns the totals of all existing partitions and the time of the read. Partitions whose checkpoint cannot be read have
// Err set.
func (c *Client) Totals(ctx context.Context) ([]store.PartitionTotals, time.Time, error) {
	var all []store.PartitionTotals
	last, err := c.query(ctx, &firestorepb.StructuredQuery{
		From:   c.from(store.Partitions),
		Select: selectFields(fieldVersion, fieldTotals, fieldAcceptedAt),
	}, func(doc *firestorepb.Document) error {
		partition, err := store.PartitionOf(id(doc))
		if err != nil {
			return err
		}
		p := store.PartitionTotals{Partition: partition, Revision: store.Revision{UpdateTime: doc.GetUpdateTime().AsTime()}}
		if p.Err = checkCheckpoint(doc.GetFields()); p.Err == nil {
			p.Totals, p.UpdatedAt, p.Err = c.unpacker.Totals(partition, p.Revision, doc.GetFields()[fieldTotals].GetBytesValue())
		}
		if at := doc.GetFields()[fieldAcceptedAt].GetTimestampValue(); at != nil && p.Err == nil {
			p.AcceptedAt = at.AsTime()
		}
		all = append(all, p)
		return nil
	})
	if err != nil {
		return nil, time.Time{}, fmt.Errorf("read totals: %w", err)
	}
	c.unpacker.Keep(all)
	return all, last.GetReadTime().AsTime(), nil
}

func selectFields(names ...string) *firestorepb.StructuredQuery_Projection {
	projection := &firestorepb.StructuredQuery_Projection{}
	for _, name := range names {
		projection.Fields = append(projection.Fields, reference(name))
	}
	return projection
}

func integer(v int64) *firestorepb.Value {
	return &firestorepb.Value{ValueType: &firestorepb.Value_IntegerValue{IntegerValue: v}}
}

func timestamp(t time.Time) *firestorepb.Value {
	return &firestorepb.Value{ValueType: &firestorepb.Value_TimestampValue{TimestampValue: timestamppb.New(t)}}
}
