package embedded

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/accrue/accrue/pkg/database"
	"github.com/accrue/accrue/pkg/store"
)

// The buckets of the orders of recognitions: the pending ones by document id, and all by time.
const (
	pendingRecognitions = "recognitions that are pending"
	byTime              = "recognitions by time"
)

// recognitionSize is roughly the number of bytes that a change of a recognition writes.
const recognitionSize = 512

// recognition is the document of a recognition.
type recognition struct {
	store.PendingRecognition
	sent bool
}

func (r *recognition) pack() []byte {
	b := database.AppendBytes(nil, r.Contributor)
	b = database.AppendInt(database.AppendInt(b, r.Tier), r.Contributions)
	b = database.AppendTime(database.AppendTime(b, r.RecognizedAt), r.CreatedAt)
	b = database.AppendTime(b, r.Revision.UpdateTime)
	if r.sent {
		return database.AppendInt(b, 1)
	}
	return database.AppendInt(b, 0)
}

func unpackRecognition(packed []byte) (r recognition, err error) {
	record := database.Read(packed)
	r.Contributor = string(record.Bytes())
	r.Tier, r.Contributions = record.Int(), record.Int()
	r.RecognizedAt, r.CreatedAt = record.Time(), record.Time()
	r.Revision.UpdateTime = record.Time()
	r.sent = record.Int() != 0
	return r, record.Err()
}

// recognitionsOf returns the recognitions of a contributor, sorted by tier.
func recognitionsOf(tx *bolt.Tx, contributor string) ([]store.Recognition, error) {
	var all []store.Recognition
	prefix := store.RecognitionIDPrefix(contributor)
	for id, packed := range from(tx, store.Recognitions, prefix) {
		if !strings.HasPrefix(id, prefix) {
			break
		}
		r, err := unpackRecognition(packed)
		if err != nil {
			return nil, err
		}
		all = append(all, r.Recognition)
	}
	slices.SortFunc(all, func(a, b store.Recognition) int { return cmp.Compare(a.Tier, b.Tier) })
	return all, nil
}

// Recognize creates a pending recognition and raises the contributor's recognized tier to its tier, unless that is higher already,
// atomically. It returns store.ErrExists if the recognition exists and store.ErrNotFound if the contributor does not.
func (s *Store) Recognize(ctx context.Context, r store.Recognition) error {
	r.RecognizedAt = r.RecognizedAt.UTC().Truncate(time.Microsecond)
	id := store.RecognitionID(r.Contributor, r.Tier)
	return s.update(ctx, "recognize", recognitionSize, func(tx *bolt.Tx) error {
		if get(tx, store.Recognitions, id) != nil {
			return store.ErrExists
		}
		if err := raise(tx, r.Contributor, r.Tier); err != nil {
			return err
		}
		created := s.database.Tick()
		made := recognition{PendingRecognition: store.PendingRecognition{
			Recognition: r, CreatedAt: created, Revision: store.Revision{UpdateTime: created},
		}}
		if err := put(tx, pendingRecognitions, id, nil); err != nil {
			return err
		}
		if err := put(tx, byTime, timeKey(&r), nil); err != nil {
			return err
		}
		return put(tx, store.Recognitions, id, made.pack())
	})
}

// Raise raises a contributor's recognized tier to that of an existing recognition, unless it is as high already. It returns
// store.ErrNotFound and changes nothing if the recognition or the contributor does not exist.
func (s *Store) Raise(ctx context.Context, contributor string, tier int64) error {
	return s.update(ctx, "raise the recognized tier", recognitionSize, func(tx *bolt.Tx) error {
		if get(tx, store.Recognitions, store.RecognitionID(contributor, tier)) == nil {
			return store.ErrNotFound
		}
		return raise(tx, contributor, tier)
	})
}

func raise(tx *bolt.Tx, id string, tier int64) error {
	old, err := contributor(tx, store.ContributorID(id))
	if err != nil || old.RecognizedTier >= tier {
		return err
	}
	next := old
	next.RecognizedTier = tier
	return change(tx, &old, next)
}

// Recognitions returns a page of up to limit recognitions of a filter, and the time of the read. They are ordered by time and then by
// document id, both descending. After is the last recognition of the previous page, or zero for the first page. With a tier it
// passes over the keys of others, some ten million a second.
func (s *Store) Recognitions(
	ctx context.Context, filter store.RecognitionFilter, after store.Recognition, limit int,
) (page []store.Recognition, asOf time.Time, err error) {
	err = s.view(ctx, "read recognitions", func(tx *bolt.Tx) error {
		asOf = s.database.Now()
		if filter.Contributor != "" {
			all, err := recognitionsOf(tx, filter.Contributor)
			page = filter.Page(all, after, limit)
			return err
		}
		since, end := "", ""
		if !filter.Since.IsZero() {
			since = ordered(filter.Since.UnixMicro())
		}
		if after.Contributor != "" {
			end = timeKey(&after)
		}
		suffix := ""
		if filter.Tier != 0 {
			suffix = store.RecognitionIDSuffix(filter.Tier)
		}
		for key := range before(tx, byTime, end) {
			if len(page) == limit || key < since {
				return nil
			}
			if !strings.HasSuffix(key, suffix) {
				continue
			}
			r, err := unpackRecognition(get(tx, store.Recognitions, idIn(key, 1)))
			if err != nil {
				return err
			}
			page = append(page, r.Recognition)
		}
		return nil
	})
	return page, asOf, err
}

// timeKey is the key of a recognition in the order by time.
func timeKey(r *store.Recognition) string {
	return ordered(r.RecognizedAt.UnixMicro()) + store.RecognitionID(r.Contributor, r.Tier)
}

// Pending returns a page of up to limit pending recognitions in the order of their document ids, and the time of the read. After
// is the last recognition of the previous page, or zero for the first page.
func (s *Store) Pending(
	ctx context.Context, after store.Recognition, limit int,
) (pending []store.PendingRecognition, asOf time.Time, err error) {
	first := ""
	if after.Contributor != "" {
		first = store.RecognitionID(after.Contributor, after.Tier) + "\x00"
	}
	err = s.view(ctx, "read pending recognitions", func(tx *bolt.Tx) error {
		asOf = s.database.Now()
		for id := range from(tx, pendingRecognitions, first) {
			if len(pending) == limit {
				return nil
			}
			r, err := unpackRecognition(get(tx, store.Recognitions, id))
			if err != nil {
				return err
			}
			pending = append(pending, r.PendingRecognition)
		}
		return nil
	})
	return pending, asOf, err
}

// Claim changes the revisions of pending recognitions and returns those whose revision was current: of several callers that claim
// a recognition at the same revision, one succeeds.
func (s *Store) Claim(ctx context.Context, pending []store.PendingRecognition) ([]store.PendingRecognition, error) {
	pending = slices.Clone(pending)
	var claimed []store.PendingRecognition
	err := s.update(ctx, "claim", recognitionSize*len(pending), func(tx *bolt.Tx) error {
		claimed = nil
		for _, p := range pending {
			claim := func(r *recognition) bool { return r.Revision == p.Revision }
			if ok, err := s.touch(tx, p.Recognition, claim); err != nil {
				return err
			} else if ok {
				claimed = append(claimed, p)
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return claimed, nil
}

// MarkSent records that the events of recognitions are published. It skips recognitions that are marked already or do not exist.
func (s *Store) MarkSent(ctx context.Context, sent []store.Recognition) error {
	sent = slices.Clone(sent)
	return s.update(ctx, "mark sent", recognitionSize*len(sent), func(tx *bolt.Tx) error {
		for _, r := range sent {
			mark := func(r *recognition) bool { r.sent = true; return true }
			if _, err := s.touch(tx, r, mark); err != nil {
				return err
			}
			if err := remove(tx, pendingRecognitions, store.RecognitionID(r.Contributor, r.Tier)); err != nil {
				return err
			}
		}
		return nil
	})
}

// touch calls apply with the document of a recognition, writes it with a new revision if apply returns true, and reports whether
// it did. It skips a document that does not exist.
func (s *Store) touch(tx *bolt.Tx, named store.Recognition, apply func(*recognition) bool) (bool, error) {
	id := store.RecognitionID(named.Contributor, named.Tier)
	packed := get(tx, store.Recognitions, id)
	if packed == nil {
		return false, nil
	}
	r, err := unpackRecognition(packed)
	if err != nil || !apply(&r) {
		return false, err
	}
	r.Revision.UpdateTime = s.database.Tick()
	return true, put(tx, store.Recognitions, id, r.pack())
}
