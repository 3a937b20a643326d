package firestore

import (
	"context"
	"fmt"

	"cloud.google.com/go/firestore/apiv1/firestorepb"

	"github.com/accrue/accrue/pkg/store"
)

// Tags returns the documents of all tags, sorted by name. It reads the whole collection. Only the audit uses it.
func (c *Client) Tags(ctx context.Context) ([]store.Tag, error) {
	var all []store.Tag
	_, err := c.query(ctx, &firestorepb.StructuredQuery{
		From: from(store.Tags),
	}, func(doc *firestorepb.Document) error {
		name, err := store.TagName(id(doc))
		if err != nil {
			return err
		}
		fields := doc.GetFields()
		all = append(all, store.Tag{
			Name: name, Total: fields[fieldTotal].GetIntegerValue(), Increments: fields[fieldIncrements].GetIntegerValue(),
			UpdatedAt: fields[fieldUpdatedAt].GetTimestampValue().AsTime(),
		})
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read tags: %w", err)
	}
	return all, nil
}
