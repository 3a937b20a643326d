package embedded

import (
	"context"
	"fmt"
	"strings"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/accrue/accrue/pkg/database"
	"github.com/accrue/accrue/pkg/store"
)

// The buckets of the orders of contributors: by contributions, and by recognized tier and then contributions.
const (
	byContributions = "contributors by contributions"
	byTier          = "contributors by tier"
)

func contributionsKey(c *store.Contributor) string {
	return ordered(c.Contributions) + store.ContributorID(c.ID)
}

func tierKey(c *store.Contributor) string { return ordered(c.RecognizedTier) + contributionsKey(c) }

// idIn returns the document id at the end of a key that begins with the given number of integers.
func idIn(key string, integers int) string { return key[8*integers:] }

func unpackContributor(id string, packed []byte) (store.Contributor, error) {
	contributor, err := store.ContributorOf(id)
	if err != nil {
		return store.Contributor{}, err
	}
	record := database.Read(packed)
	return store.Contributor{
		ID: contributor, Contributions: record.Int(), RecognizedTier: record.Int(), UpdatedAt: record.Time(),
	}, record.Err()
}

// contributor returns the document with the given id, or store.ErrNotFound.
func contributor(tx *bolt.Tx, id string) (store.Contributor, error) {
	packed := get(tx, store.Contributors, id)
	if packed == nil {
		return store.Contributor{}, store.ErrNotFound
	}
	return unpackContributor(id, packed)
}

// change writes the document of a contributor and its keys in the orders, and removes those of old, which is nil for a new
// document.
func change(tx *bolt.Tx, old *store.Contributor, next store.Contributor) error {
	if old != nil {
		if err := remove(tx, byContributions, contributionsKey(old)); err != nil {
			return err
		}
		if err := remove(tx, byTier, tierKey(old)); err != nil {
			return err
		}
	}
	if err := put(tx, byContributions, contributionsKey(&next), nil); err != nil {
		return err
	}
	if err := put(tx, byTier, tierKey(&next), nil); err != nil {
		return err
	}
	b := database.AppendInt(database.AppendInt(nil, next.Contributions), next.RecognizedTier)
	return put(tx, store.Contributors, store.ContributorID(next.ID), database.AppendTime(b, next.UpdatedAt))
}

// contribute adds contributions to the document of a contributor.
func contribute(tx *bolt.Tx, d store.Contributions, updatedAt time.Time) error {
	next := store.Contributor{ID: d.Contributor, Contributions: d.Contributions, UpdatedAt: updatedAt}
	id := store.ContributorID(d.Contributor)
	packed := get(tx, store.Contributors, id)
	if packed == nil {
		return change(tx, nil, next)
	}
	old, err := unpackContributor(id, packed)
	if err != nil {
		return err
	}
	next.Contributions += old.Contributions
	next.RecognizedTier = old.RecognizedTier
	return change(tx, &old, next)
}

// Contributor returns one contributor's document, or store.ErrNotFound.
func (s *Store) Contributor(ctx context.Context, id string) (found store.Contributor, err error) {
	err = s.view(ctx, "read contributor", func(tx *bolt.Tx) (err error) {
		found, err = contributor(tx, store.ContributorID(id))
		return err
	})
	return found, err
}

// Standing returns a contributor and their recognitions, or store.ErrNotFound.
func (s *Store) Standing(ctx context.Context, id string) (store.Standing, error) {
	standing := store.Standing{AsOf: s.database.Now()}
	err := s.view(ctx, "read contributor", func(tx *bolt.Tx) (err error) {
		if standing.Contributor, err = contributor(tx, store.ContributorID(id)); err != nil {
			return err
		}
		standing.Recognitions, err = recognitionsOf(tx, id)
		return err
	})
	if err != nil {
		return store.Standing{}, err
	}
	return standing, nil
}

// ContributorsWith returns a page of up to limit contributors whose ids begin with a prefix, by id, and the time of the read. After
// is the last contributor of the previous page, or zero for the first page.
func (s *Store) ContributorsWith(
	ctx context.Context, prefix string, after store.Contributor, limit int,
) (page []store.Contributor, asOf time.Time, err error) {
	asOf = s.database.Now()
	first, end := store.ContributorIDsWith(prefix)
	err = s.view(ctx, "list contributors", func(tx *bolt.Tx) error {
		for id, packed := range from(tx, store.Contributors, afterKey(after, first, store.ContributorID(after.ID))) {
			if len(page) == limit || id >= end {
				return nil
			}
			c, err := unpackContributor(id, packed)
			if err != nil {
				return err
			}
			page = append(page, c)
		}
		return nil
	})
	return page, asOf, err
}

// Contributors returns a page of up to limit contributors in an order, and the time of the read. After is the last contributor of
// the previous page, or zero for the first page.
func (s *Store) Contributors(
	ctx context.Context, order store.Order, after store.Contributor, limit int,
) (page []store.Contributor, asOf time.Time, err error) {
	asOf = s.database.Now()
	err = s.view(ctx, "list contributors", func(tx *bolt.Tx) error {
		documents, integers := from(tx, store.Contributors, afterKey(after, "c-", store.ContributorID(after.ID))), 0
		if order != store.ByID {
			integers = 1
			documents = from(tx, byContributions, afterKey(after, "", contributionsKey(&after)))
		}
		if order == store.ByContributionsDescending {
			end := ""
			if after.ID != "" {
				end = contributionsKey(&after)
			}
			documents = before(tx, byContributions, end)
		}
		for key := range documents {
			if len(page) == limit {
				return nil
			}
			c, err := contributor(tx, idIn(key, integers))
			if err != nil {
				return fmt.Errorf("%w: %q", err, key)
			}
			page = append(page, c)
		}
		return nil
	})
	return page, asOf, err
}

// afterKey returns the first key after that of a contributor, or first if the contributor is zero.
func afterKey(c store.Contributor, first, key string) string {
	if c.ID == "" {
		return first
	}
	return key + "\x00"
}

// Due returns up to limit contributors whose recognized tier is exactly recognized and who have tier or more contributions, in the
// order of their contributions.
func (s *Store) Due(ctx context.Context, recognized, tier int64, limit int) (due []store.Contributor, err error) {
	err = s.view(ctx, fmt.Sprintf("look for contributors at tier %d", tier), func(tx *bolt.Tx) error {
		for key := range from(tx, byTier, ordered(recognized)+ordered(tier)) {
			if len(due) == limit || !strings.HasPrefix(key, ordered(recognized)) {
				return nil
			}
			c, err := contributor(tx, idIn(key, 2))
			if err != nil {
				return err
			}
			due = append(due, c)
		}
		return nil
	})
	return due, err
}

// RecognizedTiers returns the distinct recognized tiers of all contributors in ascending order.
func (s *Store) RecognizedTiers(ctx context.Context) (tiers []int64, err error) {
	err = s.view(ctx, "look for recognized tiers", func(tx *bolt.Tx) error {
		for next := ""; ; {
			found := false
			for key := range from(tx, byTier, next) {
				c, err := contributor(tx, idIn(key, 2))
				if err != nil {
					return err
				}
				tiers, next, found = append(tiers, c.RecognizedTier), ordered(c.RecognizedTier+1), true
				break
			}
			if !found {
				return nil
			}
		}
	})
	return tiers, err
}

// CountRecognized counts the contributors whose recognized tier is tier or above, and the recognitions of tier. It reads all of
// them.
func (s *Store) CountRecognized(ctx context.Context, tier int64) (contributors, recognitions int64, err error) {
	err = s.view(ctx, fmt.Sprintf("count those recognized at tier %d", tier), func(tx *bolt.Tx) error {
		for range from(tx, byTier, ordered(tier)) {
			contributors++
		}
		for _, packed := range from(tx, store.Recognitions, "") {
			r, err := unpackRecognition(packed)
			if err != nil {
				return err
			}
			if r.Tier == tier {
				recognitions++
			}
		}
		return nil
	})
	return contributors, recognitions, err
}

// Unrecognized checks a page of up to limit contributors whose recognized tier is tier or above, and returns those without a
// recognition of tier. After is the last contributor of the previous page, or zero for the first page; last is that of this page,
// or zero if the page is empty.
func (s *Store) Unrecognized(
	ctx context.Context, tier int64, after store.Contributor, limit int,
) (missing []store.Contributor, last store.Contributor, err error) {
	err = s.view(ctx, fmt.Sprintf("walk the contributors at tier %d", tier), func(tx *bolt.Tx) error {
		n := 0
		for key := range from(tx, byTier, afterKey(after, ordered(tier), tierKey(&after))) {
			if n == limit {
				return nil
			}
			n++
			c, err := contributor(tx, idIn(key, 2))
			if err != nil {
				return err
			}
			if last = c; get(tx, store.Recognitions, store.RecognitionID(c.ID, tier)) == nil {
				missing = append(missing, c)
			}
		}
		return nil
	})
	return missing, last, err
}
