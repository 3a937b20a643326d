// Package memory is the store within one process, for `make run` and for tests. It keeps what Firestore keeps, with the
// same preconditions and errors, and loses it with the process.
package memory

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sort"
	"strings"
	"sync"
	"time"

	"github.com/accrue/accrue/pkg/checkpoint"
	"github.com/accrue/accrue/pkg/store"
	"github.com/accrue/accrue/pkg/tracecontext"
)

// Store holds all documents. Its methods may be called at the same time.
type Store struct {
	mu           sync.Mutex
	partitions   map[uint32]store.State
	latest       map[uint32]origin
	tags         map[string]store.Tag
	contributors map[string]store.Contributor
	recognitions map[string]recognition // by document id
	keys         map[uint32][]expiringKeys
	periods      map[periods][]store.Period
	rejected     map[string]store.RejectedEntries // by document id
	updated      time.Time
}

// origin is where the latest Commit of a partition came from.
type origin struct {
	acceptedAt time.Time
	traces     []tracecontext.Trace
}

// expiringKeys leave with a later Commit of their partition.
type expiringKeys struct {
	store.CommitKeys
	expireAt time.Time
}

// periods names the history of a partition.
type periods struct {
	partition  uint32
	resolution checkpoint.Resolution
}

// New makes an empty store.
func New() *Store {
	return &Store{
		partitions:   make(map[uint32]store.State),
		latest:       make(map[uint32]origin),
		tags:         make(map[string]store.Tag),
		contributors: make(map[string]store.Contributor),
		recognitions: make(map[string]recognition),
		keys:         make(map[uint32][]expiringKeys),
		periods:      make(map[periods][]store.Period),
		rejected:     make(map[string]store.RejectedEntries),
	}
}

// Load returns the partition's checkpoint and revision, both zero for a partition that was never committed.
func (s *Store) Load(ctx context.Context, partition uint32) (store.State, error) {
	if err := ctx.Err(); err != nil {
		return store.State{}, fmt.Errorf("load checkpoint: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	state := s.partitions[partition]
	state.ReadAt = time.Now().UTC()
	return state, nil
}

// Commit applies c, all or nothing, and returns the revision that the next Commit of the partition needs.
func (s *Store) Commit(ctx context.Context, c store.Commit) (store.Revision, error) {
	if err := ctx.Err(); err != nil {
		return store.Revision{}, fmt.Errorf("commit: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.partitions[c.Partition].Revision != c.Revision {
		return store.Revision{}, fmt.Errorf("commit: %w", store.ErrConflict)
	}
	for _, d := range c.Tags {
		tag := s.tags[d.Name]
		tag.Name = d.Name
		tag.Total += d.Value
		tag.Increments += d.Increments
		tag.UpdatedAt = c.Next.UpdatedAt
		s.tags[d.Name] = tag
	}
	for _, d := range c.Contributors {
		contributor := s.contributors[d.Contributor]
		contributor.ID = d.Contributor
		contributor.Contributions += d.Contributions
		contributor.UpdatedAt = c.Next.UpdatedAt
		s.contributors[d.Contributor] = contributor
	}
	s.keepKeys(&c)
	s.keepHistory(&c)
	revision := store.Revision{UpdateTime: s.tick()}
	s.partitions[c.Partition] = store.State{Checkpoint: c.Next, Revision: revision}
	if len(c.Rejected) > 0 {
		r := store.RejectedEntries{
			Partition: c.Partition, Commit: c.Next.Commit, RejectedAt: c.Next.UpdatedAt, Revision: revision, Entries: slices.Clone(c.Rejected),
		}
		s.rejected[r.ID()] = r
	}
	s.latest[c.Partition] = origin{c.AcceptedAt, slices.Clone(c.Traces)}
	return revision, nil
}

func (s *Store) keepKeys(c *store.Commit) {
	if len(c.Keys) == 0 {
		return
	}
	at := c.Next.UpdatedAt
	kept := slices.DeleteFunc(s.keys[c.Partition], func(k expiringKeys) bool { return k.expireAt.Before(at) })
	s.keys[c.Partition] = append(kept, expiringKeys{
		store.CommitKeys{KeysPosition: store.KeysPosition{At: at, Commit: c.Next.Commit}, Keys: slices.Clone(c.Keys)}, at.Add(c.KeepKeys),
	})
}

func (s *Store) keepHistory(c *store.Commit) {
	for _, p := range c.Closed {
		name := periods{c.Partition, p.Resolution}
		oldest := p.Begin.Add(-store.Retention(p.Resolution))
		kept := slices.DeleteFunc(s.periods[name], func(old store.Period) bool { return old.Begin.Before(oldest) })
		s.periods[name] = append(kept, store.Period{Begin: p.Begin, Changes: checkpoint.PackChanges(p.Changes)})
	}
}

// Keys returns the idempotency keys of the partition's Commits after a position, limit Commits at most, in order, as far as
// they are kept.
func (s *Store) Keys(ctx context.Context, partition uint32, after store.KeysPosition, limit int) ([]store.CommitKeys, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("read keys: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	all, id := s.keys[partition], store.KeysID(after)
	first := sort.Search(len(all), func(i int) bool { return store.KeysID(all[i].KeysPosition) > id })
	var found []store.CommitKeys
	for _, k := range all[first:min(len(all), first+limit)] {
		found = append(found, k.CommitKeys)
	}
	return found, nil
}

// Rejected returns the entries that Commits rejected, in the order of their documents' ids after one, limit documents at
// most.
func (s *Store) Rejected(ctx context.Context, after string, limit int) ([]store.RejectedEntries, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("read rejected entries: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var found []store.RejectedEntries
	for _, id := range slices.Sorted(maps.Keys(s.rejected)) {
		if id > after && len(found) < limit {
			found = append(found, s.rejected[id])
		}
	}
	return found, nil
}

// History returns the periods of the partition that are over, begin at or after from and before to, and had changes, in
// order.
func (s *Store) History(ctx context.Context, partition uint32, r checkpoint.Resolution, from, to time.Time) ([]store.Period, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("read history: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var found []store.Period
	for _, p := range s.periods[periods{partition, r}] {
		if !p.Begin.Before(from) && p.Begin.Before(to) {
			found = append(found, p)
		}
	}
	return found, nil
}

// tick returns a time that is later than any before, to the microsecond, as Firestore's update times are.
func (s *Store) tick() time.Time {
	now := time.Now().UTC().Truncate(time.Microsecond)
	if !now.After(s.updated) {
		now = s.updated.Add(time.Microsecond)
	}
	s.updated = now
	return now
}

// Totals returns every partition's totals, and the time of this read.
func (s *Store) Totals(ctx context.Context) ([]store.PartitionTotals, time.Time, error) {
	if err := ctx.Err(); err != nil {
		return nil, time.Time{}, fmt.Errorf("read totals: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]store.PartitionTotals, 0, len(s.partitions))
	for partition, state := range s.partitions {
		all = append(all, store.PartitionTotals{
			Partition: partition, Revision: state.Revision,
			Totals: state.Checkpoint.Totals, UpdatedAt: state.Checkpoint.UpdatedAt,
			AcceptedAt: s.latest[partition].acceptedAt, Traces: s.latest[partition].traces,
		})
	}
	return all, time.Now().UTC(), nil
}

// Tags returns every tag's document, sorted by name.
func (s *Store) Tags(context.Context) ([]store.Tag, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]store.Tag, 0, len(s.tags))
	for _, tag := range s.tags {
		all = append(all, tag)
	}
	slices.SortFunc(all, func(a, b store.Tag) int { return strings.Compare(a.Name, b.Name) })
	return all, nil
}

// Check reports that the store answers: always.
func (s *Store) Check(context.Context) error { return nil }
