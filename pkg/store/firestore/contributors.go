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

// What contributors are queried by needs these indexes, and no others:
//
//   - (recognized_tier, contributions), ascending: Due, RecognizedTiers, CountRecognized, Unrecognized. Due is an
//     equality and one range, so that an empty answer reads one entry, however many contributors there are; a range on
//     both fields would read the entries of everybody below the tier, every second.
//   - contributions, ascending and descending: Contributors in its orders. That of ids needs none.

// Contributor returns one contributor's document, or store.ErrNotFound.
func (c *Client) Contributor(ctx context.Context, contributor string) (store.Contributor, error) {
	doc, _, err := c.get(ctx, store.Contributors, store.ContributorID(contributor))
	if err != nil {
		return store.Contributor{}, fmt.Errorf("read contributor: %w", err)
	}
	return contributorOf(doc)
}

// Standing returns a contributor and all of their recognitions, as of one time or a moment later, or store.ErrNotFound.
func (c *Client) Standing(ctx context.Context, contributor string) (store.Standing, error) {
	doc, asOf, err := c.get(ctx, store.Contributors, store.ContributorID(contributor))
	if err != nil {
		return store.Standing{}, fmt.Errorf("read contributor: %w", err)
	}
	standing := store.Standing{AsOf: asOf}
	if standing.Contributor, err = contributorOf(doc); err != nil {
		return store.Standing{}, err
	}
	first := store.RecognitionIDPrefix(contributor)
	_, err = c.query(ctx, &firestorepb.StructuredQuery{
		From: from(store.Recognitions),
		Where: both(
			where(fieldName, atLeast, c.reference(store.Recognitions, first)),
			where(fieldName, below, c.reference(store.Recognitions, first[:len(first)-1]+";")), // what follows the colon
		),
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

// Contributors returns up to limit contributors in an order, those that come after one that an earlier page ended with
// (the zero value: from the first), and the time of the read. One whose contributions change between two pages may be on
// both of them or on neither.
func (c *Client) Contributors(
	ctx context.Context, order store.Order, after store.Contributor, limit int,
) ([]store.Contributor, time.Time, error) {
	q := &firestorepb.StructuredQuery{From: from(store.Contributors), Limit: limitOf(limit)}
	descending := order == store.ByContributionsDescending
	var cursor []*firestorepb.Value
	if order != store.ByID {
		q.OrderBy = append(q.OrderBy, by(fieldContributions, descending))
		cursor = append(cursor, integer(after.Contributions))
	}
	q.OrderBy = append(q.OrderBy, by(fieldName, descending))
	if after.ID != "" {
		q.StartAt = behind(append(cursor, c.reference(store.Contributors, store.ContributorID(after.ID)))...)
	}
	all, asOf, err := c.contributors(ctx, q)
	if err != nil {
		return nil, time.Time{}, fmt.Errorf("list contributors: %w", err)
	}
	return all, asOf, nil
}

// Due returns up to limit contributors whose recognized tier is recognized, exactly, and who have tier or more
// contributions, in no order that could be relied on.
func (c *Client) Due(ctx context.Context, recognized, tier int64, limit int) ([]store.Contributor, error) {
	due, _, err := c.contributors(ctx, &firestorepb.StructuredQuery{
		From: from(store.Contributors),
		Where: both(
			where(fieldTier, equal, integer(recognized)),
			where(fieldContributions, atLeast, integer(tier)),
		),
		OrderBy: []*firestorepb.StructuredQuery_Order{by(fieldContributions, false)},
		Limit:   limitOf(limit),
	})
	if err != nil {
		return nil, fmt.Errorf("look for contributors at tier %d: %w", tier, err)
	}
	return due, nil
}

// maxRecognizedTiers bounds RecognizedTiers: many times what a service can be set to.
const maxRecognizedTiers = 1000

// RecognizedTiers returns the recognized tiers that any contributor has, rising. It reads a document for each.
func (c *Client) RecognizedTiers(ctx context.Context) ([]int64, error) {
	var tiers []int64
	last := int64(-1)
	for range maxRecognizedTiers {
		next, _, err := c.contributors(ctx, &firestorepb.StructuredQuery{
			From:    from(store.Contributors),
			Where:   where(fieldTier, above, integer(last)),
			OrderBy: []*firestorepb.StructuredQuery_Order{by(fieldTier, false), by(fieldContributions, false)},
			Limit:   limitOf(1),
		})
		if err != nil {
			return nil, fmt.Errorf("look for recognized tiers: %w", err)
		}
		if len(next) == 0 {
			break
		}
		last = next[0].RecognizedTier
		tiers = append(tiers, last)
	}
	return tiers, nil
}

// CountRecognized counts the contributors whose recognized tier is tier or above, and after that the recognitions of
// tier: if these are fewer, some are missing. Firestore bills a read for every 1,000 of either.
func (c *Client) CountRecognized(ctx context.Context, tier int64) (contributors, recognitions int64, err error) {
	if contributors, err = c.count(ctx, recognizedFrom(tier)); err == nil {
		recognitions, err = c.count(ctx, &firestorepb.StructuredQuery{
			From: from(store.Recognitions), Where: where(fieldRecognitionTier, equal, integer(tier)),
		})
	}
	if err != nil {
		return 0, 0, fmt.Errorf("count those recognized at tier %d: %w", tier, err)
	}
	return contributors, recognitions, nil
}

// Unrecognized looks at up to limit contributors whose recognized tier is tier or above, those that come after one that
// an earlier page ended with (the zero value: from the first), and returns which of them have no recognition of tier.
// Last is the contributor that the page ends with, or zero if the page is empty. Contributors only move away from the
// beginning, so that walking all pages misses nobody.
func (c *Client) Unrecognized(
	ctx context.Context, tier int64, after store.Contributor, limit int,
) (missing []store.Contributor, last store.Contributor, err error) {
	q := recognizedFrom(tier)
	q.Limit = limitOf(limit)
	if after.ID != "" {
		q.StartAt = behind(integer(after.RecognizedTier), integer(after.Contributions),
			c.reference(store.Contributors, store.ContributorID(after.ID)))
	}
	page, _, err := c.contributors(ctx, q)
	if err != nil {
		return nil, store.Contributor{}, fmt.Errorf("walk the contributors at tier %d: %w", tier, err)
	}
	if missing, err = c.withoutRecognition(ctx, page, tier); err != nil {
		return nil, store.Contributor{}, err
	}
	if len(page) > 0 {
		last = page[len(page)-1]
	}
	return missing, last, nil
}

// recognizedFrom asks for the contributors whose recognized tier is tier or above, in an order in which they only rise.
func recognizedFrom(tier int64) *firestorepb.StructuredQuery {
	return &firestorepb.StructuredQuery{
		From:    from(store.Contributors),
		Where:   where(fieldTier, atLeast, integer(tier)),
		OrderBy: []*firestorepb.StructuredQuery_Order{by(fieldTier, false), by(fieldContributions, false), by(fieldName, false)},
	}
}

// contributors returns the results of q. A document that is not of a contributor, whoever may have put it there, is
// passed over.
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
