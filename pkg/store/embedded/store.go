// Package embedded is the store of embedded mode. It has the documents, preconditions, limits and errors of Firestore, and keeps
// the documents in a database.Database. The changes of a Commit are on disk when it returns.
package embedded

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/accrue/accrue/pkg/checkpoint"
	"github.com/accrue/accrue/pkg/database"
	"github.com/accrue/accrue/pkg/store"
)

// documentOverhead is roughly the size of a small document, or of a document without its packed fields.
const documentOverhead = 256

const (
	// expiryMargin is added to the retention of a period, so that it does not expire while it is read.
	expiryMargin = time.Hour
	// maxExpired bounds the expired documents of a kind that one Commit deletes.
	maxExpired = 16
)

// checkpointKey is the only key of a partition's bucket. In a common bucket checkpoints would share pages, and each Commit would
// write the checkpoints of other partitions too.
var checkpointKey = []byte("checkpoint")

// Store has all documents. It is safe for concurrent use.
//
// Each collection is a bucket whose keys are document ids. Each order is a further bucket, whose keys are the values to order by
// and the document id.
type Store struct {
	database *database.Database
	unpacker store.Unpacker
}

// New returns a store on a database.
func New(d *database.Database) *Store { return &Store{database: d} }

// partitionBucket returns the name of a partition's bucket, or of a subcollection of the partition.
func partitionBucket(partition uint32, collection ...string) string {
	return strings.Join(append([]string{store.Partitions, store.PartitionID(partition)}, collection...), "/")
}

// get returns a document, or nil if it does not exist.
func get(tx *bolt.Tx, bucket, key string) []byte {
	if b := tx.Bucket([]byte(bucket)); b != nil {
		return b.Get([]byte(key))
	}
	return nil
}

// put writes a document.
func put(tx *bolt.Tx, bucket, key string, value []byte) error {
	b, err := tx.CreateBucketIfNotExists([]byte(bucket))
	if err != nil {
		return err
	}
	return b.Put([]byte(key), value)
}

// remove deletes a document, if it exists.
func remove(tx *bolt.Tx, bucket, key string) error {
	if b := tx.Bucket([]byte(bucket)); b != nil {
		return b.Delete([]byte(key))
	}
	return nil
}

// from iterates over the documents of a bucket whose keys are at or after first.
func from(tx *bolt.Tx, bucket, first string) iter.Seq2[string, []byte] {
	return func(yield func(string, []byte) bool) {
		b := tx.Bucket([]byte(bucket))
		if b == nil {
			return
		}
		cursor := b.Cursor()
		for key, value := cursor.Seek([]byte(first)); key != nil && yield(string(key), value); key, value = cursor.Next() {
		}
	}
}

// before iterates in reverse order over the documents of a bucket whose keys are before end, or over all if end is empty.
func before(tx *bolt.Tx, bucket, end string) iter.Seq2[string, []byte] {
	return func(yield func(string, []byte) bool) {
		b := tx.Bucket([]byte(bucket))
		if b == nil {
			return
		}
		cursor := b.Cursor()
		var key, value []byte
		if end == "" {
			key, value = cursor.Last()
		} else if key, _ = cursor.Seek([]byte(end)); key == nil {
			key, value = cursor.Last()
		} else {
			key, value = cursor.Prev()
		}
		for ; key != nil && yield(string(key), value); key, value = cursor.Prev() {
		}
	}
}

// ordered encodes an integer as bytes that sort like the integers.
func ordered(n int64) string {
	return string(binary.BigEndian.AppendUint64(nil, uint64(n)^1<<63)) //nolint:gosec // the bits matter
}

// Collections returns the names of the collections that have documents, each once, those below partitions included.
func (s *Store) Collections(ctx context.Context) ([]string, error) {
	// Not collections: the orders, and what the database and the broker keep beside them.
	others := []string{byContributions, byTier, pendingRecognitions, byTime, "state", "messages"}
	found := make(map[string]bool)
	err := s.view(ctx, "list collections", func(tx *bolt.Tx) error {
		return tx.ForEach(func(bucket []byte, b *bolt.Bucket) error {
			name := string(bucket)
			if first, _ := b.Cursor().First(); first == nil || slices.Contains(others, name) || strings.HasPrefix(name, "messages/") {
				return nil
			}
			if root, below, _ := strings.Cut(name, "/"); root == store.Partitions {
				_, collection, _ := strings.Cut(below, "/")
				name = cmp.Or(collection, root)
			}
			found[name] = true
			return nil
		})
	})
	return slices.Sorted(maps.Keys(found)), err
}

// view calls read with a consistent view of the database.
func (s *Store) view(ctx context.Context, doing string, read func(*bolt.Tx) error) error {
	if err := s.database.View(ctx, read); err != nil {
		return fmt.Errorf("%s: %w", doing, err)
	}
	return nil
}

// update calls change in a transaction that writes about size bytes.
func (s *Store) update(ctx context.Context, doing string, size int, change func(*bolt.Tx) error) error {
	if err := s.database.Update(ctx, size, change, nil); err != nil {
		return fmt.Errorf("%s: %w", doing, err)
	}
	return nil
}

// partition is the document of a partition's checkpoint.
type partition struct {
	updateTime, acceptedAt time.Time
	commit                 int64
	publishers, totals     []byte
	layouts                int64
	owed                   []byte // with owedSince, in checkpoints of version VersionOwing only
	owedSince              time.Time
}

func (p *partition) pack() []byte {
	version := int64(checkpoint.Version)
	if len(p.owed) > 0 {
		version = checkpoint.VersionOwing
	}
	b := database.AppendInt(make([]byte, 0, documentOverhead+len(p.publishers)+len(p.totals)+len(p.owed)), version)
	b = database.AppendTime(database.AppendTime(b, p.updateTime), p.acceptedAt)
	b = database.AppendInt(b, p.commit)
	b = database.AppendInt(database.AppendBytes(database.AppendBytes(b, p.publishers), p.totals), p.layouts)
	if len(p.owed) > 0 {
		b = database.AppendTime(database.AppendBytes(b, p.owed), p.owedSince)
	}
	return b
}

func unpackPartition(packed []byte) (p partition, err error) {
	record := database.Read(packed)
	version := record.Int()
	if !checkpoint.Readable(version) {
		return p, fmt.Errorf("%w: version %d, want %d", checkpoint.ErrCorrupt, version, checkpoint.Version)
	}
	p.updateTime, p.acceptedAt = record.Time(), record.Time()
	p.commit = record.Int()
	p.publishers, p.totals = record.Bytes(), record.Bytes()
	p.layouts = record.Int()
	if version == checkpoint.VersionOwing {
		p.owed, p.owedSince = record.Bytes(), record.Time()
	}
	return p, record.Err()
}

// Load returns the checkpoint of a partition and its revision, which are zero before the first Commit. It returns an error for a
// checkpoint of another version, which must not be overwritten.
func (s *Store) Load(ctx context.Context, id uint32) (store.State, error) {
	var state store.State
	err := s.view(ctx, fmt.Sprintf("load checkpoint %d", id), func(tx *bolt.Tx) error {
		packed := get(tx, partitionBucket(id), string(checkpointKey))
		if packed == nil {
			return nil
		}
		p, err := unpackPartition(packed)
		if err != nil {
			return err
		}
		state.Revision.UpdateTime = p.updateTime
		state.Checkpoint.Commit, state.Checkpoint.Layouts = uint64(p.commit), uint64(p.layouts) //nolint:gosec // converted from uint64
		if state.Checkpoint.Publishers, err = checkpoint.UnpackPublishers(p.publishers); err != nil {
			return err
		}
		if state.Checkpoint.Totals, state.Checkpoint.UpdatedAt, err = checkpoint.UnpackTotals(p.totals); err != nil {
			return err
		}
		if state.Checkpoint.Owed, err = checkpoint.UnpackOwed(p.owed); err != nil {
			return err
		}
		state.Checkpoint.OwedSince = p.owedSince
		return nil
	})
	if err != nil {
		return store.State{}, err
	}
	state.ReadAt = time.Now().UTC()
	return state, nil
}

// document is a document that a Commit writes as a whole.
type document struct {
	bucket, id string
	expireAt   time.Time
	packed     []byte
}

// Commit applies c atomically and returns the new revision. It returns store.ErrConflict, or store.ErrRefused if Firestore would
// refuse the Commit, and changes nothing then. A Commit also deletes expired documents of its partition.
func (s *Store) Commit(ctx context.Context, c store.Commit) (store.Revision, error) {
	doing := fmt.Sprintf("commit partition %d", c.Partition)
	if err := c.CheckLimits(); err != nil {
		return store.Revision{}, fmt.Errorf("%s: %w", doing, err)
	}
	next := partition{
		acceptedAt: c.AcceptedAt, commit: int64(c.Next.Commit), //nolint:gosec // the number of Commits
		publishers: c.Next.PackPublishers(), totals: c.Next.PackTotals(), layouts: int64(c.Next.Layouts), //nolint:gosec // one a change
		owed: c.Next.PackOwed(), owedSince: c.Next.OwedSince,
	}
	documents := documentsOf(&c)
	size := len(next.publishers) + len(next.totals) + len(next.owed) + documentOverhead*(1+c.Documents())
	for _, d := range documents {
		size += len(d.packed)
	}
	// If ctx ends before the Commit is done, the caller may reuse its slices.
	tags, contributors := append([]checkpoint.Delta(nil), c.Tags...), append([]store.Contributions(nil), c.Contributors...)
	updatedAt := c.Next.UpdatedAt
	var rejected []byte
	if len(c.Rejected) > 0 {
		rejected = checkpoint.PackRejected(c.Rejected)
	}
	redriven, related, layouts, audit := c.Redriven, slices.Clone(c.Related), c.Layouts, c.Audit
	var revision store.Revision
	err := s.update(ctx, doing, size, func(tx *bolt.Tx) error {
		bucket := partitionBucket(c.Partition)
		var present store.Revision
		if packed := get(tx, bucket, string(checkpointKey)); packed != nil {
			p, err := unpackPartition(packed)
			if err != nil {
				return err
			}
			present.UpdateTime = p.updateTime
		}
		if present != c.Revision {
			return store.ErrConflict
		}
		revision.UpdateTime = s.database.Tick()
		next := next
		next.updateTime = revision.UpdateTime
		if err := put(tx, bucket, string(checkpointKey), next.pack()); err != nil {
			return err
		}
		for _, d := range tags {
			if err := addToTag(tx, d, updatedAt); err != nil {
				return err
			}
		}
		for _, d := range contributors {
			if err := contribute(tx, d, updatedAt); err != nil {
				return err
			}
		}
		for _, d := range documents {
			if err := put(tx, d.bucket, d.id, append(database.AppendTime(nil, d.expireAt), d.packed...)); err != nil {
				return err
			}
		}
		if rejected != nil {
			b := database.AppendTime(database.AppendTime(nil, updatedAt), revision.UpdateTime)
			if err := put(tx, store.Rejected, store.RejectedID(c.Partition, c.Next.Commit), append(b, rejected...)); err != nil {
				return err
			}
		}
		if err := redrive(tx, redriven, revision); err != nil {
			return err
		}
		if err := relate(tx, related, layouts, revision, updatedAt); err != nil {
			return err
		}
		if audit != nil {
			if err := putAudit(tx, audit); err != nil {
				return err
			}
		}
		return expire(tx, c.Partition, updatedAt)
	})
	if err != nil {
		return store.Revision{}, err
	}
	return revision, nil
}

// redrive shrinks or deletes the document of a redrive, if the Commit is one.
func redrive(tx *bolt.Tx, r *store.Redriven, revision store.Revision) error {
	if r == nil {
		return nil
	}
	packed := get(tx, store.Rejected, r.From.ID())
	if packed == nil {
		return store.ErrConflict
	}
	record := database.Read(packed)
	rejectedAt := record.Time()
	if present := (store.Revision{UpdateTime: record.Time()}); present != r.From.Revision {
		return store.ErrConflict
	}
	if len(r.Left) == 0 {
		return tx.Bucket([]byte(store.Rejected)).Delete([]byte(r.From.ID()))
	}
	b := database.AppendTime(database.AppendTime(nil, rejectedAt), revision.UpdateTime)
	return put(tx, store.Rejected, r.From.ID(), append(b, checkpoint.PackRejected(r.Left)...))
}

// documentsOf returns the documents of a Commit's idempotency keys, rejected entries and closed periods.
func documentsOf(c *store.Commit) []document {
	var documents []document
	if len(c.Keys) > 0 {
		documents = append(documents, document{
			bucket: partitionBucket(c.Partition, store.Keys), id: store.KeysID(store.KeysPosition{At: c.Next.UpdatedAt, Commit: c.Next.Commit}),
			expireAt: c.Next.UpdatedAt.Add(c.KeepKeys),
			packed:   append(database.AppendTime(nil, c.Next.UpdatedAt), checkpoint.PackKeyRanges(c.Keys)...),
		})
	}
	if f := c.Fold; f != nil {
		packed := database.AppendInt(database.AppendTime(database.AppendTime(nil, f.At), f.After.At), int64(f.After.Commit)) //nolint:gosec // the number of Commits
		documents = append(documents, document{
			bucket: partitionBucket(c.Partition, store.Folds), id: store.KeysID(f.KeysPosition), expireAt: f.At.Add(c.KeepKeys),
			packed: append(packed, checkpoint.PackKeyRanges(f.Keys)...),
		})
	}
	for _, p := range c.Closed {
		documents = append(documents, document{
			bucket: partitionBucket(c.Partition, store.PeriodsOf(p.Resolution)), id: store.PeriodID(p.Begin),
			expireAt: p.Begin.Add(time.Duration(p.Resolution) + store.Retention(p.Resolution) + expiryMargin),
			packed:   checkpoint.PackChanges(p.Changes),
		})
	}
	return documents
}

// addToTag adds a delta to the document of a tag.
func addToTag(tx *bolt.Tx, d checkpoint.Delta, updatedAt time.Time) error {
	id := store.TagID(d.Name)
	tag := store.Tag{Name: d.Name}
	if packed := get(tx, store.Tags, id); packed != nil {
		var err error
		if tag, err = unpackTag(id, packed); err != nil {
			return err
		}
	}
	b := database.AppendInt(database.AppendInt(nil, tag.Total+d.Value), tag.Increments+d.Increments)
	return put(tx, store.Tags, id, database.AppendTime(b, updatedAt))
}

func unpackTag(id string, packed []byte) (store.Tag, error) {
	name, err := store.TagName(id)
	if err != nil {
		return store.Tag{}, err
	}
	record := database.Read(packed)
	return store.Tag{Name: name, Total: record.Int(), Increments: record.Int(), UpdatedAt: record.Time()}, record.Err()
}

// expire deletes documents in a subcollection of a partition that have expired.
func expire(tx *bolt.Tx, id uint32, at time.Time) error {
	for _, collection := range []string{store.Keys, store.Folds, store.Minutes, store.Hours} {
		bucket := partitionBucket(id, collection)
		var expired []string
		for key, packed := range from(tx, bucket, "") {
			if !database.Read(packed).Time().Before(at) || len(expired) == maxExpired {
				break
			}
			expired = append(expired, key)
		}
		for _, key := range expired {
			if err := remove(tx, bucket, key); err != nil {
				return err
			}
		}
	}
	return nil
}

// Keys returns the idempotency keys of up to limit Commits of a partition after a position, in order. Expired keys may be missing.
func (s *Store) Keys(ctx context.Context, id uint32, after store.KeysPosition, limit int) ([]store.CommitKeys, error) {
	var all []store.CommitKeys
	err := s.view(ctx, fmt.Sprintf("read keys of partition %d", id), func(tx *bolt.Tx) error {
		first := store.KeysID(store.KeysPosition{At: after.At, Commit: after.Commit + 1})
		for key, packed := range from(tx, partitionBucket(id, store.Keys), first) {
			if len(all) == limit {
				return nil
			}
			commit, err := store.KeysOf(key)
			if err != nil {
				return err
			}
			record := database.Read(packed)
			_ = record.Time() // when it expires
			keys := store.CommitKeys{KeysPosition: store.KeysPosition{At: record.Time(), Commit: commit}}
			if keys.Keys, err = checkpoint.UnpackKeyRanges(record.Rest()); err != nil || record.Err() != nil {
				return fmt.Errorf("commit %d: %w", commit, database.ErrCorrupt)
			}
			all = append(all, keys)
		}
		return nil
	})
	return all, err
}

// ReleasedKeys returns nothing: version 0.1 had no embedded store.
func (s *Store) ReleasedKeys(context.Context, uint32, uint64, int) ([]store.CommitKeys, error) {
	return nil, nil
}

// Folds returns up to limit folds of a partition whose positions are after one, in order.
func (s *Store) Folds(ctx context.Context, id uint32, after store.KeysPosition, limit int) ([]store.Fold, error) {
	var all []store.Fold
	err := s.view(ctx, fmt.Sprintf("read folds of partition %d", id), func(tx *bolt.Tx) error {
		first := store.KeysID(store.KeysPosition{At: after.At, Commit: after.Commit + 1})
		for key, packed := range from(tx, partitionBucket(id, store.Folds), first) {
			if len(all) == limit {
				return nil
			}
			commit, err := store.KeysOf(key)
			if err != nil {
				return err
			}
			record := database.Read(packed)
			_ = record.Time() // when it expires
			var f store.Fold
			f.Commit, f.At = commit, record.Time()
			f.After = store.KeysPosition{At: record.Time(), Commit: uint64(record.Int())} //nolint:gosec // converted from a uint64
			if f.Keys, err = checkpoint.UnpackKeyRanges(record.Rest()); err != nil || record.Err() != nil {
				return fmt.Errorf("fold %d: %w", commit, database.ErrCorrupt)
			}
			all = append(all, f)
		}
		return nil
	})
	return all, err
}

// Rejected returns up to limit documents of rejected entries whose ids are after the given one, in the order of ids. An empty id
// is before all others.
func (s *Store) Rejected(ctx context.Context, after string, limit int) ([]store.RejectedEntries, error) {
	var all []store.RejectedEntries
	err := s.view(ctx, "read rejected entries", func(tx *bolt.Tx) error {
		for id, packed := range from(tx, store.Rejected, after) {
			if id == after {
				continue
			}
			if len(all) == limit {
				return nil
			}
			record := database.Read(packed)
			r := store.RejectedEntries{RejectedAt: record.Time(), Revision: store.Revision{UpdateTime: record.Time()}}
			var err error
			if r.Partition, r.Commit, err = store.RejectedOf(id); err != nil {
				return err
			}
			if r.Entries, err = checkpoint.UnpackRejected(record.Rest()); err != nil || record.Err() != nil {
				return fmt.Errorf("rejected entries %s: %w", id, database.ErrCorrupt)
			}
			all = append(all, r)
		}
		return nil
	})
	return all, err
}

// History returns the closed periods of a partition that begin at or after from and before to, in order. Periods without changes
// have no document.
func (s *Store) History(ctx context.Context, id uint32, r checkpoint.Resolution, first, to time.Time) ([]store.Period, error) {
	var all []store.Period
	err := s.view(ctx, fmt.Sprintf("read history of partition %d", id), func(tx *bolt.Tx) error {
		for key, packed := range from(tx, partitionBucket(id, store.PeriodsOf(r)), store.PeriodID(first)) {
			begin, err := store.PeriodOf(key)
			if err != nil || !begin.Before(to) {
				return err
			}
			record := database.Read(packed)
			_ = record.Time() // when it expires
			all = append(all, store.Period{Begin: begin, Changes: bytes.Clone(record.Rest())})
			if err := record.Err(); err != nil {
				return err
			}
		}
		return nil
	})
	return all, err
}

// Totals returns the totals of all existing partitions and the time of the read. Partitions whose checkpoint cannot be read have
// Err set.
func (s *Store) Totals(ctx context.Context) ([]store.PartitionTotals, time.Time, error) {
	var all []store.PartitionTotals
	asOf := s.database.Now()
	err := s.view(ctx, "read totals", func(tx *bolt.Tx) error {
		return checkpoints(tx, func(id uint32, packed []byte) error {
			totals := store.PartitionTotals{Partition: id}
			p, err := unpackPartition(packed)
			if err == nil {
				totals.Totals, totals.UpdatedAt, err = s.unpacker.Totals(id, store.Revision{UpdateTime: p.updateTime}, p.totals)
			}
			if err != nil {
				totals.Err = err
			} else {
				totals.AcceptedAt = p.acceptedAt
			}
			totals.Revision.UpdateTime = p.updateTime
			all = append(all, totals)
			return nil
		})
	})
	if err != nil {
		return nil, time.Time{}, err
	}
	s.unpacker.Keep(all)
	return all, asOf, nil
}

// Owing returns the partitions that owe something to the documents of tags, and the time of the read.
func (s *Store) Owing(ctx context.Context) ([]store.Owing, time.Time, error) {
	at := s.database.Now()
	var all []store.Owing
	err := s.view(ctx, "read which partitions owe", func(tx *bolt.Tx) error {
		return checkpoints(tx, func(id uint32, packed []byte) error {
			p, err := unpackPartition(packed)
			if err == nil && len(p.owed) > 0 {
				all = append(all, store.Owing{Partition: id, Since: p.owedSince})
			}
			return nil // whoever loads it reports it
		})
	})
	return all, at, err
}

// checkpoints calls do for the checkpoint of each partition.
func checkpoints(tx *bolt.Tx, do func(id uint32, packed []byte) error) error {
	root, prefix := tx.Cursor(), []byte(store.Partitions+"/")
	for name, _ := root.Seek(prefix); bytes.HasPrefix(name, prefix); name, _ = root.Next() {
		packed := tx.Bucket(name).Get(checkpointKey)
		if packed == nil {
			continue // a subcollection of a partition
		}
		id, err := store.PartitionOf(string(name[len(prefix):]))
		if err != nil {
			return err
		}
		if err := do(id, packed); err != nil {
			return err
		}
	}
	return nil
}

// Tags returns the documents of all tags, sorted by name. It reads the whole collection. Only the audit uses it.
func (s *Store) Tags(ctx context.Context) ([]store.Tag, error) {
	var all []store.Tag
	err := s.view(ctx, "read tags", func(tx *bolt.Tx) error {
		for id, packed := range from(tx, store.Tags, "") {
			tag, err := unpackTag(id, packed)
			if err != nil {
				return err
			}
			all = append(all, tag)
		}
		return nil
	})
	return all, err
}

// TagsNamed returns the documents of some tags, in any order. Those that do not exist are missing.
func (s *Store) TagsNamed(ctx context.Context, names []string) ([]store.Tag, error) {
	var found []store.Tag
	err := s.view(ctx, "read some tags", func(tx *bolt.Tx) error {
		for _, name := range names {
			packed := get(tx, store.Tags, store.TagID(name))
			if packed == nil {
				continue
			}
			tag, err := unpackTag(store.TagID(name), packed)
			if err != nil {
				return err
			}
			found = append(found, tag)
		}
		return nil
	})
	return found, err
}

// Check returns an error if the store cannot be written to.
func (s *Store) Check(ctx context.Context) error {
	if err := s.database.Check(ctx); err != nil {
		return fmt.Errorf("check the store: %w", err)
	}
	return nil
}
