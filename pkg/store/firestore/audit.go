package firestore

import (
	"context"
	"errors"
	"fmt"

	"cloud.google.com/go/firestore/apiv1/firestorepb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/accrue/accrue/pkg/store"
)

// waitingPage bounds the documents of rejected entries that Waiting reads.
const waitingPage = 1000

func (c *Client) auditWrite(r *store.AuditRecord) *firestorepb.Write {
	return &firestorepb.Write{Operation: &firestorepb.Write_Update{Update: &firestorepb.Document{
		Name:   c.name(store.Audit, r.ID),
		Fields: map[string]*firestorepb.Value{fieldRecord: text(string(r.Record)), fieldUpdatedAt: timestamp(r.At)},
	}}}
}

// PutAudit writes an audit record.
func (c *Client) PutAudit(ctx context.Context, r store.AuditRecord) error {
	if err := c.commit(ctx, c.auditWrite(&r)); err != nil {
		return fmt.Errorf("write an audit record: %w", err)
	}
	return nil
}

// Audits returns up to limit audit records whose ids are after the given one, in the order of ids.
func (c *Client) Audits(ctx context.Context, after string, limit int) ([]store.AuditRecord, error) {
	query := &firestorepb.StructuredQuery{
		From: c.from(store.Audit), OrderBy: []*firestorepb.StructuredQuery_Order{by(fieldName, false)}, Limit: limitOf(limit),
	}
	if after != "" {
		query.StartAt = startAfter(c.reference(store.Audit, after))
	}
	var all []store.AuditRecord
	_, err := c.query(ctx, query, func(doc *firestorepb.Document) error {
		fields := doc.GetFields()
		all = append(all, store.AuditRecord{
			ID: id(doc), At: fields[fieldUpdatedAt].GetTimestampValue().AsTime(), Record: []byte(fields[fieldRecord].GetStringValue()),
		})
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read audit records: %w", err)
	}
	return all, nil
}

// Waiting returns the number of rejected entries in the first 1,000 documents, all of which it reads.
func (c *Client) Waiting(ctx context.Context) (entries int64, err error) {
	_, err = c.query(ctx, &firestorepb.StructuredQuery{
		From: c.from(store.Rejected), Select: selectFields(fieldCount), Limit: limitOf(waitingPage),
	}, func(doc *firestorepb.Document) error {
		entries += doc.GetFields()[fieldCount].GetIntegerValue()
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("count rejected entries: %w", err)
	}
	return entries, nil
}

// DropTag deletes the document of a tag if its total is 0.
func (c *Client) DropTag(ctx context.Context, name string) error {
	doc, _, err := c.get(ctx, store.Tags, store.TagID(name))
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("drop a tag: %w", err)
	}
	if doc.GetFields()[fieldTotal].GetIntegerValue() != 0 || doc.GetFields()[fieldIncrements].GetIntegerValue() != 0 {
		return nil
	}
	_, err = c.api.Commit(ctx, &firestorepb.CommitRequest{Database: c.database, Writes: []*firestorepb.Write{{
		CurrentDocument: preconditionOf(store.Revision{UpdateTime: doc.GetUpdateTime().AsTime()}),
		Operation:       &firestorepb.Write_Delete{Delete: doc.GetName()},
	}}})
	if code := status.Code(err); code == codes.OK || code == codes.FailedPrecondition || code == codes.NotFound {
		return nil // otherwise the tag has been counted again, or does not exist
	}
	return fmt.Errorf("drop a tag: %w", classifyCommit(err))
}

// Erase deletes a contributor and their recognitions, writes the audit record, and returns what it deleted. It returns
// store.ErrNotFound if the contributor does not exist, and store.ErrConflict if they have contributed meanwhile.
func (c *Client) Erase(ctx context.Context, contributor string, audit store.AuditRecord) (store.Standing, error) {
	standing, err := c.Standing(ctx, contributor)
	if err != nil {
		return store.Standing{}, err
	}
	doc, _, err := c.get(ctx, store.Contributors, store.ContributorID(contributor), fieldContributions)
	if err != nil {
		return store.Standing{}, err
	}
	if doc.GetFields()[fieldContributions].GetIntegerValue() != standing.Contributions {
		return store.Standing{}, fmt.Errorf("erase a contributor: %w", store.ErrConflict)
	}
	writes := []*firestorepb.Write{c.auditWrite(&audit), {
		CurrentDocument: preconditionOf(store.Revision{UpdateTime: doc.GetUpdateTime().AsTime()}),
		Operation:       &firestorepb.Write_Delete{Delete: doc.GetName()},
	}}
	for _, r := range standing.Recognitions {
		writes = append(writes, &firestorepb.Write{
			Operation: &firestorepb.Write_Delete{Delete: c.name(store.Recognitions, store.RecognitionID(r.Contributor, r.Tier))},
		})
	}
	_, err = c.api.Commit(ctx, &firestorepb.CommitRequest{Database: c.database, Writes: writes})
	if err != nil {
		return store.Standing{}, fmt.Errorf("erase a contributor: %w", classifyCommit(err))
	}
	return standing, nil
}
