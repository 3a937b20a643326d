package firestore

import (
	"context"
	"fmt"

	"cloud.google.com/go/firestore/apiv1/firestorepb"

	"github.com/accrue/accrue/pkg/store"
)

// Tags returns every tag's document, sorted by name: a read of the whole collection, for the audit alone.
func (c *Client) Tags(ctx context.Context) ([]store.Tag, error) {
	var all []store.Tag
	_, err := c.query(ctx, &firestorepb.StructuredQuery{
		From: []*firestorepb.StructuredQuery_CollectionSelector{{CollectionId: store.Tags}},
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

// Contributor returns one contributor's document, or store.ErrNotFound.
func (c *Client) Contributor(ctx context.Context, contributor string) (store.Contributor, error) {
	doc, err := c.get(ctx, store.Contributors, store.ContributorID(contributor))
	if err != nil {
		return store.Contributor{}, fmt.Errorf("read contributor: %w", err)
	}
	return contributorOf(doc)
}

func contributorOf(doc *firestorepb.Document) (store.Contributor, error) {
	contributor, err := store.ContributorOf(id(doc))
	if err != nil {
		return store.Contributor{}, err
	}
	fields := doc.GetFields()
	return store.Contributor{
		ID:             contributor,
		Contributions:  fields[fieldContributions].GetIntegerValue(),
		RecognizedTier: fields[fieldTier].GetIntegerValue(),
		UpdatedAt:      fields[fieldUpdatedAt].GetTimestampValue().AsTime(),
	}, nil
}
