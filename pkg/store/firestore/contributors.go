package firestore

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"cloud.google.com/go/firestore/apiv1/firestorepb"

	"github.com/accrue/accrue/pkg/store"
)

// The queries for contributors need these indexes, and no others:
//
//   - (recognized_tier, contributions), ascending: Due, RecognizedTiers, CountRecognized, Unrecognized. Due has an
//     equality and one range, so an empty result reads one index entry, whatever the number of contributors. A range on
//     both fields would read the entries of all contributors below the tier, every second.
//   - contributions, ascending and descending: Contributors in its orders. The order by id needs none, nor does a prefix of it.

// Contributor returns one contributor's document, or store.ErrNotFound.
func (c *Client) Contributor(ctx context.Context, contributor string) (store.Contributor, error) {
	doc, _, err := c.get(ctx, store.Contributors, store.ContributorID(contributor))
	if err != nil {
		return store.Contributor{}, fmt.Errorf("read contributor: %w", err)
	}
	return contributorOf(doc)
}

// Standing returns a contributor and their recognitions, or store.ErrNotFound. The recognitions are read after the contributor.
func (c *Client) Standing(ctx context.Context, contributor string) (store.Standing, error) {
	doc, asOf, err := c.get(ctx, store.Contributors, store.ContributorID(contributor))
	if err != nil {
		return store.Standing{}, fmt.Errorf("read contributor: %w", err)
	}
	standing := store.Standing{AsOf: asOf}
	if standing.Contributor, err = contributorOf(doc); err != nil {
		return store.Standing{}, err
	}
	_, err = c.query(ctx, &firestorepb.StructuredQuery{
		From: c.from(store.Recognitions), Where: c.ofContributor(contributor),
	}, func(doc *firestorepb.Document) error {
		if r, ok := recognitionOf(doc); ok {
			standing.Recognitions = append(standing.Recognitions, r)
		}
		return nil
	})
	if err != nil {
		return store.Standing{}, fmt.Errorf("read recognitions: %w", err)
	}
	slices.SortFunc(standing.Recognitions, func(a, b store.Recognition) int { return cmp.Compare(a.Tier, b.Tier) })
	return standing, nil
}

// Contributors returns a page of up to limit contributors in an order, and the time of the read. After is the last
// contributor of the previous page, or zero for the first page. A contributor whose contributions change between two
// pages may be on both or on neither.
func (c *Client) Contributors(
	ctx context.Context, order store.Order, after store.Contributor, limit int,
) ([]store.Contributor, time.Time, error) {
	q := &firestorepb.StructuredQuery{From: c.from(store.Contributors), Limit: limitOf(limit)}
	descending := order == store.ByContributionsDescending
	var cursor []*firestorepb.Value
	if order != store.ByID {
		q.OrderBy = append(q.OrderBy, by(fieldContributions, descending))
		cursor = append(cursor, integer(after.Contributions))
	}
	q.OrderBy = append(q.OrderBy, by(fieldName, descending))
	if after.ID != "" {
		q.StartAt = startAfter(append(cursor, c.reference(store.Contributors, store.ContributorID(after.ID)))...)
	}
	all, asOf, err := c.contributors(ctx, q)
	if err != nil {
		return nil, time.Time{}, fmt.Errorf("list contributors: %w", err)
	}
	return all, asOf, nil
}

// ContributorsWith returns a page of up to limit contributors whose ids begin with a prefix, by id, and the time of the read. After
// is the last contributor of the previous page, or zero for the first page. Firestore bills the contributors of the page.
func (c *Client) ContributorsWith(
	ctx context.Context, prefix string, after store.Contributor, limit int,
) ([]store.Contributor, time.Time, error) {
	first, end := store.ContributorIDsWith(prefix)
	q := &firestorepb.StructuredQuery{
		From: c.from(store.Contributors),
		Where: both(
			where(fieldName, atLeast, c.reference(store.Contributors, first)),
			where(fieldName, below, c.reference(store.Contributors, end)),
		),
		OrderBy: []*firestorepb.StructuredQuery_Order{by(fieldName, false)},
		Limit:   limitOf(limit),
	}
	if after.ID != "" {
		q.StartAt = startAfter(c.reference(store.Contributors, store.ContributorID(after.ID)))
	}
	all, asOf, err := c.contributors(ctx, q)
	if err != nil {
		return nil, time.Time{}, fmt.Errorf("list contributors: %w", err)
	}
	return all, asOf, nil
}

// Due returns up to limit contributors whose recognized tier is exactly recognized and who have tier or more contributions,
// in no particular order.
func (c *Client) Due(ctx context.Context, recognized, tier int64, limit int) ([]store.Contributor, error) {
	due, _, err := c.contributors(ctx, &firestorepb.StructuredQuery{
		From: c.from(store.Contributors),
		Where: both(
			where(fieldTier, equal, integer(recognized)),
			where(fieldContributions, atLeast, integer(tier)),
		),
		OrderBy: []*firestorepb.StructuredQuery_Order{by(fieldContributions, false)},
		Limit:   limitOf(limit),
	})
	if err != nil {
		return nil, fmt.Errorf("find contributors due at tier %d: %w", tier, err)
	}
	return due, nil
}

// maxRecognizedTiers bounds RecognizedTiers, far above the number of tiers that can be configured.
const maxRecognizedTiers = 1000

// RecognizedTiers returns the distinct recognized tiers of all contributors in ascending order. It reads one document for each
// tier.
func (c *Client) RecognizedTiers(ctx context.Context) ([]int64, error) {
	var tiers []int64
	last := int64(-1)
	for range maxRecognizedTiers {
		next, _, err := c.contributors(ctx, &firestorepb.StructuredQuery{
			From:    c.from(store.Contributors),
			Where:   where(fieldTier, above, integer(last)),
			OrderBy: []*firestorepb.StructuredQuery_Order{by(fieldTier, false), by(fieldContributions, false)},
			Limit:   limitOf(1),
		})
		if err != nil {
			return nil, fmt.Errorf("find recognized tiers: %w", err)
		}
		if len(next) == 0 {
			break
		}
		last = next[0].RecognizedTier
		tiers = append(tiers, last)
	}
	return tiers, nil
}

// CountRecognized counts the contributors whose recognized tier is tier or above, and then the recognitions of tier: if
// there are fewer of these, some are missing. Firestore bills one read per 1,000 documents counted.
func (c *Client) CountRecognized(ctx context.Context, tier int64) (contributors, recognitions int64, err error) {
	if contributors, err = c.count(ctx, c.recognizedFrom(tier)); err == nil {
		recognitions, err = c.count(ctx, &firestorepb.StructuredQuery{
			From: c.from(store.Recognitions), Where: where(fieldRecognitionTier, equal, integer(tier)),
		})
	}
	if err != nil {
		return 0, 0, fmt.Errorf("count contributors recognized at tier %d: %w", tier, err)
	}
	return contributors, recognitions, nil
}

// Unrecognized checks a page of up to limit contributors whose recognized tier is tier or above, and returns those without a
// recognition of tier. After is the last contributor of the previous page, or zero for the first page; last is that of this
// page, or zero if the page is empty. Contributors only move towards the end of the order, so the pages together miss none.
func (c *Client) Unrecognized(
	ctx context.Context, tier int64, after store.Contributor, limit int,
) (missing []store.Contributor, last store.Contributor, err error) {
	q := c.recognizedFrom(tier)
	q.Limit = limitOf(limit)
	if after.ID != "" {
		q.StartAt = startAfter(integer(after.RecognizedTier), integer(after.Contributions),
			c.reference(store.Contributors, store.ContributorID(after.ID)))
	}
	page, _, err := c.contributors(ctx, q)
	if err != nil {
		return nil, store.Contributor{}, fmt.Errorf("list contributors at tier %d: %w", tier, err)
	}
	if missing, err = c.withoutRecognition(ctx, page, tier); err != nil {
		return nil, store.Contributor{}, err
	}
	if len(page) > 0 {
		last = page[len(page)-1]
	}
	return missing, last, nil
}

// recognizedFrom queries the contributors whose recognized tier is tier or above, in an order in which they only move towards
// the end.
func (c *Client) recognizedFrom(tier int64) *firestorepb.StructuredQuery {
	return &firestorepb.StructuredQuery{
		From:    c.from(store.Contributors),
		Where:   where(fieldTier, atLeast, integer(tier)),
		OrderBy: []*firestorepb.StructuredQuery_Order{by(fieldTier, false), by(fieldContributions, false), by(fieldName, false)},
	}
}

// contributors returns the results of q. It skips documents that are not of a contributor.
func (c *Client) contributors(ctx context.Context, q *firestorepb.StructuredQuery) ([]store.Contributor, time.Time, error) {
	var all []store.Contributor
	last, err := c.query(ctx, q, func(doc *firestorepb.Document) error {
		if contributor, err := contributorOf(doc); err == nil {
			all = append(all, contributor)
		}
		return nil
	})
	return all, last.GetReadTime().AsTime(), err
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
