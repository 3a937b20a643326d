package firestore

import (
	"context"
	"fmt"

	"cloud.google.com/go/firestore/apiv1/firestorepb"

	"github.com/accrue/accrue/pkg/checkpoint"
	"github.com/accrue/accrue/pkg/store"
)

// rejectedWrite returns the write of the entries that a Commit rejects, if there are any.
func (c *Client) rejectedWrite(commit *store.Commit) []*firestorepb.Write {
	if len(commit.Rejected) == 0 {
		return nil
	}
	return []*firestorepb.Write{{Operation: &firestorepb.Write_Update{Update: &firestorepb.Document{
		Name: c.name(store.Rejected, store.RejectedID(commit.Partition, commit.Next.Commit)),
		Fields: map[string]*firestorepb.Value{
			fieldEntries:   packed(checkpoint.PackRejected(commit.Rejected)),
			fieldCount:     integer(int64(len(commit.Rejected))),
			fieldUpdatedAt: timestamp(commit.Next.UpdatedAt),
		},
	}}}}
}

// redrivenWrite returns the write that shrinks or deletes the document of a redrive, if the Commit is one.
func (c *Client) redrivenWrite(commit *store.Commit) []*firestorepb.Write {
	r := commit.Redriven
	if r == nil {
		return nil
	}
	name := c.name(store.Rejected, r.From.ID())
	write := &firestorepb.Write{
		CurrentDocument: preconditionOf(r.From.Revision),
		Operation:       &firestorepb.Write_Delete{Delete: name},
	}
	if len(r.Left) > 0 {
		write.Operation = &firestorepb.Write_Update{Update: &firestorepb.Document{
			Name: name,
			Fields: map[string]*firestorepb.Value{
				fieldEntries:   packed(checkpoint.PackRejected(r.Left)),
				fieldCount:     integer(int64(len(r.Left))),
				fieldUpdatedAt: timestamp(r.From.RejectedAt),
			},
		}}
	}
	return []*firestorepb.Write{write}
}

// Rejected returns up to limit documents of rejected entries whose ids are after the given one, in the order of ids. An empty id
// is before all others.
func (c *Client) Rejected(ctx context.Context, after string, limit int) ([]store.RejectedEntries, error) {
	query := &firestorepb.StructuredQuery{
		From: c.from(store.Rejected), OrderBy: []*firestorepb.StructuredQuery_Order{by(fieldName, false)}, Limit: limitOf(limit),
	}
	if after != "" {
		query.StartAt = startAfter(c.reference(store.Rejected, after))
	}
	var all []store.RejectedEntries
	_, err := c.query(ctx, query, func(doc *firestorepb.Document) error {
		fields := doc.GetFields()
		r := store.RejectedEntries{
			RejectedAt: fields[fieldUpdatedAt].GetTimestampValue().AsTime(),
			Revision:   store.Revision{UpdateTime: doc.GetUpdateTime().AsTime()},
		}
		var err error
		if r.Partition, r.Commit, err = store.RejectedOf(id(doc)); err != nil {
			return err
		}
		if r.Entries, err = checkpoint.UnpackRejected(fields[fieldEntries].GetBytesValue()); err != nil {
			return fmt.Errorf("%s: %w", id(doc), err)
		}
		all = append(all, r)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read rejected entries: %w", err)
	}
	return all, nil
}
