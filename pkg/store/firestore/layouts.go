package firestore

import (
	"context"
	"errors"
	"fmt"
	"io"

	"cloud.google.com/go/firestore/apiv1/firestorepb"

	"github.com/accrue/accrue/pkg/checkpoint"
	"github.com/accrue/accrue/pkg/store"
)

// relatedWrites returns a write of each related partition, and one of the layouts if the Commit changes them. The former change
// nothing if the partition has the version of the layouts already; what matters are their preconditions.
func (c *Client) relatedWrites(commit *store.Commit) []*firestorepb.Write {
	var writes []*firestorepb.Write
	for _, r := range commit.Related {
		document := &firestorepb.Document{Name: c.name(store.Partitions, store.PartitionID(r.Partition))}
		write := &firestorepb.Write{CurrentDocument: preconditionOf(r.Revision), Operation: &firestorepb.Write_Update{Update: document}}
		if r.Revision == (store.Revision{}) {
			document.Fields = checkpointFields(&checkpoint.Checkpoint{UpdatedAt: commit.Next.UpdatedAt, Layouts: r.Layouts})
		} else {
			document.Fields = map[string]*firestorepb.Value{fieldLayouts: integer(int64(r.Layouts))} //nolint:gosec // as in checkpointFields
			write.UpdateMask = &firestorepb.DocumentMask{FieldPaths: []string{fieldLayouts}}
		}
		writes = append(writes, write)
	}
	if l := commit.Layouts; l != nil {
		writes = append(writes, &firestorepb.Write{
			CurrentDocument: preconditionOf(l.Revision),
			Operation: &firestorepb.Write_Update{Update: &firestorepb.Document{
				Name:   c.name(store.Layouts, store.LayoutsID),
				Fields: map[string]*firestorepb.Value{fieldLayouts: packed(checkpoint.PackLayouts(&l.Next))},
			}},
		})
	}
	return writes
}

// Layouts returns the numbers of partitions in use and their revision.
func (c *Client) Layouts(ctx context.Context) (checkpoint.Layouts, store.Revision, error) {
	doc, _, err := c.get(ctx, store.Layouts, store.LayoutsID)
	if errors.Is(err, store.ErrNotFound) {
		return checkpoint.Layouts{}, store.Revision{}, nil
	}
	if err != nil {
		return checkpoint.Layouts{}, store.Revision{}, fmt.Errorf("read layouts: %w", err)
	}
	layouts, err := checkpoint.UnpackLayouts(doc.GetFields()[fieldLayouts].GetBytesValue())
	if err != nil {
		return checkpoint.Layouts{}, store.Revision{}, fmt.Errorf("read layouts: %w", err)
	}
	return layouts, store.Revision{UpdateTime: doc.GetUpdateTime().AsTime()}, nil
}

// Peek returns the properties of partitions that show whether they have new keys, in no particular order. It reads one document for
// each.
func (c *Client) Peek(ctx context.Context, partitions []uint32) ([]store.Peeked, error) {
	request := &firestorepb.BatchGetDocumentsRequest{
		Database: c.database, Mask: &firestorepb.DocumentMask{FieldPaths: []string{fieldVersion, fieldCommit, fieldLayouts}},
	}
	for _, p := range partitions {
		request.Documents = append(request.Documents, c.name(store.Partitions, store.PartitionID(p)))
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := c.api.BatchGetDocuments(ctx, request)
	if err != nil {
		return nil, classify("peek at partitions", err)
	}
	all := make([]store.Peeked, 0, len(partitions))
	for {
		response, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, classify("peek at partitions", err)
		}
		doc := response.GetFound()
		if doc == nil && response.GetMissing() != "" {
			doc = &firestorepb.Document{Name: response.GetMissing()}
		}
		if doc == nil {
			continue
		}
		peeked := store.Peeked{}
		if peeked.Partition, err = store.PartitionOf(id(doc)); err != nil {
			return nil, err
		}
		if response.GetFound() != nil {
			if err := checkCheckpoint(doc.GetFields()); err != nil {
				return nil, fmt.Errorf("peek at partition %d: %w", peeked.Partition, err)
			}
			peeked.Revision.UpdateTime = doc.GetUpdateTime().AsTime()
			peeked.Commit = uint64(doc.GetFields()[fieldCommit].GetIntegerValue())   //nolint:gosec // converted from a uint64
			peeked.Layouts = uint64(doc.GetFields()[fieldLayouts].GetIntegerValue()) //nolint:gosec // converted from a uint64
		}
		all = append(all, peeked)
	}
	if len(all) != len(partitions) {
		return nil, fmt.Errorf("peek at %d partitions: %d in the response", len(partitions), len(all))
	}
	return all, nil
}
