package firestore

import (
	"context"
	"errors"
	"fmt"
	"io"

	"cloud.google.com/go/firestore/apiv1/firestorepb"

	"github.com/accrue/accrue/pkg/store"
)

// Tags returns the documents of all tags, sorted by name. It reads the whole collection. Only the audit uses it.
func (c *Client) Tags(ctx context.Context) ([]store.Tag, error) {
	var all []store.Tag
	_, err := c.query(ctx, &firestorepb.StructuredQuery{
		From: c.from(store.Tags),
	}, func(doc *firestorepb.Document) error {
		tag, err := tagOf(doc)
		if err != nil {
			return err
		}
		all = append(all, tag)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read tags: %w", err)
	}
	return all, nil
}

// TagsNamed returns the documents of some tags, in any order. Those that do not exist are missing.
func (c *Client) TagsNamed(ctx context.Context, names []string) ([]store.Tag, error) {
	if len(names) == 0 {
		return nil, nil
	}
	request := &firestorepb.BatchGetDocumentsRequest{Database: c.database}
	for _, name := range names {
		request.Documents = append(request.Documents, c.name(store.Tags, store.TagID(name)))
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := c.api.BatchGetDocuments(ctx, request)
	if err != nil {
		return nil, classify("read some tags", err)
	}
	var found []store.Tag
	for {
		response, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return found, nil
		}
		if err != nil {
			return nil, classify("read some tags", err)
		}
		if doc := response.GetFound(); doc != nil {
			tag, err := tagOf(doc)
			if err != nil {
				return nil, err
			}
			found = append(found, tag)
		}
	}
}

func tagOf(doc *firestorepb.Document) (store.Tag, error) {
	name, err := store.TagName(id(doc))
	fields := doc.GetFields()
	return store.Tag{
		Name: name, Total: fields[fieldTotal].GetIntegerValue(), Increments: fields[fieldIncrements].GetIntegerValue(),
		UpdatedAt: fields[fieldUpdatedAt].GetTimestampValue().AsTime(),
	}, err
}
