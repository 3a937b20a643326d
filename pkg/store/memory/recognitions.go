package memory

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/accrue/accrue/pkg/store"
)

// recognition is one document.
type recognition struct {
	store.PendingRecognition
	sent bool
}

// Contributor returns one contributor's document, or store.ErrNotFound.
func (s *Store) Contributor(ctx context.Context, id string) (store.Contributor, error) {
	standing, err := s.Standing(ctx, id)
	return standing.Contributor, err
}

// Standing returns a contributor and all of their recognitions, as of one time, or store.ErrNotFound.
func (s *Store) Standing(ctx context.Context, contributor string) (store.Standing, error) {
	if err := ctx.Err(); err != nil {
		return store.Standing{}, fmt.Errorf("read contributor: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	found, ok := s.contributors[contributor]
	if !ok {
		return store.Standing{}, fmt.Errorf("read contributor: %w", store.ErrNotFound)
	}
	standing := store.Standing{Contributor: found, AsOf: time.Now().UTC()}
	for _, r := range s.recognitions {
		if r.Contributor == contributor {
			standing.Recognitions = append(standing.Recognitions, r.Recognition)
		}
	}
	slices.SortFunc(standing.Recognitions, func(a, b store.Recognition) int { return cmp.Compare(a.Tier, b.Tier) })
	return standing, nil
}

// Contributors returns up to limit contributors in an order, those that come after one that an earlier page ended with
// (the zero value: from the first), and the time of the read.
func (s *Store) Contributors(
	ctx context.Context, order store.Order, after store.Contributor, limit int,
) ([]store.Contributor, time.Time, error) {
	if err := ctx.Err(); err != nil {
		return nil, time.Time{}, fmt.Errorf("list contributors: %w", err)
	}
	compare := func(a, b store.Contributor) int {
		c := strings.Compare(store.ContributorID(a.ID), store.ContributorID(b.ID))
		if order != store.ByID {
			c = cmp.Or(cmp.Compare(a.Contributions, b.Contributions), c)
		}
		if order == store.ByContributionsDescending {
			return -c
		}
		return c
	}
	return s.page(compare, after, limit, func(store.Contributor) bool { return true }), time.Now().UTC(), nil
}

// page returns the first contributors after one, in an order, of those that are wanted.
func (s *Store) page(
	compare func(a, b store.Contributor) int, after store.Contributor, limit int, wanted func(store.Contributor) bool,
) []store.Contributor {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []store.Contributor
	for _, contributor := range s.contributors {
		if wanted(contributor) && (after.ID == "" || compare(contributor, after) > 0) {
			all = append(all, contributor)
		}
	}
	slices.SortFunc(all, compare)
	return all[:min(limit, len(all))]
}

// rising is the order in which contributors only move away from the beginning.
func rising(a, b store.Contributor) int {
	return cmp.Or(cmp.Compare(a.RecognizedTier, b.RecognizedTier), cmp.Compare(a.Contributions, b.Contributions),
		strings.Compare(store.ContributorID(a.ID), store.ContributorID(b.ID)))
}

// Due returns up to limit contributors whose recognized tier is recognized, exactly, and who have tier or more
// contributions, in no order that could be relied on.
func (s *Store) Due(ctx context.Context, recognized, tier int64, limit int) ([]store.Contributor, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("look for contributors at tier %d: %w", tier, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var due []store.Contributor
	for _, contributor := range s.contributors {
		if len(due) == limit {
			break
		}
		if contributor.RecognizedTier == recognized && contributor.Contributions >= tier {
			due = append(due, contributor)
		}
	}
	return due, nil
}

// RecognizedTiers returns the recognized tiers that any contributor has, rising.
func (s *Store) RecognizedTiers(ctx context.Context) ([]int64, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("look for recognized tiers: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var tiers []int64
	for _, contributor := range s.contributors {
		if !slices.Contains(tiers, contributor.RecognizedTier) {
			tiers = append(tiers, contributor.RecognizedTier)
		}
	}
	slices.Sort(tiers)
	return tiers, nil
}

// CountRecognized counts the contributors whose recognized tier is tier or above, and the recognitions of tier.
func (s *Store) CountRecognized(ctx context.Context, tier int64) (contributors, recognitions int64, err error) {
	if err := ctx.Err(); err != nil {
		return 0, 0, fmt.Errorf("count those recognized at tier %d: %w", tier, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, contributor := range s.contributors {
		if contributor.RecognizedTier >= tier {
			contributors++
		}
	}
	for _, r := range s.recognitions {
		if r.Tier == tier {
			recognitions++
		}
	}
	return contributors, recognitions, nil
}

// Unrecognized looks at up to limit contributors whose recognized tier is tier or above, those that come after one that
// an earlier page ended with (the zero value: from the first), and returns which of them have no recognition of tier.
// Last is the contributor that the page ends with, or zero if the page is empty.
func (s *Store) Unrecognized(
	ctx context.Context, tier int64, after store.Contributor, limit int,
) (missing []store.Contributor, last store.Contributor, err error) {
	if err := ctx.Err(); err != nil {
		return nil, store.Contributor{}, fmt.Errorf("walk the contributors at tier %d: %w", tier, err)
	}
	page := s.page(rising, after, limit, func(c store.Contributor) bool { return c.RecognizedTier >= tier })
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, contributor := range page {
		if _, ok := s.recognitions[store.RecognitionID(contributor.ID, tier)]; !ok {
			missing = append(missing, contributor)
		}
		last = contributor
	}
	return missing, last, nil
}

// Recognize makes a recognition, pending, and raises its contributor's recognized tier to its own unless that is higher,
// all or nothing. The errors are store.ErrExists, store.ErrNotFound for a contributor that does not exist, and the
// context's.
func (s *Store) Recognize(ctx context.Context, r store.Recognition) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("recognize: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	id := store.RecognitionID(r.Contributor, r.Tier)
	if _, ok := s.recognitions[id]; ok {
		return fmt.Errorf("recognize: %w", store.ErrExists)
	}
	if err := s.raise(r.Contributor, r.Tier); err != nil {
		return fmt.Errorf("recognize: %w", err)
	}
	r.RecognizedAt = r.RecognizedAt.UTC().Truncate(time.Microsecond)
	created := s.tick()
	s.recognitions[id] = recognition{PendingRecognition: store.PendingRecognition{
		Recognition: r, CreatedAt: created, Revision: store.Revision{UpdateTime: created},
	}}
	return nil
}

// Raise raises a contributor's recognized tier to that of a recognition that exists, unless it is as high already. It
// returns store.ErrNotFound, and has changed nothing, if the recognition or the contributor does not exist.
func (s *Store) Raise(ctx context.Context, contributor string, tier int64) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("raise the recognized tier: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.recognitions[store.RecognitionID(contributor, tier)]; !ok {
		return fmt.Errorf("raise the recognized tier: %w", store.ErrNotFound)
	}
	if err := s.raise(contributor, tier); err != nil {
		return fmt.Errorf("raise the recognized tier: %w", err)
	}
	return nil
}

func (s *Store) raise(id string, tier int64) error {
	contributor, ok := s.contributors[id]
	if !ok {
		return store.ErrNotFound
	}
	contributor.RecognizedTier = max(contributor.RecognizedTier, tier)
	s.contributors[id] = contributor
	return nil
}

// Latest returns up to limit recognitions, the latest first and of one time those with the higher document id, and the time
// of the read.
func (s *Store) Latest(ctx context.Context, limit int) ([]store.Recognition, time.Time, error) {
	if err := ctx.Err(); err != nil {
		return nil, time.Time{}, fmt.Errorf("read the latest recognitions: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	latest := make([]store.Recognition, 0, len(s.recognitions))
	for _, r := range s.recognitions {
		latest = append(latest, r.Recognition)
	}
	slices.SortFunc(latest, func(a, b store.Recognition) int {
		return cmp.Or(b.RecognizedAt.Compare(a.RecognizedAt),
			strings.Compare(store.RecognitionID(b.Contributor, b.Tier), store.RecognitionID(a.Contributor, a.Tier)))
	})
	return latest[:min(limit, len(latest))], s.tick(), nil
}

// Pending returns up to limit recognitions that are pending, those after one that an earlier page ended with (the zero
// value: from the first), in the order of their document ids, and the time of the read.
func (s *Store) Pending(
	ctx context.Context, after store.Recognition, limit int,
) ([]store.PendingRecognition, time.Time, error) {
	if err := ctx.Err(); err != nil {
		return nil, time.Time{}, fmt.Errorf("read pending recognitions: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var ids []string
	for id, r := range s.recognitions {
		if !r.sent && (after.Contributor == "" || id > store.RecognitionID(after.Contributor, after.Tier)) {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	var all []store.PendingRecognition
	for _, id := range ids[:min(limit, len(ids))] {
		all = append(all, s.recognitions[id].PendingRecognition)
	}
	return all, s.tick(), nil
}

// Claim moves the revisions of pending recognitions, and returns those whose revision was the present one: of several
// who claim the same recognition in the same state, one has it.
func (s *Store) Claim(ctx context.Context, pending []store.PendingRecognition) ([]store.PendingRecognition, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("claim: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var claimed []store.PendingRecognition
	for _, p := range pending {
		id := store.RecognitionID(p.Contributor, p.Tier)
		r, ok := s.recognitions[id]
		if !ok || r.Revision != p.Revision {
			continue
		}
		r.Revision.UpdateTime = s.tick()
		s.recognitions[id] = r
		claimed = append(claimed, p)
	}
	return claimed, nil
}

// MarkSent notes that the events of recognitions are published. Those that are marked already, or exist no longer, are
// passed over.
func (s *Store) MarkSent(ctx context.Context, sent []store.Recognition) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("mark sent: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, m := range sent {
		id := store.RecognitionID(m.Contributor, m.Tier)
		if r, ok := s.recognitions[id]; ok {
			r.sent = true
			r.Revision.UpdateTime = s.tick()
			s.recognitions[id] = r
		}
	}
	return nil
}
